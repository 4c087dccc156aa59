"""Whether landmarks are there: a linear head beside the heatmaps, where dataset.json names some that may be absent.

The logit of landmark k is read from the maps f_l [h, w, C] of the encoder's stages and of the decoder's last layer
where its heatmap H_k lies, from the encoder's map e as a whole, and from the height of the heatmap's peak:

    z_k = sum_l sum_uv m_k(u, v) <a_lk, |f_l(u, v)|> + <b_k, |mean_uv e|> + c_k max_uv H_k + d_k,
    m_k = H_k+^2 / sum_uv H_k+^2, resampled to the size of each map

where |x| is x over the root mean square of its channels, so that maps of any height are learned from alike. No gradient
goes into the heatmaps this way. Ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ctd_jax import models
from ctd_jax.typing import Features, Tree

WHOLE = "of_picture"  # what is read of the encoder's map as a whole
NAME = "presence"  # of the head among a network's parameters, and of its term of the loss
ALONE = "final"  # the head of a network without domains


def head_of(domain: str) -> str:
    """The name of a domain's head."""
    return f"{ALONE}_{domain}"


def init(key: Array, shapes: Mapping[str, Any], heads: Mapping[str, int]) -> Tree:
    """The head's parameters before the first step.

    Args:
      key: random key.
      shapes: named features of the network, arrays or their shapes.
      heads: name -> number of landmarks: `ALONE`, or `head_of` each domain.
    """
    channels = {name: shapes[name].shape[-1] for name in _at_point(shapes)} | {WHOLE: shapes["encoder"].shape[-1]}

    def one(key: Array, number: int) -> dict[str, Array]:
        keys = jax.random.split(key, len(channels))
        normal = nn.initializers.normal(0.001)
        kernels = {name: normal(k, (n, number)) for k, (name, n) in zip(keys, channels.items(), strict=True)}
        return kernels | {"peak": jnp.zeros(number), "bias": jnp.zeros(number)}

    keys = jax.random.split(key, len(heads))
    return {name: one(k, number) for k, (name, number) in zip(keys, heads.items(), strict=True)}


def logits(features: Features, head: Mapping[str, Mapping[str, Array]], order: Sequence[str]) -> Array:
    """`[B, K]` float32, above 0: the landmark is rather there.

    Args:
      features: of a network with an encoder.
      head: of `init`.
      order: names of its heads as the heatmaps have them; a tree of parameters has them sorted.
    """

    def kernel(name: str) -> Array:
        return jnp.concatenate([head[one][name] for one in order], axis=-1)

    heatmaps = jax.lax.stop_gradient(features["heatmaps"])
    mass = jnp.maximum(heatmaps, 0)
    mass = mass * mass
    found = _scaled(models.pooled(features)) @ kernel(WHOLE) + heatmaps.max((1, 2)) * kernel("peak") + kernel("bias")
    for name in _at_point(features):
        read = _scaled(features[name].astype(jnp.float32)) @ kernel(name)
        here = jax.image.resize(mass, read.shape, "linear")
        found += (here * read).sum((1, 2)) / jnp.maximum(here.sum((1, 2)), 1e-12)
    return found


def _scaled(x: Array) -> Array:
    """`[..., C]` over the root mean square of the channels."""
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def _at_point(features: Mapping[str, Any]) -> list[str]:
    """Names of the maps that are read where a heatmap lies: the encoder's stages, and the decoder's last."""
    number = sum(name.startswith("deconv") for name in features)
    stages = sorted(name for name in features if name.startswith("stage"))
    return stages + ([f"deconv{number}"] if number else [])
