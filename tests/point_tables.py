"""Tables of predictions whose errors are known."""

import numpy as np

from ctd_jax import metrics

NAN = float("nan")


def table(errors_px, *, subjects=None, mm_per_px=None):
    """Point k of each picture is at (50 k, 0) predicted `errors_px` [N, K] to the right of it; NaN: not annotated."""
    errors_px = np.asarray(errors_px, np.float64)
    n, k = errors_px.shape
    true_xy = np.stack([np.broadcast_to(50.0 * np.arange(k), (n, k)), np.zeros((n, k))], axis=-1)
    xy = true_xy + np.stack([np.nan_to_num(errors_px), np.zeros((n, k))], axis=-1)
    true_xy[np.isnan(errors_px)] = NAN
    return metrics.Predictions.from_points(
        [f"{i}.png" for i in range(n)],
        [f"s{i}" for i in range(n)] if subjects is None else subjects,
        [f"p{i}" for i in range(k)],
        xy,
        true_xy=true_xy,
        spacing=None if mm_per_px is None else np.full((n, 2), mm_per_px),
        confidence=np.full((n, k), 0.5),
    )
