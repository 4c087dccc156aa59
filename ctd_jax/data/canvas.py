"""Curves, and the canvas that they are painted on: the tools of `synthetic`."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

OVERSAMPLE = 3  # drawn this many times too large, then averaged: Pillow's polygons have integer corners

_T = np.linspace(0, 1, 9)[:, None]
_PARABOLA = np.concatenate([(1 - _T) * (1 - 2 * _T), 4 * _T * (1 - _T), _T * (2 * _T - 1)], axis=1)
_CIRCLE = np.exp(2j * np.pi * np.arange(24) / 24)


def arc(start: ArrayLike, middle: ArrayLike, end: ArrayLike) -> np.ndarray:
    """`[9, D]` parabola from start to end through middle."""
    return _PARABOLA @ np.array([start, middle, end])


def loop(points: ArrayLike) -> np.ndarray:
    """`[6 * len(points), D]` closed Catmull-Rom spline through the points."""
    b = np.array(points, float)[:, None]
    a, c, d = np.roll(b, 1, 0), np.roll(b, -1, 0), np.roll(b, -2, 0)
    t = np.arange(6)[:, None] / 6
    curve = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return curve.reshape(-1, b.shape[-1])


def oval(centre: ArrayLike, rx: float, ry: float, power: float = 1.0) -> np.ndarray:
    """`[24, D]` ellipse in the x-y plane; a power below 1 makes it boxy."""
    curve = np.tile(np.array(centre, float), (len(_CIRCLE), 1))
    curve[:, 0] += rx * np.sign(_CIRCLE.real) * np.abs(_CIRCLE.real) ** power
    curve[:, 1] += ry * np.sign(_CIRCLE.imag) * np.abs(_CIRCLE.imag) ** power
    return curve


def ribbon(curve: np.ndarray, width: ArrayLike) -> np.ndarray:
    """Outline of a stroke along the curve; width: one number, or one for each point."""
    along = np.gradient(curve[:, :2], axis=0)
    across = np.zeros_like(curve)
    across[:, :2] = along[:, ::-1] * (-0.5, 0.5) / np.hypot(*along.T)[:, None] * np.reshape(width, (-1, 1))
    return np.concatenate([curve + across, (curve - across)[::-1]])


def between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Region bounded by two curves that run the same way."""
    return np.concatenate([one, other[::-1]])


class Canvas:
    """Colours, and a map of soft shadows (128: none), both `OVERSAMPLE` times too large."""

    def __init__(self, size: int, projection: np.ndarray):
        self.size, self.projection = size, projection
        self.colours = Image.new("RGB", (size * OVERSAMPLE,) * 2)
        self.shadows = Image.new("L", self.colours.size, 128)
        self._pens = ImageDraw.Draw(self.colours), ImageDraw.Draw(self.shadows)

    def project(self, curve: np.ndarray) -> np.ndarray:
        """`[N, 3]` head coordinates -> `[N, 2]` fractions of the picture; `[N, 2]` are such fractions already."""
        return curve if curve.shape[1] == 2 else curve @ self.projection[:, :3].T + self.projection[:, 3]

    def _corners(self, curve: np.ndarray) -> list[float]:
        # the pixel that holds the point; Pillow takes a corner for the centre of its pixel
        return np.floor(self.project(curve) * self.colours.width).ravel().tolist()

    def fill(self, curve: np.ndarray, colour: Iterable[float]) -> None:
        self._pens[0].polygon(self._corners(curve), tuple(int(min(max(c, 0), 255)) for c in colour))

    def shade(self, curve: np.ndarray, value: int) -> None:
        self._pens[1].polygon(self._corners(curve), value)
