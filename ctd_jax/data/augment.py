"""Random changes of training pictures, drawn inside the jitted step: of places, by one affine map, and of grey values.

A random key stands for one draw: `random_affine` and `change_greys` take the same one, and use different parts of it.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

# `fold_in` of a picture's key; 0 to 2 are what `split` gives for flip, scale and shift
GEOMETRY, GREYS, RATER = 3, 4, 5


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far pictures are changed: `augment` of configs/default.py, which has the units. 0: not at all."""

    flip: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    rotation: float = 0.0
    aspect: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    colour: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    occlusion: float = 0.0

    @classmethod
    def of(cls, config: ConfigDict) -> "Augmentation":
        """`config`: the `augment` part of a configuration."""
        return cls(**config)

    @property
    def of_greys(self) -> bool:
        """Whether anything but places is changed."""
        changes = (self.brightness, self.contrast, self.gamma, self.colour, self.blur, self.noise, self.occlusion)
        return any(changes)


# ---------------------------------------------------------------- places


class Affine(NamedTuple):
    """A map of points (x, y) about the centre c of a picture, S pixels wide: p -> c + matrix (p - c) + offset S.

    The offset is a share of the side, so that one map moves a picture and heatmaps of any other resolution.
    """

    matrix: Array  # [2, 2]
    offset: Array  # [2]

    @property
    def mirrored(self) -> Array:
        """`[]` bool: the map gives a mirror image."""
        (a, b), (c, d) = self.matrix
        return a * d - b * c < 0

    def apply(self, x: Array, y: Array, size: int) -> tuple[Array, Array]:
        """Where points go, in pixels of a picture of `size` pixels; x and y of any shapes that go together."""
        centre = (size - 1) / 2
        x, y = x - centre, y - centre
        # written out: a product of matrices may be of less precision on an accelerator
        to_x, to_y = (row[0] * x + row[1] * y + move * size for row, move in zip(self.matrix, self.offset, strict=True))
        return to_x + centre, to_y + centre

    def inverse(self) -> "Affine":
        """The map that undoes this one."""
        (a, b), (c, d) = self.matrix
        matrix = jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)
        return Affine(matrix, -_times(matrix, self.offset))

    def after(self, first: "Affine") -> "Affine":
        """One map for `first`, and then this one."""
        matrix = jnp.stack([_times(self.matrix, column) for column in first.matrix.T], axis=1)
        return Affine(matrix, _times(self.matrix, first.offset) + self.offset)


def _times(matrix: Array, vector: Array) -> Array:
    return matrix[:, 0] * vector[0] + matrix[:, 1] * vector[1]


def random_affine(key: Array, augmentation: Augmentation, *, mirrors: bool | Array = True) -> Affine:
    """A mirror image, stretched, rotated and moved at random.

    matrix = f [[cos t, -sin t], [sin t, cos t]] diag(+-a, 1 / a)

    With f and the offset uniform, as are t and log a; the sign is that of the mirror image.

    Args:
      key: random key of the picture.
      augmentation: how far.
      mirrors: `[]` whether the picture may be mirrored.
    """
    flip_key, scale_key, shift_key = jax.random.split(key, 3)
    mirror = jax.random.bernoulli(flip_key, augmentation.flip * jnp.float32(mirrors))
    factor = jax.random.uniform(scale_key, minval=1 - augmentation.scale, maxval=1 + augmentation.scale)
    offset = jax.random.uniform(shift_key, (2,), minval=-augmentation.shift, maxval=augmentation.shift)
    turn, stretch = _signed(jax.random.fold_in(key, GEOMETRY), 2)
    angle = math.radians(augmentation.rotation) * turn
    aspect = (1 + augmentation.aspect) ** stretch
    along_x, along_y = jnp.where(mirror, -1, 1) * factor * aspect, factor / aspect
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return Affine(jnp.array([[cos * along_x, -sin * along_y], [sin * along_x, cos * along_y]]), offset)


def _signed(key: Array, number: int) -> Array:
    """`[number]` uniform in -1 .. 1."""
    return jax.random.uniform(key, (number,), minval=-1, maxval=1)


def move_points(affine: Affine, xy: Array, size: int) -> Array:
    """`[..., 2]` points, in pixels of a picture of `size` pixels; they may leave it."""
    return jnp.stack(affine.apply(xy[..., 0], xy[..., 1], size), axis=-1)


def swap_pairs(affine: Affine, values: Array, flip_order: tuple[int, ...] | None, *, axis: int = 0) -> Array:
    """Values of landmarks, with those of left and right exchanged if the map gives a mirror image.

    Args:
      affine: the map.
      values: any shape.
      flip_order: for each landmark, the one that takes its place in a mirror image; None: they are not exchanged.
      axis: that of the landmarks.
    """
    if flip_order is None:
        return values
    return jnp.where(affine.mirrored, jnp.take(values, jnp.array(flip_order, jnp.int32), axis), values)


