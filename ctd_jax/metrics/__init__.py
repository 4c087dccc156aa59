"""How good a result is: the table of predictions, and every number that is computed from it.

The metrics of landmarks can be imported from here, the others from their modules.
"""

from ctd_jax.metrics.landmarks import (
    ced,
    ced_measure,
    counts_of,
    image_error,
    image_errors,
    is_fraction,
    nme_key,
    ratios,
    subject_units,
    summarize,
)
from ctd_jax.metrics.predictions import (
    COLUMNS,
    Predictions,
    concatenate,
    number,
    read_predictions,
    read_rows,
    write_predictions,
)

__all__ = [
    "COLUMNS",
    "Predictions",
    "ced",
    "ced_measure",
    "concatenate",
    "counts_of",
    "image_error",
    "image_errors",
    "is_fraction",
    "nme_key",
    "ratios",
    "number",
    "read_predictions",
    "read_rows",
    "subject_units",
    "summarize",
    "write_predictions",
]
