"""The task of class maps: which class each pixel is of."""

from ctd_jax.tasks.segmentation.task import Alone, Layout, SegmentationTask, build, forward

__all__ = ["Alone", "Layout", "SegmentationTask", "build", "forward"]
