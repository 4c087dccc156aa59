"""The stacked hourglass of Newell et al. 2016 (arXiv 1603.06937): heatmaps from scratch, without a teacher."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ctd_jax.errors import UserError
from ctd_jax.models import layers
from ctd_jax.models.batch_norm import batch_norm
from ctd_jax.typing import Features


def halve(x_BHWC: Array) -> Array:
    """2x2 max pooling with stride 2 of a map with even sides, `[B, H, W, C]`, which may be negative anywhere."""
    B, H, W, C = x_BHWC.shape
    return x_BHWC.reshape(B, H // 2, 2, W // 2, 2, C).max(axis=(2, 4))


class Residual(nn.Module):
    """Pre-activation bottleneck: (batch norm, ReLU, convolution) of 1x1, 3x3, 1x1, plus a shortcut.

    Parameters: norm1, conv1, norm2, conv2, norm3, conv3, shortcut if the number of channels changes. No biases: the
    next batch norm would take them away.
    """

    channels: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x_BHWC: Array, *, train: bool) -> Array:
        conv = partial(layers.Conv, dtype=self.dtype)
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        y = conv(self.channels // 2, 1, name="conv1")(layers.relu(norm(name="norm1")(x_BHWC)))
        y = conv(self.channels // 2, 3, 1, 1, name="conv2")(layers.relu(norm(name="norm2")(y)))
        y = conv(self.channels, 1, name="conv3")(layers.relu(norm(name="norm3")(y)))
        if x_BHWC.shape[-1] != self.channels:
            x_BHWC = conv(self.channels, 1, name="shortcut")(x_BHWC)
        return x_BHWC + y


class Hourglass(nn.Module):
    """One hourglass: halves the map `depth` times and doubles it `depth` times, with a residual shortcut at every size.

    Parameters: skip, down, inner (the next smaller hourglass, in the smallest a `Residual`), up.
    """

    depth: int
    channels: int
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x_BHWC: Array, *, train: bool) -> Array:
        attributes = (self.channels, self.dtype, self.axis_name)
        skip = Residual(*attributes, name="skip")(x_BHWC, train=train)
        x = Residual(*attributes, name="down")(halve(x_BHWC), train=train)
        inner = Residual if self.depth == 1 else partial(Hourglass, self.depth - 1)
        x = inner(*attributes, name="inner")(x, train=train)
        return skip + layers.double(Residual(*attributes, name="up")(x, train=train))


class StackedHourglass(nn.Module):
    """A landmark network of several hourglasses, each of which sees the heatmaps of the one before.

    Built as the authors' code: one residual module between two sizes, 64 and 128 channels in the stem where `channels`
    is 256. A bias is in the heatmaps' layers only, as the next batch norm would take away any other.

    Attributes:
      num_landmarks: K, heatmaps per picture.
      stacks: hourglasses, 1 or more; 2 and 8 in the paper.
      channels: of every map in them, a multiple of 4; 256 in the paper.
      depth: how often an hourglass halves its map, 1 or more; 4 in the paper.
      dtype: of the activations; heatmaps are always float32.
      axis_name: mapped axis over which batch norm takes its statistics, or None.
    """

    num_landmarks: int
    stacks: int = 2
    channels: int = 256
    depth: int = 4
    dtype: Any = jnp.float32
    axis_name: str | None = None
    blocks = (Residual,)

    @property
    def stride(self) -> int:
        """Input pixels per heatmap cell."""
        return 4

    @property
    def multiple(self) -> int:
        """Pixels: a picture's sides must be multiples of it, so that every map can be halved."""
        return self.stride * 2**self.depth

    @nn.compact
    def __call__(self, image_BHWC: Array, domain: Array | None = None, *, train: bool) -> Features:
        """`[B, H, W, 3]`, normalised -> stacks `[S, B, H / 4, W / 4, K]`, the heatmaps of every hourglass, for a loss
        on each of them (intermediate supervision), and heatmaps, those of the last. `domain` changes nothing.

        Raises:
          UserError: sides that are no multiples of `multiple`, or attributes out of their range.
        """
        self._check(image_BHWC)
        attributes = {"dtype": self.dtype, "axis_name": self.axis_name}
        conv = partial(layers.Conv, dtype=self.dtype)
        norm = partial(batch_norm, train=train, **attributes)

        x = conv(self.channels // 4, 7, 2, 3, name="stem_conv")(image_BHWC)
        x = layers.relu(norm(name="stem_norm")(x))
        x = halve(Residual(self.channels // 2, **attributes, name="stem1")(x, train=train))
        x = Residual(self.channels // 2, **attributes, name="stem2")(x, train=train)
        x = Residual(self.channels, **attributes, name="stem3")(x, train=train)

        init = nn.initializers.normal(0.001)  # ours, as in `Decoder`
        stacks = []
        for i in range(1, self.stacks + 1):
            y = Hourglass(self.depth, self.channels, **attributes, name=f"hourglass{i}")(x, train=train)
            y = Residual(self.channels, **attributes, name=f"residual{i}")(y, train=train)
            y = layers.relu(norm(name=f"norm{i}")(conv(self.channels, 1, name=f"conv{i}")(y)))
            heatmaps = conv(self.num_landmarks, 1, use_bias=True, kernel_init=init, name=f"heatmaps{i}")(y)
            stacks.append(heatmaps.astype(jnp.float32))
            if i < self.stacks:
                x += conv(self.channels, 1, name=f"merge_features{i}")(y)
                x += conv(self.channels, 1, name=f"merge_heatmaps{i}")(heatmaps)
        return {"stacks": jnp.stack(stacks), "heatmaps": stacks[-1]}

    def _check(self, image_BHWC: Array) -> None:
        if self.stacks < 1 or self.depth < 1:
            raise UserError(f"the hourglass has {self.stacks} stacks of depth {self.depth}; expected 1 or more each.")
        if self.channels < 4 or self.channels % 4:
            raise UserError(f"the hourglass's channels are {self.channels}; expected a multiple of 4.")
        H, W = image_BHWC.shape[1:3]
        if H % self.multiple or W % self.multiple:
            raise UserError(
                f"the picture is {W} x {H} pixels; an hourglass of depth {self.depth} needs multiples of "
                f"{self.multiple} = {self.stride} * 2^{self.depth}: change the picture's size or the depth."
            )
