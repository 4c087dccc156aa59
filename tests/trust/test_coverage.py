"""What the radii cover, counted by hand."""

import numpy as np
import pytest

from ctd_jax.metrics import Predictions
from ctd_jax.trust import Radius, coverage

EACH = np.arange(12).astype(str)


def table(error, radius_px, subjects, spacing=None):
    """Points at the origin whose true ones are `error` to the right."""
    error = np.array(error, float)
    xy = np.zeros((*error.shape, 2))
    return Predictions.from_points(
        [f"{i}.png" for i in range(len(error))], subjects, ["a", "b"], xy,
        true_xy=np.stack([error, 0 * error], axis=-1), radius_px=np.array(radius_px, float), spacing=spacing,
    )  # fmt: skip


@pytest.fixture(scope="module")
def radius():
    return Radius.fit(np.random.default_rng(0).exponential(size=(12, 2)), {}, EACH)


def compared(constant):
    constant = np.array(constant, float)
    return coverage.Compared(np.stack([constant * (i + 1) for i in range(len(coverage.LEVELS))]), constant)


def test_a_landmark_is_without_a_radius_where_it_has_none_in_any_picture(radius):
    made = table([[1, 5], [2, 1]], [[np.nan, np.nan], [1, np.nan]], ["s", "t"])
    found = coverage.summarize(made, compared([[2, 2], [2, 2]]), radius)
    assert found["without"] == ["b"] and found["n_points"] == 1 and set(found["per_landmark"]) == {"a"}


def of_one_subject(radius):
    return coverage.summarize(table([[1, 5], [2, 1]], [[1, 2], [1, 2]], ["s", "s"]), compared([[2, 2], [2, 2]]), radius)


def test_the_numbers_of_a_small_table(radius):
    error = [[1, 5], [2, np.nan], [4, 3]]
    made = table(error, [[1, 2], [2.5, 9], [3, 4]], ["s", "s", "t"], np.full((3, 2), [0.5, 0.25]))
    found = coverage.summarize(made, compared([[2, 2], [2, 2], [2, 2]]), radius)
    # within: 1 <= 1, 2 <= 2.5, 3 <= 4; not 5 <= 2, 4 <= 3
    assert found["coverage"] == pytest.approx(3 / 5) and found["n_points"] == 5
    assert found["mean_px"] == pytest.approx((1 + 2 + 2.5 + 3 + 4) / 5)
    assert found["mean_mm"] == pytest.approx(0.5 * found["mean_px"])  # by the longer side of a pixel
    assert found["constant_px"] == 2 and found["constant_coverage"] == pytest.approx(2 / 5)
    # ranks of the radii 1, 2, 2.5, 3, 4 and of their errors 1, 5, 2, 4, 3: d = 0, 3, 1, 0, 2
    assert found["rank_correlation"] == pytest.approx(1 - 6 * (0 + 9 + 1 + 0 + 4) / (5 * 24))
    assert "constant_rank_correlation" not in found  # all are the same
    assert found["per_landmark"]["b"] == {"n": 2, "coverage": 0.5, "mean_px": 3.0}
    assert found["level"] == 0.9 and found["n_subjects"] == 12 and found["without"] == []
    assert found["own"] == 0 and "ci95" not in of_one_subject(radius)
    low, high = found["ci95"]
    assert 0 <= low < 3 / 5 < high <= 1
    shares = {level: share for level, share, *_ in found["reliability"]}
    assert shares[0.5] == pytest.approx(2 / 5)  # 2 px: errors 1 and 2
    assert shares[0.6] == pytest.approx(4 / 5)  # 4 px: all but 5


def test_landmarks_with_enough_subjects_of_their_own_are_counted():
    error = np.ones((30, 2))
    error[0, 1] = np.nan
    assert of_one_subject(Radius.fit(error, {}, np.arange(30).astype(str)))["own"] == 1


def test_what_chance_can_do_is_what_it_does():
    """39 subjects and a uniform score, so that the coverage is the radius itself: 95 % of the draws lie between the
    bounds."""
    rng = np.random.default_rng(0)
    low, high = coverage.by_chance(39)
    covered = np.sort(rng.uniform(size=(4000, 39)), axis=1)[:, 35]  # k = 36
    assert np.mean(covered < low) == pytest.approx(0.025, abs=0.007)
    assert np.mean(covered > high) == pytest.approx(0.025, abs=0.007)


def test_without_radii_it_says_so():
    few = Radius.fit(np.ones((4, 2)), {}, EACH[:4])
    made = table([[1, 2]], np.full((1, 2), np.nan), ["s"])
    found = coverage.summarize(made, compared([[np.nan, np.nan]]), few)
    assert found == {"level": 0.9, "n_subjects": 4, "n_points": 0, "without": ["a", "b"]}


def test_several_splits_are_one_after_the_other():
    both = coverage.concatenate([compared([[1, 2]]), compared([[3, 4]])])
    assert both.constant.tolist() == [[1, 2], [3, 4]]
    assert both.rows(np.array([False, True])).at_level[1].tolist() == [[6, 8]]
