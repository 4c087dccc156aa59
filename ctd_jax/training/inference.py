"""The outputs of a network for many pictures: in batches of one size, over all devices and hosts."""

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from ctd_jax import data
from ctd_jax.training import finite, memory, pace
from ctd_jax.training.parallel import Parallel
from ctd_jax.typing import HostBatch, Tree, Variables


def each(
    body: Callable, variables: Variables | None, dataset: data.Dataset, parallel: Parallel, batch_size: int
) -> Iterator[tuple[Tree, np.ndarray, np.ndarray]]:
    """The outputs of `body` for the pictures of `dataset`, in batches of one size: the last batch is filled up, and the
    results of the filling are dropped. Each process decodes its share of each batch and gets all results.

    Args:
      body: `(variables, {"picture": [B, S, S, 3] uint8}) -> tree of arrays`, compiled by `parallel`, `sharded=True`;
        where the dataset has domains, it gets "domain" [B] int32 too.
      variables: first argument of `body`: the network's, on the devices.
      dataset: the pictures.
      parallel: the devices.
      batch_size: number of pictures; rounded up to a multiple of the number of devices.

    Yields:
      For one batch of n pictures after the other, the tree of NumPy arrays `[n, ...]`; `offset` `[n, 2]` and `scale`
      `[n]` of each picture's frame.

    Raises:
      NotFinite: the arrays have NaN or infinite numbers.
    """
    devices = len(parallel.devices)
    size = -(-batch_size // devices) * devices
    starts = range(0, len(dataset), size)
    filled = (np.minimum(np.arange(start, start + size), len(dataset) - 1) for start in starts)
    parts = [np.unique(parallel.share(indices), return_inverse=True) for indices in filled]
    for start, (_, place), batch in zip(starts, parts, dataset.batches(indices for indices, _ in parts), strict=True):
        seen = {key: batch[key][place] for key in ("picture", "domain") if key in batch}
        seen, offset, scale = parallel.shard((seen, batch["offset"][place], batch["scale"][place]))
        found = _first(len(dataset) - start, _look(parallel, body, variables, seen, offset, scale))
        finite.check_outputs(found[0], dataset.images[start : start + size])
        yield found


def apply(
    body: Callable, variables: Variables | None, dataset: data.Dataset, parallel: Parallel, batch_size: int
) -> tuple[Tree, np.ndarray, np.ndarray]:
    """All that `each` yields, in one: a tree of arrays `[N, ...]`, `offset` `[N, 2]` and `scale` `[N]`.

    Args:
      body, variables, dataset, parallel, batch_size: see `each`.
    """
    results = each(body, variables, dataset, parallel, batch_size)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def of_batch(
    body: Callable, variables: Variables, batch: HostBatch, parallel: Parallel, size: int, images: Sequence[str]
) -> Tree:
    """The outputs of `body` for one batch of n pictures, which is filled up; one process alone.

    Args:
      body, variables, parallel: see `each`.
      batch: arrays `[n, ...]`.
      size: number of pictures in the network, n at least; rounded up to a multiple of the number of devices.
      images: n names.

    Raises:
      NotFinite: the arrays have NaN or infinite numbers.
    """
    devices = len(parallel.devices)
    rows = np.minimum(np.arange(-(-size // devices) * devices), len(images) - 1)
    filled = {key: array[rows] for key, array in batch.items()}
    (found,) = _first(len(images), _look(parallel, body, variables, parallel.shard(filled)))
    finite.check_outputs(found, images)
    return found


def _look(parallel: Parallel, body: Callable, variables: Variables | None, batch: Tree, *others: Tree) -> tuple:
    """What `body` says of a batch, and others of its arrays, as NumPy's; the memory that it took is free then."""
    before = memory.in_use() or 0
    found = parallel.gather((body(variables, batch), *others))
    pace.wait_until_free(before + sum(x.nbytes for x in jax.tree.leaves(found)) + memory.LARGE // 2)
    return found


def _first(n: int, tree: Tree) -> Tree:
    """The first n rows of each array, or all where there are fewer."""
    return jax.tree.map(lambda x: x[:n], tree)
