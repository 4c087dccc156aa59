"""The long form of the table."""

import label_tables

from ctd_jax.labels.table import ABSENT, COLUMNS, HIDDEN, PLACED, Labelled, Labels, Point


def test_a_row_for_each_picture_and_point():
    points = {"tip": Point(1.5, 2.0, hidden=True, confidence=0.25), "base": Point(3.0, 4.0)}
    labels = Labels(label_tables.NAMES, (Labelled("a.png", points, (40, 30), "anna", who="eva"),))
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in labels.rows()]
    assert [row["point"] for row in rows] == list(label_tables.NAMES)
    assert [row["state"] for row in rows] == [HIDDEN, PLACED, ABSENT]
    assert [(row["x"], row["y"], row["confidence"]) for row in rows] == [
        ("1.5", "2.0", "0.25"), ("3.0", "4.0", ""), ("", "", "")
    ]  # fmt: skip
    assert {(row["image"], row["width"], row["height"], row["subject"], row["who"]) for row in rows} == {
        ("a.png", "40", "30", "anna", "eva")
    }
