"""What is learned: a task for each kind of output, and one table of them."""

import pathlib

from ml_collections import ConfigDict

from ctd_jax.errors import UserError
from ctd_jax.tasks.landmarks.task import LandmarkTask
from ctd_jax.tasks.landmarks.trained import FoundLandmarks
from ctd_jax.tasks.recognition import RecognitionTask
from ctd_jax.tasks.segmentation.task import SegmentationTask
from ctd_jax.tasks.segmentation.trained import FoundClassMaps
from ctd_jax.tasks.task import Task
from ctd_jax.tasks.trained import Run, Trained

__all__ = ["TASKS", "Result", "Task", "Trained", "of", "trained"]

TASKS: dict[str, type[Task]] = {
    "landmarks": LandmarkTask,
    "segmentation": SegmentationTask,
    "recognition": RecognitionTask,
}
Result = FoundLandmarks | FoundClassMaps  # what a network says of pictures


def of(config: ConfigDict) -> type[Task]:
    """The task of a configuration.

    Raises:
      UserError: there is no such task.
    """
    if config.task not in TASKS:
        raise UserError(f"task is {config.task!r}; expected {', '.join(TASKS)}")
    return TASKS[config.task]


def trained(workdir: pathlib.Path, domain: str | None = None, config: ConfigDict | None = None) -> Trained:
    """The network that a run has learned: the best checkpoint.

    Args:
      workdir: of the run.
      domain: which of its domains; None: it has one kind of pictures.
      config: how the network is built; None: as it was trained.

    Raises:
      UserError: no run, one without a whole checkpoint, one that makes nothing that predicts, or no such domain.
    """
    run = Run.read(workdir)
    config = config or run.config
    return of(config).trained(run, domain, config)
