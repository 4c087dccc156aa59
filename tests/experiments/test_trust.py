"""What the driver of the experiments on trust computes by itself."""

import numpy as np
import pytest

from experiments import trust


@pytest.mark.slow
def test_a_val_of_chance_covers_what_split_conformal_promises():
    rng = np.random.default_rng(0)
    error = rng.exponential(size=(400, 1))
    subjects = np.array([f"{i}" for i in range(400)])
    shares = trust.redrawn(error, {}, subjects, 39)
    # of 39 subjects the 36th score: 36 / 40 of new ones lie below it, whatever the distribution of the errors
    assert shares.mean() == pytest.approx(36 / 40, abs=0.01)
    # the share is a draw from the beta distribution of 36 and 4
    assert shares.std() == pytest.approx((36 * 4 / (40**2 * 41)) ** 0.5, abs=0.008)
