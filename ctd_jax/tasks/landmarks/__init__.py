"""The task of landmarks: points, by heatmaps."""

from ctd_jax.tasks.landmarks.network import build, forward
from ctd_jax.tasks.landmarks.task import LandmarkTask

__all__ = ["LandmarkTask", "build", "forward"]
