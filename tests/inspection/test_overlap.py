"""Near-identical pictures, and subjects in two splits."""

import numpy as np

from ctd_jax.data import twins
from ctd_jax.inspection import overlap

RNG = np.random.default_rng(0)
IMAGES = ("a.png", "b.png", "c.png", "d.png")


def show(row):
    return f"picture {row}"


def near_identical(subjects, splits, same):
    shown = [RNG.integers(0, 256, (64, 64, 3), np.uint8) for _ in IMAGES]
    for copy, of in same:
        shown[copy] = shown[of]
    thumbnails = np.array([twins.look(one)["thumbnail"] for one in shown])
    return overlap.near_identical(IMAGES, subjects, splits, list("0123"), thumbnails, show, 1)


def test_pairs_in_two_splits_spoil_the_result_and_others_do_not():
    two, one = near_identical(list("stuv"), ["train", "test1", "train", "train"], [(1, 0), (3, 2)])
    assert (two.spoils, one.spoils) == (True, False)
    assert [item.rows for item in two.items] == [(0, 1)] and [item.rows for item in one.items] == [(2, 3)]
    assert two.items[0].images == (("picture 0", "a.png"), ("picture 1", "b.png"))
    assert "a.png (train) and b.png (test1), of two subjects, correlation 1.000" in two.items[0].text


def test_without_splits_all_pictures_count_as_one():
    two, one = near_identical(list("stuv"), [""] * 4, [(3, 0)])
    assert two.number == 0 and [item.rows for item in one.items] == [(0, 3)]


def test_subjects_in_two_splits():
    found = overlap.subjects_in_two_splits(IMAGES, list("ssts"), ["train", "test1", "train", "test2"], show, 9)
    assert found.spoils and [item.rows for item in found.items] == [(0, 1)]
    assert found.items[0].text == "s: a.png (train) and b.png (test)"
    assert overlap.subjects_in_two_splits(IMAGES, list("stss"), ["train", "test", "unused", ""], show, 9).number == 0
