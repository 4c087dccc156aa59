"""A task: what a network learns, as training, evaluation, prediction and export see it."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from jax import Array
from ml_collections import ConfigDict
from PIL import Image

from ctd_jax import data
from ctd_jax.tasks.trained import Run, Trained
from ctd_jax.training.parallel import Parallel
from ctd_jax.typing import Batch, HostBatch, Params, Tree, Variables

# Function of variables on the devices: the error of the validation pictures, the lower the better, and how a person
# reads it.
Validator = Callable[[Variables], tuple[float, str]]


class Task(Protocol):
    """What every task has. One object is one training: a configuration, its data, its network and its loss.

    Attributes:
      targets: kind of what is known of each picture, for `data.load`.
      last_file: the file of a workdir that is written last; once it is there, the run is finished.
      marks: a sentence on what `painted` paints; "": nothing.
      finds_landmarks: whether a finished run has predictions.csv, which learning curves are made from.
      config: of the run, with what was chosen where it left something open, see `automatic`.
      pictures: all pictures of the configuration.
      train: the pictures that are trained on.
      terms: names of the parts of the loss, as log.csv has them.
      gradient_terms: those of them whose gradients by the encoder are measured at each evaluation; none: no such look.
      term_weights: weight in the loss of each of `gradient_terms`.
      constants: what `loss` reads and training never changes, on the host: a teacher, weights of terms. (A step adds
        the variables of the moving average, as `average`, where there is one.)
      start: what start.json says of the run that this one goes on from, see `start_run`; none: it goes on from none.
      meta: what a checkpoint says beside the numbers: what prediction needs, and what may not change during a run.
    """

    targets: ClassVar[data.Kind]
    last_file: ClassVar[str]
    marks: ClassVar[str]
    finds_landmarks: ClassVar[bool]
    config: ConfigDict
    pictures: data.SplitPictures
    train: data.Dataset

    def __init__(self, config: ConfigDict, pictures: data.SplitPictures):
        """Checks all that can be checked before the first step.

        Raises:
          UserError: configuration, data and weights don't go together.
        """
        ...

    @property
    def terms(self) -> tuple[str, ...]: ...

    @property
    def gradient_terms(self) -> tuple[str, ...]: ...

    @property
    def term_weights(self) -> Mapping[str, float]: ...

    @property
    def constants(self) -> Mapping[str, Tree]: ...

    @property
    def start(self) -> Mapping[str, Any]: ...

    @property
    def meta(self) -> dict[str, Any]: ...

    def init(self, seed: int) -> Variables:
        """The variables before the first step, `params` and `batch_stats`."""
        ...

    def param_labels(self, params: Params) -> Tree:
        """A tree like `params`: which learning rate each has, `encoder` or `decoder`; `frozen`: it does not learn."""
        ...

    def loss(
        self, params: Params, batch_stats: Tree, constants: Tree, batch: Batch, keys: Array
    ) -> tuple[Array, tuple[Tree, dict[str, Array]]]:
        """The loss of each picture, on one device; see `step.Loss`.

        Args:
          params, batch_stats: of the network.
          constants: those of the task.
          batch: of B pictures, `picture` `[B, S, S, 3]` uint8 and the targets, in pixels of the network's picture.
          keys: `[B]` random keys, one for each picture.

        Returns:
          `[B]` loss, the batch statistics after it, and name -> `[B]` of each of `terms`.
        """
        ...

    def painted(self, batch: HostBatch, keys: Array | None) -> list[Image.Image]:
        """Training pictures for people, with what is true of them painted over.

        Args:
          batch: B pictures and their targets.
          keys: `[B]` random keys of their augmentation; None: they are not augmented.
        """
        ...

    def validator(self, parallel: Parallel) -> Validator:
        """What chooses the best checkpoint."""
        ...

    def finish(self, variables: Variables, parallel: Parallel, workdir: pathlib.Path, began: float) -> dict[str, Any]:
        """Reads the test pictures, once, and writes the results, `last_file` last of all.

        Args:
          variables: of the best checkpoint.
          parallel: the devices.
          workdir: of the run.
          began: `time.monotonic()` at the start of the run.

        Returns:
          The content of metrics.json.
        """
        ...

    @classmethod
    def trained(cls, run: Run, domain: str | None, config: ConfigDict) -> Trained:
        """The network of a run of this task, for one kind of pictures.

        Args:
          run: what its best checkpoint holds.
          domain: which of its domains; None: it has one kind of pictures.
          config: how the network is built, the run's own but for what does not touch its parameters.

        Raises:
          UserError: no such domain, or the task makes nothing that predicts.
        """
        ...

    @staticmethod
    def console(result: Mapping[str, Any], workdir: pathlib.Path) -> str:
        """What the command says of a finished run, whose metrics.json has `result`."""
        ...
