"""The order: by hand on a line, and against SciPy's distances."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ctd_jax.review import order

ALONE = [str(i) for i in range(200)]  # a subject for each picture


def on_a_line(places, error, **settings):
    """The order of pictures whose features are numbers, none of them random."""
    features = np.array(places, float)[:, None]
    subjects = settings.pop("subjects", ALONE[: len(places)])
    found = order.order(np.array(error, float), features, subjects, number=len(places), seed=0, share=0.0, **settings)
    assert not found.is_random.any()
    return found.indices.tolist()


def test_the_next_is_the_one_whose_error_times_distance_is_the_largest():
    # first 3, the largest error; then 1 * 10, 2 * 6, 1 * 4 and 3 * 1 from it; then min(10, 6), -, min(4, 2), min(1, 5)
    assert on_a_line([0, 4, 6, 10, 11], [1, 2, 1, 4, 3]) == [3, 1, 0, 4, 2]


def test_it_stays_away_from_what_is_labelled():
    assert on_a_line([0, 4, 6, 10], [1, 1, 1, 1], labelled=np.array([[10.0], [0.0]])) == [1, 2, 0, 3]


def test_without_features_the_largest_errors_come_first():
    found = order.order(np.array([1.0, 3, 2]), np.empty((3, 0)), ALONE[:3], number=3, seed=0, share=0.0)
    assert found.indices.tolist() == [1, 2, 0]


def test_with_equal_errors_it_covers_the_pictures_within_twice_the_least_radius():
    """What Gonzalez (1985) proved of the farthest-first rule, against the best of many centres."""
    random = np.random.default_rng(1)
    for _ in range(5):
        places = random.normal(size=(40, 3))
        taken = order.order(np.ones(40), places, ALONE[:40], number=4, seed=0, share=0.0).indices
        apart = cdist(places, places)
        radii = [apart[:, random.choice(40, 4, replace=False)].min(axis=1).max() for _ in range(2000)]
        assert apart[:, taken].min(axis=1).max() <= 2 * min(radii)


def test_no_subject_comes_again_before_the_others():
    subjects = ["a", "a", "b", "b", "c"]
    assert on_a_line([0, 100, 1, 2, 5], [9, 9, 1, 1, 1], subjects=subjects) == [0, 4, 3, 1, 2]


@pytest.mark.parametrize(("share", "places"), [(0.25, [0, 4, 8, 12, 16]), (0.5, range(0, 20, 2)), (1.0, range(20))])
def test_a_share_is_random_and_knows_nothing_of_the_errors(share, places):
    random = np.random.default_rng(0)
    features = random.normal(size=(80, 4))
    found = [
        order.order(error, features, ALONE[:80], number=20, seed=3, share=share)
        for error in (np.ones(80), np.arange(80) + 1.0)
    ]
    one, other = (each.indices[each.is_random].tolist() for each in found)
    assert np.flatnonzero(found[0].is_random).tolist() == list(places)
    assert one == other
    assert one != order.order(np.ones(80), features, ALONE[:80], number=20, seed=4, share=share).indices[
        found[0].is_random].tolist()  # fmt: skip
    assert len(set(found[1].indices.tolist())) == 20


@pytest.mark.slow
def test_every_picture_is_as_likely_to_be_random():
    drawn = np.zeros(12)
    for seed in range(2000):
        found = order.order(np.arange(12) + 1.0, np.zeros((12, 1)), ALONE[:12], number=4, seed=seed)
        drawn[found.indices[found.is_random]] += 1
    assert drawn.sum() == 2000
    assert np.abs(drawn / 2000 - 1 / 12).max() < 4 * np.sqrt(1 / 12 * 11 / 12 / 2000)  # standard errors


def test_random_ones_are_of_every_subject_before_anybody_s_second():
    subjects = ["a"] * 30 + ["b", "c"]
    found = order.order(np.ones(32), np.zeros((32, 1)), subjects, number=3, seed=0, share=1.0)
    assert {subjects[i] for i in found.indices} == {"a", "b", "c"}


def test_a_longer_list_begins_like_a_shorter_one_and_ends_with_all():
    random = np.random.default_rng(2)
    error, features = random.uniform(1, 2, 30), random.normal(size=(30, 3))
    subjects = [f"{i % 7}" for i in range(30)]
    whole = order.order(error, features, subjects, number=99, seed=5)
    few = order.order(error, features, subjects, number=8, seed=5)
    assert sorted(whole.indices.tolist()) == list(range(30))
    assert whole.indices[:8].tolist() == few.indices.tolist()
    assert whole.is_random.sum() == 8
