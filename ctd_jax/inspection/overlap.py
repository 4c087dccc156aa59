"""Near-identical pictures, and subjects who are in two splits."""

import collections
from collections.abc import Callable, Sequence

import numpy as np

from ctd_jax.data import twins
from ctd_jax.data.twins import Twin
from ctd_jax.inspection.findings import Finding, Item

Show = Callable[[int], str]  # a picture's number -> the picture as data of the page


def near_identical(
    images: Sequence[str],
    subjects: Sequence[str],
    splits: Sequence[str],
    sha256: Sequence[str],
    thumbnails: np.ndarray,
    show: Show,
    shown: int,
) -> list[Finding]:
    """Pairs of near-identical pictures: those in two splits, which flatter the result, and the others.

    Args:
      images, subjects, splits, sha256, thumbnails: of N pictures, as `twins.find` takes them; where no row has a split,
        all count as one.
      show: gives a picture for the page.
      shown: number of pairs that are shown.
    """
    found = twins.find(images, subjects, splits if any(splits) else ["train"] * len(splits), sha256, thumbnails)
    row_of = {name: row for row, name in enumerate(images)}

    def item(twin: Twin, number: int) -> Item:
        rows = row_of[twin.image_a], row_of[twin.image_b]
        names = f"{twin.image_a} ({twin.split_a}) and {twin.image_b} ({twin.split_b})"
        whose = "one subject" if twin.subject_a == twin.subject_b else "two subjects"
        pictures = tuple((show(row), images[row]) for row in rows) if number < shown else ()
        return Item(f"{names}, of {whose}, correlation {twin.correlation:.3f}", rows, pictures)

    kinds = []
    for two, title, about in (
        (True, "Near-identical pictures in two splits", "A picture that was trained on flatters the result."),
        (False, "Near-identical pictures in one split", "They count twice; under two subjects, one of them is wrong."),
    ):
        pairs = [twin for twin in found.pairs if (twin.split_a != twin.split_b) == two]
        counted = sum(number for kind, number in found.counts.items() if (kind[0] != kind[1]) == two)
        items = [item(twin, number) for number, twin in enumerate(pairs)]
        remedy = "Take one of each pair out of the table, or give it the split “unused”."
        kinds.append(Finding(title, two, f"{about} {remedy}", items, counted))
    return kinds


def subjects_in_two_splits(
    images: Sequence[str], subjects: Sequence[str], splits: Sequence[str], show: Show, shown: int
) -> Finding:
    """The subjects who have pictures in two of train, val and test.

    Args:
      images, subjects, splits: of N pictures.
      show: gives a picture for the page.
      shown: number of subjects that are shown.
    """
    seen: dict[str, dict[str, int]] = collections.defaultdict(dict)  # subject -> side -> its first picture there
    for row, (subject, split) in enumerate(zip(subjects, splits, strict=True)):
        side = "test" if split.startswith("test") else split
        if side in ("train", "val", "test"):
            seen[subject].setdefault(side, row)
    items: list[Item] = []
    for subject, sides in seen.items():
        if len(sides) > 1:
            words = " and ".join(f"{images[row]} ({side})" for side, row in sides.items())
            pictures = tuple((show(row), images[row]) for row in sides.values()) if len(items) < shown else ()
            items.append(Item(f"{subject}: {words}", tuple(sides.values()), pictures))
    about = "Whoever was trained on is recognised again, which flatters the result. Give a subject one split."
    return Finding("Subjects in two splits", True, about, items)
