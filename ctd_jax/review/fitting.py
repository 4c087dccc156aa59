"""The rest of a shape moves along with the points that somebody has corrected."""

import numpy as np
import scipy

MIN_SPLINE = 4  # corrected points from which on more than a similarity is fitted
FLAT = 0.05  # of the longer side: points in so narrow a strip don't say how a plane is bent


def moved(source: np.ndarray, target: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Where `rest`, `[M, 2]`, goes when `source` goes to `target`, both `[N, 2]`, N at least 2.

    First the similarity (turn, scale, shift) nearest to that in the sense of least squares; from `MIN_SPLINE` points on
    what it leaves over is a thin-plate spline (Bookstein 1989), which takes each source point to its target exactly;
    several at one place, to the middle of their targets.
    """
    turned, shifted = _similarity(source, target)
    placed = _apply(turned, shifted, rest)
    source, place = np.unique(source, axis=0, return_inverse=True)
    target = np.array([target[place.ravel() == i].mean(axis=0) for i in range(len(source))])
    middle = _apply(turned, shifted, source)
    if len(source) < MIN_SPLINE or _is_flat(middle):
        return placed
    spline = scipy.interpolate.RBFInterpolator(middle, target - middle, kernel="thin_plate_spline", degree=1)
    return placed + spline(placed)


def _similarity(source: np.ndarray, target: np.ndarray) -> tuple[complex, complex]:
    """a, b of the map z -> a z + b of points as complex numbers x + iy; least squares."""
    z, w = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    from_mean, to_mean = z - z.mean(), w - w.mean()
    size = np.vdot(from_mean, from_mean).real
    turn = complex(np.vdot(from_mean, to_mean) / size) if size > 0 else 1 + 0j
    return turn, complex(w.mean() - turn * z.mean())


def _apply(turn: complex, shift: complex, points: np.ndarray) -> np.ndarray:
    found = turn * (points[:, 0] + 1j * points[:, 1]) + shift
    return np.stack([found.real, found.imag], axis=-1)


def _is_flat(points: np.ndarray) -> bool:
    sides = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(sides[1] <= FLAT * sides[0])
