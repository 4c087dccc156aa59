"""Which landmarks exchange their places in a mirror image: as declared, by their names, and by the mean shape."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import scipy

from ctd_jax.data import about, shapes
from ctd_jax.inspection.findings import Finding, Item

ANGLES = 72  # directions of the mirror's axis that are tried
SYMMETRIC = 0.1  # mean distance of a shape from its mirror image, as a share of its size, below which it is symmetric
ASKEW = 0.25  # such distance of a landmark from its partner's mirror image, from which they are no pair

Pairs = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class FlipPairs:
    """The pairs that the page draws.

    Attributes:
      shape: `[K]` complex, the mean shape; y runs downwards.
      pairs: indices of landmarks.
      source: "dataset.json", "their names" or "the mean shape".
    """

    shape: np.ndarray
    pairs: Pairs
    source: str

    @property
    def order(self) -> tuple[int, ...]:
        """For each landmark, the one that takes its place in a mirror image."""
        return order_of(self.pairs, len(self.shape))


def order_of(pairs: Pairs, number: int) -> tuple[int, ...]:
    """For each of the landmarks, the one that takes its place in a mirror image."""
    partner = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    return tuple(partner.get(k, k) for k in range(number))


def find(names: Sequence[str], declared: Sequence[tuple[str, str]] | None, xy: np.ndarray) -> FlipPairs | None:
    """The pairs that are declared, else those of the names, else those of the mean shape; None where there are none.

    Args:
      names: of K landmarks.
      declared: `flip_pairs` of dataset.json.
      xy: `[N, K, 2]` pixels.
    """
    points = xy[..., 0] + 1j * xy[..., 1]
    points = points[(~np.isnan(points)).sum(1) > 2]
    if not len(points):
        return None
    shape = shapes.median_shape(points, turned=False)
    index = {name: k for k, name in enumerate(names)}
    if declared is not None:
        return FlipPairs(shape, tuple((index[a], index[b]) for a, b in declared), "dataset.json")
    named = of_names(names)
    if named:
        return FlipPairs(shape, named, "their names")
    drawn = of_shape(shape)
    return FlipPairs(shape, drawn, "the mean shape") if drawn else None


def of_names(names: Sequence[str]) -> Pairs:
    """The landmarks whose names differ in left and right only."""
    index = {name: k for k, name in enumerate(names)}
    others = [(k, index.get(about.other_side(name) or "")) for name, k in index.items()]
    return tuple((k, other) for k, other in others if other is not None and k < other)


def of_shape(shape: np.ndarray) -> Pairs:
    """The landmarks of a shape that its mirror image exchanges, of those that are known; none where these are not
    symmetric.

    The mirror image is turned to each of `ANGLES` directions, and its landmarks are assigned to those of the shape so
    that the sum of squared distances is least.

    Args:
      shape: `[K]` complex, of mean 0 and mean square 1; NaN: unknown.
    """
    known = np.flatnonzero(~np.isnan(shape))
    shape = shape[known]
    if len(shape) < 4:
        return ()
    best, order = np.inf, np.arange(len(shape))
    for angle in np.linspace(0, 2 * np.pi, ANGLES, endpoint=False):
        square = abs(np.exp(1j * angle) * shape.conj()[:, None] - shape) ** 2
        rows, columns = scipy.optimize.linear_sum_assignment(square)
        if square[rows, columns].sum() < best:
            best, order = float(square[rows, columns].sum()), columns
    if np.sqrt(best / len(shape)) > SYMMETRIC or (order[order] != np.arange(len(shape))).any():
        return ()
    return tuple((int(known[k]), int(known[other])) for k, other in enumerate(order) if k < other)


def askew(found: FlipPairs) -> list[tuple[int, int]]:
    """The pairs that are far from each other's mirror image in a shape that is symmetric otherwise."""
    order = list(found.order)
    known = ~np.isnan(found.shape + found.shape[order])
    if not known.any():
        return []
    shape = found.shape - found.shape[known].mean()
    mirrored = shape.conj()[order]
    factor = shapes.fit(mirrored[None], shape, turned=True)[1][0]
    distance = abs(factor * mirrored - shape)
    if np.median(distance[known]) > SYMMETRIC:
        return []
    return [(a, b) for a, b in found.pairs if max(distance[a], distance[b]) > ASKEW]


def findings(names: Sequence[str], found: FlipPairs | None) -> list[Finding]:
    """What is to be said of the pairs."""
    if found is None:
        return []
    words = json.dumps([[names[a], names[b]] for a, b in found.pairs])
    guessed = [] if found.source == "dataset.json" else [Item(f'"flip_pairs": {words}')]
    wrong = [Item(f"{names[a]} and {names[b]}") for a, b in askew(found)] if not guessed else []
    return [
        Finding("Flip pairs that are no mirror images", True, "In the mean shape, these landmarks do not lie at "
                "mirrored places: with mirrored training pictures, one is learned for the other.", wrong),
        Finding("Flip pairs are not declared", False, f"Guessed from {found.source}, drawn below. With them in "
                "dataset.json, pictures are mirrored in training, where left and right look alike.", guessed),
    ]  # fmt: skip
