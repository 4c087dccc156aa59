"""Where the other points of a picture, and the other pictures, expect a landmark: shapes by robust Procrustes fits, and
their variation by a probabilistic PCA; either with missing points.

Points are complex, x + iy, and NaN where not annotated. Each picture is moved, turned and scaled onto the mean shape
(Dryden and Mardia 2016, Statistical Shape Analysis, chapters 7 and 14), by least squares with Cauchy's weights, so that
a few wrong points do not count. What is left, v of 2 K numbers x, y, x, y, ..., is Gaussian with covariance
C = W W' + s^2 I (Tipping and Bishop 1999, Probabilistic Principal Component Analysis). Given the other points, a point
then has the mean v - (P_kk)^-1 (P v)_k and the covariance (P_kk)^-1, with P = C^-1 of the points that are annotated.
Points that lie far from it are left out, and all is fitted again: up to a quarter of the pictures may be wrong.
"""

import dataclasses

import numpy as np

from ctd_jax.data import shapes

FEWEST, FEWEST_POINTS = 8, 3  # pictures and points that can tell what is usual
ROUNDS = 4  # of leaving out what lies far, and fitting again
LEFT_OUT = 18.0  # times the usual squared distance: points beyond are left out of the fit
MOSTLY = 0.8  # of its points must be left of a picture that the fit uses
TAIL = 0.9  # quantile of the squared distances that is usual: some landmarks are placed in two ways
TAIL_TO_MEDIAN = np.log(1 - TAIL) / np.log(0.5)  # of chi square with two degrees of freedom
BLOCK = 200  # pictures that are compared point by point at once
WEIGHTED = 10  # rounds of weighing in a robust fit
CAUCHY = 2.0  # times the usual distance: a point there counts half in the fit
EXPLAINED = 0.95  # of the variance by W
ROWS_OF_COMPONENT = 4  # pictures for each column of W, at least


