"""The radius: against the rule by hand, NumPy's quantiles, SciPy's regression, and by counting what is covered."""

import math

import numpy as np
import pytest
from scipy import stats

from ctd_jax.trust import Radius, radius

EACH = np.arange(40).astype(str)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("n", "k"), [(8, 9), (9, 9), (10, 10), (19, 18), (29, 27), (30, 28), (99, 90)])
def test_the_rank_is_that_of_the_rule(n, k):
    assert radius.rank(n) == k  # by hand: the whole number at or above 0.9 (n + 1)


@pytest.mark.parametrize("n", [9, 10, 19, 30, 99])
def test_with_one_score_of_each_subject_it_is_the_kth_smallest(n, rng):
    scores = rng.exponential(size=n)
    k = math.ceil(9 * (n + 1) / 10)
    expected = np.quantile(scores, k / n, method="inverted_cdf")
    assert radius.quantile(scores, np.arange(n).astype(str)) == expected


def test_subjects_count_once_however_many_scores_they_have():
    scores = np.array([1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 30.0])
    subjects = np.array([*"abcdefgh", "i", "i", "i"])
    # n = 9, k = 9: 9 / 10 of nine subjects' scores; eight subjects are 8 / 9 < 9 / 10, a third of the ninth is enough
    assert radius.quantile(scores, subjects) == 10
    # half of them: k = 5, 5 / 10; four subjects are 4 / 9 < 1 / 2, five are 5 / 9
    assert radius.quantile(scores, subjects, 0.5) == 5
    assert radius.quantile(scores[::-1], subjects[::-1]) == 10  # in any order
    # a share that scores reach exactly, in sums of tenths that are rounded: 0.1 + 0.1 + 0.1 > 0.3
    assert [radius.pooled_quantile(np.arange(10.0), EACH[:10], share) for share in (0.3, 0.8)] == [2, 7]


def test_of_too_few_subjects_there_is_none(rng):
    assert math.isnan(radius.quantile(np.arange(8.0), np.arange(8).astype(str)))
    assert math.isnan(radius.quantile(np.arange(80.0), np.repeat(np.arange(8).astype(str), 10)))
    made = Radius.fit(rng.exponential(size=(8, 2)), {}, EACH[:8])
    assert np.isnan(made({}, 3)).all() and made({}, 3).shape == (3, 2) and np.isnan(made.constant()).all()


def test_a_constant_radius_covers_what_is_promised(rng):
    """39 subjects, k = 36: a new one is covered in 36 / 40 of the cases, whatever the distribution."""
    covered = []
    for _ in range(4000):
        *val, new = rng.pareto(1.5, size=40)
        covered.append(new <= radius.quantile(np.array(val), EACH[:39]))
    assert abs(np.mean(covered) - 0.9) < 3 * math.sqrt(0.9 * 0.1 / 4000)


def test_a_landmark_with_many_subjects_has_its_own_and_the_others_share(rng):
    error = np.exp(rng.normal(0, 0.1, size=(40, 3))) * [1, 1, 10]
    error[12:, 2] = error[:, 1] = np.nan
    made = Radius.fit(error, {}, EACH)
    assert made.n_subjects.tolist() == [40, 0, 12]
    found = made({}, 2)
    np.testing.assert_allclose(found[:, 0], np.sort(error[:, 0])[math.ceil(41 * 0.9) - 1])
    assert np.isnan(found[:, 1]).all()  # never annotated in val
    assert 5 < found[0, 2] / found[0, 0] < 20  # a factor of its own, the scores of all
    assert made.constant()[2] != pytest.approx(found[0, 2])


def test_a_constant_radius_of_few_subjects_is_one_for_all_landmarks(rng):
    error = rng.exponential(size=(12, 3)) * [1, 2, 4]
    constant = Radius.fit(error, {}, EACH[:12]).constant()
    assert len(set(constant)) == 1 and constant[0] in error


def test_the_scale_is_the_regression_of_the_logarithms(rng):
    doubt = np.exp(rng.normal(size=(40, 1)))
    error = 3 * doubt**0.7 * np.exp(rng.normal(0, 0.2, size=(40, 1)))
    scale = radius.Scale.fit(error, doubt)
    slope = stats.linregress(np.log(doubt[:, 0]), np.log(error[:, 0])).slope
    assert scale.slope == pytest.approx(slope, abs=0.02)  # but for the smallest doubts, which count as FLOOR
    assert scale.factor[0] == pytest.approx(3, rel=0.15)


def test_the_scale_by_hand():
    """Errors 2 sqrt(doubt) of one landmark and 8 sqrt(doubt) of another, which is annotated twice. log2 of their
    factors is 1 and 3, and 1.5 on average over the points, which each landmark has five more of."""
    doubt = np.array([[1, 16], [4, 64], [1, 900], [4, 900], [1, 900], [4, 900.0]])
    error = np.sqrt(doubt) * [2, 8]
    error[2:, 1] = np.nan
    scale = radius.Scale.fit(error, doubt)
    assert (scale.slope, scale.low, scale.high) == (pytest.approx(0.5), pytest.approx(0.1 * 4), 64)
    want = 2 ** np.array([(6 * 1 + 5 * 1.5) / (6 + 5), (2 * 3 + 5 * 1.5) / (2 + 5)])
    np.testing.assert_allclose(scale.factor, want)
    np.testing.assert_allclose(scale.of(doubt, doubt.shape)[:2], [[1, 4], [2, 8]] * want)


