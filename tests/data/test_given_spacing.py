"""Millimetres of new pictures: a number, a table, a known distance; costs a second."""

import logging
import pathlib

import numpy as np
import pytest

from ctd_jax.data import given_spacing
from ctd_jax.errors import UserError

PICTURES = [pathlib.Path("in/a.png"), pathlib.Path("in/b.png")]
NAMES = ("tip", "ear", "chin")
XY = np.array([[(0, 0), (30, 40), (1, 1)], [(5, 5), (5, 5), (2, 2)]], float)


def mm(found):
    return found.mm(PICTURES, NAMES, XY).tolist()


def test_one_number_is_of_all_pictures():
    found = given_spacing.read("0.25", None, PICTURES, NAMES)
    assert found and mm(found) == [[0.25, 0.25]] * 2
    assert not given_spacing.read(None, None, PICTURES, NAMES)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf"])
def test_what_is_no_spacing(text):
    with pytest.raises(UserError, match=f"--spacing={text}: expected the mm of a pixel, a number above 0"):
        given_spacing.read(text, None, PICTURES, NAMES)


def table(tmp_path, rows, header="image,spacing_x_mm,spacing_y_mm"):
    path = tmp_path / "mm.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def test_a_table(tmp_path, caplog, monkeypatch):
    """Paths as they are given, other rows beside; a picture without a spacing is said."""
    found = given_spacing.read(table(tmp_path, ["./in/a.png,0.2,0.4", "c.png,1,1"]), None, PICTURES, NAMES)
    np.testing.assert_array_equal(mm(found), [[0.2, 0.4], [np.nan, np.nan]])
    assert caplog.messages == [f"{tmp_path / 'mm.csv'}: 1 of 2 pictures have no spacing, and nothing in mm: in/b.png"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/B.png").touch()  # another picture than in/b.png
    found = given_spacing.read(table(tmp_path, ["in/a.png,0.2,0.4", "in/B.png,1,1"]), None, PICTURES, NAMES)
    np.testing.assert_array_equal(mm(found)[1], [np.nan, np.nan])
    rows = ["in/A.png,9,9", "in/a.png,0.2,0.4"]  # the first is of another picture, which is not given
    np.testing.assert_array_equal(mm(given_spacing.read(table(tmp_path, rows), None, PICTURES, NAMES))[0], [0.2, 0.4])
    for name in (r"in\a.png", "IN/A.png"):  # as in landmarks.csv: the only picture that it can be
        np.testing.assert_array_equal(
            mm(given_spacing.read(table(tmp_path, [f"{name},0.2,0.4"]), None, PICTURES, NAMES))[0], [0.2, 0.4]
        )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["in/a.png,0,0.2"], r"row 2: spacing is \[0.  0.2\] mm; expected two positive numbers, or two empty cells"),
        (["in/a.png,0.2,-1"], "row 2: spacing is"),
        (["in/b.png,1,1", "in/a.png,0.2,"], "row 3: spacing is"),
        (["in/a.png,x,1"], "row 2: spacing_x_mm is 'x'; expected a number"),
        (["in/a.png,inf,1"], "row 2: spacing_x_mm is 'inf'; expected a number"),
        (["in/a.png,1,1", "in/a.png,2,2"], "row 3: in/a.png has another spacing in"),
        (["c.png,1,1"], "no row with the spacing of a picture that is given, such as in/a.png"),
        (["in/a.png,,"], "no row with the spacing of a picture that is given, such as in/a.png"),
    ],
)
def test_a_table_spoilt(tmp_path, rows, expected):
    with pytest.raises(UserError, match=expected):
        given_spacing.read(table(tmp_path, rows), None, PICTURES, NAMES)


def test_a_table_that_is_none(tmp_path):
    with pytest.raises(UserError, match="expected the columns spacing_x_mm, spacing_y_mm, found image, mm"):
        given_spacing.read(table(tmp_path, ["in/a.png,1"], "image,mm"), None, PICTURES, NAMES)
    with pytest.raises(UserError, match="none.csv: no such file"):
        given_spacing.read("none.csv", None, PICTURES, NAMES)


def test_a_known_distance():
    """50 pixels between tip and ear are 5 mm in the first picture; in the second both are in one place."""
    found = given_spacing.read(None, "tip,ear,5", PICTURES, NAMES)
    assert found
    np.testing.assert_allclose(mm(found), [[0.1, 0.1], [np.nan, np.nan]])
    assert mm(given_spacing.of_objects(None, ("tip", "ear", 5), PICTURES, NAMES))[0] == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tip,ear", "--scale=tip,ear: expected two landmarks and the mm between them, LANDMARK,LANDMARK,MM"),
        ("tip,tip,5", "expected two landmarks"),
        ("tip,eear,5", "--scale=tip,eear,5 names 'eear', which is not one of the landmarks; the nearest is 'ear'"),
        ("tip,ear,0", "--scale=tip,ear,0: expected the mm between two landmarks, a number above 0"),
        ("tip,ear,x", "--scale=tip,ear,x: expected the mm between two landmarks, a number above 0"),
    ],
)
def test_what_is_no_scale(text, expected):
    with pytest.raises(UserError, match=expected):
        given_spacing.read(None, text, PICTURES, NAMES)


def test_both_are_too_many():
    with pytest.raises(UserError, match="--spacing, --scale and --imager_spacing=detector all say"):
        given_spacing.read("1", "tip,ear,5", PICTURES, NAMES)
    with pytest.raises(UserError, match="spacing, scale and imager_spacing all say"):
        given_spacing.of_objects(1, ("tip", "ear", 5), PICTURES, NAMES)


def test_from_python(caplog):
    caplog.set_level(logging.INFO)
    for spacing, expected in (
        (0.5, [[0.5, 0.5]] * 2),
        ([0.5, 0.2], [[0.5, 0.2]] * 2),
        ([[0.5, 0.2], [np.nan, np.nan]], [[0.5, 0.2], [np.nan, np.nan]]),
    ):
        np.testing.assert_array_equal(mm(given_spacing.of_objects(spacing, None, PICTURES, NAMES)), expected)
    for spacing, expected in (
        (0, "spacing of in/a.png is .0. 0.."),
        (np.nan, "spacing of in/a.png"),
        ([[1, 1], [1, np.nan]], "spacing of in/b.png is"),
        ([[1, 1], [1, np.inf]], "spacing of in/b.png is"),
        ([1, 2, 3], r"spacing has the shape \(3,\); expected a number of mm, two, or \(2, 2\)"),
        ("a", "spacing has the shape"),
    ):
        with pytest.raises(UserError, match=expected):
            given_spacing.of_objects(spacing, None, PICTURES, NAMES)
