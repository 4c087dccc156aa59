"""Drawn anatomies: the embedded data of the segmentation demo, two domains with exact class maps.

`heads`: an ellipse with a bright rim in speckle, as in fetal ultrasound. `spines`: a bent column of blocks and discs,
as in a sagittal MR slice. They look a little like that and are good for trying the code out, no more.
"""

import numpy as np
from PIL import Image, ImageFilter

CLASSES = {"heads": ("background", "skull", "brain"), "spines": ("background", "vertebra", "disc")}


def draw(domain: str, subject: int, shot: int, *, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One picture; the same arguments give the same bytes.

    Args:
      domain: a key of `CLASSES`.
      subject: 0 or more; it fixes the proportions.
      shot: 0 or more; it fixes place, light and noise.
      size: side of the picture, pixels.
      seed: 0 or more.

    Returns:
      `[size, size, 3]` uint8 picture and `[size, size]` uint8 classes.
    """
    number = list(CLASSES).index(domain)
    person = np.random.default_rng([seed, number, subject, 0])
    moment = np.random.default_rng([seed, number, subject, shot + 1])
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    values, classes, blur = (_head if domain == "heads" else _spine)(*np.meshgrid(axis, axis), person, moment)
    picture = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(blur * size / 96))
    return np.repeat(np.asarray(picture)[..., None], 3, axis=2), classes.astype(np.uint8)


def _head(
    x: np.ndarray, y: np.ndarray, person: np.random.Generator, moment: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """`[S, S]` grey values and classes of a head, and how far it is blurred; x and y are -1 to 1."""
    length, ratio, rim = person.uniform(0.45, 0.75), person.uniform(0.68, 0.85), person.uniform(0.1, 0.16)
    angle, centre = moment.uniform(0, np.pi), moment.uniform(-0.15, 0.15, 2)
    along = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    across = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
    radius = np.hypot(along / length, across / (length * ratio))
    classes = np.select([radius < 1 - rim, radius < 1], [2, 1], 0)
    shade = 0.45 + 0.55 * np.abs(across / np.maximum(radius, 0.1) / length)  # a skull along the beam is dim
    values = np.choose(classes, [45, 210 * shade, 70]) + 90 * (np.abs(across) < 0.02) * (radius < 0.75)
    arc = np.abs(np.hypot(x - moment.uniform(-1, 1), y - 1.3) - moment.uniform(0.3, 0.6)) < 0.05
    values = np.where(arc & (classes == 0), 170, values)  # the mother's tissue is bright, too
    return values * moment.rayleigh(0.8, x.shape), classes, 0.8


def _spine(
    x: np.ndarray, y: np.ndarray, person: np.random.Generator, moment: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """`[S, S]` grey values and classes of a spine, and how far it is blurred; x and y are -1 to 1."""
    pitch, height, width = person.uniform(0.36, 0.55), person.uniform(0.68, 0.78), person.uniform(0.16, 0.26)
    bend, lean, start = person.uniform(-0.35, 0.35), moment.uniform(-0.2, 0.2), moment.uniform(0, 1)
    side = x - (moment.uniform(-0.2, 0.2) + lean * y + bend * y**2)
    level = (y / pitch + start) % 1
    block = (np.abs(side) / width) ** 4 + (np.abs(level - height / 2) / (height / 2)) ** 6 < 1
    disc = (np.abs(side) < 0.9 * width) & (np.abs(level - (1 + height) / 2) < 0.42 * (1 - height))
    inside = np.abs(y) < person.uniform(0.7, 0.95)
    classes = np.select([block & inside, disc & inside], [1, 2], 0)
    values = np.choose(classes, [60, 150, moment.uniform(200, 235)])
    cord = np.abs(side - width * 1.6) < 0.08
    values = np.where(cord & (classes == 0), 190, values) + 30 * np.sin(3 * x + moment.uniform(0, 6)) * (classes == 0)
    return values * (1 + 0.3 * x * moment.uniform(-1, 1)) + moment.normal(0, 10, x.shape), classes, 0.7
