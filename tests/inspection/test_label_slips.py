"""Slips that were planted are found, with what they should be; nothing else is named."""

import numpy as np
import pytest
import varied_shapes

from ctd_jax.inspection import label_slips

ORDER = list(varied_shapes.ORDER)


@pytest.fixture(scope="module")
def right():
    return varied_shapes.points(120)


def find(points, order=varied_shapes.ORDER):
    return {slip.row: slip for slip in label_slips.find(varied_shapes.to_xy(points), order)}


def test_nothing_is_named_where_nothing_is_wrong(right):
    assert find(right) == {}


def test_each_kind_is_found(right):
    points = right.copy()
    points[7] = right[7, ORDER]
    points[20, [1, 8]] = right[20, [8, 1]]
    points[33, 4] += 60 - 20j
    points[50, [0, 2, 5, 8, 10]] += [90, -90, 90j, -90j, 120]
    points[60, 3:5] = np.nan
    found = find(points)
    assert {row: slip.kind for row, slip in found.items()} == {
        7: label_slips.SIDES,
        20: label_slips.TWO,
        33: label_slips.FAR,
        50: label_slips.SHAPE,
    }
    assert found[7].landmarks == tuple(range(10))
    assert found[20].landmarks == (1, 8) and found[33].landmarks == (4,)
    scores = [slip.score for slip in found.values()]
    assert scores == sorted(scores, reverse=True) and min(scores) > 1
    for row in (7, 20, 33):
        where = list(found[row].landmarks)
        expected = found[row].expected[..., 0] + 1j * found[row].expected[..., 1]
        assert abs(expected[where] - right[row, where]).max() < 15, "px; the noise is 2 px, in shapes of 0.7 to 1.4"
        assert np.allclose(found[row].pixels, abs(points[row] - expected)[where])
        assert np.isnan(np.delete(expected, where)).all()
    assert np.allclose(found[20].exchanged, abs(points[20, [8, 1]] - right[20, [1, 8]]) + found[20].exchanged)
    assert max(found[20].exchanged) < 15 < min(found[20].pixels) and found[33].exchanged == ()


def test_exchanged_sides_of_pairs_of_which_one_is_not_annotated(right):
    points = right.copy()
    points[7:9] = right[7:9, ORDER]
    points[7, 0] = np.nan
    points[8, [0, 6, 2, 8, 4]] = np.nan
    found = find(points)
    assert {row: (slip.kind, slip.landmarks) for row, slip in found.items()} == {
        7: (label_slips.SIDES, (1, 2, 3, 4, 6, 7, 8, 9)),
        8: (label_slips.SIDES, ()),
    }
    where = list(found[7].landmarks)
    expected = found[7].expected[..., 0] + 1j * found[7].expected[..., 1]
    assert abs(expected - right[7])[where].max() < 15 and np.isfinite(expected).sum() == 8, "px, as above"
    assert np.allclose(found[7].exchanged, abs(right[7] - expected)[where])
    assert found[8].pixels == () and np.isnan(found[8].expected).any(-1).all()


def test_of_points_in_one_place_nobody_knows_where_they_belong(right):
    points = right.copy()
    points[7] = 200.1 + 300.7j
    slip = find(points)[7]
    assert slip.kind == label_slips.SHAPE
    assert np.isnan(slip.pixels).all() and np.isnan(slip.expected).any(-1).all()


def test_the_limit_by_hand():
    """Logarithms from 0 to 10: the lower quartile is 2.5, the median 5. Where all are alike, the least range counts,
    and no limit is below 20."""
    assert label_slips._limit(np.exp(np.linspace(0, 10, 101))) == pytest.approx(np.exp(5 + 6.5 * 2.5))
    assert label_slips._limit(np.full(9, np.exp(4.0))) == pytest.approx(np.exp(4 + 6.5 * 0.25))
    assert label_slips._limit(np.full(9, 1.0)) == 20


def test_a_point_far_off_is_expected_where_it_was_however_far_it_is(right):
    """A picture without points before it does not move the row."""
    points = right.copy()
    points[0], points[33, 4] = np.nan, points[33, 4] + 900 - 300j
    slip = find(points)[33]
    assert (slip.kind, slip.landmarks) == (label_slips.FAR, (4,))
    assert abs(complex(*slip.expected[4]) - right[33, 4]) < 15, "px, as above"


