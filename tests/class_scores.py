"""A table of segmentation whose Dice are known."""

import numpy as np

from ctd_jax.metrics import segmentation

CLASSES = {"spines": ("background", "disc")}
NAN = float("nan")


def scores(dice):
    n = len(dice)
    names = {key: np.array([f"{key}{i}" for i in range(n)]) for key in ("image", "subject")}
    names |= {"domain": np.array(["spines"] * n), "class": np.array(["disc"] * n)}
    values = {key: np.full(n, NAN) for key in segmentation.MEASURES}
    pixels = np.where(np.nan_to_num(dice) > 0, 7.0, 0.0)
    return segmentation.Scores(
        names, values | {"dice": np.array(dice), "true_pixels": np.full(n, 7.0), "pixels": pixels}
    )
