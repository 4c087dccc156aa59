"""Networks that hand out a dict of named features.

`build_encoder` makes a teacher, `build` and `build_segmentation` a student; `weight_file` keeps either in a file.
Variables are Flax's, `{"params": ..., "batch_stats": ...}`; in a student's, each of the two has a teacher's tree at
`encoder`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ctd_jax.errors import UserError
from ctd_jax.models import deconvolution, domain_norm, weight_file
from ctd_jax.models.decoder import Decoder
from ctd_jax.models.efficientnet import EfficientNetLite0
from ctd_jax.models.encoder import Encoder, check_encoder
from ctd_jax.models.encoder_decoder import EncoderDecoder
from ctd_jax.models.evaluation import apply_in_evaluation, of_mirror_image, pooled
from ctd_jax.models.fold import fold, folded
from ctd_jax.models.hourglass import StackedHourglass
from ctd_jax.models.inputs import activation_dtype, normalize
from ctd_jax.models.mobilefacenet import MobileFaceNet
from ctd_jax.models.mobilenet import MICRO, TINY, MobileNet
from ctd_jax.models.remat import apply_in_training
from ctd_jax.models.resnet import BasicBlock, Bottleneck, ResNet
from ctd_jax.models.unet import UNetDecoder
from ctd_jax.typing import EncoderSpec

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderDecoder",
    "StackedHourglass",
    "activation_dtype",
    "apply_in_evaluation",
    "apply_in_training",
    "build",
    "build_encoder",
    "build_segmentation",
    "domain_norm",
    "fold",
    "folded",
    "normalize",
    "of_mirror_image",
    "pooled",
    "weight_file",
]

# name -> what makes the encoder, of the keyword arguments of `build_encoder`
ENCODERS: dict[str, Callable[..., Encoder]] = {
    "resnet8": partial(ResNet, stage_sizes=(1, 1, 1), block=BasicBlock, width=32),  # ours, for small pictures
    "resnet18": partial(ResNet, stage_sizes=(2, 2, 2, 2), block=BasicBlock),
    "resnet34": partial(ResNet, stage_sizes=(3, 4, 6, 3), block=BasicBlock),
    "resnet50": partial(ResNet, stage_sizes=(3, 4, 6, 3), block=Bottleneck),
    "mobilefacenet": MobileFaceNet,
    "mobilenet_tiny": partial(MobileNet, 16, TINY),
    "mobilenet_micro": partial(MobileNet, 8, MICRO),
    "efficientnet_lite0": EfficientNetLite0,
}

# attribute of an encoder -> what it may be, in words, and whether a value is: a weight file says what its encoder has
ATTRIBUTES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "num_outputs": ("a whole number, 0 or more", lambda x: type(x) is int and x >= 0),
    "width": ("a whole number, 1 or more", lambda x: type(x) is int and x > 0),
    "stage_sizes": (
        "1 to 8 whole numbers, 1 to 100 each",
        lambda x: isinstance(x, list | tuple) and 0 < len(x) < 9 and all(type(n) is int and 0 < n < 101 for n in x),
    ),
    "stride_in_1x1": ("true or false", lambda x: type(x) is bool),
    "pool_padding": ("same or ceil", lambda x: x in ("same", "ceil")),
    "block": ("left out", lambda _: False),
}


def build_encoder(
    name: str, *, num_outputs: int = 0, dtype: Any = jnp.float32, axis_name: str | None = None, **attributes: Any
) -> nn.Module:
    """An encoder: `encoder.apply(variables, image_BHWC, train=False)` is a dict of features, see `Encoder`.

    Args:
      name: a key of `ENCODERS`.
      num_outputs: length of the classifier's or embedding's output; 0: no such head.
      dtype: of the activations.
      axis_name: mapped axis over which batch norm takes its statistics, or None.
      **attributes: further ones of the network: for a ResNet stage_sizes, width, stride_in_1x1, pool_padding.

    Raises:
      UserError: there is no such encoder, it has no such attribute or not with this value, or it lacks what every
        encoder has.
    """
    if name not in ENCODERS:
        raise UserError(f"there is no encoder {name!r}; choose one of {', '.join(ENCODERS)}.")
    for key, value in {"num_outputs": num_outputs, **attributes}.items():
        expected, right = ATTRIBUTES.get(key, ("", lambda _: True))
        if not right(value):
            raise UserError(f"encoder {name!r}: {key} is {value!r:.100}; expected {expected}")
    try:
        encoder = ENCODERS[name](num_outputs=num_outputs, dtype=dtype, axis_name=axis_name, **attributes)
    except TypeError as error:
        raise UserError(f"encoder {name!r} cannot be built with {attributes}: {error}.") from error
    return check_encoder(name, encoder)


def build(
    config_model: Any,
    *,
    encoder: EncoderSpec,
    num_landmarks: int,
    encoder_norm: bool = True,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
    norms: tuple[str, ...] = (),
    heads: tuple[tuple[str, int], ...] = (),
) -> EncoderDecoder | StackedHourglass:
    """A landmark network, with the feature `heatmaps` `[B, H / stride, W / stride, K]`.

    Args:
      config_model: `config.model`; read are `network`, `decoder`, `decoder_channels`, `deconv` (see `Decoder`) and
        `hourglass`.
      encoder: keyword arguments of `build_encoder`, as a weight file's `meta["encoder"]` holds them.
      num_landmarks: K.
      encoder_norm: see `EncoderDecoder`.
      dtype: of the activations.
      axis_name: mapped axis over which batch norm takes its statistics, or None.
      norms: domains that have their own batch norm, see `domain_norm`.
      heads: domains that have their own last convolution, see `Decoder`.

    Raises:
      UserError: no such network, encoder or form of deconvolution, heatmaps would be finer than the picture, or an
        hourglass with domains.
    """
    if config_model.network not in ("encoder_decoder", "hourglass"):
        raise UserError(f"model.network is {config_model.network!r}; expected encoder_decoder or hourglass")
    if config_model.network == "hourglass":
        if norms or heads:
            raise UserError("an hourglass is the same for all domains; set domains.norm and domains.heads to False")
        return StackedHourglass(num_landmarks, **config_model.hourglass, dtype=dtype, axis_name=axis_name)
    form = config_model.decoder
    if form not in ("dense", "separable"):
        raise UserError(f"model.decoder is {form!r}; expected dense or separable")
    decoder = partial(Decoder, num_landmarks, light=form == "separable", heads=heads)
    return _encoder_decoder(
        config_model,
        encoder,
        decoder,
        "heatmaps",
        encoder_norm=encoder_norm,
        dtype=dtype,
        axis_name=axis_name,
        norms=norms,
    )


def build_segmentation(
    config_model: Any,
    *,
    encoder: EncoderSpec,
    num_classes: int,
    encoder_norm: bool = True,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
    norms: tuple[str, ...] = (),
    heads: tuple[tuple[str, int], ...] = (),
) -> EncoderDecoder:
    """A segmentation network, with the feature `logits` `[B, H, W, C]`.

    Args:
      config_model: `config.model`; read are `network`, `decoder_channels` and `deconv` (see `UNetDecoder`).
      encoder: keyword arguments of `build_encoder`, as a weight file's `meta["encoder"]` holds them.
      num_classes: C.
      encoder_norm: see `EncoderDecoder`.
      dtype: of the activations.
      axis_name: mapped axis over which batch norm takes its statistics, or None.
      norms: domains that have their own batch norm, see `domain_norm`.
      heads: domains that have their own last convolution, see `UNetDecoder`.

    Raises:
      UserError: no such network, encoder or form of deconvolution, or logits would be finer than the picture.
    """
    if config_model.network != "encoder_decoder":
        raise UserError(f"model.network is {config_model.network!r}; segmentation expects encoder_decoder")
    decoder = partial(UNetDecoder, num_classes, heads=heads)
    return _encoder_decoder(
        config_model,
        encoder,
        decoder,
        "maps",
        full_size="logits",
        encoder_norm=encoder_norm,
        dtype=dtype,
        axis_name=axis_name,
        norms=norms,
    )


def _encoder_decoder(
    config_model: Any,
    encoder: EncoderSpec,
    decoder: Callable[..., nn.Module],
    maps: str,
    *,
    full_size: str | None = None,
    encoder_norm: bool,
    dtype: Any,
    axis_name: str | None,
    norms: tuple[str, ...],
) -> EncoderDecoder:
    """What the encoder-decoder networks share.

    Args:
      config_model: `config.model`; read are `decoder_channels` and `deconv`.
      encoder, encoder_norm, dtype, axis_name, norms: see `build`.
      decoder: makes the decoder, of `channels`, `deconv`, `dtype` and `axis_name`.
      maps: what it makes, for messages.
      full_size: see `EncoderDecoder`.

    Raises:
      UserError: no such encoder or form of deconvolution, or maps would be finer than the picture.
    """
    if config_model.deconv not in deconvolution.FORMS:
        forms = ", ".join(deconvolution.FORMS)
        raise UserError(f"config.model.deconv is {config_model.deconv!r}; choose one of {forms}.")
    channels = tuple(config_model.decoder_channels)
    net = EncoderDecoder(
        build_encoder(**encoder, dtype=dtype, axis_name=axis_name),
        decoder(channels=channels, deconv=config_model.deconv, dtype=dtype, axis_name=axis_name),
        full_size=full_size,
        encoder_norm=encoder_norm,
        domains=norms,
    )
    if net.stride < 1:
        raise UserError(
            f"{len(channels)} deconvolutions make {maps} finer than the picture (the encoder's stride is "
            f"{net.encoder.stride}); shorten `config.model.decoder_channels`."
        )
    return net
