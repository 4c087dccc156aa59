"""How pictures reach the training step: batch by batch from the host, or all of them at once, to be picked there."""

import abc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from ctd_jax.data import Dataset
from ctd_jax.errors import UserError
from ctd_jax.training.parallel import Parallel
from ctd_jax.training.step import Constants, Step, several
from ctd_jax.typing import Batch, Tree

LOG_INTERVAL = 10  # steps between two rows of log.csv


class Plan(NamedTuple):
    """How long a training is, and in which order its pictures come.

    Attributes:
      steps: the number of steps.
      eval_every: steps between two evaluations.
      batch_size: pictures with labels in a batch, on all devices together.
      seed: of the shuffling.
      schedule, temperature: how often each domain comes, see `data.schedule.shares`.
      unlabelled_batch_size: pictures without labels in a batch, beside the others, if there are any.
    """

    steps: int
    eval_every: int
    batch_size: int
    seed: int
    schedule: str = "proportional"
    temperature: float = 1.0
    unlabelled_batch_size: int = 0


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
      plan: of the training.
      parallel: the devices.

    Attributes:
      batch_size: pictures of a step, those without labels too.
    """

    def __init__(self, dataset: Dataset, plan: Plan, parallel: Parallel):
        self._dataset, self._plan, self._parallel = dataset, plan, parallel
        unlabelled = plan.unlabelled_batch_size if dataset.has_unlabelled else 0
        self.batch_size = plan.batch_size + unlabelled
        self._order: dict[str, Any] = {
            "batch_size": plan.batch_size,
            "unlabelled_batch_size": unlabelled,
            "seed": plan.seed,
            "schedule": plan.schedule,
            "temperature": plan.temperature,
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

    def batch(self) -> Batch:
        """One of the shapes that `Call.last_batch` gives, on the devices."""
        rows = self._parallel.share(np.zeros(self.batch_size, int))
        return self._parallel.shard(self._dataset.batch(rows))

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
        return self.batch()

    def calls(self, start: int) -> Iterator[Call]:
        batches = self._dataset.training_batches(start=start, **self._order)
        for number in range(start + 1, self._plan.steps + 1):
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
        plan = self._plan
        order = self._dataset.training_order(**self._order)
        while start < plan.steps:
            next_row, next_evaluation = ((start // every + 1) * every for every in (LOG_INTERVAL, plan.eval_every))
            end = min(next_row, next_evaluation, plan.steps)
            rows = np.stack([order[n] for n in range(start, end)], axis=1).astype(np.int32)
            yield self._call(end, self._parallel.share(rows))
            start = end

    def _call(self, step: int, rows: np.ndarray) -> Call:
        return Call(step, self._parallel.shard(rows), lambda: self._parallel.shard(self._dataset.batch(rows[:, -1])))


def choose(dataset: Dataset, plan: Plan, parallel: Parallel, on_device: str = "auto") -> Feed:
    """The feed that `on_device`, of `config.data`, asks for; auto: `DeviceFeed` on an accelerator, if the pictures fit
    into `data.cache_mib`.

    Args:
      dataset: the training pictures.
      plan: of the training.
      parallel: the devices.
      on_device: auto, yes or no.

    Raises:
      UserError: another value; or `yes`, though the pictures don't fit into `data.cache_mib`.
    """
    if on_device not in ("auto", "yes", "no"):
        raise UserError(f"data.on_device is {on_device!r}; expected auto, yes or no")
    if on_device == "yes" and not dataset.cached:
        raise UserError(
            f"data.on_device is yes, but the {len(dataset)} training pictures need more than data.cache_mib, "
            f"{dataset.cache_mib} MiB; raise it, or set data.on_device to auto"
        )
    if on_device == "yes" or (on_device == "auto" and jax.default_backend() != "cpu" and dataset.cached):
        return DeviceFeed(dataset, plan, parallel)
    return HostFeed(dataset, plan, parallel)
