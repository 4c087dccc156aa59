"""The error of a run, by what a rater says of its random pictures; numbers by hand and of SciPy."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from ctd_jax.review import estimate, folder
from ctd_jax.review.edits import Review

ERRORS = {"a.png": [3, 5], "b.png": [1, 3], "c.png": [6, 6]}  # px, of the two points of each


@pytest.fixture
def reviewed(tmp_path):
    with (tmp_path / "landmarks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "subject", "tip_x", "tip_y", "base_x", "base_y"])
        writer.writerows([[image, f"person {image}", "", "", "", ""] for image in ERRORS])
    for image in ERRORS:
        Image.new("L", (8, 8)).save(tmp_path / image)
    about = {"name": "tools", "landmarks": ["tip", "base"], "flip_pairs": None, "normalizer": None}
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    return folder.read(tmp_path)


def point(x, y=0.0, how="hand", state="placed"):
    return {"x": x, "y": y, "state": state, "how": how}


def review(**more):
    """All points at x = 0, and pictures done."""
    return Review(
        {"kind": "edit", "image": image, "points": {"tip": point(0.0), "base": point(0.0)} | more, "done": True}
        for image in ERRORS
    )


def predicted(images=tuple(ERRORS)):
    return {image: {"tip": point(ERRORS[image][0]), "base": point(ERRORS[image][1])} for image in images}


def test_it_is_the_mean_over_the_pictures_with_its_interval(reviewed):
    mean, se = np.mean([4, 2, 6]), stats.sem([4, 2, 6])
    half = stats.t(2).ppf(0.975) * se / mean
    low, high = mean * np.exp([-half, half])  # on the scale of logarithms, as everywhere
    said = estimate.said(reviewed, review(), predicted(), 0, 5)
    assert said == (f"Error on new pictures: 4.00 px (95 %: {low:.2f} to {high:.2f}), by 3 random pictures of 3 people")


def test_accepted_points_and_pictures_passed_over_are_said(reviewed):
    accepted = review(base=point(0.0, how="accepted"))
    said = estimate.said(reviewed, accepted, predicted(), 2, 5)
    assert "; 2 were passed over. 50 % of their points were accepted as proposed: errors of 0" in said


def test_absent_points_do_not_count(reviewed):
    said = estimate.said(reviewed, review(base=point(None, None, state="absent")), predicted(), 0, 5)
    assert f"{np.mean([3, 1, 6]):.2f} px" in said


def test_one_picture_is_too_few(reviewed):
    assert estimate.said(reviewed, review(), predicted(["a.png"]), 0, 5).endswith(
        "known once 2 of the 5 random ones are done (1 so far)"
    )


def test_only_random_pictures_that_are_done_count_and_those_before_them_are_known(reviewed):
    said = Review(
        [
            {"kind": "edit", "image": "b.png", "points": {}, "done": True},
            {"kind": "edit", "image": "c.png", "points": {}, "done": True},
        ]
    )
    assert estimate.done(said, ["a.png", "c.png", "d.png", "b.png", "e.png"], {"a.png", "b.png", "e.png"}) == (
        ["b.png"], 1,
    )  # fmt: skip
    assert estimate.done(Review(), ["a.png"], {"a.png"}) == ([], 0)
