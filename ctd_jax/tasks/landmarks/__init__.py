"""The task of landmarks: points, by heatmaps."""

from ctd_jax.tasks.landmarks.task import LandmarkTask, build, forward

__all__ = ["LandmarkTask", "build", "forward"]
