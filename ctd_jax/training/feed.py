"""How pictures reach the training step: batch by batch from the host, or all of them at once, to be picked there."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ctd_jax.data import Dataset
from ctd_jax.errors import UserError
from ctd_jax.training import step as steps
from ctd_jax.training.parallel import Parallel

LOG_EVERY = 10  # steps between rows of log.csv


def choose(dataset: Dataset, config: ConfigDict, parallel: Parallel) -> "FromHost | OnDevice":
    """What `data.on_device` says; auto: on an accelerator, if the pictures fit into `data.cache_mib`.

    Raises:
      UserError: another value, or pictures that must be decoded as they are read shall stay on the device.
    """
    wanted = config.data.on_device
    if wanted not in ("auto", "yes", "no"):
        raise UserError(f"data.on_device is {wanted!r}; expected auto, yes or no")
    if wanted == "yes" and not dataset.cached:
        raise UserError(
            f"data.on_device is yes, but the {len(dataset)} training pictures need more than data.cache_mib, "
            f"{config.data.cache_mib} MiB; raise it, or set data.on_device to auto"
        )
    on_device = wanted == "yes" or (wanted == "auto" and jax.default_backend() != "cpu" and dataset.cached)
    return (OnDevice if on_device else FromHost)(dataset, config, parallel)


class FromHost:
    """Batches are decoded ahead and sent one by one; a dispatch is one step."""

    def __init__(self, dataset: Dataset, config: ConfigDict, parallel: Parallel):
        self._dataset, self._config, self._parallel = dataset, config, parallel

    @property
    def _order(self) -> dict[str, Any]:
        config = self._config
        schedule = {key: config.domains[key] for key in ("schedule", "temperature")}
        return {"batch_size": config.train.batch_size, "seed": config.seed} | schedule

    def body(self, step: Callable) -> Callable:
        """What is compiled, of a `step` of `step.make`: called with the state, `inputs` and a dispatch."""
        return step

    def inputs(self, constants: steps.Constants) -> Any:
        """What the compiled body reads: `constants`, which are on the devices, and what else there is."""
        return constants

    def example(self) -> Any:
        """A dispatch like most of those to come."""
        rows = self._parallel.share(np.zeros(self._config.train.batch_size, int))
        return self._parallel.shard(self._dataset.batch(rows))

    def dispatches(self, start: int) -> Iterator[tuple[int, Any, Callable[[], Any]]]:
        """From step `start` on: the step that each ends with, the dispatch, and a function that gives the batch of that
        step."""
        batches = self._dataset.training_batches(start=start, **self._order)
        for number in range(start + 1, self._config.train.steps + 1):
            batch = self._parallel.shard(next(batches))
            yield number, batch, lambda batch=batch: batch


class OnDevice(FromHost):
    """All pictures lie on every device; a dispatch is the indices of the steps up to the next row of the log."""

    def body(self, step: Callable) -> Callable:
        return steps.several(step)

    def inputs(self, constants: steps.Constants) -> Any:
        return constants, self._parallel.replicate(self._dataset.batch(np.arange(len(self._dataset))))

    def example(self) -> Any:
        size = self._config.train.batch_size
        return self._parallel.shard(self._parallel.share(np.zeros((size, LOG_EVERY), np.int32)))

    def dispatches(self, start: int) -> Iterator[tuple[int, Any, Callable[[], Any]]]:
        order, steps = self._dataset.training_order(**self._order), self._config.train.steps
        while start < steps:
            end = min(*((start // every + 1) * every for every in (LOG_EVERY, self._config.eval.every)), steps)
            rows = self._parallel.share(np.stack([order[n] for n in range(start, end)], axis=1).astype(np.int32))
            last = rows[:, -1]
            yield end, self._parallel.shard(rows), lambda last=last: self._parallel.shard(self._dataset.batch(last))
            start = end
