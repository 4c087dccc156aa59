"""Who is alike: SciPy's Mann-Whitney statistic over all pairs."""

import numpy as np
import pytest
import scipy.stats

from ctd_jax.metrics.verification import verification_auc, verification_interval


def mann_whitney(features, subjects):
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = {True: [], False: []}
    for i in range(len(unit)):
        for j in range(i):
            cosines[bool(subjects[i] == subjects[j])].append(unit[i] @ unit[j])
    same, different = cosines[True], cosines[False]
    pairs = len(same) * len(different)
    return scipy.stats.mannwhitneyu(same, different).statistic / pairs if pairs else np.nan


def people_and_features():
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(6), 4)
    return rng.normal(size=(6, 5))[subjects] + rng.normal(size=(24, 5)), subjects


def test_verification_auc_matches_scipy():
    features, subjects = people_and_features()
    found = verification_auc(features, subjects)
    assert 0.6 < found < 0.99
    assert found == pytest.approx(mann_whitney(features, subjects), abs=1e-12)


def test_ties_count_half():
    features = np.eye(4)[[0, 0, 1, 1, 0, 2]]  # every likeness is 0 or 1
    subjects = np.array([0, 0, 1, 1, 2, 2])
    assert verification_auc(features, subjects) == pytest.approx(mann_whitney(features, subjects))
    assert verification_auc(np.ones((6, 3)), subjects) == 0.5


def test_the_interval_is_that_of_people_left_out():
    """Every person left out in turn; some have one picture, or more than others."""
    features, subjects = people_and_features()
    kept = np.isin(np.arange(len(subjects)), [1, 2, 7], invert=True) & (subjects != subjects[-1])
    kept |= np.arange(len(subjects)) == len(subjects) - 1
    features, subjects = features[kept], subjects[kept]
    value, people = mann_whitney(features, subjects), np.unique(subjects)
    rest = np.array([mann_whitney(features[subjects != one], subjects[subjects != one]) for one in people])
    n, pairs = len(people), np.array([(m := (subjects == one).sum()) * (m - 1) / 2 for one in people])
    half = scipy.stats.t.ppf(0.975, pairs.sum() ** 2 / (pairs**2).sum() - 1) * np.sqrt(
        (n - 1) / n * ((rest - value) ** 2).sum()
    )
    z = np.log(value / (1 - value)) + np.array([-half, half]) / (value * (1 - value))
    np.testing.assert_allclose(verification_interval(features, subjects), 1 / (1 + np.exp(-z)), rtol=1e-9)


def test_no_auc_of_one_kind_of_pair():
    assert np.isnan(verification_auc(np.eye(3), np.array([0, 0, 0])))
    assert np.isnan(verification_auc(np.eye(3), np.array([0, 1, 2])))


def test_no_interval_from_one_person():
    assert verification_interval(np.eye(3), np.array([0, 0, 1])) is None
