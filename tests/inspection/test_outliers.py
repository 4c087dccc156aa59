"""Pictures unlike the others."""

import numpy as np

from ctd_jax.inspection import outliers
from ctd_jax.inspection.looks import look

RNG = np.random.default_rng(0)


def pictures(n):
    return [RNG.integers(80, 176, (60, 40, 3), np.uint8) for _ in range(n)]


def found(shown, spacing=None):
    spacing = np.full((len(shown), 2), 0.1) if spacing is None else spacing
    return [
        (item.rows[0] - 7, item.text)
        for item in outliers.find("", np.arange(len(shown)) + 7, list(map(look, shown)), spacing).items
    ]


def test_fences_are_those_of_tukey():
    # quartiles 25 and 75 of 0 to 100, a range of 50
    assert outliers.fences(np.append(np.arange(101.0), np.nan), 1) == (-125, 225)
    assert outliers.fences(np.full(9, 4.0), 0.5) == (2.5, 5.5)


def test_alike_pictures_are_not_named():
    shown = pictures(12)
    shown[3] = RNG.integers(80, 176, (62, 40, 3), np.uint8)  # two rows more
    assert found(shown) == []


def test_each_kind_is_named_with_what_is_usual():
    shown = pictures(20)
    shown[1] = shown[1] // 4
    shown[2] = np.repeat(np.repeat(shown[2], 3, 0), 3, 1)
    shown[3] = shown[3][:30]
    flat = np.linspace(80, 175, 40).astype(np.uint8)
    shown[4] = np.broadcast_to(flat[None, :, None], (60, 40, 3)).copy()
    spacing = np.full((20, 2), 0.1)
    spacing[5] = 0.4
    texts = found(shown, spacing)
    assert {(row, text.split(":")[0]) for row, text in texts} == {
        (1, "dark"),
        (2, "large"),
        (2, "blurred"),
        (3, "small"),
        (3, "wide"),
        (4, "blurred"),
        (5, "coarse"),
    }
    assert (2, "large: 120 x 180 pixels, usual is 40 x 60 pixels") in texts
    assert (5, "coarse: 0.4 mm per pixel, usual is 0.1 mm per pixel") in texts


def test_few_pictures_cannot_tell_what_is_usual():
    shown = pictures(7)
    shown[0] = shown[0] // 4
    assert found(shown) == []
