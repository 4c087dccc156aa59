"""What people read of a run: a table for the terminal, pictures with their landmarks, one HTML page."""

from ctd_jax.report import augmented, cautions, domains, landmarks, learning, other_tools, raters, segmentation
from ctd_jax.report.comparison import comparison
from ctd_jax.report.overlays import paint_lines, paint_outlines, paint_points
from ctd_jax.report.tables import console

__all__ = [
    "augmented",
    "cautions",
    "comparison",
    "console",
    "domains",
    "landmarks",
    "learning",
    "other_tools",
    "paint_lines",
    "paint_outlines",
    "paint_points",
    "raters",
    "segmentation",
]
