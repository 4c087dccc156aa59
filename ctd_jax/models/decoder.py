"""The decoder of Xiao et al. 2018 ("Simple Baselines", arXiv 1804.06208): from an encoder's map to heatmaps."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ctd_jax.models import deconvolution, layers
from ctd_jax.models.batch_norm import batch_norm
from ctd_jax.typing import Features


class Decoder(nn.Module):
    """Deconvolutions (4x4, stride 2), each with batch norm and ReLU, then a 1x1 convolution, or one for each domain.

    Attributes:
      num_landmarks: K, heatmaps per picture.
      channels: of each deconvolution; every one doubles the map.
      deconv: form of the deconvolutions, a key of `deconvolution.FORMS`: "phases" (CPU) or "transpose".
      light: `deconvolution.SeparableDeconv` in their place, with a tenth of the work.
      dtype: of the activations; heatmaps are always float32.
      axis_name: mapped axis over which batch norm takes its statistics, or None.
      heads: (domain, number of its landmarks) of each that has a last convolution of its own, in the order of the
        heatmaps; none: there is one for all.
    """

    num_landmarks: int
    channels: tuple[int, ...] = (256, 256, 256)
    deconv: str = "phases"
    light: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None
    heads: tuple[tuple[str, int], ...] = ()

    @nn.compact
    def __call__(self, features: Features, *, train: bool) -> Features:
        """Named features of an encoder, of which `encoder` `[B, H, W, C]` is read -> deconv1, ..., and heatmaps
        `[B, h, w, K]`, h = H * 2^len(channels)."""
        init = nn.initializers.normal(0.001)  # as in the paper's code
        out, x = {}, features["encoder"]
        for i, width in enumerate(self.channels, start=1):
            if self.light:
                x = deconvolution.SeparableDeconv(width, dtype=self.dtype, name=f"deconv{i}")(x)
            else:
                x = deconvolution.Deconv(width, self.deconv, init, dtype=self.dtype, name=f"deconv{i}")(x)
            norm = batch_norm(train=train, dtype=self.dtype, axis_name=self.axis_name, name=f"norm{i}")
            x = out[f"deconv{i}"] = layers.relu(norm(x))
        final = partial(layers.Conv, size=1, use_bias=True, kernel_init=init, dtype=self.dtype)
        counts = {f"final_{domain}": number for domain, number in self.heads} or {"final": self.num_landmarks}
        heatmaps = [final(number, name=name)(x) for name, number in counts.items()]
        out["heatmaps"] = jnp.concatenate(heatmaps, axis=-1).astype(jnp.float32)
        return out
