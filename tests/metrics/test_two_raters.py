"""Two people's points, by hand."""

import numpy as np
import pytest

from ctd_jax.metrics import two_raters

NAN = float("nan")
ONE = np.array([[[0, 0], [10, 10]], [[4, 0], [NAN, NAN]], [[8, 2], [1, 1]]], float)


def test_distances_bias_and_limits_of_agreement():
    other = ONE + [3, 4]
    other[2, 0] = [8, 2]  # the same point
    found = two_raters.compare(ONE, other, ["tip", "base"], np.full((3, 2), NAN))
    # pictures: 5; 5; (0 + 5) / 2
    assert found["unit"] == "px" and found["n"] == 5 and found["n_images"] == 3
    np.testing.assert_allclose(found["of_image"], [5, 5, 2.5])
    assert found["distance"] == pytest.approx(12.5 / 3)
    tip, base = found["per_landmark"].values()
    assert (tip["n"], base["n"]) == (3, 2) and tip["distance"] == pytest.approx(10 / 3)
    half = 1.96 * np.std([3, 3, 0], ddof=1)
    assert tip["x"]["bias"] == pytest.approx(2) and tip["x"]["loa"] == pytest.approx([2 - half, 2 + half])
    assert base["y"]["bias"] == 4 and base["y"]["loa"] == pytest.approx([4, 4])
    # ICC(2,1) of x of the tip, 0 4 8 and 3 7 8: MSR 21.5, MSC 6, MSE 1.5, so 20 / (23 + 2 * 4.5 / 3)
    assert tip["x"]["icc"] == pytest.approx(20 / 26)


def test_millimetres_where_all_pictures_know_them():
    found = two_raters.compare(ONE, ONE + [2, 0], ["tip", "base"], np.full((3, 2), [0.5, 9.0]))
    assert found["unit"] == "mm" and found["distance"] == 1.0
    none = two_raters.compare(ONE, np.full_like(ONE, NAN), ["tip", "base"], np.ones((3, 2)))
    assert none["n"] == 0 and none["distance"] is None and none["per_landmark"] == {}
