"""Label slips: left and right exchanged, two landmarks exchanged, a point far from where the others expect it.

A picture is looked at more closely where one of its points lies beyond a limit: on a logarithmic scale, `FENCE` times
as far above the median of the pictures' farthest points as their lower quartile lies below it, so that what is wrong in
a few does not move it. It is named where an exchange brings the points to where the others expect them, or where a
point still lies beyond, and by `MIN_SHIFT` of the shape's size or more. `experiments/planted.py` measures how many
planted slips are found, and how many other pictures are named.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ctd_jax.inspection import shape_model
from ctd_jax.inspection.shape_model import ShapeModel

FENCE, LEAST_RANGE = 6.5, 0.25
LEAST_LIMIT = 20.0  # times the usual squared distance: 1 in a million where errors are Gaussian
FITS = 0.3  # of the limit: a point below fits, and only the other one of the two is wrong
MIN_SHIFT = 0.05  # of the shape's size, its root mean square distance from the middle
SIDES_RATIO = 0.5  # energy with left and right exchanged to that without
ONE_PLACE = 1e-9  # squared distances from the middle, in units of the shape's size: all points lie in one place
MOST_FAR = 1 / 3  # of a picture's points: where more are far, the whole shape is another
SIDES, TWO, FAR, SHAPE = "left and right exchanged", "two landmarks exchanged", "a point far off", "another shape"


@dataclasses.dataclass(frozen=True)
class Slip:
    """What seems to be wrong with the points of one picture.

    Attributes:
      row: the picture's index.
      kind: `SIDES`, `TWO`, `FAR` or `SHAPE`.
      landmarks: indices of those that are meant; where sides are exchanged, those whose partner is annotated too.
      pixels: distance of each of them from where the others expect it; NaN where all others lie in its place.
      exchanged: the same, once they are exchanged; none where there is nothing to exchange.
      expected: `[K, 2]` where the others expect these landmarks, in pixels of the picture; NaN for the others.
      score: the picture's largest squared distance, as a multiple of the limit.
    """

    row: int
    kind: str
    landmarks: tuple[int, ...]
    pixels: tuple[float, ...]
    exchanged: tuple[float, ...]
    expected: np.ndarray
    score: float


def find(xy: np.ndarray, flip_order: Sequence[int] | None) -> list[Slip]:
    """The slips of N pictures, the worst first; none where there are too few to tell what is usual.

    Args:
      xy: `[N, K, 2]` pixels; NaN where not annotated.
      flip_order: for each landmark, the one that takes its place in a mirror image; None: left and right are not
        exchanged.
    """
    points = xy[..., 0] + 1j * xy[..., 1]
    rows = np.flatnonzero((~np.isnan(points)).sum(1) >= shape_model.FEWEST_POINTS)
    there = np.flatnonzero((~np.isnan(points[rows])).any(0))  # nobody knows where another landmark would lie
    points = points[np.ix_(rows, there)]
    model = shape_model.of(points)
    if model is None:
        return []
    fitted = model.fit(points)
    square = model.expect(fitted)[1]
    worst = np.nanmax(square, 1)
    limit = _limit(worst)
    order = _order(flip_order, there.tolist())
    found = []
    for place in np.argsort(-worst, kind="stable")[: int((worst > limit).sum())]:
        z, score = points[place], float(worst[place] / limit)
        slip = order and _sides(model, z, order)
        slip = slip or _two(model, z, fitted[place], square[place], limit) or _far(model, z, limit)
        if slip:
            kind, meant, expected, exchanged = slip
            pixels = tuple(abs(z[list(meant)] - expected[list(meant)]).tolist())
            of_all = np.full(xy.shape[1:], np.nan)
            of_all[there] = _xy(expected)
            landmarks = tuple(there[list(meant)].tolist())
            found.append(Slip(int(rows[place]), kind, landmarks, pixels, exchanged, of_all, score))
    return found


def _order(flip_order: Sequence[int] | None, there: Sequence[int]) -> list[int] | None:
    """For each of the landmarks that are there, the place among them of its partner, or its own where the partner is
    not; None where nothing is exchanged."""
    if flip_order is None:
        return None
    place = {k: mine for mine, k in enumerate(there)}
    order = [place.get(flip_order[k], mine) for k, mine in place.items()]
    return order if order != sorted(order) else None


def _limit(worst: np.ndarray) -> float:
    """The squared distance beyond which a picture's farthest point is not usual; `worst`: that of each picture."""
    lower, middle = np.percentile(np.log(np.maximum(worst, 1e-9)), (25, 50))
    return max(float(np.exp(middle + FENCE * max(middle - lower, LEAST_RANGE))), LEAST_LIMIT)


