"""The temperature of presence, against SciPy's minimum of the cross-entropy as it is written down."""

import numpy as np
import pytest
from scipy import optimize, special

from ctd_jax.trust import temperature


@pytest.fixture
def val():
    """`[40, 3]` logits that are 2.5 times too sure of themselves, and whether the points are there, NaN: unknown."""
    rng = np.random.default_rng(0)
    right = rng.normal(0.5, 1.5, (40, 3))
    present = (rng.random((40, 3)) < special.expit(right)).astype(float)
    present[:, 2] = np.nan
    return 2.5 * right, present


def least(logits, present):
    """T of the least cross-entropy with Platt's targets."""
    z, y = logits[np.isfinite(present)], present[np.isfinite(present)]
    n1, n0 = (y == 1).sum(), (y == 0).sum()
    t = np.where(y == 1, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))

    def entropy(log_T):
        scaled = z / np.exp(log_T)
        return -(t * special.log_expit(scaled) + (1 - t) * special.log_expit(-scaled)).sum()

    return np.exp(optimize.minimize_scalar(entropy, bounds=(-5, 5), method="bounded", options={"xatol": 1e-10}).x)


def test_it_is_the_least_cross_entropy(val):
    found = temperature.fit(*val)
    assert found == pytest.approx(least(*val), rel=1e-5)
    assert 1.5 < found < 4
    assert temperature.fit(3 * val[0], val[1]) == pytest.approx(3 * found)


def test_a_val_without_a_mistake_does_not_make_it_certain():
    """Two points there, two absent: targets 3/4 and 1/4, so that logits of 6 mean ln 3."""
    found = temperature.fit(np.array([6.0, 6, -6, -6]), np.array([1.0, 1, 0, 0]))
    assert found == pytest.approx(6 / np.log(3))
    np.testing.assert_allclose(temperature.probability(np.array([6.0, -6]), found), [0.75, 0.25])


@pytest.mark.parametrize("present", [[1.0, 1.0], [0.0, 0.0], [np.nan, 1.0], [np.nan, np.nan]])
def test_without_both_kinds_there_is_none(present):
    assert temperature.fit(np.array([1.0, -1.0]), np.array(present)) is None


def test_logits_that_tell_nothing_become_even_odds():
    found = temperature.fit(np.array([5.0, -5.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(temperature.probability(np.array([5.0, -5.0]), found), 0.5, atol=0.01)


def test_without_a_temperature_they_are_as_the_network_has_them():
    np.testing.assert_allclose(
        temperature.probability(np.array([0.0, 1.0], np.float32), None), [0.5, 1 / (1 + np.exp(-1))]
    )
