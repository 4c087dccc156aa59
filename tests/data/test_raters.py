"""The files of several raters."""

import json
import logging
import pathlib

import numpy as np
import pytest

from ctd_jax.data import Landmarks, about, raters
from ctd_jax.data.faults import Faults
from ctd_jax.errors import UserError

LANDMARKS = Landmarks(("eye", "chin"), raters=("ann", "bob"))
NAN = float("nan")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "landmarks_ann.csv").write_text("image,eye_x,eye_y,chin_x,chin_y\nb.png,1,2,3,4\na.png,5,6,,\n")
    (tmp_path / "landmarks_bob.csv").write_text(
        "Image;chin_x;chin_y;eye_x;eye_y;note\nz.png;0;0;0;0;\nb.png;3,5;4;1;2;x\n"
    )
    return tmp_path


def test_points_come_in_the_order_of_the_pictures_and_landmarks(root):
    found = raters.points(root, LANDMARKS, ["a.png", "b.png"])
    ann = [[[5, 6], [NAN, NAN]], [[1, 2], [3, 4]]]
    bob = [[[NAN, NAN], [NAN, NAN]], [[1, 2], [3.5, 4]]]
    np.testing.assert_array_equal(found, [ann, bob])


def test_a_cell_that_is_no_number_is_named(root):
    (root / "landmarks_ann.csv").write_text("image,eye_x,eye_y,chin_x,chin_y\nb.png,1,two,3,4\n")
    with pytest.raises(UserError, match="landmarks_ann.csv, row 2: eye_y is 'two'"):
        raters.points(root, LANDMARKS, ["b.png"])


def read(root: pathlib.Path, named):
    (root / "dataset.json").write_text(json.dumps({"landmarks": ["eye"], "raters": named}))
    return about.read(root / "dataset.json", ["image", "eye_x", "eye_y"], Faults("here")).raters


def test_raters_are_those_whose_file_is_there(root, caplog):
    with caplog.at_level(logging.WARNING):
        assert read(root, ["ann", "cat"]) == ("ann",)
    assert "no landmarks_cat.csv, which `raters` names" in caplog.text
    assert read(root, None) == ()
    for wrong in ("ann", [1], ["../ann"]):
        with pytest.raises(UserError, match="raters is .*expected a list of names"):
            read(root, wrong)
