"""Orbax checkpoints of a run: the latest, to continue from, and the best on validation, to use."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from ctd_jax import workdir as workdirs
from ctd_jax.errors import UserError


def manager(workdir: pathlib.Path) -> ocp.CheckpointManager:
    """Keeps the latest checkpoint and the one with the lowest validation error."""
    keep = [
        preservation_policy.LatestN(1),
        preservation_policy.BestN(get_metric_fn=lambda m: m["val_error"], reverse=True, n=1),
    ]
    options = ocp.CheckpointManagerOptions(
        best_fn=lambda m: m["val_error"],
        best_mode="min",
        preservation_policy=preservation_policy.AnyPreservationPolicy(keep),
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)


def save(checkpoints: ocp.CheckpointManager, step: int, state: Any, meta: dict[str, Any], val_error: float) -> None:
    """`state`: tree of NumPy arrays, the same on every device. `meta`: what `predict` needs beside the weights."""
    checkpoints.save(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)),
        metrics={"val_error": val_error},
    )


def restore(checkpoints: ocp.CheckpointManager, step: int, template: Any) -> Any:
    """The state of `step`; `template` has its shapes and types, so that any number of devices can read it.

    Raises:
      UserError: the checkpoint's shapes are others.
    """
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), template)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
    state = jax.device_get(checkpoints.restore(step, args=args).state)
    for (path, want), found in zip(jax.tree.leaves_with_path(target), jax.tree.leaves(state), strict=True):
        if found.shape != want.shape:  # Orbax does not mind
            raise UserError(
                f"{checkpoints.directory / str(step)}: {jax.tree_util.keystr(path)} is {found.shape}, the network's is "
                f"{want.shape}: landmarks or teacher are not those that this run began with; restore them, or start "
                "again in a new --workdir"
            )
    return state


def best(workdir: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables (params, batch_stats) and meta of a run's best checkpoint.

    Raises:
      UserError: there is none.
    """
    workdirs.read_config(workdir)
    with manager(workdir) as checkpoints:
        step = checkpoints.best_step()
        if step is None:
            raise UserError(f"{workdir}: no checkpoint yet; let the run get to its first evaluation")
        loaded = checkpoints.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
        )
    return {key: loaded.state[key] for key in ("params", "batch_stats")}, loaded.meta
