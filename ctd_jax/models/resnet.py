"""ResNet (He et al. 2015, arXiv 1512.03385), in PyTorch's and in Caffe's version."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ctd_jax.models import layers
from ctd_jax.models.batch_norm import batch_norm
from ctd_jax.typing import Features


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut. Parameters: conv1, norm1, conv2, norm2, shortcut_* if shapes change."""

    width: int
    stride: int
    stride_in_1x1: bool  # a bottleneck's choice; no 1x1 here
    dtype: Any
    axis_name: str | None
    expansion = 1
    last_convolution = 2

    @nn.compact
    def __call__(self, x_BHWC: Array, *, train: bool) -> Array:
        conv = partial(layers.Conv, dtype=self.dtype)
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        y = layers.relu(norm(name="norm1")(conv(self.width, 3, self.stride, 1, name="conv1")(x_BHWC)))
        y = norm(name="norm2")(conv(self.width, 3, 1, 1, name="conv2")(y))
        if x_BHWC.shape != y.shape:
            x_BHWC = norm(name="shortcut_norm")(conv(self.width, 1, self.stride, name="shortcut_conv")(x_BHWC))
        return layers.relu(x_BHWC + y)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 (four times as wide) and a shortcut. Parameters: as `BasicBlock`, and conv3, norm3."""

    width: int
    stride: int
    stride_in_1x1: bool
    dtype: Any
    axis_name: str | None
    expansion = 4
    last_convolution = 3

    @nn.compact
    def __call__(self, x_BHWC: Array, *, train: bool) -> Array:
        conv = partial(layers.Conv, dtype=self.dtype)
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        first, second = (self.stride, 1) if self.stride_in_1x1 else (1, self.stride)
        out = self.width * self.expansion
        y = layers.relu(norm(name="norm1")(conv(self.width, 1, first, name="conv1")(x_BHWC)))
        y = layers.relu(norm(name="norm2")(conv(self.width, 3, second, 1, name="conv2")(y)))
        y = norm(name="norm3")(conv(out, 1, name="conv3")(y))
        if x_BHWC.shape != y.shape:
            x_BHWC = norm(name="shortcut_norm")(conv(out, 1, self.stride, name="shortcut_conv")(x_BHWC))
        return layers.relu(x_BHWC + y)


class ResNet(nn.Module):
    """A residual encoder, with a classifier if `num_outputs` is not 0.

    Attributes:
      stage_sizes: blocks per stage; every stage after the first halves the map and doubles the width.
      block: `BasicBlock` or `Bottleneck`.
      num_outputs: classes; 0 leaves the classifier, its parameters and its features out.
      width: channels of the stem and of the first stage.
      stride_in_1x1: a bottleneck's stride is in its first 1x1 (Caffe, VGGFace2), not in its 3x3 (torchvision).
      pool_padding: of the stem's max pooling, "same" (PyTorch) or "ceil" (Caffe); see `layers.max_pool`.
      dtype: of the activations.
      axis_name: mapped axis over which batch norm takes its statistics, or None.
    """

    stage_sizes: tuple[int, ...]
    block: type[BasicBlock] | type[Bottleneck]
    num_outputs: int = 0
    width: int = 64
    stride_in_1x1: bool = False
    pool_padding: str = "same"
    dtype: Any = jnp.float32
    axis_name: str | None = None
    head = "classifier"

    @property
    def stride(self) -> int:
        """Input pixels per cell of the `encoder` map."""
        return 2 ** (len(self.stage_sizes) + 1)

    @property
    def blocks(self) -> tuple[type[nn.Module], ...]:
        """Classes of the blocks that `remat` may compute again."""
        return (self.block,)

    @property
    def last_layer(self) -> tuple[str, ...]:
        """Paths of the last convolution's parameters, and of its batch norm's."""
        block = f"stage{len(self.stage_sizes)}_block{self.stage_sizes[-1] - 1}"
        return tuple(f"{block}/{kind}{self.block.last_convolution}" for kind in ("conv", "norm"))

    @nn.compact
    def __call__(self, image_BHWC: Array, *, train: bool, train_head: bool = True) -> Features:
        """`[B, H, W, 3]` -> named features: unpooled (stride 2), stem (pooled, stride 4), stage1, ..., encoder (the
        last stage), and with a classifier also pooled `[B, C]` (mean over the map, of any size) and classifier
        `[B, num_outputs]`. `train_head` changes nothing: the classifier has no batch norm."""
        x = layers.Conv(self.width, 7, 2, 3, dtype=self.dtype, name="stem_conv")(image_BHWC)
        norm = batch_norm(train=train, dtype=self.dtype, axis_name=self.axis_name, name="stem_norm")
        x = layers.relu(norm(x))
        out = {"unpooled": x}
        x = out["stem"] = layers.max_pool(x, padding=self.pool_padding)
        for i, size in enumerate(self.stage_sizes):
            for j in range(size):
                stride = 2 if i > 0 and j == 0 else 1
                x = self.block(
                    self.width * 2**i,
                    stride,
                    self.stride_in_1x1,
                    self.dtype,
                    self.axis_name,
                    name=f"stage{i + 1}_block{j}",
                )(x, train=train)
            out[f"stage{i + 1}"] = x
        out["encoder"] = x
        if self.num_outputs:
            out["pooled"] = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
            out["classifier"] = nn.Dense(self.num_outputs, name="classifier")(out["pooled"])
        return out
