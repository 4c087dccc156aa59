"""Counts by split, subject and rater."""

import numpy as np

from ctd_jax.data import about
from ctd_jax.inspection import counts

NAN = float("nan")


def test_by_split():
    xy = np.zeros((4, 3, 2))
    xy[0, 1] = xy[3, :2] = NAN
    found = counts.by_split(["test", "train", "train", "train"], list("abba"), xy)
    assert found == [("test", 1, 1, 2), ("train", 3, 2, 7)]


def test_of_subjects():
    assert counts.of_subjects(list("abcbb")) == (3, 3, "b")


def test_by_file(tmp_path):
    """Whoever dataset.json names is counted with what was read; cells may be those of a German spreadsheet."""
    (tmp_path / "landmarks.csv").write_text("image,nose_x,nose_y,chin_x,chin_y\na.png,1,1,5,5\nb.png,2,2,6,6\n")
    (tmp_path / "landmarks_anna.csv").write_text("image;nose_x;nose_y;chin_x;chin_y\na.png;4,0;5;8;9\nB.png;2;4;;\n")
    (tmp_path / "landmarks_ben.csv").write_text("image,nose_x,nose_y\nc.png,4,5\n")
    (tmp_path / "landmarks_cleo.csv").write_text("image,nose_x,nose_y\na.png,4,5\n")
    (tmp_path / "landmarks_old.csv").write_text("no table of pictures\n")
    xy = np.array([[[1, 1], [5, 5]], [[2, 2], [6, 6]]], float)
    landmarks = about.Landmarks(("nose", "chin"), raters=("cleo",))
    anna, ben = counts.by_file(tmp_path, ["a.png", "b.png"], landmarks, xy)
    assert anna == ("anna", 2, 5.0)  # distances 5, 5 and 2
    assert ben[:2] == ("ben", 0) and np.isnan(ben.distance), "none of the folder's pictures"


def test_by_column():
    of_raters = np.array([[[[4, 5], [8, 9]], [[1, 1], [NAN, NAN]]], [[[2, 4], [NAN, NAN]], np.full((2, 2), NAN)]])
    xy = np.array([[[1, 1], [5, 5]], [[2, 2], [6, 6]]], float)
    assert counts.by_column(["anna", "ben"], of_raters, xy) == [("anna", 2, 5.0), ("ben", 1, 0.0)]
