"""The student: an encoder and a decoder."""

import flax.linen as nn
import jax
from jax import Array

from ctd_jax.models.domain_norm import per_domain
from ctd_jax.typing import Features


class EncoderDecoder(nn.Module):
    """Encoder, then decoder. Both are named in the variables, so a teacher's trees fit in at `encoder`.

    The encoder's head, if it has one, is a frozen copy of the teacher's: its batch norm is in evaluation mode.

    Attributes:
      encoder: see `encoder.Encoder`.
      decoder: it is called with the encoder's named features, and gives its own. Each of its `channels` stands for a
        doubling of the map.
      full_size: the feature of the decoder that is scaled to the picture's size, linearly; None: there is none.
      encoder_norm: the encoder's batch norm takes part in training; False: it is in evaluation mode (a frozen encoder).
      domains: names of those that have their own batch norm; none: batch norm is for all pictures alike.
    """

    encoder: nn.Module
    decoder: nn.Module
    full_size: str | None = None
    encoder_norm: bool = True
    domains: tuple[str, ...] = ()

    @property
    def stride(self) -> int:
        """Input pixels per cell of the decoder's last map."""
        return self.encoder.stride // 2 ** len(self.decoder.channels)

    @property
    def multiple(self) -> int:
        """Pixels: a picture's sides must be multiples of it, and at least twice as long."""
        return self.encoder.stride

    @property
    def blocks(self) -> tuple[type[nn.Module], ...]:
        """Classes of the blocks that `remat` may compute again."""
        return self.encoder.blocks

    def __call__(self, image_BHWC: Array, domain: Array | None = None, *, train: bool) -> Features:
        """Named features of both.

        Args:
          image_BHWC: `[B, H, W, 3]`, normalised.
          domain: `[B]` index in `domains` of each picture, where there are any.
          train: whether batch norm takes part in training.
        """
        with per_domain(domain, self.domains):
            features = self.encoder(image_BHWC, train=train and self.encoder_norm, train_head=False)
            features = features | self.decoder(features, train=train)
        if self.full_size:
            small = features[self.full_size]
            shape = (*image_BHWC.shape[:3], small.shape[-1])
            features = features | {self.full_size: jax.image.resize(small, shape, "bilinear")}
        return features
