"""Tiny encoders of inverted residuals (MobileNetV2, Sandler et al. 2018, arXiv 1801.04381): students for a phone."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ctd_jax.models import layers
from ctd_jax.models.batch_norm import batch_norm
from ctd_jax.models.mobilefacenet import InvertedResidual
from ctd_jax.typing import Features

TINY = ((3, 16, 2), (3, 32, 3), (4, 72, 3), (4, 144, 3))  # expansion, channels and blocks of each stage
MICRO = ((3, 16, 1), (3, 24, 2), (4, 40, 2), (4, 80, 2))


class MobileNet(nn.Module):
    """MobileNetV2's form, not its table: stages at the strides of a ResNet's, so that their maps can be tied.

    Ours. Landmark networks of 19 heatmaps at 256x256, by `cost.gflops`, in brackets twice the multiply-adds alone:
    `mobilenet_tiny` with a separable decoder of three times 64 channels has 0.563 M parameters and 0.267 GFLOP (0.251),
    `mobilenet_micro` with three times 32 channels 0.114 M and 0.081 GFLOP (0.074).

    Attributes:
      stem: channels of the first convolution.
      stages: expansion, channels and blocks of each; every stage halves the map.
      num_outputs: classes; 0 leaves the classifier, its parameters and its features out.
      dtype: of the activations.
      axis_name: mapped axis over which batch norm takes its statistics, or None.
    """

    stem: int
    stages: tuple[tuple[int, int, int], ...]
    num_outputs: int = 0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    head = "classifier"
    blocks = (InvertedResidual,)

    @property
    def stride(self) -> int:
        """Input pixels per cell of the `encoder` map."""
        return 2 ** (len(self.stages) + 1)

    @property
    def last_layer(self) -> tuple[str, ...]:
        """Paths of the last convolution's parameters, and of its batch norm's."""
        block = f"stage{len(self.stages)}_block{self.stages[-1][2] - 1}"
        return tuple(f"{block}/project_{kind}" for kind in ("conv", "norm"))

    @nn.compact
    def __call__(self, image_BHWC: Array, *, train: bool, train_head: bool = True) -> Features:
        """`[B, H, W, 3]` -> named features: stem (stride 2), stage1 (stride 4), stage2, ..., encoder (the last stage),
        and with a classifier also pooled `[B, C]` and classifier `[B, num_outputs]`. `train_head` changes nothing: the
        classifier has no batch norm."""
        norm = batch_norm(train=train, dtype=self.dtype, axis_name=self.axis_name, name="stem_norm")
        x = nn.relu6(norm(layers.Conv(self.stem, 3, 2, 1, dtype=self.dtype, name="stem_conv")(image_BHWC)))
        out = {"stem": x}
        for i, (expansion, channels, number) in enumerate(self.stages, start=1):
            for j in range(number):
                stride = 2 if j == 0 else 1
                block = InvertedResidual(
                    expansion, channels, stride, self.dtype, self.axis_name, name=f"stage{i}_block{j}"
                )
                x = block(x, train=train)
            out[f"stage{i}"] = x
        out["encoder"] = x
        if self.num_outputs:
            out["pooled"] = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
            out["classifier"] = nn.Dense(self.num_outputs, name="classifier")(out["pooled"])
        return out
