"""What a run expects of pictures: which sign tells it, and the mean over the landmarks that it has learned."""

import numpy as np
import pytest

from ctd_jax.review import expected
from ctd_jax.trust import Radius

DOUBTS = {"peak": np.ones((2, 3)), "mirror": np.array([[0.1, 0.2, 0.6], [0.3, 0.3, 9.0]])}
APART = {"networks": np.array([[1.0, 2.0, 3.0], [4.0, 4.0, 1.0]])}
LEARNED = np.array([True, True, False])


def radius(doubt):
    """Of 40 people of val, whose errors are twice the doubt."""
    random = np.random.default_rng(0)
    mirror = random.uniform(0.1, 1, (40, 3))
    subjects = np.array([f"{i}" for i in range(40)])
    return Radius.of_doubt(doubt, 2 * mirror, {"mirror": mirror}, subjects)


@pytest.mark.parametrize(
    ("of_run", "doubts", "sign", "values"),
    [
        (None, DOUBTS, "mirror", [0.15, 0.3]),
        (radius(None), DOUBTS, "mirror", [0.15, 0.3]),  # one that is the same everywhere tells nothing
        (radius(None), DOUBTS | APART, "spread", [1.5, 4.0]),
        (radius("mirror"), DOUBTS | APART, "radius", [0.3, 0.6]),
        (None, {"peak": np.ones((2, 3))}, "", [np.nan, np.nan]),
    ],
)
def test_the_best_sign_that_there_is_tells_the_error(of_run, doubts, sign, values):
    assert expected.sign_of(of_run, doubts) == sign
    found = expected.error(of_run, doubts, LEARNED)
    np.testing.assert_allclose(found, values, rtol=0.1 if sign == "radius" else 1e-9)


def test_the_pictures_of_several_calls_are_put_together():
    one = expected.Expected(np.array([1.0]), np.array([2.0]), np.array([[3.0, 4.0]]))
    both = expected.join([one, one])
    assert both.share.tolist() == [1, 1] and both.px.tolist() == [2, 2] and both.features.shape == (2, 2)
