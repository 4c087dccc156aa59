"""Shape and size: how far predicted landmarks, all of a picture together, differ from the annotated ones.

Full Procrustes distance and centroid size of Dryden and Mardia 2016, Statistical Shape Analysis, 2nd edition, chapters
2 and 4. NumPy only, float64.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ctd_jax.metrics import intervals
from ctd_jax.metrics.landmarks import subject_units
from ctd_jax.metrics.predictions import Predictions

MIN_POINTS = 3  # two points always have the same shape


def centroid_size(points: np.ndarray) -> np.ndarray:
    """`[...]` of points `[..., K, 2]`: root of the summed squares of their distances from the centroid; NaN is left
    out."""
    middle = np.nanmean(points, axis=-2, keepdims=True)
    return np.sqrt(np.nansum((points - middle) ** 2, axis=(-2, -1)))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Full Procrustes distance of two shapes `[K, 2]`, 0 (equal) to 1; NaN where all points of one are in one place.

    Position, size and rotation don't count, but a mirror image is another shape. With both centred and of size 1, and
    points as complex numbers z and w: sqrt(1 - |sum conj(z) w|^2).
    """
    z, w = (shape[:, 0] + 1j * shape[:, 1] for shape in (a - a.mean(axis=0), b - b.mean(axis=0)))
    sizes = np.linalg.norm(z) * np.linalg.norm(w)
    if not sizes > 0:
        return float("nan")
    return float(np.sqrt(max(0.0, 1 - abs(np.vdot(z, w) / sizes) ** 2)))


def summarize(table: Predictions, spacing: np.ndarray) -> dict[str, Any]:
    """The `shape` of metrics.json: means over pictures, each by its annotated landmarks, three at least.

    - `n_images`: pictures that count.
    - `procrustes_distance`: see `distance`.
    - `centroid_size_error`: |predicted / annotated - 1|, `centroid_size_bias`: predicted / annotated - 1.
    - `ci95`: the 95 % intervals over subjects (`intervals`).

    What is unknown is absent.

    Args:
      table: of N pictures.
      spacing: `[N, 2]` mm per pixel, NaN where unknown: pixels are then taken to be square.
    """
    scale = np.where(np.isnan(spacing).any(axis=-1, keepdims=True), 1.0, spacing)[:, None]
    values = np.full((len(table.images), 3), np.nan)
    for i, (found, true) in enumerate(zip(table.xy * scale, table.true_xy * scale, strict=True)):
        known = np.isfinite(found).all(axis=-1) & np.isfinite(true).all(axis=-1)
        if known.sum() >= MIN_POINTS:
            size = centroid_size(true[known])
            ratio = centroid_size(found[known]) / size if size > 0 else np.nan
            values[i] = distance(found[known], true[known]), abs(ratio - 1), ratio - 1
    values, rows = values[np.isfinite(values).all(axis=1)], np.isfinite(values).all(axis=1)
    summary: dict[str, Any] = {"n_images": int(rows.sum()), "ci95": {}}
    if not rows.any():
        return summary
    estimate = intervals.of_ratios(values, np.ones_like(values), subject_units(table)[rows])
    level, difference = intervals.bounds(estimate, "level"), intervals.bounds(estimate, "difference")
    for i, key in enumerate(("procrustes_distance", "centroid_size_error", "centroid_size_bias")):
        summary[key] = float(estimate.value[i])
        ends = (difference if key == "centroid_size_bias" else level)[:, i]
        if np.isfinite(ends).all():
            summary["ci95"][key] = ends.tolist()
    return summary


def between_raters(table: Predictions, points: np.ndarray, spacing: np.ndarray) -> dict[str, Any]:
    """The `shape` of the `raters` of metrics.json: whether a network's shapes differ from a person's as much as another
    person's do. Means over pictures, each by the landmarks that all raters annotated, three at least; empty where there
    is none.

    - `n_images`: pictures that count.
    - `network`, `between`: of the network and each rater, and of each two raters: `procrustes_distance`, see
      `distance`, and `centroid_size_difference`, 2 |a - b| / (a + b) of the two sizes.

    Args:
      table: of N pictures.
      points: `[R, N, K, 2]` of R raters in pixels, NaN where one annotated none.
      spacing: `[N, 2]` mm per pixel, NaN where unknown: pixels are then taken to be square.
    """
    scale = np.where(np.isnan(spacing).any(axis=-1, keepdims=True), 1.0, spacing)[:, None]
    network, between = [], []
    for i, found in enumerate(table.xy * scale):
        people = points[:, i] * scale[i]
        known = np.isfinite(found).all(axis=-1) & np.isfinite(people).all(axis=(0, 2))
        if len(people) > 1 and known.sum() >= MIN_POINTS:
            shapes = people[:, known]
            network.append(_mean_difference([(found[known], one) for one in shapes]))
            between.append(_mean_difference(list(combinations(shapes, 2))))
    apart = np.array([network, between])  # [2, n, 2]
    good = np.isfinite(apart).all(axis=(0, 2)) if network else np.zeros(0, bool)
    if not good.any():
        return {}
    keys = ("procrustes_distance", "centroid_size_difference")
    means = apart[:, good].mean(axis=1).tolist()
    return {"n_images": int(good.sum())} | {
        who: dict(zip(keys, mean, strict=True)) for who, mean in zip(("network", "between"), means, strict=True)
    }


def _mean_difference(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Distance of shape, and difference of size as a share of their mean, on average over pairs of `[K, 2]`."""
    sizes = np.array([[centroid_size(a), centroid_size(b)] for a, b in pairs])
    with np.errstate(invalid="ignore"):  # all points of both in one place: NaN, as the distance is
        apart = np.abs(sizes[:, 0] - sizes[:, 1]) / sizes.mean(axis=1)
    return np.array([np.mean([distance(*pair) for pair in pairs]), apart.mean()])
