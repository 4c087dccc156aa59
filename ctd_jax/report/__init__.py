"""What people read of a run: a table for the terminal, pictures with their landmarks, one HTML page."""

from ctd_jax.report import cautions, learning, segmentation
from ctd_jax.report.comparison import comparison
from ctd_jax.report.index import write_index
from ctd_jax.report.overlays import draw
from ctd_jax.report.page import write
from ctd_jax.report.tables import console

__all__ = ["cautions", "comparison", "console", "draw", "learning", "segmentation", "write", "write_index"]
