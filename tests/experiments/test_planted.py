"""The slips that are planted are those that are counted."""

import numpy as np
import varied_shapes

from ctd_jax.inspection import label_slips
from experiments import planted

XY = varied_shapes.to_xy(varied_shapes.points(100))
ORDER = varied_shapes.ORDER


def test_five_of_a_hundred_get_each_kind_and_no_picture_two():
    xy, where = planted.plant(XY, ORDER, seed=3)
    assert sorted(kind for kind, _ in where.values()) == ["far"] * 5 + ["sides"] * 5 + ["two"] * 5
    changed = np.flatnonzero((xy != XY).any((1, 2)))
    assert changed.tolist() == sorted(where)
    for row, (kind, landmarks) in where.items():
        moved = np.flatnonzero((xy[row] != XY[row]).any(-1))
        assert moved.tolist() == list(landmarks)
        if kind == "two":
            assert np.array_equal(xy[row, landmarks[::-1]], XY[row, list(landmarks)])
        if kind == "far":
            size = np.linalg.norm(XY[row] - XY[row].mean(0)) / np.sqrt(12)
            assert 0.2 < np.linalg.norm(xy[row] - XY[row]) / size < 1
    again, same = planted.plant(XY, ORDER, seed=3)
    assert np.array_equal(xy, again) and same == where
    assert {kind for kind, _ in planted.plant(XY, None, seed=3)[1].values()} == {"two", "far"}


def test_counts(monkeypatch):
    def slip(row, kind, *landmarks):
        return label_slips.Slip(row, kind, landmarks, (), (), np.empty(0), 1)

    found = [slip(1, label_slips.TWO, 4, 5), slip(2, label_slips.TWO, 1, 2), slip(3, label_slips.FAR, 7, 8),
             slip(9, label_slips.FAR, 0)]  # fmt: skip
    monkeypatch.setattr(label_slips, "find", lambda xy, order: found)
    where = {1: ("two", (4, 5)), 2: ("two", (1, 3)), 3: ("far", (8,)), 4: ("far", (0,))}
    counts = planted.measure(XY, ORDER, where)
    assert counts == {"two": [2, 2, 1], "far": [2, 1, 1], "others": [96, 1]}
    results = {"x": {"untouched": [100, 2], "seeds": {1: counts, 2: counts | {"far": [2, 2, 2]}}}}
    table = [line.split() for line in planted.lines(results)]
    assert ["x", "far", "4", "75.0", "%", "75.0", "%", "50.0", "%"] in table
    assert ["x", "others", "192", "1.0", "%", "1.0", "%"] in table and ["x", "untouched", "100", "2.0", "%"] in table
