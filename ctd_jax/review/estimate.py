"""How wrong a run is on new pictures, by the random ones of the list: what it proposes, against what a rater says.

A picture that was chosen because the run may be wrong on it says nothing of others; one that was drawn does. Points
that a rater has accepted as they were proposed count as errors of 0, and whoever sees a proposal keeps near it: the
estimate is too small then, and by how much nobody knows.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ctd_jax import metrics
from ctd_jax.labels.table import ABSENT
from ctd_jax.metrics import Predictions, intervals
from ctd_jax.review.edits import Review
from ctd_jax.review.folder import Point, Reviewed

MIN_PICTURES = 2
UNITS = {"me_px": ("px", 1.0), "me_mm": ("mm", 1.0)}


def done(review: Review, images: Sequence[str], random: Collection[str]) -> tuple[list[str], int]:
    """The random pictures that the rater has marked done, in the order of the list, and how many before the last of
    them were passed over.

    Args:
      review: of the rater.
      images: the list.
      random: those of them that were drawn.
    """
    drawn = [image for image in images if image in random]
    is_done = [review.done.get(image) is True for image in drawn]
    last = max((place for place, one in enumerate(is_done) if one), default=-1)
    return [image for image, one in zip(drawn, is_done, strict=True) if one], is_done[: last + 1].count(False)


def said(
    reviewed: Reviewed, review: Review, predicted: Mapping[str, Mapping[str, Point]], passed_over: int, drawn: int
) -> str:
    """The estimate, in a sentence for the page.

    Args:
      reviewed: the folder.
      review: of the rater.
      predicted: image -> what the run says, of the random pictures that are done.
      passed_over: see `done`.
      drawn: number of the random pictures in the list.
    """
    if len(predicted) < MIN_PICTURES:
        so_far = f"{len(predicted)} so far"
        return f"Error on new pictures: known once {MIN_PICTURES} of the {drawn} random ones are done ({so_far})"
    table = _table(reviewed, review, predicted)
    normalizer = reviewed.landmarks.normalizer
    errors = metrics.image_errors(table, normalizer)
    if not errors:
        return "Error on new pictures: not known, as nobody has placed a point that the run finds in the random ones"
    measure = metrics.ced_measure(errors)
    known = np.isfinite(errors[measure])
    units = metrics.subject_units(table)[known]
    of = intervals.of_ratios(errors[measure][known][:, None], np.ones((known.sum(), 1)), units)
    low, high = intervals.bounds(of, "level")[:, 0]
    unit, factor = UNITS.get(measure, (f"% of {' to '.join(normalizer or ())}", 100.0))
    interval = f" (95 %: {factor * low:.2f} to {factor * high:.2f})" if np.isfinite([low, high]).all() else ""
    text = (
        f"Error on new pictures: {factor * float(of.value[0]):.2f} {unit}{interval}, by {known.sum()} random pictures "
        f"of {len(np.unique(units))} people"
    )
    if passed_over:
        text += f"; {passed_over} were passed over"
    if share := _accepted(review, predicted):
        text += f". {100 * share:.0f} % of their points were accepted as proposed: errors of 0"
    return text


def _table(reviewed: Reviewed, review: Review, predicted: Mapping[str, Mapping[str, Point]]) -> Predictions:
    images, table = list(predicted), reviewed.table
    subject_of = dict(zip(table.images, table.subjects, strict=True)) if table else {}
    spacing_of = dict(zip(reviewed.images, reviewed.spacing, strict=True))
    return Predictions.from_points(
        images,
        [subject_of.get(image) or image for image in images],
        reviewed.names,
        np.array([_points(predicted[image], reviewed.names) for image in images]),
        true_xy=np.array([_points(review.points.get(image, {}), reviewed.names) for image in images]),
        spacing=np.array([spacing_of[image] for image in images]),
    )


def _points(points: Mapping[str, Any], names: Sequence[str]) -> list[tuple[float, float]]:
    """NaN where a point is absent, or nobody has said where it is."""
    found = [points.get(name) for name in names]
    return [(np.nan, np.nan) if not one or one["state"] == ABSENT else (one["x"], one["y"]) for one in found]


def _accepted(review: Review, predicted: Mapping[str, Mapping[str, Point]]) -> float:
    """The share of the placed points that are where they were proposed."""
    placed = [point for image in predicted for point in review.points.get(image, {}).values()
              if point and point["state"] != ABSENT]  # fmt: skip
    return sum(point["how"] == "accepted" for point in placed) / max(len(placed), 1)