def test_a_far_point_of_a_shape_whose_sides_lie_together_is_no_exchange_of_sides(right):
    """The right landmarks lie 2 px beside the left ones, with noise of 2 px, and in one picture on the other side."""
    points, noise = right.copy(), np.random.default_rng(2).normal(0, 2, (2, *right[:, :5].shape))
    points[:, 5:10] = points[:, :5] + 2 + noise[0] + 1j * noise[1]
    points[33, 5:10] = points[33, :5] - 2
    points[33, 10] += 60 - 20j
    slip = find(points)[33]
    assert (slip.kind, slip.landmarks) == (label_slips.FAR, (10,))


def test_a_shift_that_nobody_sees_is_not_named_however_unlikely_it_is():
    """Shapes of size 85 that agree to a hundredth of a pixel, and a point that is 2 or 20 px off."""
    noise = np.random.default_rng(0).normal(0, 0.01, (2, 40, 12))
    points = varied_shapes.mean() + noise[0] + 1j * noise[1]
    points[5, 4] += 2
    assert find(points) == {}
    points[5, 4] += 18
    assert {row: (slip.kind, slip.landmarks) for row, slip in find(points).items()} == {5: (label_slips.FAR, (4,))}


def test_without_pairs_left_and_right_are_not_exchanged(right):
    points = right.copy()
    points[7] = right[7, ORDER]
    assert find(points, None)[7].kind == label_slips.SHAPE
    assert find(points, tuple(range(12)))[7].kind == label_slips.SHAPE


def test_the_wrong_one_of_two_is_named_alone(right):
    """Two landmarks lie 8 units apart; one is moved by 16, beyond the other: an exchange would help, too."""
    points = right.copy()
    unit = (points[:, 1] - points[:, 0]) / (varied_shapes.mean()[1] - varied_shapes.mean()[0])
    noise = np.random.default_rng(1).normal(0, 1.5, (2, len(points)))
    points[:, 3] = points[:, 2] + unit * (8 + noise[0] + 1j * noise[1])
    points[4, 2] += 16 * unit[4]
    found = find(points, None)[4]
    assert (found.kind, found.landmarks) == (label_slips.FAR, (2,))


def test_few_pictures_and_pictures_without_points_are_passed_over(right):
    assert find(right[:7]) == {}
    points = right.copy()
    points[0], points[1, 2:] = np.nan, np.nan
    assert find(points) == {}


def test_a_landmark_that_nobody_annotated_hides_no_slip(right):
    points = right.copy()
    points[7] = right[7, ORDER]
    points[20, [1, 8]] = right[20, [8, 1]]
    points[:, [3, 11]] = np.nan
    points[0, 3:] = points[0, :2] = np.nan
    found = find(points)
    assert {row: (slip.kind, slip.landmarks) for row, slip in found.items()} == {
        7: (label_slips.SIDES, (0, 1, 2, 4, 5, 6, 7, 9)),
        20: (label_slips.TWO, (1, 8)),
    }
    expected = found[20].expected[..., 0] + 1j * found[20].expected[..., 1]
    assert abs(expected - right[20])[[1, 8]].max() < 15 and np.isfinite(expected).sum() == 2, "px, as above"


@pytest.mark.parametrize(
    "xy",
    [
        np.zeros((0, 5, 2)),
        np.zeros((20, 0, 2)),
        np.zeros((20, 6, 2)),
        np.repeat(np.random.default_rng(0).normal(0, 50, (1, 6, 2)), 20, axis=0),
        np.random.default_rng(0).normal(0, 1, (20, 3, 2)),
        np.arange(200.0).reshape(20, 5, 2),
        np.full((20, 5, 2), np.nan),
        np.random.default_rng(0).normal(0, 1e9, (20, 6, 2)),
    ],
    ids=["no picture", "no landmark", "all in one place", "all alike", "three points", "lines", "unknown", "huge"],
)
def test_odd_points_are_no_slips(xy):
    assert label_slips.find(xy, None) == []
