"""What a network makes of pictures: batches of one size, over all devices and hosts."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from ctd_jax import data
from ctd_jax.training import finite
from ctd_jax.training.parallel import Parallel


def each(
    body: Callable, variables: Any, dataset: data.Dataset, parallel: Parallel, batch_size: int
) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """What `body` makes of the pictures of `dataset`, in batches of one size: the last is filled up and the filling
    dropped. Each process decodes its share of each batch and gets all results.

    Args:
      body: `(variables, {"picture": [B, S, S, 3] uint8}) -> tree of arrays`, compiled by `parallel`, `sharded=True`;
        where the dataset has domains, it gets "domain" [B] int32 too.
      variables: of the network, on the devices.
      batch_size: pictures; rounded up to the number of devices.

    Yields:
      Of one batch after the other, the tree of NumPy arrays `[n, ...]`; `offset` [n, 2] and `scale` [n] of each
      picture's frame.

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
        found = parallel.gather((body(variables, seen), offset, scale))
        found = jax.tree.map(lambda x: x[: len(dataset) - start], found)  # noqa: B023 (called at once)
        finite.check_outputs(found[0], dataset.images[start : start + size])
        yield found


def apply(
    body: Callable, variables: Any, dataset: data.Dataset, parallel: Parallel, batch_size: int
) -> tuple[Any, np.ndarray, np.ndarray]:
    """All that `each` gives, in one: a tree of arrays `[N, ...]`, `offset` [N, 2] and `scale` [N]."""
    results = each(body, variables, dataset, parallel, batch_size)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)