def test_errors_and_doubts_that_are_nearly_0_count_as_a_tenth_of_the_median():
    error = np.array([[0], [1], [1], [1], [1.0]])
    assert radius.Scale.fit(error, None).factor == pytest.approx(0.1 ** (1 / 5))
    doubt = np.array([[0], [1], [1], [1], [4.0]])
    scale = radius.Scale.fit(np.array([[0.1**0.5], [1], [1], [1], [2.0]]), doubt)
    assert (scale.low, scale.slope) == (pytest.approx(0.1), pytest.approx(0.5))
    assert scale.growth(np.array([[0.0]])) == pytest.approx(0.1**0.5)


def test_the_scales_of_pooled_scores_know_nothing_of_their_subject(rng):
    """Six people with two pictures each, in five folds: the first and the last are in one."""
    error, subjects = rng.exponential(size=(12, 2)), np.repeat([*"abcdef"], 2)
    before = Radius.of_doubt(None, error, {}, subjects).pooled
    error[:2] *= 7
    after = Radius.of_doubt(None, error, {}, subjects).pooled
    same = np.isin(subjects, ["a", "f"])
    np.testing.assert_array_equal(after[same], before[same])
    assert (after[~same] > before[~same]).all()


def test_a_doubt_that_makes_a_few_radii_huge_is_not_chosen():
    """The doubt is the error itself; by it the mean radius is about 3, that of the constant one 1."""
    doubt = np.concatenate([np.full(18, 0.25), np.full(19, 1.0), np.full(3, 30.0)])[:, None]
    assert Radius.fit(doubt, {"doubt": doubt}, EACH).doubt is None
    assert Radius.fit(doubt[:37], {"doubt": doubt[:37]}, EACH[:37]).doubt == "doubt"  # 0.6 on average


def test_subjects_are_counted_and_30_are_enough_for_a_radius_of_ones_own(rng):
    """The second landmark is unknown in all pictures of ten people, and in one picture of another."""
    error, subjects = rng.exponential(size=(60, 2)), np.repeat(EACH[:30], 2)
    error[:20, 1] = error[20, 1] = np.nan
    made = Radius.fit(error, {}, subjects)
    assert made.n_subjects.tolist() == [30, 20] and made.n_of_all == 30
    own = radius.quantile(error[:, 0], subjects)
    assert made({}, 1)[0, 0] == pytest.approx(own) and made.constant()[1] != pytest.approx(own)
    only = Radius.fit(error[:, 1:], {}, subjects)
    assert only.n_of_all == 20


def test_a_radius_of_another_level(rng):
    error = rng.exponential(size=(40, 1))
    made = Radius.fit(error, {}, EACH)
    for level, k in ((0.5, 21), (0.8, 33), (0.9, 37)):  # of n = 40
        assert made({}, 1, level) == pytest.approx(np.sort(error[:, 0])[k - 1])


def test_the_doubt_that_tells_the_error_is_chosen(rng):
    size = (40, 2)
    telling, useless = np.exp(rng.normal(size=size)), np.exp(rng.normal(size=size))
    error = telling * rng.uniform(0.5, 1, size=size)
    made = Radius.fit(error, {"useless": useless, "telling": telling}, EACH)
    assert made.doubt == "telling"
    assert Radius.fit(error, {"useless": useless}, EACH).doubt is None
    new = np.array([[0.5, 0.5], [2, 2.0]])
    small, large = made({"telling": new}, 2)
    assert (large / small > 3).all()
    assert (made({"telling": telling}, 40).mean(0) < 0.8 * made.constant()).all()


def test_beyond_what_val_has_the_radius_grows_no_more(rng):
    doubt = np.linspace(1, 4, 40)[:, None]
    made = Radius.fit(doubt * rng.uniform(0.9, 1, size=(40, 1)), {"doubt": doubt}, EACH)
    at, beyond = (made({"doubt": np.array([[x]])}, 1)[0, 0] for x in (4.0, 400.0))
    assert made.doubt == "doubt" and beyond == at


def test_a_larger_doubt_never_makes_a_radius_smaller(rng):
    doubt = np.exp(rng.normal(size=(40, 1)))
    assert radius.Scale.fit(1 / doubt, doubt).slope == 0


def test_nothing_annotated_in_val_is_no_radius():
    made = Radius.fit(np.full((12, 2), np.nan), {"peak": np.ones((12, 2))}, EACH[:12])
    assert made.doubt is None and np.isnan(made({}, 4)).all()


def test_a_doubt_that_hardly_varies_has_no_steep_slope(rng):
    doubt = 1 + 1e-9 * rng.uniform(size=(40, 1))
    assert radius.Scale.fit(np.exp(1e10 * (doubt - 1)), doubt).slope == radius.MAX_SLOPE


def test_points_that_are_found_exactly_have_a_radius():
    made = Radius.fit(np.zeros((12, 2)), {"peak": np.ones((12, 2))}, EACH[:12])
    assert (made({"peak": np.ones((1, 2))}, 1) == 0).all() and (made.constant() == 0).all()
