"""MobileFaceNet (Chen et al. 2018, arXiv 1804.07573), in the version of github.com/foamliu/MobileFaceNet."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ctd_jax.errors import UserError
from ctd_jax.models import layers
from ctd_jax.models.batch_norm import batch_norm
from ctd_jax.typing import Features

GROUPS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
BLOCKS = tuple((t, c, s if i == 0 else 1) for t, c, n, s in GROUPS for i in range(n))  # expansion, channels, stride


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection; adds its input where the shapes agree."""

    expansion: int
    features: int
    stride: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x_BHWC: Array, *, train: bool) -> Array:
        conv = partial(layers.Conv, size=1, dtype=self.dtype)
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        y = conv(x_BHWC.shape[-1] * self.expansion, name="expand_conv")(x_BHWC)
        y = nn.relu6(norm(name="expand_norm")(y))
        y = layers.DepthwiseConv(3, self.stride, 1, dtype=self.dtype, name="depthwise_conv")(y)
        y = nn.relu6(norm(name="depthwise_norm")(y))
        y = norm(name="project_norm")(conv(self.features, name="project_conv")(y))
        return x_BHWC + y if x_BHWC.shape == y.shape else y


class MobileFaceNet(nn.Module):
    """A small face-recognition encoder, with an embedding if `num_outputs` is not 0.

    Attributes:
      num_outputs: length of the embedding; 0 leaves it, its parameters and its features out.
      dtype: of the activations.
      axis_name: mapped axis over which batch norm takes its statistics, or None.
    """

    num_outputs: int = 0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    stride = 16  # input pixels per cell of the `encoder` map
    head = "embedding"
    last_layer = ("encoder_conv", "encoder_norm")
    blocks = (InvertedResidual,)

    @nn.compact
    def __call__(self, image_BHWC: Array, *, train: bool, train_head: bool = True) -> Features:
        """`[B, H, W, 3]` -> named features: stem, depthwise, block0, ..., block14, stage1, stage2 and stage3 (the last
        blocks of stride 4, 8 and 16), encoder (512 channels, stride 16), and embedding `[B, num_outputs]` if asked for.

        train_head: whether the embedding's batch norm takes part in training.

        The embedding is defined at 112x112; of a larger input it is that of the mean over all places of its 7x7 window.

        Raises:
          UserError: an embedding is asked of an input smaller than 112x112 (97 will do: it makes a 7x7 map too).
        """
        conv = partial(layers.Conv, dtype=self.dtype)
        depthwise_conv = partial(layers.DepthwiseConv, dtype=self.dtype)
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)

        x = nn.relu6(norm(name="stem_norm")(conv(64, 3, 2, 1, name="stem_conv")(image_BHWC)))
        out = {"stem": x}
        x = layers.relu(norm(name="depthwise_norm")(depthwise_conv(3, 1, 1, name="depthwise_conv")(x)))
        x = layers.relu(norm(name="pointwise_norm")(conv(64, 1, name="pointwise_conv")(x)))
        out["depthwise"] = x
        for i, (expansion, features, stride) in enumerate(BLOCKS):
            block = InvertedResidual(expansion, features, stride, self.dtype, self.axis_name, name=f"block{i}")
            x = out[f"block{i}"] = block(x, train=train)
        out |= {"stage1": out["block4"], "stage2": out["block11"], "stage3": out["block14"]}
        x = nn.relu6(norm(name="encoder_norm")(conv(512, 1, name="encoder_conv")(x)))
        out["encoder"] = x

        if self.num_outputs:
            if min(x.shape[1:3]) < 7:
                H, W = image_BHWC.shape[1:3]
                raise UserError(
                    f"MobileFaceNet's embedding needs pictures of at least 112x112 pixels, these have {W}x{H}; "
                    "enlarge `config.data.image_size`, or build the encoder with num_outputs=0."
                )
            norm = partial(norm, train=train and train_head)
            x = norm(name="embedding_depthwise_norm")(depthwise_conv(7, name="embedding_depthwise_conv")(x))
            x = jnp.mean(x, axis=(1, 2), keepdims=True)
            x = norm(name="embedding_norm")(conv(self.num_outputs, 1, use_bias=True, name="embedding_conv")(x))
            out["embedding"] = x[:, 0, 0].astype(jnp.float32)
        return out
