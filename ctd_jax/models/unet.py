"""Segmentation: a decoder with skip connections (U-Net, Ronneberger et al. 2015, arXiv 1505.04597) on any encoder."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ctd_jax.models import deconvolution, layers
from ctd_jax.models.batch_norm import batch_norm
from ctd_jax.typing import Features


class UNetDecoder(nn.Module):
    """Levels of deconvolution (4x4, stride 2), the encoder's map of that size beside it, 3x3 convolution; then 1x1.

    Beside the deconvolution's map comes the encoder's last named map of the same size, if it has one. Each convolution
    is followed by batch norm and ReLU.

    Attributes:
      num_classes: C, logits of each pixel.
      channels: of each level; every one doubles the map.
      deconv: form of the deconvolutions, a key of `deconvolution.FORMS`.
      dtype: of the activations; logits are always float32.
      axis_name: mapped axis over which batch norm takes its statistics, or None.
      heads: (domain, number of its classes) of each that has a last convolution of its own, in the order of the logits;
        none: there is one for all.
    """

    num_classes: int
    channels: tuple[int, ...]
    deconv: str = "phases"
    dtype: Any = jnp.float32
    axis_name: str | None = None
    heads: tuple[tuple[str, int], ...] = ()

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> Features:
        """Named features of an encoder -> level1, ... and logits `[B, h, w, C]`, h = H * 2^len(channels) where the map
        `encoder` has the height H."""
        norm = partial(batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        beside = {x.shape[1:3]: x for x in features.values() if x.ndim == 4}  # of equal maps the last
        out, x = {}, features["encoder"]
        for i, width in enumerate(self.channels, start=1):
            x = deconvolution.Deconv(width, self.deconv, dtype=self.dtype, name=f"deconv{i}")(x)
            x = layers.relu(norm(name=f"deconv_norm{i}")(x))
            if x.shape[1:3] in beside:
                x = jnp.concatenate([x, beside[x.shape[1:3]].astype(x.dtype)], axis=-1)
            x = layers.Conv(width, 3, 1, 1, dtype=self.dtype, name=f"conv{i}")(x)
            x = out[f"level{i}"] = layers.relu(norm(name=f"norm{i}")(x))
        counts = {f"final_{domain}": number for domain, number in self.heads} or {"final": self.num_classes}
        final = partial(layers.Conv, size=1, use_bias=True, dtype=self.dtype)
        logits = [final(number, name=name)(x) for name, number in counts.items()]
        out["logits"] = jnp.concatenate(logits, axis=-1).astype(jnp.float32)
        return out
