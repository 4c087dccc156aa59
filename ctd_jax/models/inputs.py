"""What goes into a network, and in which precision."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ctd_jax.errors import UserError


def normalize(picture: Array, spec: Mapping[str, Any]) -> Array:
    """`[..., 3]` RGB in 0..255 -> `[..., 3]` float32: reorder -> / scale -> - mean -> / std.

    `spec` is the `input` part of a weight file's metadata: channels ("RGB" or "BGR"), scale, mean and std (3 numbers
    each, in the order of channels).
    """
    picture = picture.astype(jnp.float32)
    if spec["channels"] == "BGR":
        picture = picture[..., ::-1]
    return (picture / spec["scale"] - jnp.array(spec["mean"], jnp.float32)) / jnp.array(spec["std"], jnp.float32)


def activation_dtype(name: str) -> Any:
    """The dtype of `config.dtype`: auto is bfloat16 on accelerators, float32 on a CPU.

    Raises:
      UserError: another name.
    """
    if name == "auto":
        return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    if name not in ("float32", "bfloat16"):
        raise UserError(f"dtype is {name!r}; expected auto, float32 or bfloat16")
    return jnp.dtype(name)
