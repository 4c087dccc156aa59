"""Orbax checkpoints of a run: the two latest, to continue from, and the best on validation, to use.

Each is sealed: its JSON holds digests of every array and of itself, and what doesn't agree with them is damaged. A
damaged checkpoint is passed over for another one, with a warning; none is ever used in part.
"""

import dataclasses
import functools
import glob
import hashlib
import json
import logging
import math
import pathlib
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ctd_jax import versions
from ctd_jax.config import config_of_run
from ctd_jax.errors import UserError
from ctd_jax.training import digests, finite

_log = logging.getLogger(__name__)
TRAINING_ONLY = ("adapters", "coordinates")  # parameters that a run's network leaves behind
NETWORK, OPTIMIZER = ("params", "batch_stats"), ("opt_state", "step")  # the parts of a state
UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a checkpoint that is being written
LATEST = 2  # are kept, so that one is whole where the other is damaged
PATIENCE = 4 * 10**9  # seconds; a disk that is gone has errors of its own
TRIES = 3  # of a reader, where a training removes what it was about to read


class _Damaged(Exception):
    """A checkpoint that is not what was written."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk.

    Attributes:
      folder: its own.
      meta: see `save`.
      val_error: None: it was saved before its evaluation.
      digests: of its arrays; none: it was written before there were any.
      made_with: see `versions.describe`.
    """

    folder: pathlib.Path
    meta: dict[str, Any]
    val_error: float | None
    digests: dict[str, str]
    made_with: dict[str, str]

    @property
    def step(self) -> int:
        return int(self.folder.name)


def check_path(workdir: pathlib.Path) -> None:
    """Raises UserError if Orbax can't keep checkpoints there: it takes the folder's name for a pattern."""
    path = str(workdir.absolute())
    if glob.escape(path) != path:
        raise UserError(
            f"--workdir: {path} has one of the characters [ * ? in its name, with which checkpoints can't be read "
            "back; give another name"
        )


class Manager(ocp.CheckpointManager):
    """Keeps the latest checkpoints and the best. `errors`: step -> validation error."""

    def __init__(self, workdir: pathlib.Path, errors: dict[int, float]):
        self.errors = errors
        # Orbax measures its patience by the clock of the wall, which may jump: from 1970, where there is no battery.
        patient = ocp.AsyncOptions(timeout_secs=PATIENCE, create_directories_asynchronously=False)
        policy = _Policy(errors)
        options = ocp.CheckpointManagerOptions(preservation_policy=policy, async_options=patient)
        super().__init__(_folder(workdir), options=options)


class _Policy(preservation_policy.PreservationPolicy):
    def __init__(self, errors: dict[int, float]):
        self._errors = errors

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [one.step for one in checkpoints]
        kept = {*sorted(steps)[-LATEST:], *_by_error({s: e for s, e in self._errors.items() if s in steps})[:1]}
        return [step in kept for step in steps]


def _by_error(errors: dict[int, float]) -> list[int]:
    """Steps, the best first; of equals the later."""
    return sorted(errors, key=lambda step: (errors[step], -step))


def manager(workdir: pathlib.Path, known: Iterable[Checkpoint] = ()) -> Manager:
    """Of a training that writes in `workdir`; `known`: the checkpoints there, of `resume`."""
    return Manager(workdir, {one.step: one.val_error for one in known if one.val_error is not None})


def save(checkpoints: Manager, step: int, state: Any, meta: dict[str, Any], val_error: float | None) -> None:
    """Writes a checkpoint behind the training's back.

    Args:
      state: `step.TrainState` of NumPy arrays, the same in every process; the first writes it.
      meta: JSON of what must not change, and what `predict` needs beside the weights.
      val_error: None: not evaluated; such a checkpoint is continued from, and never the best.

    Raises:
      NotFinite: an array or the error is not finite; nothing is written.
    """
    finite.check_arrays(state, f"the state of training after step {step} has")
    if val_error is not None and not math.isfinite(val_error):
        raise finite.NotFinite(f"the validation error after step {step} is {val_error}")
    sealed = {
        "step": step,
        "val_error": val_error,
        "digests": {
            "network": digests.of_tree({key: getattr(state, key) for key in NETWORK}),
            "optimizer": digests.of_tree({key: getattr(state, key) for key in OPTIMIZER}),
        },
        "made_with": versions.describe(),
        "meta": meta,
    }
    whole = {"sealed": sealed, "digest": _digest_of_json(sealed)}
    checkpoints.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(whole)))
    if val_error is not None:
        checkpoints.errors[step] = val_error


