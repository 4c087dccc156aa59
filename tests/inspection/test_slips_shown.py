"""Slips in words: what they are now, and what they would be."""

import re

import numpy as np
import varied_shapes

from ctd_jax.data.about import Landmarks
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.inspection import slips_shown


class Painter:
    def points(self, index, xy, names):
        return f"{index}: {int((~np.isnan(xy).any(-1)).sum())}, {'with' if names else 'without'} names"


def test_each_kind_with_its_pictures():
    points = varied_shapes.points(60)
    points[7] = points[7, list(varied_shapes.ORDER)]
    points[20, [1, 8]] = points[20, [8, 1]]
    for row in (30, 31):
        points[row, 4] += 80
    points[40] = points[40, list(varied_shapes.ORDER)]
    points[40, :5] = np.nan
    points[50] = 200.1 + 300.7j
    n = len(points)
    words = tuple(map(str, range(n)))
    table = LandmarkTable(
        images=words,
        subjects=words,
        splits=None,
        spacing=np.full((n, 2), np.nan),
        where=words,
        title="",
        landmarks=Landmarks(tuple(varied_shapes.NAMES)),
        xy=varied_shapes.to_xy(points),
        boxes=np.full((n, 4), np.nan),
    )
    sides, two, far, shape = slips_shown.findings(table, varied_shapes.ORDER, Painter(), 1)
    assert [(one.number, one.spoils) for one in (sides, two, far, shape)] == [
        (2, True), (1, True), (2, False), (1, False)
    ]  # fmt: skip
    assert "no pair has both annotated" in sides.items[1].text and sides.items[1].rows == (40,)
    assert re.search(r" and \d more lie in one place with others: where they belong can't be told", shape.items[0].text)
    assert sides.items[0].rows == (7,) and sides.items[0].images == (("7: 10, without names", "7"),)
    assert two.items[0].images == (("20: 2, with names", "20"),)
    text = (
        r"left_1 (\d+) px; right_3 (\d+) px from where .* expect them; once they are exchanged, (\d+) px and (\d+) px"
    )
    a, b, other_a, other_b = map(int, re.fullmatch(text, two.items[0].text).groups())
    assert max(other_a, other_b) < 12 < 60 < min(a, b), "px; the two lie 100 px or more apart"
    text = r"10 landmarks lie (\d+) px from where .* expect them on average, (\d+) px once they are exchanged"
    now, then = map(int, re.fullmatch(text, sides.items[0].text).groups())
    assert then < 12 < 60 < now
    assert [len(item.images) for item in far.items] == [1, 0] and {item.rows[0] for item in far.items} == {30, 31}
