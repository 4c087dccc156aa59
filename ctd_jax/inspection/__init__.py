"""Is the data sound? The door of the room: `inspect` reads a folder and says what it found, `write_page` shows it."""

from ctd_jax.inspection.findings import Finding, Item
from ctd_jax.inspection.inspected import Inspected, inspect
from ctd_jax.inspection.page import summary, write_page

__all__ = ["Finding", "Inspected", "Item", "inspect", "summary", "write_page"]
