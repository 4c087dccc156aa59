"""The student: an encoder and a decoder."""

import flax.linen as nn
from jax import Array

from ctd_jax.models.domain_norm import per_domain


class LandmarkNet(nn.Module):
    """Encoder, then decoder. Both are named in the variables, so a teacher's trees fit in at `encoder`.

    The encoder's head, if it has one, is a frozen copy of the teacher's: its batch norm is in evaluation mode.

    Attributes:
      encoder, decoder: the two networks.
      domains: names of those that have their own batch norm; none: batch norm is for all pictures alike.
      encoder_norm: the encoder's batch norm takes part in training; False: it is in evaluation mode (a frozen encoder).
    """

    encoder: nn.Module
    decoder: nn.Module
    encoder_norm: bool = True
    domains: tuple[str, ...] = ()

    @property
    def stride(self) -> int:
        """Input pixels per heatmap cell."""
        return self.encoder.stride // 2 ** len(self.decoder.channels)

    @property
    def multiple(self) -> int:
        """A picture's side must be a multiple of so many pixels, and at least twice as long."""
        return self.encoder.stride

    def __call__(self, image_BHWC: Array, domain: Array | None = None, *, train: bool) -> dict[str, Array]:
        """`[B, H, W, 3]`, normalised, and `[B]` index in `domains` of each picture, where there are any -> the named
        features of both; `heatmaps` is `[B, H / stride, W / stride, K]`."""
        with per_domain(domain, self.domains):
            out = self.encoder(image_BHWC, train=train and self.encoder_norm, train_head=False)
            return out | self.decoder(out["encoder"], train=train)
