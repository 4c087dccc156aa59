"""Probabilities that mean what they say: one number, fitted on val, that the logits of `presence` are divided by.

Temperature scaling (Guo et al. 2017, "On calibration of modern neural networks", section 4.2): the T > 0 that makes the
cross-entropy of sigmoid(z / T) on val the least. Its derivative by 1 / T is

    sum_i z_i (sigmoid(z_i / T) - t_i)

which grows with 1 / T, so that there is one root. So that a val without a mistake doesn't make T 0, the targets t are
not 1 and 0, but (n1 + 1) / (n1 + 2) and 1 / (n0 + 2) with n1 points that are there and n0 that are not (Platt 1999).
"""

import numpy as np
import scipy

BOUNDS = (1e-3, 1e3)  # of 1 / T


def fit(logits: np.ndarray, present: np.ndarray) -> float | None:
    """T; None: val has no point that is there, or none that is absent.

    Args:
      logits: any shape.
      present: the same shape, 1 or 0, NaN where nobody knows.
    """
    known = np.isfinite(present)
    z, there = logits[known].astype(np.float64), present[known] == 1
    n1, n0 = int(there.sum()), int((~there).sum())
    if not n1 or not n0:
        return None
    target = np.where(there, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))

    def slope(inverse: float) -> float:
        return float((z * (scipy.special.expit(inverse * z) - target)).sum())

    low, high = BOUNDS
    if slope(low) >= 0 or slope(high) <= 0:  # no better than by chance, or far too flat
        return 1 / (low if slope(low) >= 0 else high)
    return 1 / float(scipy.optimize.brentq(slope, low, high))


def probability(logits: np.ndarray, temperature: float | None) -> np.ndarray:
    """That points are there, of the same shape as their logits; without a temperature they are not calibrated."""
    return scipy.special.expit(logits.astype(np.float64) / (temperature or 1.0))
