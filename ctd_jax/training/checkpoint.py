"""Orbax checkpoints of a run: the two latest, to continue from, and the best on validation, to use.

Each is sealed: its JSON holds digests of every array and of itself. A checkpoint that doesn't agree with them is
damaged; it is passed over for another one, with a warning. None is ever used in part.
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
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ctd_jax import files, versions
from ctd_jax.config import config_of_run
from ctd_jax.errors import UserError
from ctd_jax.training import digests, finite
from ctd_jax.training.step import TrainState, averaged
from ctd_jax.typing import Tree, Variables

_log = logging.getLogger(__name__)
TRAINING_ONLY = ("adapters", "coordinates")  # parameters that a run's network leaves behind
UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a checkpoint that is being written
LATEST = 2  # checkpoints that are kept to continue from: one is whole where the other is damaged
ORBAX_TIMEOUT = 4 * 10**9  # seconds, which never pass: a disk that fails raises an error in any case
CONCLUDED = ("boxes", "never_annotated")  # parts of a run's meta that follow from its annotations and its start
LATER = ("annotations", "flip_pairs")  # parts that older versions did not keep of a run of recognition
READ_TRIES = 3  # a training may remove the checkpoint that a reader was about to read


class _Damaged(Exception):
    """A checkpoint that is not what was written."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk.

    Attributes:
      folder: that holds it.
      meta: see `save`.
      val_error: validation error; None: it was saved before its evaluation.
      digests: of its arrays; empty where an older version wrote it.
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
    """Raises UserError if Orbax can't keep checkpoints in `workdir`: it would take its name for a pattern."""
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
        _keep_closed_loops_quiet()
        # Orbax measures its time-out by the wall clock, which may jump: a machine without a battery starts in 1970.
        asynchronous = ocp.AsyncOptions(timeout_secs=ORBAX_TIMEOUT, create_directories_asynchronously=False)
        options = ocp.CheckpointManagerOptions(preservation_policy=_Policy(errors), async_options=asynchronous)
        super().__init__(_folder(workdir), options=options)

    def save(self, *args: Any, **kwargs: Any) -> bool:
        with files.naming(self.directory):
            return bool(super().save(*args, **kwargs))

    def wait_until_finished(self) -> None:
        with files.naming(self.directory):
            super().wait_until_finished()


class _Policy(preservation_policy.PreservationPolicy):
    def __init__(self, errors: dict[int, float]):
        self._errors = errors

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [one.step for one in checkpoints]
        kept = {*sorted(steps)[-LATEST:], *_by_error({s: e for s, e in self._errors.items() if s in steps})[:1]}
        return [step in kept for step in steps]


def _by_error(errors: dict[int, float]) -> list[int]:
    """Steps, the best first; of two with the same error the later one first."""
    return sorted(errors, key=lambda step: (errors[step], -step))


def manager(workdir: pathlib.Path, known: Iterable[Checkpoint] = ()) -> Manager:
    """The manager of a training that writes in `workdir`; `known` are the checkpoints there that `resume` found."""
    return Manager(workdir, {one.step: one.val_error for one in known if one.val_error is not None})


def save(checkpoints: Manager, step: int, state: TrainState, meta: dict[str, Any], val_error: float | None) -> None:
    """Writes a checkpoint in the background.

    Args:
      checkpoints: of the run.
      step: number of steps that were made.
      state: of NumPy arrays, the same in every process; the first one writes it.
      meta: JSON object of what must not change, and what `predict` needs beside the weights.
      val_error: validation error; None: not evaluated. A run can continue from such a checkpoint, and never uses it as
        its best.

    Raises:
      NotFinite: an array or the error is not finite; then nothing is written.
    """
    finite.check_arrays(state, f"the state of training after step {step} has")
    if val_error is not None and not math.isfinite(val_error):
        raise finite.NotFinite(f"the validation error after step {step} is {val_error}")
    parts = _parts(state)
    sealed = {
        "step": step,
        "val_error": val_error,
        "digests": {"network": _digest_of_network(parts), "optimizer": _digest_of_optimizer(parts)},
        "made_with": versions.describe(),
        "meta": meta,
    }
    whole = {"sealed": sealed, "digest": _digest_of_json(sealed)}
    checkpoints.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(parts), meta=ocp.args.JsonSave(whole)))
    if val_error is not None:
        checkpoints.errors[step] = val_error


def digest(tree: Tree) -> str:
    """Sixteen hexadecimal digits that change with any array of a tree."""
    content = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        content.update(np.ascontiguousarray(leaf).tobytes())
    return content.hexdigest()[:16]


def _digest_of_json(content: Any) -> str:
    same = json.loads(json.dumps(content))  # tuples are lists from here on
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def _parts(state: TrainState) -> dict[str, Any]:
    """The parts of a state, by name; without the average where there is none, as an earlier version wrote it."""
    parts = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: part for name, part in parts.items() if part is not None}


