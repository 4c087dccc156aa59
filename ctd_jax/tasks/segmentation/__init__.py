"""The task of class maps: which class each pixel is of."""

from ctd_jax.tasks.segmentation.network import Layout, build, forward
from ctd_jax.tasks.segmentation.task import SegmentationTask

__all__ = ["Layout", "SegmentationTask", "build", "forward"]
