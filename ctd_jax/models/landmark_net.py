"""The student: an encoder and a decoder."""

import flax.linen as nn
from jax import Array


class LandmarkNet(nn.Module):
    """Encoder, then decoder. Both are named in the variables, so a teacher's trees fit in at `encoder`."""

    encoder: nn.Module
    decoder: nn.Module

    @property
    def stride(self) -> int:
        """Input pixels per heatmap cell."""
        return self.encoder.stride // 2 ** len(self.decoder.channels)

    def __call__(self, image_BHWC: Array, *, train: bool) -> dict[str, Array]:
        """`[B, H, W, 3]`, normalised -> the named features of both; `heatmaps` is `[B, H / stride, W / stride, K]`."""
        out = self.encoder(image_BHWC, train=train)
        return out | self.decoder(out["encoder"], train=train)
