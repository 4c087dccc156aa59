"""Raters who contradict each other: planted in drawn shapes."""

import dataclasses

import numpy as np
import pytest
import varied_shapes

from ctd_jax.data.about import Landmarks
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.inspection import disagreement

N, NAN = 40, float("nan")
SWAP = list(varied_shapes.ORDER)


class Painter:
    def points(self, index, xy, *, true_xy):
        return f"{index}: {np.linalg.norm(xy - true_xy, axis=-1).max():.0f}"


@pytest.fixture(scope="module")
def table():
    """Three raters, 1.8 px apart on average."""
    xy = varied_shapes.to_xy(varied_shapes.points(N))
    noise = np.random.default_rng(0).normal(size=(N, 3, *xy.shape[1:]))
    words = tuple(f"{i}.png" for i in range(N))
    return LandmarkTable(
        images=words,
        subjects=words,
        splits=None,
        spacing=np.full((N, 2), NAN),
        where=words,
        title="",
        landmarks=Landmarks(tuple(varied_shapes.NAMES), raters=("ann", "bob", "cat")),
        xy=xy,
        boxes=np.full((N, 4), NAN),
        of_raters=xy[:, None] + noise,
    )


def found(table, change, raters=3):
    of_raters = table.of_raters[:, :raters].copy()
    change(of_raters)
    landmarks = dataclasses.replace(table.landmarks, raters=table.landmarks.raters[:raters])
    changed = dataclasses.replace(table, of_raters=of_raters, landmarks=landmarks)
    return disagreement.findings(changed, SWAP, Painter(), 1)


def texts(finding):
    return [item.text for item in finding.items]


def test_people_who_agree_are_not_named(table):
    for raters in (3, 2, 1):
        assert [one.number for one in found(table, lambda _: None, raters)] == [0, 0, 0]
    assert disagreement.findings(dataclasses.replace(table, of_raters=None), SWAP, Painter(), 1) == []


@pytest.mark.parametrize("raters", [2, 3])
def test_points_of_another_picture_and_exchanged_sides(table, raters):
    def change(of_raters):
        of_raters[3, 1] = of_raters[5, 1]
        of_raters[9, 0] = of_raters[9, 0][SWAP]

    whole, single, _ = found(table, change, raters)
    assert whole.spoils and single.number == 0
    assert {item.rows for item in whole.items} == {(3,), (9,)}
    by_row = {item.rows[0]: item.text for item in whole.items}
    assert "is one of 5.png? There they lie" in by_row[3] and "left and right are exchanged" in by_row[9]
    assert ("ann and bob" if raters == 2 else "bob and the others") in by_row[3]
    assert [len(item.images) for item in whole.items] == [1, 0]


def test_what_a_rater_did_not_annotate_says_nothing_of_what_is_usual(table):
    """Pictures of a fixed camera: each rater is 2 px off, in any direction. Of 40, bob annotated 10."""
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, (N, 2, 1))

    def change(of_raters):
        of_raters[:] = table.xy[0] + 2 * np.stack([np.cos(angle), np.sin(angle)], -1)
        of_raters[10:, 1] = NAN

    def halve(of_raters):
        change(of_raters)
        of_raters[:, 1] *= 0.5

    assert [one.number for one in found(table, change, 2)] == [0, 0, 0]
    (text,) = texts(found(table, halve, 2)[0])
    assert text.startswith("ann and bob, in most pictures")


def test_a_rater_who_exchanges_sides_or_means_other_pixels_in_all_pictures(table):
    def exchange(of_raters):
        of_raters[:, 1] = of_raters[:, 1][:, SWAP]

    def halve(of_raters):
        of_raters[:, 2] *= 0.5

    (text,) = texts(found(table, exchange)[0])
    assert text.startswith("bob and the others, in most pictures") and text.endswith("left and right are exchanged")
    (text,) = texts(found(table, halve)[0])
    assert text.startswith("cat and the others, in most pictures") and "pixels of pictures of another size" in text


def test_a_single_point_far_off(table):
    def change(of_raters):
        of_raters[7, 2, 4] += 200

    whole, single, _ = found(table, change)
    assert whole.number == 0 and not single.spoils
    (item,) = single.items
    assert item.rows == (7,) and item.text.startswith(f"7.png, cat and the others: {varied_shapes.NAMES[4]} 28")
    assert item.images[0][0].startswith("7: 28")  # 200 px on both axes, and the noise


def test_who_placed_a_point_that_others_left_empty(table):
    def change(of_raters):
        of_raters[2, 1:, 0] = NAN
        of_raters[4, 0, 1] = NAN  # of this landmark an empty cell says nothing
        of_raters[6, 0] = NAN  # he annotated nothing there

    landmarks = dataclasses.replace(table.landmarks, absent=(varied_shapes.NAMES[0],))
    some = found(dataclasses.replace(table, landmarks=landmarks), change)[2]
    assert texts(some) == [f"2.png: {varied_shapes.NAMES[0]} placed by ann, not by bob and cat"] and not some.spoils
