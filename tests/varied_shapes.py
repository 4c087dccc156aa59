"""Pictures' points that vary as one symmetric shape does: for what finds mistakes in them."""

import numpy as np

NAMES = [f"{side}_{k}" for side in ("left", "right") for k in range(5)] + ["top", "bottom"]
ORDER = (5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 10, 11)
PAIRS = tuple((k, k + 5) for k in range(5))


def mean():
    """`[12]` complex: five pairs and two points of the middle, symmetric to the y axis."""
    left = np.array([-80 - 60j, -40 - 70j, -90 + 10j, -50 + 20j, -20 + 60j])
    return np.concatenate([left, -left.conj(), [-110j, 100j]])


def points(number: int, seed: int = 0, noise: float = 2.0):
    """`[number, 12]` complex: the mean, varied in three ways and by noise, turned, scaled and moved."""
    rng = np.random.default_rng(seed)
    K = len(NAMES)
    ways = rng.normal(0, 6, (3, K)) + 1j * rng.normal(0, 6, (3, K))
    varied = mean() + rng.normal(0, 1, (number, 3)) @ ways
    varied = varied + rng.normal(0, noise, (number, K)) + 1j * rng.normal(0, noise, (number, K))
    factor = rng.uniform(0.7, 1.4, number) * np.exp(1j * rng.normal(0, 0.2, number))
    return factor[:, None] * varied + (rng.uniform(200, 300, number) + 1j * rng.uniform(200, 300, number))[:, None]


def to_xy(z):
    return np.stack([z.real, z.imag], -1)
