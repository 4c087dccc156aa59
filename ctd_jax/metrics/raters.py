"""Whether a network is as near to a person as another person is."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ctd_jax.metrics import intervals
from ctd_jax.metrics.landmarks import subject_units
from ctd_jax.metrics.predictions import Predictions


def summarize(table: Predictions, points: np.ndarray, names: Sequence[str], spacing: np.ndarray) -> dict[str, Any]:
    """The `raters` of metrics.json, of the points that all raters annotated; empty where there are none.

    The distance of the network from a rater, and of a rater from another one, are averaged over raters or pairs, then
    over the points of a picture, then over pictures. So both hold the scatter of one rater. Neither is a distance from
    the annotation that the network was trained on, such as the raters' mean: a rater is a part of that.

    Returns:
      `names`, `unit` ("mm" where the spacing of all these pictures is known, else "px"), `n_points`, `network` and
      `between`, `difference` of the two with its `ci95` and `p` over subjects (absent with one subject), and `beaten`:
      the difference is below 0, and its interval, if there is one, leaves out 0.

    Args:
      table: of N pictures.
      points: `[R, N, K, 2]` of R raters in pixels, NaN where one annotated none.
      names: R of them.
      spacing: `[N, 2]` mm per pixel, NaN where unknown.
    """
    known = np.isfinite(points).all(axis=(0, 3)) & np.isfinite(table.xy).all(axis=-1)  # [N, K]
    shown = known.any(axis=1)
    if len(points) < 2 or not shown.any():
        return {}
    in_mm = bool(np.isfinite(spacing[shown]).all())
    scale = spacing[:, None] if in_mm else np.ones((len(spacing), 1, 2))

    def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """`[N]` mean over the points of each picture."""
        each = np.where(known, np.linalg.norm((one - other) * scale, axis=-1), 0.0)
        return each.sum(axis=1) / np.maximum(known.sum(axis=1), 1)

    network = np.mean([distance(table.xy, one) for one in points], axis=0)
    between = np.mean([distance(one, other) for one, other in combinations(points, 2)], axis=0)
    weight = shown.astype(np.float64)[:, None]
    sums = np.stack([network, between, network - between], axis=1) * weight
    estimate = intervals.of_ratios(sums, np.repeat(weight, 3, axis=1), subject_units(table))
    value = estimate.value.tolist()
    result = {
        "names": list(names),
        "unit": "mm" if in_mm else "px",
        "n_points": int(known.sum()),
        "network": value[0],
        "between": value[1],
        "difference": value[2],
    }
    ci95 = intervals.bounds(estimate, "difference")[:, 2]
    if not np.isfinite(ci95).all():
        return result | {"beaten": value[2] < 0}
    p = float(intervals.p_value(estimate, "difference")[2])
    return result | {"ci95": ci95.tolist(), "p": p, "beaten": bool(value[2] < 0 and not ci95[0] <= 0 <= ci95[1])}
