"""Random mirror images, sizes and places, sampled inside the jitted step."""

import jax
import jax.numpy as jnp
from jax import Array


def augment(
    key: Array,
    picture: Array,
    xy: Array,
    *,
    flip: float | Array,
    scale: float,
    shift: float,
    flip_order: tuple[int, ...] | None,
) -> tuple[Array, Array]:
    """One picture and its landmarks, moved together.

    Args:
      key: random key; the same key moves a picture the same way.
      picture: `[S, S, C]` float.
      xy: `[K, 2]` landmarks in pixels of `picture`.
      flip: probability of a mirror image.
      scale: the size factor about the centre is uniform in 1 - scale .. 1 + scale.
      shift: the move along each axis is uniform in -shift .. shift of S.
      flip_order: for each landmark, the one that takes its place in a mirror image; None: never mirror.

    Returns:
      `[S, S, C]` picture, black where nothing was, and `[K, 2]` landmarks, some of which may now lie outside.
    """
    picture = augment_picture(key, picture, flip=flip, scale=scale, shift=shift, mirrored=flip_order is not None)
    size = len(picture)
    mirror, factor, move = _sample(key, size, flip=flip, scale=scale, shift=shift)
    if flip_order is not None:
        mirrored_xy = jnp.stack([size - 1 - xy[:, 0], xy[:, 1]], axis=1)[jnp.array(flip_order, jnp.int32)]
        xy = jnp.where(mirror, mirrored_xy, xy)
    # the move is counted from pixel edges, coordinates from pixel centres: hence the halves
    return picture, (xy + 0.5) * factor + move - 0.5


def augment_picture(
    key: Array, picture: Array, *, flip: float | Array, scale: float, shift: float, mirrored: bool = True
) -> Array:
    """One picture, moved as `augment` moves it: `[S, S, C]` float, black where nothing was.

    Args:
      key: random key; the same key moves a picture the same way.
      picture: `[S, S, C]` float.
      flip: probability of a mirror image.
      scale: the size factor about the centre is uniform in 1 - scale .. 1 + scale.
      shift: the move along each axis is uniform in -shift .. shift of S.
      mirrored: False: never mirror.
    """
    mirror, factor, move = _sample(key, len(picture), flip=flip, scale=scale, shift=shift)
    if mirrored:
        picture = jnp.where(mirror, picture[:, ::-1], picture)
    return jax.image.scale_and_translate(
        picture, picture.shape, (0, 1), jnp.full(2, factor), move[::-1], method="linear", antialias=False
    )


def augment_classes(
    key: Array, picture: Array, classes: Array, *, flip: float | Array, scale: float, shift: float, outside: int
) -> tuple[Array, Array]:
    """One picture and its class map, moved together as `augment` moves them; the class is that of the nearest pixel.

    Args:
      key: random key; the same key moves a picture the same way.
      picture: `[S, S, C]` float.
      classes: `[S, S]` integers.
      flip: probability of a mirror image.
      scale: the size factor about the centre is uniform in 1 - scale .. 1 + scale.
      shift: the move along each axis is uniform in -shift .. shift of S.
      outside: class where nothing was.

    Returns:
      `[S, S, C]` picture, black where nothing was, and `[S, S]` classes.
    """
    size = len(picture)
    moved = augment_picture(key, picture, flip=flip, scale=scale, shift=shift)
    mirror, factor, move = _sample(key, size, flip=flip, scale=scale, shift=shift)
    classes = jnp.where(mirror, classes[:, ::-1], classes)
    for axis in (0, 1):
        place = jnp.floor((jnp.arange(size) + 0.5 - move[1 - axis]) / factor).astype(int)
        inside = jnp.expand_dims((place >= 0) & (place < size), 1 - axis)
        classes = jnp.where(inside, jnp.take(classes, jnp.clip(place, 0, size - 1), axis), outside)
    return moved, classes


def _sample(key: Array, size: int, *, flip: float | Array, scale: float, shift: float) -> tuple[Array, Array, Array]:
    """Random numbers: whether to mirror, the factor, and the move `[2]` (x, y) in pixels from the picture's edge."""
    flip_key, scale_key, shift_key = jax.random.split(key, 3)
    mirror = jax.random.bernoulli(flip_key, flip)
    factor = jax.random.uniform(scale_key, minval=1 - scale, maxval=1 + scale)
    move = jax.random.uniform(shift_key, (2,), minval=-shift, maxval=shift) * size + (1 - factor) * size / 2
    return mirror, factor, move