def digest(tree: Any) -> str:
    """Sixteen hexadecimal digits that change with any array of a tree."""
    content = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        content.update(np.ascontiguousarray(leaf).tobytes())
    return content.hexdigest()[:16]


def _digest_of_json(content: Any) -> str:
    same = json.loads(json.dumps(content))  # tuples are lists from here on
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def _folder(workdir: pathlib.Path) -> pathlib.Path:
    return (workdir / "checkpoints").absolute()


def _found(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The folders of all checkpoints, the newest first; those being written have other names."""
    folder = _folder(workdir)
    found = [p for p in folder.iterdir() if p.name.isascii() and p.name.isdecimal()] if folder.is_dir() else []
    return sorted(found, key=lambda p: -int(p.name))


def _open(folder: pathlib.Path) -> Checkpoint:
    """What a checkpoint says of itself, without its arrays; raises _Damaged."""
    try:
        whole = json.loads((folder / "meta" / "metadata").read_text("utf-8"))
        if "sealed" not in whole:  # of a version without digests
            error = json.loads((folder / "metrics" / "metrics").read_text("utf-8"))["val_error"]
            whole["encoder"]  # noqa: B018  each has it
            return Checkpoint(folder, whole, float(error), {}, {})
        sealed = whole["sealed"]
        if whole["digest"] != _digest_of_json(sealed) or sealed["step"] != int(folder.name):
            raise _Damaged("its JSON is not what was written")
        return Checkpoint(folder, sealed["meta"], sealed["val_error"], sealed["digests"], sealed["made_with"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Damaged(_reason(error)) from error


def _read(one: Checkpoint, target: Any = None) -> Any:
    """The arrays of a checkpoint: like `target`, or as nested dicts.

    Raises:
      _Damaged: Orbax can't read them, they are not those that were written, or they hold NaN.
    """
    _keep_closed_loops_quiet()
    try:
        # By its handler, which waits for no other process.
        args = ocp.args.StandardRestore(target)
        state = ocp.StandardCheckpointHandler().restore(one.folder / "state", args=args)
        get = state.__getitem__ if target is None else state.__getattribute__
        found = {"network": digests.of_tree({key: get(key) for key in NETWORK})}
        if target is not None:
            found["optimizer"] = digests.of_tree({key: get(key) for key in OPTIMIZER})
    except MemoryError:
        raise
    except Exception as error:  # Orbax and TensorStore have many words for a file that isn't whole
        raise _Damaged(_reason(error)) from error
    differ = [key for key, value in found.items() if one.digests and value != one.digests.get(key)]
    if differ:
        raise _Damaged(f"the numbers of the {' and the '.join(differ)} are not those that were written")
    try:
        finite.check_arrays(state, "it has")
    except finite.NotFinite as error:
        raise _Damaged(str(error)) from error
    return state


@functools.cache
def _keep_closed_loops_quiet() -> None:
    """Where one array can't be read, Orbax ends its event loop, and TensorStore prints a traceback for each of the
    others that it was still reading."""
    before = sys.unraisablehook

    def hook(what: Any) -> None:
        if not (isinstance(what.exc_value, RuntimeError) and "Event loop is closed" in str(what.exc_value)):
            before(what)

    sys.unraisablehook = hook


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text[:80]}"


def read(folder: pathlib.Path) -> dict[str, Any]:
    """The state in a checkpoint's folder, as nested dicts of arrays.

    Raises:
      UserError: it is damaged.
    """
    try:
        return _read(_open(folder))
    except _Damaged as error:
        raise UserError(f"{folder} is damaged ({error})") from error


def resume(workdir: pathlib.Path, template: Any, meta: dict[str, Any]) -> tuple[int, Any, list[Checkpoint]]:
    """Where a training continues: the step and the state of the newest whole checkpoint, and all that are whole. 0,
    None and none of a new run.

    Args:
      template: has the state's shapes and types, so that any number of devices can read it.
      meta: what must not have changed.

    Raises:
      UserError: it was saved with another `meta`: by now landmarks or teacher are others. Or none is whole.
    """
    target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), template)  # NumPy: Orbax then asks for no devices
    state, whole, damaged = None, [], {}
    for folder in _found(workdir):
        try:
            one = _open(folder)
            _check_meta(one, meta)
            state_of_one = _read(one, target)
        except _Damaged as error:
            damaged[folder] = error
            continue
        state, whole = (state if whole else state_of_one), [*whole, one]
    if damaged and not whole:
        raise _none_whole(workdir, damaged)
    for folder, error in damaged.items():
        _log.warning("%s is damaged (%s); step %d is used", folder, error, whole[0].step)
    if not whole:
        return 0, None, []
    if changes := versions.changes(whole[0].made_with, versions.describe()) if whole[0].made_with else []:
        _log.warning("%s goes on with other programs than before: %s", workdir, "; ".join(changes))
    return whole[0].step, state, whole


def remove_after(workdir: pathlib.Path, step: int) -> None:
    """Removes what a training writes anew: the damaged checkpoints that `resume` passed over, and what was being
    written when a training was killed."""
    folder = _folder(workdir)
    unfinished = [p for p in folder.iterdir() if UNFINISHED in p.name] if folder.is_dir() else []
    for path in [p for p in _found(workdir) if int(p.name) > step] + unfinished:
        shutil.rmtree(path)


def _check_meta(one: Checkpoint, meta: dict[str, Any]) -> None:
    """Raises UserError. (Orbax itself would hand out arrays of other shapes without a word.)"""
    differ = [key for key, value in json.loads(json.dumps(meta)).items() if one.meta.get(key) != value]
    if differ:
        raise UserError(
            f"{one.folder}: {' and '.join(differ)} of this run have changed since it began; restore them, or start "
            "again in a new --workdir"
        )


def _none_whole(workdir: pathlib.Path, damaged: dict[pathlib.Path, Exception]) -> UserError:
    first, error = next(iter(damaged.items()))
    return UserError(
        f"{workdir}: none of its {len(damaged)} checkpoints is whole ({first.name}: {error}); restore "
        f"{_folder(workdir)} from a copy, or train again in a new --workdir. Nothing was changed"
    )


def best_state(workdir: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """State, as nested dicts of arrays, and meta of a run's best checkpoint; of the next best, with a warning, where
    that is damaged.

    Raises:
      UserError: there is none that is whole.
    """
    for _ in range(TRIES):
        one, state, damaged = _best_whole(workdir)
        if all(folder.exists() for folder in damaged):
            break  # else a training has removed it meanwhile
    if one is None:
        raise (
            _none_whole(workdir, damaged)
            if damaged
            else UserError(f"{workdir}: no checkpoint yet; let the run get to its first evaluation")
        )
    for folder, error in damaged.items():
        _log.warning("%s is damaged (%s); the checkpoint of step %d is used", folder, error, one.step)
    return state, one.meta


def _best_whole(workdir: pathlib.Path) -> tuple[Checkpoint | None, Any, dict[pathlib.Path, Exception]]:
    """The best checkpoint that is whole, if any, and its state; what is wrong with others."""
    known: dict[int, Checkpoint] = {}
    damaged: dict[pathlib.Path, Exception] = {}
    for folder in _found(workdir):
        try:
            known[int(folder.name)] = _open(folder)
        except _Damaged as error:
            damaged[folder] = error
    for step in _by_error({step: one.val_error for step, one in known.items() if one.val_error is not None}):
        try:
            return known[step], _read(known[step]), damaged
        except _Damaged as error:
            damaged[known[step].folder] = error
    return None, None, damaged


def best(workdir: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables (params, batch_stats; `network_of`) and meta of a run's best checkpoint. Raises as `best_state`, or
    UserError where `workdir` is no run."""
    config_of_run(workdir)
    state, meta = best_state(workdir)
    return network_of({key: state[key] for key in NETWORK}), meta


def network_of(variables: dict[str, Any]) -> dict[str, Any]:
    """A trained network's variables, without those that served its training only."""
    return variables | {"params": {k: tree for k, tree in variables["params"].items() if k not in TRAINING_ONLY}}
