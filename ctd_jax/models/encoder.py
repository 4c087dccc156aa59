"""What an encoder is to the rest of the program."""

from typing import Protocol

import flax.linen as nn
from jax import Array

from ctd_jax.errors import UserError
from ctd_jax.typing import Features


class Encoder(Protocol):
    """The contract of an encoder: a `flax.linen.Module` with these members.

    It is built with the keyword arguments `num_outputs`, `dtype` and `axis_name` of `models.build_encoder` and with
    attributes of its own. Its batch norm is that of `batch_norm.py`, under a name with "norm" in it: so `domain_norm`
    finds it. Without `num_outputs` its head, with its parameters and features, is left out.
    """

    @property
    def stride(self) -> int:
        """Input pixels per cell of the feature `encoder`, a power of two. A picture's sides are multiples of it."""

    @property
    def head(self) -> str:
        """The feature that the head gives: "classifier" (logits) or "embedding"."""

    @property
    def last_layer(self) -> tuple[str, ...]:
        """Paths, with "/" between the names, of the last convolution's parameters and of its batch norm's, without the
        head: what `train.encoder_layers=last` trains."""

    @property
    def blocks(self) -> tuple[type[nn.Module], ...]:
        """Classes of its blocks, which `train.remat` computes again instead of keeping their activations. A block is
        called as `block(x_BHWC, train=train)` and returns one array; see `remat`."""

    def __call__(self, image_BHWC: Array, /, *, train: bool, train_head: bool = True) -> Features:
        """Named features of normalised pictures.

        Args:
          image_BHWC: `[B, H, W, 3]`.
          train: whether batch norm takes part in training.
          train_head: whether the head's does, too.

        Returns:
          encoder `[B, H / stride, W / stride, C]`; any other maps `[B, h, w, C]`, which constraints may name and U-Net
          decoders see; with a head also the feature `head` `[B, num_outputs]` float32.
        """


MEMBERS = tuple(name for name in vars(Encoder) if isinstance(vars(Encoder)[name], property))


def check_encoder(name: str, encoder: object) -> nn.Module:
    """The encoder, if it keeps the contract as far as can be seen without calling it.

    Raises:
      UserError: something is missing.
    """
    missing = [member for member in MEMBERS if not hasattr(encoder, member)]
    if missing or not isinstance(encoder, nn.Module):
        what = f"has no {', '.join(missing)}" if missing else "is no flax.linen.Module"
        raise UserError(
            f"encoder {name!r} ({type(encoder).__name__}) {what}; models/encoder.py says what an encoder has"
        )
    return encoder
