"""Whether landmarks are there: a linear head beside the heatmaps, where dataset.json names some that may be absent.

The logit of landmark k is read from the decoder's last map f [h, w, C] where its heatmap H_k lies, from the encoder's
map e, and from the height of the heatmap's peak:

    z_k = sum_uv m_k(u, v) <a_k, |f(u, v)|> + <b_k, |mean_uv e|> + c_k max_uv H_k + d_k,   m_k = H_k+^2 / sum_uv H_k+^2

where |x| is x over the root mean square of its channels, so that maps of any height are learned from alike. No gradient
goes into the heatmaps this way. Ours.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ctd_jax import models
from ctd_jax.typing import Features, Tree

NAME = "presence"  # of the head among a network's parameters, and of its term of the loss


def init(key: Array, shapes: Mapping[str, Any], heads: Mapping[str, int]) -> Tree:
    """The head's parameters before the first step.

    Args:
      key: random key.
      shapes: named features of the network, arrays or their shapes.
      heads: name -> number of landmarks: `final`, or `final_<domain>` of each.
    """
    channels = {"at_point": shapes[_last(shapes)].shape[-1], "of_picture": shapes["encoder"].shape[-1]}

    def one(key: Array, number: int) -> dict[str, Array]:
        keys = jax.random.split(key, len(channels))
        normal = nn.initializers.normal(0.001)
        kernels = {name: normal(k, (n, number)) for k, (name, n) in zip(keys, channels.items(), strict=True)}
        return kernels | {"peak": jnp.zeros(number), "bias": jnp.zeros(number)}

    keys = jax.random.split(key, len(heads))
    return {name: one(k, number) for k, (name, number) in zip(keys, heads.items(), strict=True)}


def logits(features: Features, head: Mapping[str, Mapping[str, Array]]) -> Array:
    """`[B, K]` float32, above 0: the landmark is rather there.

    Args:
      features: of a network with an encoder.
      head: of `init`, with the heads in the order of the heatmaps.
    """

    def kernel(name: str) -> Array:
        return jnp.concatenate([one[name] for one in head.values()], axis=-1)

    heatmaps = jax.lax.stop_gradient(features["heatmaps"])
    mass = jnp.maximum(heatmaps, 0)
    mass = mass * mass
    read = _scaled(features[_last(features)].astype(jnp.float32)) @ kernel("at_point")
    at_point = (mass * read).sum((1, 2)) / jnp.maximum(mass.sum((1, 2)), 1e-12)
    peak = heatmaps.max((1, 2)) * kernel("peak")
    return at_point + _scaled(models.pooled(features)) @ kernel("of_picture") + peak + kernel("bias")


def _scaled(x: Array) -> Array:
    """`[..., C]` over the root mean square of the channels."""
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def _last(features: Mapping[str, Any]) -> str:
    """The name of the decoder's last map; the encoder's, where there is no deconvolution."""
    number = sum(name.startswith("deconv") for name in features)
    return f"deconv{number}" if number else "encoder"