def move_picture(affine: Affine, picture: Array) -> Array:
    """`[S, S, C]` picture or heatmaps, moved: float32, bilinear between pixels, 0 where nothing was.

    Between the centre of an outermost pixel and its edge is the pixel's own value, as `jax.image.scale_and_translate`
    has it.
    """
    size, _, channels = picture.shape
    x, y = _sources(affine, size)
    inside = (x >= -0.5) & (x <= size - 0.5) & (y >= -0.5) & (y <= size - 0.5)
    x, y = jnp.clip(x, 0, size - 1), jnp.clip(y, 0, size - 1)
    left, top = (jnp.minimum(jnp.floor(place), size - 2) for place in (x, y))
    to_right, down = (x - left)[..., None], (y - top)[..., None]
    first, pixels = (top * size + left).astype(jnp.int32), jnp.asarray(picture).reshape(size * size, channels)

    def pixel(further: int) -> Array:
        return pixels.at[first + further].get(mode="promise_in_bounds").astype(jnp.float32)

    upper = pixel(0) * (1 - to_right) + pixel(1) * to_right
    lower = pixel(size) * (1 - to_right) + pixel(size + 1) * to_right
    return inside[..., None] * (upper * (1 - down) + lower * down)


def move_classes(affine: Affine, classes: Array, *, outside: int) -> Array:
    """`[S, S]` class map, moved: the class of the nearest pixel, `outside` where nothing was."""
    size = len(classes)
    column, row = (jnp.floor(place + 0.5).astype(jnp.int32) for place in _sources(affine, size))
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    place = jnp.clip(row, 0, size - 1) * size + jnp.clip(column, 0, size - 1)
    return jnp.where(inside, jnp.asarray(classes).reshape(-1)[place], outside)


def _sources(affine: Affine, size: int) -> tuple[Array, Array]:
    """x and y, each `[size, size]`, of the places that come to lie on the pixels of a picture."""
    pixels = jnp.arange(size, dtype=jnp.float32)
    return affine.inverse().apply(pixels[None, :], pixels[:, None], size)


# ---------------------------------------------------------------- grey values


def change_greys(key: Array, picture: Array, augmentation: Augmentation) -> Array:
    """A picture in other light, with something in front, by another camera. It comes before `move_picture`.

    In this order: gamma; contrast, about 127.5; brightness; colour, a gain of each channel; an upright rectangle of one
    grey; blur; noise, Gaussian and the same in all channels of a pixel; values are cut off at 0 and 255.

    Args:
      key: random key of the picture.
      picture: `[S, S, C]` in 0..255.
      augmentation: how far.

    Returns:
      `[S, S, C]` float32 in 0..255; `picture` itself if none of its greys is to be changed.
    """
    if not augmentation.of_greys:
        return picture
    size, _, channels = picture.shape
    numbers_key, noise_key = jax.random.split(jax.random.fold_in(key, GREYS))
    numbers = _signed(numbers_key, 10 + channels)  # one draw for all: each costs a CPU some time
    gamma, contrast, brightness, blur, noise = numbers[:5]
    greys = picture.astype(jnp.float32)
    if augmentation.gamma:
        power = (1 + augmentation.gamma) ** gamma
        greys = 255 * jnp.exp(power * jnp.log(greys / 255))  # a third of the time of jnp.power on a CPU
    if augmentation.contrast:
        greys = 127.5 + (1 + augmentation.contrast * contrast) * (greys - 127.5)
    if augmentation.brightness:
        greys = greys + 255 * augmentation.brightness * brightness
    if augmentation.colour:
        greys = greys * (1 + augmentation.colour * numbers[10:])
    if augmentation.occlusion:
        greys = _occluded(greys, augmentation.occlusion, numbers[5:10])
    if augmentation.blur:
        greys = _blurred(greys, augmentation.blur * size * (1 + blur) / 2)
    if augmentation.noise:
        sigma = 255 * augmentation.noise * (1 + noise) / 2
        greys = greys + sigma * jax.random.normal(noise_key, (size, size, 1))
    return jnp.clip(greys, 0, 255)


def _occluded(picture: Array, most: float, numbers: Array) -> Array:
    """The picture behind a rectangle: its sides are uniform in 0 .. most of S, its centre is anywhere in the picture,
    its grey anything.

    Args:
      picture: `[S, S, C]`.
      most: share of S.
      numbers: `[5]` in -1 .. 1, for width, height, centre and grey.
    """
    size = len(picture)
    half = most * size * (1 + numbers[:2]) / 4
    centre = size * (1 + numbers[2:4]) / 2 - 0.5
    columns, rows = (jnp.abs(jnp.arange(size) - c) < h for c, h in zip(centre, half, strict=True))
    grey = 127.5 * (1 + numbers[4])
    # a sum, because a choice would be a branch for each pixel on a CPU
    return picture + (rows[:, None] & columns)[..., None] * (grey - picture)


def _blurred(picture: Array, sigma: Array) -> Array:
    """The picture under a Gaussian of `sigma` pixels; near an edge, the mean over what there is."""
    pixels = jnp.arange(len(picture), dtype=jnp.float32)
    weights = jnp.exp(-((pixels[:, None] - pixels) ** 2) / (2 * jnp.maximum(sigma, 1e-3) ** 2))
    weights = weights / jnp.sum(weights, axis=1, keepdims=True)
    return jnp.einsum("ih,jw,hwc->ijc", weights, weights, picture, precision="highest")
