"""Shapes of landmarks: how well a picture's points fit those of the others, whatever their place and size.

Points are complex, x + iy, and NaN where not annotated: a similarity is then z -> a z + b, and the least squares fit
over the points that both shapes have is one division (Dryden and Mardia 2016, Statistical Shape Analysis, section 8.2).
"""

import numpy as np

REFERENCES = 15  # rows tried as the first guess of the median shape


def fit(points: np.ndarray, shape: np.ndarray, *, turned: bool) -> tuple[np.ndarray, np.ndarray]:
    """Fits each row onto a shape.

    Args:
      points: `[N, K]` complex.
      shape: `[K]` complex.
      turned: whether a row may be rotated, beside moved and scaled by a factor of 0 or more.

    Returns:
      `[N]` residual: the square root of the sum of squared distances, as a share of the shape's own about its mean, 0
      where a row fits exactly, 1 where it has nothing in common with the shape; squared and with `turned` it is the
      disparity of `scipy.spatial.procrustes` where a reflection fits no better. NaN with fewer than two points in
      common, or all in one place.
      `[N]` complex a, of the fit with a rotation.
    """
    common = ~np.isnan(points) & ~np.isnan(shape)
    z, w = _centred(points, common), _centred(np.broadcast_to(shape, points.shape), common)
    product = (z.conj() * w).sum(1)
    fits = abs(product) if turned else np.maximum(product.real, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        square, square_of_shape = (abs(z) ** 2).sum(1), (abs(w) ** 2).sum(1)
        residual = np.sqrt(np.maximum(1 - fits**2 / (square * square_of_shape), 0))
        return residual, product / square


def median_shape(points: np.ndarray, *, turned: bool) -> np.ndarray:
    """`[K]` complex: the median of each landmark over the rows, each fitted to it; of mean 0 and mean square 1. Up to
    half of the rows may be wrong. `points` is `[N, K]`."""
    counts = (~np.isnan(points)).sum(1)
    full = np.argsort(-counts, kind="stable")[: max((counts == counts.max()).sum(), REFERENCES)]
    tried = full[np.unique(np.linspace(0, len(full) - 1, REFERENCES).astype(int))]
    first = min(tried, key=lambda row: np.nanmedian(np.nan_to_num(fit(points, points[row], turned=turned)[0], nan=1.0)))
    shape = _normal(points[first])
    for _ in range(3):
        factor = fit(points, shape, turned=turned)[1]
        moved = (factor if turned else np.maximum(factor.real, 0))[:, None] * points
        common = ~np.isnan(moved) & ~np.isnan(shape)
        moved += (_mean(np.broadcast_to(shape, moved.shape), common) - _mean(moved, common))[:, None]
        usable = moved[(common.sum(1) > 1) & np.isfinite(factor)]
        if not len(usable):
            return shape
        shape = _normal(_median(usable.real) + 1j * _median(usable.imag))
    return shape


def _median(values: np.ndarray) -> np.ndarray:
    """`[K]` of each column without NaN, NaN where there is nothing else."""
    known = ~np.isnan(values).all(0)
    median = np.full(values.shape[1], np.nan)
    median[known] = np.nanmedian(values[:, known], 0)
    return median


def _mean(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.where(known, points, 0).sum(1) / np.maximum(known.sum(1), 1)


def _centred(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.where(known, points - _mean(points, known)[:, None], 0)


def _normal(shape: np.ndarray) -> np.ndarray:
    shape = shape - np.nanmean(shape)
    return shape / max(np.sqrt(np.nanmean(abs(shape) ** 2)), 1e-12)