@dataclasses.dataclass(frozen=True)
class ShapeModel:
    """The shapes of K landmarks.

    Attributes:
      mean: `[K]` complex, of mean 0 and mean square 1: distances are in units of the shape's size.
      reach: `[K]` median distance of the fitted points from it.
      components: `[K, 2, q]` W.
      noise: s^2.
      usual: `[K]` usual squared distance of `expect`.
    """

    mean: np.ndarray
    reach: np.ndarray
    components: np.ndarray
    noise: float
    usual: np.ndarray

    def fit(self, points: np.ndarray) -> np.ndarray:
        """`[N, K]` complex points, each row moved, turned and scaled onto the mean."""
        return robust_fit(points, self.mean, self.reach)

    def expect(self, fitted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far points lie from where the others of their row expect them.

        Args:
          fitted: `[N, K]` complex, see `fit`.

        Returns:
          `[N, K]` complex offset from the expected place, and `[N, K]` squared Mahalanobis distance as a multiple of
          the usual one; NaN where not annotated.
        """
        offset, square = _given_others(fitted - self.mean, self.components, self.noise)
        return offset, square / self.usual

    def energy(self, fitted: np.ndarray) -> np.ndarray:
        """`[N]` v' P v, how unlikely each row is as a whole; by the number of its points."""
        v, (gradient, _) = fitted - self.mean, _precision(fitted - self.mean, self.components, self.noise)
        return np.nansum((v.conj() * gradient).real, 1) / np.maximum((~np.isnan(v)).sum(1), 1)

    def exchange(self, fitted: np.ndarray) -> np.ndarray:
        """`[K, K]` by how much v' P v of one row changes where two of its points are exchanged; 0 where one is missing.

        With d the move of the first point, and -d that of the second: 2 d . ((P v)_a - (P v)_b) + d' (P_aa - P_ab -
        P_ba + P_bb) d.

        Args:
          fitted: `[K]` complex.
        """
        v = (fitted - self.mean)[None]
        gradient, covariance = (part[0] for part in _precision(v, self.components, self.noise))
        known = ~np.isnan(fitted)
        move = np.where(known & known[:, None], fitted - fitted[:, None], 0)
        flat = self.components * known[:, None, None]
        both = np.einsum("aiq,qr,bjr->abij", flat, covariance, flat, optimize=True)  # W_a M^-1 W_b'
        own = np.einsum("aaij->aij", both)
        curve = 2 * np.eye(2) - (own[:, None] - both - np.swapaxes(both, 2, 3) + own[None])
        d = np.stack([move.real, move.imag], -1)
        linear = (move.conj() * np.nan_to_num(gradient[:, None] - gradient)).real
        return 2 * linear + np.einsum("abi,abij,abj->ab", d, curve, d) / self.noise


def of(points: np.ndarray) -> ShapeModel | None:
    """The model of the shapes of N pictures, `[N, K]` complex; None where there are too few pictures or points."""
    points = points[(~np.isnan(points)).sum(1) >= FEWEST_POINTS]
    if len(points) < FEWEST:
        return None
    mean = shapes.median_shape(points, turned=True)
    if np.isnan(mean).any():
        return None
    reach = np.full(len(mean), 0.1)
    for _ in range(2):
        fitted = robust_fit(points, mean, reach)
        reach = np.maximum(np.nanmedian(abs(fitted - mean), 0), 1e-6)
    used = abs(fitted - mean) <= np.sqrt(LEFT_OUT) * reach
    for _ in range(ROUNDS):
        rows = used.sum(1) >= MOSTLY * (~np.isnan(fitted)).sum(1)
        if rows.sum() < FEWEST:
            return None
        v = np.where(used, fitted - mean, np.nan)[rows]
        shift, components, noise = _principal(v)
        mean = mean + shift
        offset, square = _given_others(fitted - mean, components, noise)
        used = square <= LEFT_OUT * np.nanmedian(square, 0)
    usual = np.maximum(np.nanquantile(square, TAIL, 0) / TAIL_TO_MEDIAN, 1e-12)
    return ShapeModel(mean, reach, components, noise, usual)


def weighted_fit(points: np.ndarray, shape: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`[N, K]` complex points, each row moved, turned and scaled onto a shape by weighted least squares.

    Args:
      points: `[N, K]`.
      shape: `[K]`.
      weights: `[N, K]`.
    """
    weights = np.where(np.isnan(points), 0, weights)
    weights /= weights.sum(1, keepdims=True)
    z = np.where(np.isnan(points), 0, points)
    middle, place = (weights * z).sum(1, keepdims=True), (weights * shape).sum(1, keepdims=True)
    square = (weights * abs(z - middle) ** 2).sum(1, keepdims=True)
    factor = (weights * (z - middle).conj() * (shape - place)).sum(1, keepdims=True) / np.maximum(square, 1e-12)
    return factor * (points - middle) + place


def median_fit(points: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """`[N, K]` complex points, each row moved, turned and scaled onto a shape by repeated medians, which half of its
    points can't move (Siegel and Benson 1982, A robust comparison of biological shapes).

    Each two points give a factor; its median is taken over one of the two, then over the other.
    """
    fitted = np.empty_like(points)
    step = shape[:, None] - shape
    for start in range(0, len(points), BLOCK):
        z = points[start : start + BLOCK]
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = step / (z[:, :, None] - z[:, None])
        turned = _median(_median(np.where(np.isfinite(factor), factor, np.nan)))[:, None] * z
        fitted[start : start + BLOCK] = turned + _median(shape - turned)[:, None]
    return fitted


def _median(values: np.ndarray) -> np.ndarray:
    """The medians of real and imaginary parts over the last axis, of what is not NaN."""
    known = ~np.isnan(values)
    number = np.maximum(known.sum(-1, keepdims=True), 1)
    parts = (np.sort(np.where(known, part, np.nan), -1) for part in (values.real, values.imag))
    low, high = (number - 1) // 2, number // 2
    real, imaginary = (
        (np.take_along_axis(part, low, -1) + np.take_along_axis(part, high, -1))[..., 0] / 2 for part in parts
    )
    return real + 1j * imaginary


def robust_fit(points: np.ndarray, shape: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """`median_fit`, and from there on `weighted_fit` with Cauchy's weights, 1 / (1 + (distance / (CAUCHY reach))^2);
    `reach`: `[K]` usual distances."""
    fitted = median_fit(points, shape)
    for _ in range(WEIGHTED):
        distance = np.nan_to_num(abs(fitted - shape)) / (CAUCHY * reach)
        fitted = weighted_fit(points, shape, 1 / (1 + distance**2))
    return fitted


def _principal(v: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean `[K]` complex, W `[K, 2, q]` and s^2 of rows `[N, K]` complex whose unknown points are NaN.

    Unknown points get the mean that the known ones of their row expect. Fits take away four dimensions: place, size and
    direction.
    """
    number, K = v.shape
    known = np.repeat(~np.isnan(v), 2, axis=1)
    x = np.where(known, _real(v), 0)
    full = np.where(known, x, (x.sum(0) / np.maximum(known.sum(0), 1)))
    most = max(min(number // ROWS_OF_COMPONENT, 2 * K - 6), 0)
    for _ in range(3):
        mean = full.mean(0)
        values, vectors = np.linalg.eigh((full - mean).T @ (full - mean) / max(number - 1, 1))
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
        q = min(int(np.searchsorted(values.cumsum(), EXPLAINED * values.sum())) + 1, most)
        noise = max(float(values[q:].sum() / (2 * K - 4 - q)), 1e-10)
        components = (vectors[:, :q] * np.sqrt(np.maximum(values[:q] - noise, 0))).reshape(K, 2, q)
        scores = _scores(np.where(known, x - mean, 0), known, components, noise)[0]
        full = np.where(known, x, mean + scores @ components.reshape(2 * K, q).T)
    return mean[::2] + 1j * mean[1::2], components, noise


def _real(v: np.ndarray) -> np.ndarray:
    """`[N, K]` complex to `[N, 2 K]`: x, y, x, y, ..."""
    return np.stack([v.real, v.imag], -1).reshape(len(v), 2 * v.shape[1])


def _scores(x: np.ndarray, known: np.ndarray, components: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """`[N, q]` M^-1 W' x and `[N, q, q]` M^-1, with M = W' W + s^2 I of the known ones of each row."""
    W = components.reshape(x.shape[1], components.shape[-1])
    inverse = np.linalg.inv((W.T * known[:, None]) @ W + noise * np.eye(W.shape[1]))
    return np.einsum("nqr,nr->nq", inverse, x @ W), inverse


def _precision(v: np.ndarray, components: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """`[N, K]` complex P v, NaN where v is, and `[N, q, q]` M^-1: P = (I - W M^-1 W') / s^2 (Woodbury's identity)."""
    known = np.repeat(~np.isnan(v), 2, axis=1)
    x = np.where(known, _real(v), 0)
    scores, inverse = _scores(x, known, components, noise)
    rest = (x - scores @ components.reshape(x.shape[1], components.shape[-1]).T) / noise
    gradient = rest[:, ::2] + 1j * rest[:, 1::2]
    return np.where(np.isnan(v), np.nan, gradient), inverse


def _given_others(v: np.ndarray, components: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """`[N, K]` complex offset of each point from its mean given the others of its row, (P_kk)^-1 (P v)_k, and `[N, K]`
    its square by P_kk."""
    gradient, inverse = _precision(v, components, noise)
    halfway = (components.reshape(2 * v.shape[1], inverse.shape[-1]) @ inverse).reshape(len(v), *components.shape)
    own = (np.eye(2) - (halfway[:, :, :, None] * components[:, None]).sum(-1)) / noise
    g = np.stack([gradient.real, gradient.imag], -1)
    offset = np.linalg.solve(own, np.nan_to_num(g)[..., None])[..., 0]
    square = np.where(np.isnan(v), np.nan, (offset * np.nan_to_num(g)).sum(-1))
    return np.where(np.isnan(v), np.nan, offset[..., 0] + 1j * offset[..., 1]), square
