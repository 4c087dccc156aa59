"""Class maps: regions counted by hand, and what is unlike the others."""

import numpy as np

from ctd_jax.inspection import class_maps

NAMES = ("background", "organ", "vessel")


def test_regions():
    classes = np.zeros((8, 8), np.uint8)
    classes[0, :3] = 1
    classes[1, 3] = 1  # touches at a corner
    classes[6, 6] = 1
    classes[3:5, 3:5] = 3
    assert class_maps.regions(classes) == {1: (5, 2), 3: (4, 1)}
    assert class_maps.regions(np.zeros((2, 2), np.uint8)) == {}


def found(changes):
    regions = [{1: (1000 + 10 * i, 1), 2: (100, 2)} for i in range(40)]
    for row, one in changes.items():
        regions[row] = one
    size = np.full((40, 2), 100)
    return class_maps.find("hearts", NAMES, np.arange(10, 50), regions, size)


def test_nothing_is_named_where_all_are_alike():
    assert found({}).number == 0


def test_what_is_unlike_the_others_is_named():
    named = found({3: {1: (1000, 1)}, 5: {1: (9000, 1), 2: (100, 2)}, 7: {1: (50, 1), 2: (100, 5)}, 9: {}})
    assert (named.spoils, named.title) == (False, "Class maps unlike the others: hearts")
    assert {(item.rows[0], item.text) for item in named.items} == {
        (13, "vessel is missing; 38 of 39 pictures have it"),
        (15, "organ is large: 90 % of the picture, usual is 12 %"),
        (17, "organ is small: 0.5 % of the picture, usual is 12 %"),
        (17, "vessel is in 5 pieces; 95 % of the pictures have 2 at most"),
    }  # 9 has no map that belongs to it, which is a fault of its own


def test_twice_as_many_pieces_as_usual_are_not_named():
    assert found({7: {1: (1000, 1), 2: (100, 4)}}).number == 0


def test_a_class_that_many_lack_is_not_missed():
    assert found({row: {1: (1200, 1)} for row in range(10)}).number == 0


def test_counts():
    regions = [{1: (10, 1)}, {1: (30, 3)}, {}]
    counts = class_maps.counts(NAMES, regions, np.full((3, 2), 10))
    assert counts[0] == ("organ", 2, 0.2, 2) and counts[1][:2] == ("vessel", 0) and np.isnan(counts[1][2])
