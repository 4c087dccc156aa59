"""How pictures reach the training step: batch by batch from the host, or all of them at once, to be picked there."""

import abc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ctd_jax.data import Dataset
from ctd_jax.errors import UserError
from ctd_jax.training.parallel import Parallel
from ctd_jax.training.step import Constants, Step, several
from ctd_jax.typing import Batch, Tree

LOG_INTERVAL = 10  # steps between two rows of log.csv


class Call(NamedTuple):
    """One call of the compiled body; it makes one step, or several.

    Attributes:
      step: number of the last step that it makes, from 1 on.
      argument: the body's last argument, on the devices.
      last_batch: gives the batch of that step, on the devices.
    """

    step: int
    argument: Tree
    last_batch: Callable[[], Batch]


class Feed(abc.ABC):
    """The training pictures, as the compiled body gets them.

    Args:
      dataset: the training pictures.
      config: of the run.
      parallel: the devices.

    Attributes:
      batch_size: pictures of a step, those without labels too.
    """

    def __init__(self, dataset: Dataset, config: ConfigDict, parallel: Parallel):
        self._dataset, self._parallel = dataset, parallel
        self._steps, self._eval_every = config.train.steps, config.eval.every
        unlabelled = config.train.unlabelled_batch_size if dataset.has_unlabelled else 0
        self.batch_size = config.train.batch_size + unlabelled
        self._order: dict[str, Any] = {
            "batch_size": config.train.batch_size,
            "unlabelled_batch_size": unlabelled,
            "seed": config.seed,
            "schedule": config.domains.schedule,
            "temperature": config.domains.temperature,
        }

    @abc.abstractmethod
    def body(self, step: Step) -> Callable:
        """The function to compile, from a `step` of `step.make`; it is called with the state, `inputs` and
        `Call.argument`."""

    @abc.abstractmethod
    def inputs(self, constants: Constants) -> Tree:
        """What the compiled body reads and training never changes: `constants`, which are on the devices, and more."""

    @abc.abstractmethod
    def example(self) -> Tree:
        """An argument of the shapes that most of the calls have, on the devices."""

    @abc.abstractmethod
    def calls(self, start: int) -> Iterator[Call]:
        """The calls that go on after `start` steps, to the end of the training."""


class HostFeed(Feed):
    """Batches are decoded ahead on the host and sent one by one; a call makes one step."""

    def body(self, step: Step) -> Callable:
        return step

    def inputs(self, constants: Constants) -> Tree:
        return constants

    def example(self) -> Tree:
        rows = self._parallel.share(np.zeros(self.batch_size, int))
        return self._parallel.shard(self._dataset.batch(rows))

    def calls(self, start: int) -> Iterator[Call]:
        batches = self._dataset.training_batches(start=start, **self._order)
        for number in range(start + 1, self._steps + 1):
            yield self._call(number, self._parallel.shard(next(batches)))

    def _call(self, step: int, batch: Batch) -> Call:
        return Call(step, batch, lambda: batch)


class DeviceFeed(Feed):
    """All pictures are on every device; a call makes the steps up to the next row of the log, and gets their indices,
    `[B, n]` of n batches."""

    def body(self, step: Step) -> Callable:
        return several(step)

    def inputs(self, constants: Constants) -> Tree:
        return constants, self._parallel.replicate(self._dataset.batch(np.arange(len(self._dataset))))

    def example(self) -> Tree:
        rows = np.zeros((self.batch_size, LOG_INTERVAL), np.int32)
        return self._parallel.shard(self._parallel.share(rows))

    def calls(self, start: int) -> Iterator[Call]:
        order = self._dataset.training_order(**self._order)
        while start < self._steps:
            next_row, next_evaluation = ((start // every + 1) * every for every in (LOG_INTERVAL, self._eval_every))
            end = min(next_row, next_evaluation, self._steps)
            rows = np.stack([order[n] for n in range(start, end)], axis=1).astype(np.int32)
            yield self._call(end, self._parallel.share(rows))
            start = end

    def _call(self, step: int, rows: np.ndarray) -> Call:
        return Call(step, self._parallel.shard(rows), lambda: self._parallel.shard(self._dataset.batch(rows[:, -1])))


def choose(dataset: Dataset, config: ConfigDict, parallel: Parallel) -> Feed:
    """The feed that `data.on_device` asks for; auto: `DeviceFeed` on an accelerator whose pictures fit into
    `data.cache_mib`.

    Args:
      dataset: the training pictures.
      config: of the run.
      parallel: the devices.

    Raises:
      UserError: another value; or `yes`, though the pictures don't fit into `data.cache_mib`.
    """
    wanted = config.data.on_device
    if wanted not in ("auto", "yes", "no"):
        raise UserError(f"data.on_device is {wanted!r}; expected auto, yes or no")
    if wanted == "yes" and not dataset.cached:
        raise UserError(
            f"data.on_device is yes, but the {len(dataset)} training pictures need more than data.cache_mib, "
            f"{config.data.cache_mib} MiB; raise it, or set data.on_device to auto"
        )
    if wanted == "yes" or (wanted == "auto" and jax.default_backend() != "cpu" and dataset.cached):
        return DeviceFeed(dataset, config, parallel)
    return HostFeed(dataset, config, parallel)
