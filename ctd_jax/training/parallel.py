"""One per-device body, spread over the devices by `jax.shard_map` or `jax.pmap`."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import jax_utils
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.stages import Wrapped

from ctd_jax.errors import UserError
from ctd_jax.typing import Tree

AXIS = "data"  # the mapped axis that bodies take means over


class Parallel:
    """Places trees on the devices and compiles bodies for them.

    A body is called with whole copies of its first arguments and this device's share of its last one, the batch, which
    is divided along its leading axis.

    Args:
      kind: "shard_map" or "pmap".
      devices: to use; by default all, of all processes.

    Raises:
      UserError: another `kind`.
    """

    def __init__(self, kind: str, devices: Sequence[jax.Device] | None = None):
        if kind not in ("shard_map", "pmap"):
            raise UserError(f"parallel is {kind!r}; expected shard_map or pmap")
        # By process, so that each has one piece of a batch; on a TPU pod jax.devices() may have another order.
        self.devices = sorted(devices or jax.devices(), key=lambda d: (d.process_index, d.id))
        self._local = [d for d in self.devices if d.process_index == jax.process_index()]
        self._processes = len(self.devices) // len(self._local)
        self._pmap = kind == "pmap"
        self._mesh = Mesh(np.array(self.devices), (AXIS,))

    def compile(self, body: Callable, *, sharded: bool, donate: tuple[int, ...] = ()) -> Wrapped:
        """`body` on all devices.

        Args:
          body: see the class.
          sharded: the result belongs to each device's share of the batch; otherwise it is the same on each.
          donate: positions of arguments whose memory may be reused.
        """
        if self._pmap:
            return jax.pmap(body, axis_name=AXIS, devices=self.devices, donate_argnums=donate)

        def mapped(*args: Tree) -> Tree:
            specs = (P(),) * (len(args) - 1) + (P(AXIS),)
            # With check_vma=True a pmean of gradients would be too large by the number of devices.
            return jax.shard_map(
                body, mesh=self._mesh, in_specs=specs, out_specs=P(AXIS) if sharded else P(), check_vma=False
            )(*args)

        mapped.__name__ = getattr(body, "__name__", mapped.__name__)  # of the program, wherever JAX speaks of it
        return jax.jit(mapped, donate_argnums=donate)

    def check_batch(self, size: int, key: str) -> None:
        """Raises UserError if batches of `size` can't be shared out evenly; `key` is the configuration's."""
        if size < 1 or size % len(self.devices):
            each = f" ({len(self._local)} in each of {self._processes} processes)" if self._processes > 1 else ""
            raise UserError(
                f"{key} is {size}; expected a positive multiple of the number of devices, {len(self.devices)}{each}"
            )

    def replicate(self, tree: Tree) -> Tree:
        """A copy on every device; all processes have the same tree."""
        if self._pmap:
            return jax_utils.replicate(tree, self._local)
        sharding = NamedSharding(self._mesh, P())
        if self._processes == 1:
            return jax.device_put(tree, sharding)
        # Here device_put would send every array around, to compare it.
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This process's part of the rows of a global batch."""
        size = len(rows) // self._processes
        return rows[jax.process_index() * size :][:size] if self._processes > 1 else rows

    def shard(self, batch: Tree) -> Tree:
        """Each device's share of this process's part of the global batch."""
        if self._pmap:
            return jax.tree.map(lambda x: x.reshape(len(self._local), -1, *x.shape[1:]), batch)
        sharding = NamedSharding(self._mesh, P(AXIS))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)

    def first(self, tree: Tree) -> Tree:
        """NumPy copy of what every device holds alike. (Indexing a pmapped array with [0] would be 30 times slower.)"""
        shards = jax.tree.map(lambda x: x.addressable_shards[0].data, tree)
        return jax.tree.map(lambda x: x[0] if self._pmap else x, jax.device_get(shards))

    def gather(self, tree: Tree) -> Tree:
        """NumPy copy of a sharded result, whole and in the order of the batch, for every process."""
        if self._pmap:
            tree = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), jax.device_get(tree))
        return multihost_utils.process_allgather(tree, tiled=True) if self._processes > 1 else jax.device_get(tree)
