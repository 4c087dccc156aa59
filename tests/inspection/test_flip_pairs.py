"""Pairs of left and right: as declared, by names, by the mean shape."""

import numpy as np
import varied_shapes
from varied_shapes import NAMES, PAIRS

from ctd_jax.inspection import flip_pairs

XY = varied_shapes.to_xy(varied_shapes.points(40))
MIXED = [3, 11, 0, 7, 5, 1, 10, 2, 9, 4, 8, 6]


def test_names():
    assert flip_pairs.of_names(NAMES) == PAIRS
    assert flip_pairs.of_names(["L-eye", "r-ear", "R-eye", "nose", "leftover"]) == ()
    assert flip_pairs.of_names(["eye_l", "nose", "eye_r"]) == ((0, 2),)


def test_the_mean_shape_in_any_order():
    shape = varied_shapes.mean()[MIXED]
    shape = shape / np.sqrt((abs(shape) ** 2).mean())
    expected = {tuple(sorted((MIXED.index(a), MIXED.index(b)))) for a, b in PAIRS}
    assert set(flip_pairs.of_shape(shape)) == expected
    assert set(flip_pairs.of_shape(shape * np.exp(0.7j))) == expected
    # three that lie together: each would take the place of the next, which is no pairing
    together = np.array([-1, 1, 2j, -0.06 + 0.02j, -0.02 + 0.02j, -0.02 + 0.02j])
    together = together - together.mean()
    assert flip_pairs.of_shape(together / np.sqrt((abs(together) ** 2).mean())) == ()
    shape[0] += 1
    assert flip_pairs.of_shape(shape) == ()
    shape[0] = np.nan
    assert flip_pairs.of_shape(shape) == ()


def test_a_landmark_that_nobody_annotated_takes_no_part():
    names = [(NAMES[a], NAMES[b]) for a, b in [*PAIRS[:3], (3, 9), (4, 8)]]
    xy = XY.copy()
    xy[:, [2, 7, 11]] = np.nan
    pairs = flip_pairs.find([f"p{k}" for k in range(12)], None, xy).pairs
    assert pairs == (*PAIRS[:2], *PAIRS[3:])
    xy[:, [7, 11]] = XY[:, [7, 11]]
    assert flip_pairs.askew(flip_pairs.find(NAMES, names, xy)) == [(3, 9), (4, 8)]


def test_what_is_declared_comes_first_then_names_then_the_shape():
    assert flip_pairs.find(NAMES, (("left_0", "right_0"),), XY).pairs == ((0, 5),)
    found = flip_pairs.find(NAMES, None, XY)
    assert (found.source, found.pairs, found.order) == ("their names", PAIRS, varied_shapes.ORDER)
    found = flip_pairs.find([f"p{k}" for k in range(12)], None, XY)
    assert (found.source, found.pairs) == ("the mean shape", PAIRS)
    assert flip_pairs.find(["a", "b"], None, XY[:, :2]) is None
    found = flip_pairs.find(NAMES, (), XY)
    assert (found.source, found.pairs) == ("dataset.json", ()), "no pairs are declared, and none are guessed"


def test_declared_pairs_that_do_not_mirror_are_named():
    names = [(NAMES[a], NAMES[b]) for a, b in PAIRS]
    right = flip_pairs.find(NAMES, names, XY)
    assert flip_pairs.askew(right) == [] and not any(one.number for one in flip_pairs.findings(NAMES, right))
    crossed = [*names[:3], ("left_3", "right_4"), ("left_4", "right_3")]
    wrong = flip_pairs.find(NAMES, crossed, XY)
    assert flip_pairs.askew(wrong) == [(3, 9), (4, 8)]
    first, _ = flip_pairs.findings(NAMES, wrong)
    profile = XY * [1, 0] + np.random.default_rng(0).normal(0, 60, XY.shape[1:])
    assert flip_pairs.askew(flip_pairs.find(NAMES, crossed, profile)) == []  # nothing is symmetric there
    assert first.spoils and [item.text for item in first.items] == ["left_3 and right_4", "left_4 and right_3"]


def test_guessed_pairs_can_be_pasted():
    _, guessed = flip_pairs.findings(NAMES, flip_pairs.find(NAMES, None, XY))
    assert guessed.items[0].text.startswith('"flip_pairs": [["left_0", "right_0"], ["left_1", "right_1"],')
    assert not guessed.spoils and flip_pairs.findings(NAMES, None) == []
