"""A network in evaluation mode."""

from collections.abc import Callable
from typing import cast

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ctd_jax.typing import Features, Variables


def apply_in_evaluation(model: nn.Module, variables: Variables, *inputs: Array | None) -> Features:
    """The named features of a batch: batch norm takes its running statistics, and nothing changes.

    Args:
      model, variables: a network.
      *inputs: of the network: `[B, H, W, 3]` pictures, normalised, and what else it takes.
    """
    return cast(Features, model.apply(variables, *inputs, train=False))


def pooled(features: Features) -> Array:
    """`[B, C]` means of the encoder's channels over the picture, float32."""
    return features["encoder"].astype(jnp.float32).mean(axis=(1, 2))


def of_mirror_image(maps: Callable[[Array], Array], picture: Array) -> Array:
    """`maps` of the mirror images of `[B, H, W, C]` pictures, turned back: `[B, h, w, K]`. The channels stay those of
    the mirror images."""
    return maps(picture[:, :, ::-1])[:, :, ::-1]
