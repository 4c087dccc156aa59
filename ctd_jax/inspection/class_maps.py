"""Class maps: how large each class is in each picture, of how many pieces, and where that is unlike the others."""

from collections.abc import Sequence

import numpy as np
import scipy

from ctd_jax.inspection import outliers
from ctd_jax.inspection.findings import Finding, Item

Regions = dict[int, tuple[int, int]]  # class -> its pixels, and the number of pieces that touch nowhere
LEAST_RANGE = 0.2  # of the logarithm of a class's share of the picture
USUAL = 0.95  # of the pictures: what so many have is missed, or is too much, in another


def regions(classes: np.ndarray) -> Regions:
    """The regions of a class map `[H, W]`, 0 the background; pixels that share a corner are of one piece."""
    found = {}
    for one in np.unique(classes[classes > 0]).tolist():
        region = classes == one
        found[one] = int(region.sum()), int(scipy.ndimage.label(region, np.ones((3, 3)))[1])
    return found


def find(domain: str, names: Sequence[str], rows: np.ndarray, found: Sequence[Regions], size: np.ndarray) -> Finding:
    """The pictures of one domain whose classes are missing, larger, smaller, or in more pieces than in the others.

    Args:
      domain: its name.
      names: of its classes, the background first.
      rows: indices of its n pictures.
      found: the regions of each.
      size: `[n, 2]` width and height of each.
    """
    items: list[Item] = []
    area = size.prod(1)
    drawn = [place for place, one in enumerate(found) if one]
    for number, name in enumerate(names[1:], 1):
        there = [place for place in drawn if number in found[place]]
        if len(there) < outliers.FEWEST:
            continue
        if len(there) >= USUAL * len(drawn):
            items += [
                Item(f"{name} is missing; {len(there)} of {len(drawn)} pictures have it", (int(rows[place]),))
                for place in drawn
                if number not in found[place]
            ]
        share = np.array([found[place][number][0] / area[place] for place in there])
        low, high = outliers.fences(np.log(share), LEAST_RANGE)
        for place, one in zip(there, share, strict=True):
            if not low <= np.log(one) <= high:
                word = "small" if np.log(one) < low else "large"
                text = f"{name} is {word}: {100 * one:.2g} % of the picture, usual is {100 * np.median(share):.2g} %"
                items.append(Item(text, (int(rows[place]),)))
        pieces = np.array([found[place][number][1] for place in there])
        usual = int(np.quantile(pieces, USUAL, method="higher"))
        items += [
            Item(f"{name} is in {pieces[i]} pieces; {100 * USUAL:.0f} % of the pictures have {usual} at most",
                 (int(rows[place]),))
            for i, place in enumerate(there)
            if pieces[i] > 2 * usual
        ]  # fmt: skip
    about = "A class forgotten, a stray stroke, a hole in the outline? Compared with the other pictures of the domain."
    return Finding(f"Class maps unlike the others: {domain}", False, about, items)


def counts(names: Sequence[str], found: Sequence[Regions], size: np.ndarray) -> list[tuple[str, int, float, int]]:
    """For each class its name, the number of pictures that have it, the median of its share of these (NaN: none), and
    of its pieces; arguments as of `find`."""
    table, area = [], size.prod(1)
    for number, name in enumerate(names[1:], 1):
        there = [place for place, one in enumerate(found) if number in one]
        shares = [found[place][number][0] / area[place] for place in there]
        pieces = [found[place][number][1] for place in there]
        table.append((name, len(there), float(np.median(shares)) if there else np.nan,
                      int(np.median(pieces)) if there else 0))  # fmt: skip
    return table
