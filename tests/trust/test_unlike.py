"""The score of unlike pictures: against SciPy's distance, and against scikit-learn's covariance."""

import numpy as np
import pytest
from scipy.spatial import distance

from ctd_jax.trust import Unlike, unlike


def test_with_many_pictures_it_is_the_mahalanobis_distance():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4))
    train, val, new = (rng.normal(size=(n, 4)) @ mixing for n in (5000, 100, 20))
    made = Unlike.fit(train, val, np.arange(100).astype(str))
    inverse = np.linalg.inv(np.cov(train.T))
    expected = np.array([distance.mahalanobis(one, train.mean(0), inverse) for one in new])
    np.testing.assert_allclose(made(new) * made.threshold, expected, rtol=0.02)


def test_the_threshold_is_that_of_the_rule():
    rng = np.random.default_rng(0)
    train, val = rng.normal(size=(50, 3)), rng.normal(size=(39, 3))
    scores = np.sort(Unlike.fit(train, val, np.arange(39).astype(str))(val))
    assert scores[37] == pytest.approx(1)  # n = 39: 38th smallest, 0.95 * 40


def test_of_few_subjects_95_percent_of_their_pictures_stay_below():
    rng = np.random.default_rng(0)
    train, val = rng.normal(size=(50, 3)), rng.normal(size=(40, 3))
    scores = np.sort(Unlike.fit(train, val, np.repeat(["a", "b"], 20))(val))
    assert scores[37] == pytest.approx(1)  # 38 of 40
    val[:2] *= 100  # two far ones of one subject don't move it, as the largest score would
    scores = Unlike.fit(train, val, np.repeat(["a", "b"], 20))(val)
    assert (scores > 1).sum() == 2 and scores.max() > 10


def test_of_few_subjects_with_one_picture_it_is_the_largest_score():
    rng = np.random.default_rng(0)
    made = Unlike.fit(rng.normal(size=(50, 3)), val := rng.normal(size=(6, 3)), np.arange(6).astype(str))
    assert made(val).max() == pytest.approx(1)


def test_fewer_pictures_than_channels_are_enough():
    rng = np.random.default_rng(0)
    train, val = rng.normal(size=(5, 40)), rng.normal(size=(5, 40))
    made = Unlike.fit(train, val, np.arange(5).astype(str))
    assert np.isfinite(made(val)).all() and made(10 * val).min() > 3


def test_one_picture_is_enough():
    rng = np.random.default_rng(0)
    made = Unlike.fit(rng.normal(size=(1, 4)), val := rng.normal(size=(3, 4)), np.arange(3).astype(str))
    assert np.isfinite(made(val)).all()


def test_the_covariance_is_shrunk_as_scikit_learn_does_it():
    """scikit-learn 1.9.1: LedoitWolf().fit(X).mahalanobis([[2, 2, 2], [9, 0, 0]]) ** 0.5, of the X below."""
    i = np.arange(20.0)
    train = np.stack([i % 7, (i * i) % 11, i], axis=1)
    made = Unlike.fit(train, train, i.astype(str))
    found = made(np.array([[2, 2, 2], [9, 0, 0.0]])) * made.threshold
    np.testing.assert_allclose(found, [1.4468235764670738, 3.4656136771324584], rtol=1e-6)


def test_fewer_pictures_than_channels_as_scikit_learn_has_it():
    """As above, of five pictures with twelve channels: what lies in no direction of theirs counts too."""
    i, j = np.arange(5.0)[:, None], np.arange(12.0)
    train = (i * i * (j + 1) + 3 * i * j * j) % 13
    made = Unlike.fit(train, train, np.arange(5).astype(str))
    found = made(np.stack([j, j % 3 * 5, 0 * j])) * made.threshold
    np.testing.assert_allclose(found, [3.18421147, 5.02427051, 3.05847429], rtol=1e-6)


def test_directions_that_are_not_kept_have_their_mean_variance(monkeypatch):
    """Points at 3, 2 and 1 to either side along three axes: variances 3, 4/3 and 1/3, of which one is kept."""
    monkeypatch.setattr(unlike, "MAX_RANK", 1)
    train = np.tile(np.concatenate([np.diag([3.0, 2, 1]), -np.diag([3.0, 2, 1])]), (2000, 1))
    made = Unlike.fit(train, np.eye(3), np.arange(3).astype(str))
    rest = np.mean([4 / 3, 1 / 3]) ** -0.5
    np.testing.assert_allclose(made(np.eye(3)) * made.threshold, [3**-0.5, rest, rest], rtol=1e-2)
