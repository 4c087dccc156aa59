"""How far two people's points lie apart, landmark by landmark."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctd_jax.metrics.agreement import agreement


def compare(one: np.ndarray, other: np.ndarray, names: Sequence[str], spacing: np.ndarray) -> dict[str, Any]:
    """The points that both have, in mm where the spacing of all these pictures is known, else in pixels.

    Args:
      one, other: `[N, K, 2]` points (x, y) in pixels, NaN where one placed none.
      names: of the K landmarks.
      spacing: `[N, 2]` mm per pixel, NaN where unknown.

    Returns:
      `unit`, `n` (points of both), `n_images`, `distance`: mean over the points of a picture, then over pictures;
      `of_image`: `[N]` these means, NaN without a point of both; `per_landmark`: name -> `n`, `distance`, and for x and
      y `bias` (other - one), `loa` and `icc`, see `agreement.agreement`; what is unknown is None.
    """
    known = np.isfinite(one).all(-1) & np.isfinite(other).all(-1)
    shown = known.any(-1)
    in_mm = bool(shown.any() and np.isfinite(spacing[shown]).all())
    scale = np.where(shown[:, None], spacing, 1.0)[:, None] if in_mm else np.ones((len(one), 1, 2))
    a, b = one * scale, other * scale
    distance = np.where(known, np.linalg.norm(a - b, axis=-1), 0.0)
    of_image = np.where(shown, distance.sum(-1) / np.maximum(known.sum(-1), 1), np.nan)
    return {
        "unit": "mm" if in_mm else "px",
        "n": int(known.sum()),
        "n_images": int(shown.sum()),
        "distance": float(of_image[shown].mean()) if shown.any() else None,
        "of_image": of_image,
        "per_landmark": {
            name: _of_landmark(a[known[:, k], k], b[known[:, k], k])
            for k, name in enumerate(names)
            if known[:, k].any()
        },
    }


def _of_landmark(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {"n": len(one), "distance": float(np.linalg.norm(one - other, axis=-1).mean())}
    for axis, name in enumerate("xy"):
        values = agreement(one[:, axis], other[:, axis])
        found[name] = {key: values[key] if np.isfinite(values[key]).all() else None for key in ("bias", "loa", "icc")}
    return found
