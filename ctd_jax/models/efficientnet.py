"""EfficientNet-Lite0: EfficientNet (Tan and Le 2019, arXiv 1905.11946) without squeeze-and-excitation and with ReLU6.

The table and the numbers of batch norm are those of `lite/efficientnet_lite_builder.py` in
github.com/tensorflow/tpu/tree/master/models/official/efficientnet, and so is the padding, TensorFlow's "SAME". The
original's dropout and stochastic depth are left out: they have no part in prediction.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ctd_jax.models import layers
from ctd_jax.models.batch_norm import batch_norm
from ctd_jax.typing import Features

LITE0 = (  # expansion, channels, blocks, stride of the first block, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
BLOCKS = tuple((t, c, s if i == 0 else 1, k) for t, c, n, s, k in LITE0 for i in range(n))
LAST_OF_STRIDE = {"stage1": 2, "stage2": 4, "stage3": 10, "stage4": 15}  # the last blocks of stride 4, 8, 16, 32
norm_of_tensorflow = partial(batch_norm, momentum=0.99, epsilon=1e-3)


class MBConv(nn.Module):
    """1x1 expansion (if it is not 1), depthwise convolution, 1x1 projection; adds its input where the shapes agree."""

    expansion: int
    features: int
    stride: int
    size: int  # of the depthwise kernel
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x_BHWC: Array, *, train: bool) -> Array:
        conv = partial(layers.Conv, size=1, dtype=self.dtype)
        norm = partial(norm_of_tensorflow, train=train, dtype=self.dtype, axis_name=self.axis_name)
        y = x_BHWC
        if self.expansion > 1:
            y = conv(x_BHWC.shape[-1] * self.expansion, name="expand_conv")(y)
            y = nn.relu6(norm(name="expand_norm")(y))
        y = layers.DepthwiseConv(self.size, self.stride, "tensorflow", dtype=self.dtype, name="depthwise_conv")(y)
        y = nn.relu6(norm(name="depthwise_norm")(y))
        y = norm(name="project_norm")(conv(self.features, name="project_conv")(y))
        return x_BHWC + y if x_BHWC.shape == y.shape else y


class EfficientNetLite0(nn.Module):
    """An encoder of inverted residuals, with a classifier if `num_outputs` is not 0.

    Attributes:
      num_outputs: classes; 0 leaves the classifier and the 1x1 convolution before it out.
      dtype: of the activations.
      axis_name: mapped axis over which batch norm takes its statistics, or None.
    """

    num_outputs: int = 0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    stride = 32  # input pixels per cell of the `encoder` map
    head = "classifier"
    last_layer = ("block15/project_conv", "block15/project_norm")
    blocks = (MBConv,)

    @nn.compact
    def __call__(self, image_BHWC: Array, *, train: bool, train_head: bool = True) -> Features:
        """`[B, H, W, 3]` -> named features: stem (stride 2), block0, ..., block15, stage1, ..., stage4 (the last blocks
        of stride 4, 8, 16 and 32), encoder (stage4, 320 channels), and with a classifier also pooled `[B, 1280]` (mean
        over the map, of any size) and classifier `[B, num_outputs]`.

        train_head: whether the batch norm before the classifier takes part in training.
        """
        conv = partial(layers.Conv, dtype=self.dtype)
        norm = partial(norm_of_tensorflow, dtype=self.dtype, axis_name=self.axis_name)
        x = conv(32, 3, 2, "tensorflow", name="stem_conv")(image_BHWC)
        x = nn.relu6(norm(train=train, name="stem_norm")(x))
        out = {"stem": x}
        for i, block in enumerate(BLOCKS):
            x = out[f"block{i}"] = MBConv(*block, self.dtype, self.axis_name, name=f"block{i}")(x, train=train)
        out |= {stage: out[f"block{i}"] for stage, i in LAST_OF_STRIDE.items()}
        out["encoder"] = x
        if self.num_outputs:
            x = nn.relu6(norm(train=train and train_head, name="head_norm")(conv(1280, 1, name="head_conv")(x)))
            out["pooled"] = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
            out["classifier"] = nn.Dense(self.num_outputs, name="classifier")(out["pooled"])
        return out
