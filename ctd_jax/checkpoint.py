"""Orbax checkpoints of a run: the latest, to continue from, and the best on validation, to use."""

import hashlib
import json
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ctd_jax import workdir as workdirs
from ctd_jax.errors import UserError

TRAINING_ONLY = ("adapters", "coordinates")  # parameters that a run's network leaves behind


def manager(workdir: pathlib.Path, *, read_only: bool = False) -> ocp.CheckpointManager:
    """Keeps the latest checkpoint and the one with the lowest validation error. `read_only` touches nothing: a training
    may be writing there."""
    keep = [
        preservation_policy.LatestN(1),
        preservation_policy.BestN(get_metric_fn=lambda m: m["val_error"], reverse=True, n=1),
    ]
    options = ocp.CheckpointManagerOptions(
        best_fn=lambda m: m["val_error"],
        best_mode="min",
        preservation_policy=preservation_policy.AnyPreservationPolicy(keep),
        cleanup_tmp_directories=not read_only,
        create=not read_only,
        read_only=read_only,
    )
    return ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)


def save(checkpoints: ocp.CheckpointManager, step: int, state: Any, meta: dict[str, Any], val_error: float) -> None:
    """`state`: tree of NumPy arrays, the same in every process; the first writes it. `meta`: JSON of what must not
    change, and what `predict` needs beside the weights."""
    checkpoints.save(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)),
        metrics={"val_error": val_error},
    )


def digest(tree: Any) -> str:
    """Sixteen hexadecimal digits that change with any array of a tree."""
    content = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        content.update(np.ascontiguousarray(leaf).tobytes())
    return content.hexdigest()[:16]


def restore(checkpoints: ocp.CheckpointManager, step: int, template: Any, meta: dict[str, Any]) -> Any:
    """The state of `step`; `template` has its shapes and types, so that any number of devices can read it.

    Raises:
      UserError: it was saved with another `meta`: by now landmarks or teacher are others. (Orbax does not mind.)
    """
    saved = checkpoints.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
    differ = [key for key, value in json.loads(json.dumps(meta)).items() if saved.get(key) != value]
    if differ:
        raise UserError(
            f"{checkpoints.directory / str(step)}: {' and '.join(differ)} of this run have changed since it began; "
            "restore them, or start again in a new --workdir"
        )
    target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), template)  # NumPy: Orbax then asks for no devices
    return checkpoints.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))).state


def best(workdir: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables (params, batch_stats; `network_of`) and meta of a run's best checkpoint.

    Raises:
      UserError: there is none.
    """
    workdirs.read_config(workdir)
    none = UserError(f"{workdir}: no checkpoint yet; let the run get to its first evaluation")
    if not (workdir / "checkpoints").is_dir():
        raise none
    with manager(workdir, read_only=True) as checkpoints:
        step = checkpoints.best_step()
        if step is None:
            raise none
        loaded = checkpoints.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
        )
    return network_of({key: loaded.state[key] for key in ("params", "batch_stats")}), loaded.meta


def network_of(variables: dict[str, Any]) -> dict[str, Any]:
    """A trained network's variables, without those that served its training only."""
    return variables | {"params": {k: tree for k, tree in variables["params"].items() if k not in TRAINING_ONLY}}