def _digest_of_network(parts: Mapping[str, Any]) -> str:
    return digests.of_tree({"average": parts.get("average")} | {key: parts[key] for key in ("params", "batch_stats")})


def _digest_of_optimizer(parts: Mapping[str, Any]) -> str:
    return digests.of_tree({key: parts[key] for key in ("opt_state", "step")})


def _folder(workdir: pathlib.Path) -> pathlib.Path:
    return (workdir / "checkpoints").absolute()


def _found(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The folders of all checkpoints, the newest first; one that is still being written has another name."""
    folder = _folder(workdir)
    found = [p for p in folder.iterdir() if p.name.isascii() and p.name.isdecimal()] if folder.is_dir() else []
    return sorted(found, key=lambda p: -int(p.name))


def _opened(workdir: pathlib.Path) -> tuple[list[Checkpoint], dict[pathlib.Path, _Damaged]]:
    """The checkpoints without their arrays, the newest first, and the folders of damaged ones."""
    opened, damaged = [], {}
    for folder in _found(workdir):
        try:
            opened.append(_open(folder))
        except _Damaged as error:
            damaged[folder] = error
    return opened, damaged


def _open(folder: pathlib.Path) -> Checkpoint:
    """A checkpoint without its arrays; raises _Damaged."""
    try:
        whole = json.loads((folder / "meta" / "metadata").read_text("utf-8"))
        if "sealed" not in whole:  # of a version without digests
            error = json.loads((folder / "metrics" / "metrics").read_text("utf-8"))["val_error"]
            if "encoder" not in whole:
                raise KeyError("encoder")
            return Checkpoint(folder, whole, float(error), {}, {})
        sealed = whole["sealed"]
        if whole["digest"] != _digest_of_json(sealed) or sealed["step"] != int(folder.name):
            raise _Damaged("its JSON is not what was written")
        return Checkpoint(folder, sealed["meta"], sealed["val_error"], sealed["digests"], sealed["made_with"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _Damaged(_reason(error)) from error


def _read(one: Checkpoint, target: dict[str, Any] | None = None) -> dict[str, Any]:
    """The parts of the state in a checkpoint: like `target`, or as nested dicts of arrays.

    Raises:
      _Damaged: Orbax can't read them, they are not those that were written, or some are not finite.
    """
    _keep_closed_loops_quiet()
    try:
        # A CheckpointManager would wait for the other processes here.
        args = ocp.args.StandardRestore(target)
        state = ocp.StandardCheckpointHandler().restore(one.folder / "state", args=args)
        found = {"network": _digest_of_network(state)}
        if target is not None:
            found["optimizer"] = _digest_of_optimizer(state)
    except MemoryError:
        raise
    except Exception as error:  # Orbax and TensorStore raise many kinds of errors for a file that isn't whole
        raise _Damaged(_reason(error)) from error
    differ = [key for key, value in found.items() if one.digests and value != one.digests.get(key)]
    if differ:
        raise _Damaged(f"the numbers of the {' and the '.join(differ)} are not those that were written")
    try:
        finite.check_arrays(state, "it has")
    except finite.NotFinite as error:
        raise _Damaged(str(error)) from error
    return dict(state)


@functools.cache
def _keep_closed_loops_quiet() -> None:
    """Where one array can't be read or written, Orbax ends its event loop, and TensorStore prints a traceback for each
    of the others at which it still was."""
    before = sys.unraisablehook

    def hook(what: Any) -> None:
        if not (isinstance(what.exc_value, RuntimeError) and "Event loop is closed" in str(what.exc_value)):
            before(what)

    sys.unraisablehook = hook


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {''.join(str(error).splitlines()[:1])[:80]}"


def read(folder: pathlib.Path) -> dict[str, Any]:
    """The state in a checkpoint's folder, as nested dicts of arrays.

    Raises:
      UserError: it is damaged.
    """
    try:
        return _read(_open(folder))
    except _Damaged as error:
        raise UserError(f"{folder} is damaged ({error})") from error


def resume(
    workdir: pathlib.Path, template: TrainState, meta: dict[str, Any]
) -> tuple[int, TrainState | None, list[Checkpoint]]:
    """The checkpoint from which a training continues.

    Args:
      workdir: of the run.
      template: has the state's shapes and types, so that any number of devices can read it.
      meta: what must not have changed.

    Returns:
      Step and state of the newest whole checkpoint, and all whole checkpoints; 0, None and [] for a new run.

    Raises:
      UserError: a checkpoint was saved with another `meta`, so that landmarks or teacher have changed since; or there
        are checkpoints, and none is whole.
    """
    # NumPy: Orbax then asks for no devices
    target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), _parts(template))
    state = None
    whole: list[Checkpoint] = []
    check_meta(workdir, meta)
    opened, damaged = _opened(workdir)
    for one in opened:
        try:
            arrays = _read(one, target)
        except _Damaged as error:
            damaged[one.folder] = error
            continue
        state = state or TrainState(**arrays)
        whole.append(one)
    if damaged and not whole:
        raise _none_whole(workdir, damaged)
    if not whole:
        return 0, None, []
    for folder, reason in damaged.items():
        _log.warning("%s is damaged (%s); step %d is used", folder, reason, whole[0].step)
    changes = versions.changes(whole[0].made_with, versions.describe()) if whole[0].made_with else []
    if changes:
        _log.warning("%s goes on with other programs than before: %s", workdir, "; ".join(changes))
    return whole[0].step, state, whole


def remove_all_but(workdir: pathlib.Path, whole: Iterable[Checkpoint]) -> None:
    """Removes the checkpoints that `resume` passed over, which are damaged, and those that were being written or
    removed when a training was killed."""
    folder, kept = _folder(workdir), {one.folder for one in whole}
    unfinished = [p for p in folder.iterdir() if UNFINISHED in p.name] if folder.is_dir() else []
    for path in [p for p in _found(workdir) if p not in kept] + unfinished:
        shutil.rmtree(path)


def check_meta(workdir: pathlib.Path, meta: dict[str, Any]) -> None:
    """Raises UserError if a part of `meta` is another one in a checkpoint. (Orbax would return arrays of other shapes
    without a warning.) What older versions did not keep of a run, or concluded otherwise, is not compared."""
    for one in _opened(workdir)[0]:
        passed = {*CONCLUDED, *(key for key in LATER if key not in one.meta)}
        compared = {key: value for key, value in json.loads(json.dumps(meta)).items() if key not in passed}
        differ = [key for key, value in compared.items() if one.meta.get(key) != value]
        if differ:
            raise UserError(
                f"{one.folder}: {' and '.join(differ)} of this run have changed since it began; restore them, or start "
                "again in a new --workdir"
            )


def _none_whole(workdir: pathlib.Path, damaged: Mapping[pathlib.Path, _Damaged]) -> UserError:
    first, reason = next(iter(damaged.items()))
    return UserError(
        f"{workdir}: none of its {len(damaged)} checkpoints is whole ({first.name}: {reason}); restore "
        f"{_folder(workdir)} from a copy, or train again in a new --workdir. Nothing was changed"
    )


def best_of_training(workdir: pathlib.Path) -> tuple[Variables, dict[str, Any]]:
    """Variables (see `step.averaged`), with those that only training needs, and meta of a run's best checkpoint. Where
    it is damaged, they are those of the next best, with a warning.

    Raises:
      UserError: there is none that is whole.
    """
    for _ in range(READ_TRIES):
        one, state, damaged = _best_whole(workdir)
        if all(folder.exists() for folder in damaged):
            break  # else a training has removed it meanwhile
    if one is None:
        if damaged:
            raise _none_whole(workdir, damaged)
        run, domain = workdir.parent, workdir.name
        if any(domain == one["name"] for parent in _opened(run)[0] for one in parent.meta.get("domains") or ()):
            raise UserError(f"{workdir} is the domain {domain} of a run; give --workdir={run} --domain={domain}")
        raise UserError(f"{workdir}: no checkpoint yet; let the run get to its first evaluation")
    for folder, reason in damaged.items():
        _log.warning("%s is damaged (%s); the checkpoint of step %d is used", folder, reason, one.step)
    return averaged(state["params"], state["batch_stats"], state.get("average")), one.meta


def best_step(workdir: pathlib.Path) -> int:
    """The step of a run's best checkpoint, by what the checkpoints say of themselves; 0: there is none."""
    errors = {one.step: one.val_error for one in _opened(workdir)[0] if one.val_error is not None}
    return next(iter(_by_error(errors)), 0)


def _best_whole(workdir: pathlib.Path) -> tuple[Checkpoint | None, dict[str, Any], dict[pathlib.Path, _Damaged]]:
    """The best checkpoint that is whole, if any, and its state; and the damaged ones that were passed over."""
    opened, damaged = _opened(workdir)
    known = {one.step: one for one in opened}
    for step in _by_error({step: one.val_error for step, one in known.items() if one.val_error is not None}):
        try:
            return known[step], _read(known[step]), damaged
        except _Damaged as error:
            damaged[known[step].folder] = error
    return None, {}, damaged


def best(workdir: pathlib.Path) -> tuple[Variables, dict[str, Any]]:
    """Variables (see `network_of`) and meta of a run's best checkpoint.

    Raises:
      UserError: as `best_of_training`, or `workdir` is no run.
    """
    config_of_run(workdir)
    variables, meta = best_of_training(workdir)
    return network_of(variables), meta


def network_of(variables: dict[str, Any]) -> dict[str, Any]:
    """The variables of a trained network, without those that only its training needs."""
    return variables | {"params": {k: tree for k, tree in variables["params"].items() if k not in TRAINING_ONLY}}
