"""Networks that hand out a dict of named features.

`build_encoder` makes a teacher, `build` a student; `weights` keeps either in a file. Variables are Flax's,
`{"params": ..., "batch_stats": ...}`; in a student's, each of the two has a teacher's tree at `encoder`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from ctd_jax.errors import UserError
from ctd_jax.models import domain_norm, weights
from ctd_jax.models.decoder import Decoder
from ctd_jax.models.evaluation import apply_in_evaluation
from ctd_jax.models.fold import fold, folded
from ctd_jax.models.hourglass import StackedHourglass
from ctd_jax.models.inputs import activation_dtype, normalize
from ctd_jax.models.landmark_net import LandmarkNet
from ctd_jax.models.layers import DECONVS
from ctd_jax.models.mobilefacenet import MobileFaceNet
from ctd_jax.models.mobilenet import MICRO, TINY, MobileNet
from ctd_jax.models.remat import apply_in_training
from ctd_jax.models.resnet import BasicBlock, Bottleneck, ResNet
from ctd_jax.models.unet import SegmentationNet, UNetDecoder

__all__ = [
    "ENCODERS",
    "LandmarkNet",
    "SegmentationNet",
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
    "weights",
]

ENCODERS = {
    "resnet8": partial(ResNet, (1, 1, 1), BasicBlock, width=32),  # ours: stride 16, for small pictures
    "resnet18": partial(ResNet, (2, 2, 2, 2), BasicBlock),
    "resnet34": partial(ResNet, (3, 4, 6, 3), BasicBlock),
    "resnet50": partial(ResNet, (3, 4, 6, 3), Bottleneck),
    "mobilefacenet": MobileFaceNet,
    "mobilenet_tiny": partial(MobileNet, 16, TINY),
    "mobilenet_micro": partial(MobileNet, 8, MICRO),
}


def build_encoder(
    name: str, *, num_outputs: int = 0, dtype: Any = jnp.float32, axis_name: str | None = None, **kwargs: Any
) -> nn.Module:
    """An encoder: `encoder.apply(variables, image_BHWC, train=False)` is a dict of features with the key `encoder`.

    Args:
      name: a key of `ENCODERS`.
      num_outputs: length of the classifier's or embedding's output; 0: no such head.
      dtype: of the activations.
      axis_name: mapped axis over which batch norm takes its statistics, or None.
      **kwargs: further attributes of the network: for a ResNet width, stride_in_1x1, pool_padding.

    Raises:
      UserError: there is no such encoder, or it has no such attribute.
    """
    if name not in ENCODERS:
        raise UserError(f"there is no encoder {name!r}; choose one of {', '.join(ENCODERS)}.")
    try:
        return ENCODERS[name](num_outputs=num_outputs, dtype=dtype, axis_name=axis_name, **kwargs)
    except TypeError as error:
        raise UserError(f"encoder {name!r} cannot be built with {kwargs}: {error}.") from error


def build(
    config_model: Any,
    *,
    encoder: Mapping[str, Any],
    num_landmarks: int,
    encoder_norm: bool = True,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
    norms: tuple[str, ...] = (),
    heads: tuple[tuple[str, int], ...] = (),
) -> LandmarkNet | StackedHourglass:
    """A landmark network.

    Args:
      config_model: `config.model`; read are `network`, `decoder`, `decoder_channels`, `deconv` (see `Decoder`) and
        `hourglass`.
      encoder: keyword arguments of `build_encoder`, as a weight file's `meta["encoder"]` holds them.
      num_landmarks: K.
      encoder_norm: see `LandmarkNet`.
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
    if config_model.deconv not in DECONVS:
        raise UserError(f"config.model.deconv is {config_model.deconv!r}; choose one of {', '.join(DECONVS)}.")
    decoder = getattr(config_model, "decoder", "dense")  # runs of version 0.1 have no such key
    if decoder not in ("dense", "separable"):
        raise UserError(f"model.decoder is {decoder!r}; expected dense or separable")
    net = LandmarkNet(
        encoder=build_encoder(**encoder, dtype=dtype, axis_name=axis_name),
        decoder=Decoder(
            num_landmarks,
            tuple(config_model.decoder_channels),
            config_model.deconv,
            light=decoder == "separable",
            dtype=dtype,
            axis_name=axis_name,
            heads=heads,
        ),
        encoder_norm=encoder_norm,
        domains=norms,
    )
    if net.stride < 1:
        raise UserError(
            f"{len(net.decoder.channels)} deconvolutions make heatmaps finer than the picture "
            f"(the encoder's stride is {net.encoder.stride}); shorten `config.model.decoder_channels`."
        )
    return net


def build_segmentation(
    config_model: Any,
    *,
    encoder: Mapping[str, Any],
    num_classes: int,
    encoder_norm: bool = True,
    dtype: Any = jnp.float32,
    axis_name: str | None = None,
    norms: tuple[str, ...] = (),
    heads: tuple[tuple[str, int], ...] = (),
) -> SegmentationNet:
    """A segmentation network; the arguments are those of `build`, with classes for landmarks.

    Raises:
      UserError: no such network, encoder or form of deconvolution, or logits would be finer than the picture.
    """
    if config_model.network != "encoder_decoder":
        raise UserError(f"model.network is {config_model.network!r}; segmentation expects encoder_decoder")
    if config_model.deconv not in DECONVS:
        raise UserError(f"config.model.deconv is {config_model.deconv!r}; choose one of {', '.join(DECONVS)}.")
    net = SegmentationNet(
        encoder=build_encoder(**encoder, dtype=dtype, axis_name=axis_name),
        decoder=UNetDecoder(
            num_classes,
            tuple(config_model.decoder_channels),
            config_model.deconv,
            dtype=dtype,
            axis_name=axis_name,
            heads=heads,
        ),
        encoder_norm=encoder_norm,
        domains=norms,
    )
    if net.stride < 1:
        raise UserError(
            f"{len(net.decoder.channels)} deconvolutions make maps finer than the picture (the encoder's stride is "
            f"{net.encoder.stride}); shorten `config.model.decoder_channels`."
        )
    return net