_Kind = tuple[str, Sequence[int], np.ndarray, tuple[float, ...]]  # kind, landmarks, expected places, exchanged


def _sides(model: ShapeModel, z: np.ndarray, order: Sequence[int]) -> _Kind | None:
    mirrored = z[order]
    fitted = model.fit(np.array([z, mirrored]))
    energy = model.energy(fitted)
    if not energy[1] < SIDES_RATIO * energy[0]:
        return None
    # one point that is very far off has nearly all of the energy, and says nothing of the sides
    moved = [k for k, other in enumerate(order) if other != k]
    before, after = np.nanmedian(abs(fitted - model.mean)[:, moved], axis=1)
    if not after < before:
        return None
    landmarks = [k for k in moved if not np.isnan(z[k] + mirrored[k])]
    expected = np.full(len(z), np.nan + 0j)
    expected[landmarks] = _in_picture(mirrored, fitted[1], fitted[1] - model.expect(fitted[1:])[0][0])[landmarks]
    return SIDES, landmarks, expected, tuple(abs(mirrored - expected)[landmarks].tolist())


def _two(model: ShapeModel, z: np.ndarray, fitted: np.ndarray, square: np.ndarray, limit: float) -> _Kind | None:
    change = model.exchange(fitted)
    a, b = sorted(map(int, np.unravel_index(np.argmin(change), change.shape)))
    if a == b or max(square[a], square[b]) <= limit or _fits(model, z, a, b, limit) or _fits(model, z, b, a, limit):
        return None
    other = z.copy()
    other[[a, b]] = z[[b, a]]
    again = model.fit(other[None])
    offset, square = (part[0] for part in model.expect(again))
    if max(square[a], square[b]) > limit:
        return None
    expected = np.full(len(z), np.nan + 0j)
    expected[[a, b]] = _in_picture(other, again[0], again[0] - offset)[[a, b]]
    return TWO, (a, b), expected, tuple(abs(other - expected)[[a, b]].tolist())


def _fits(model: ShapeModel, z: np.ndarray, k: int, without: int, limit: float) -> bool:
    """Whether a point is where the others expect it, once another one is taken out."""
    rest = z.copy()
    rest[without] = np.nan
    return bool(model.expect(model.fit(rest[None]))[1][0, k] <= FITS * limit)


def _far(model: ShapeModel, z: np.ndarray, limit: float) -> _Kind | None:
    """Takes out the farthest point, again and again, until the others are where they expect each other."""
    rest = z.copy()
    far: list[int] = []
    most = max(int(MOST_FAR * (~np.isnan(z)).sum()), 1)
    while len(far) <= most and (~np.isnan(rest)).sum() >= shape_model.FEWEST_POINTS:
        offset, square = (part[0] for part in model.expect(model.fit(rest[None])))
        beyond = np.where((square > limit) & (abs(offset) > MIN_SHIFT), square, 0)
        if not beyond.any():
            break
        far.append(int(np.argmax(beyond)))
        rest[far[-1]] = np.nan
    if not far:
        return None
    expected = np.full(len(z), np.nan + 0j)
    for k in far:
        one = rest.copy()
        one[k] = z[k]
        fitted = model.fit(one[None])
        expected[k] = _in_picture(one, fitted[0], fitted[0] - model.expect(fitted)[0][0])[k]
    return (SHAPE if len(far) > most else FAR), far, expected, ()


def _in_picture(z: np.ndarray, fitted: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Places `[K]` near the fitted points, as they lie in the picture of the points z; NaN where these lie in one
    place, which has neither size nor direction."""
    from_middle, fitted_from_middle = z - np.nanmean(z), fitted - np.nanmean(fitted)
    square = np.nansum(abs(fitted_from_middle) ** 2)
    if square < ONE_PLACE:
        return np.full(len(z), np.nan + 0j)
    factor = np.nansum(fitted_from_middle.conj() * from_middle) / square
    return factor * (places - np.nanmean(fitted)) + np.nanmean(z)


def _xy(z: np.ndarray) -> np.ndarray:
    return np.stack([z.real, z.imag], -1)
