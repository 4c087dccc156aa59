"""The network of landmarks: built from a configuration, and what it says of pictures."""

from collections.abc import Callable, Mapping

import flax.linen as nn
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import models
from ctd_jax.errors import UserError
from ctd_jax.tasks.landmarks import heatmaps
from ctd_jax.typing import Batch, EncoderSpec, InputSpec, Variables


def build(
    config: ConfigDict,
    encoder: EncoderSpec,
    num_landmarks: int,
    *,
    of_domain: Mapping[str, int] | None = None,
    num_outputs: int = 0,
    axis_name: str | None = None,
) -> nn.Module:
    """The student of a configuration.

    Args:
      config: of the run.
      encoder: keyword arguments of models.build_encoder.
      num_landmarks: K.
      of_domain: domain -> number of its landmarks, in their order; None: there are no domains.
      num_outputs: of its head.
      axis_name: see models.build.

    Raises:
      UserError: a picture size that the network can't take, or another network that can't be built.
    """
    model = models.build(
        config.model,
        encoder=encoder | {"num_outputs": num_outputs},
        num_landmarks=num_landmarks,
        encoder_norm=config.train.encoder_layers == "all",
        dtype=models.activation_dtype(config.dtype),
        axis_name=axis_name,
        norms=tuple(of_domain) if of_domain and config.domains.norm else (),
        heads=tuple(of_domain.items()) if of_domain and config.domains.heads else (),
    )
    size, multiple = config.data.image_size, model.multiple
    if size % multiple or size < 2 * multiple:
        raise UserError(
            f"data.image_size is {size}; {encoder['name'] if config.model.network != 'hourglass' else 'the hourglass'} "
            f"needs a multiple of {multiple}, at least {2 * multiple}"
        )
    if size // model.stride < 3:
        raise UserError(f"heatmaps of {size // model.stride} cells are too small; give model.decoder_channels one more")
    return model


def forward(model: nn.Module, input_spec: InputSpec) -> Callable[[Variables, Batch], tuple[Array, Array]]:
    """Body `(variables, {"picture": [B, S, S, 3] uint8}) -> ([B, K, 2] network pixels, [B, K] confidence)`; "domain"
    `[B]` too, where there are domains. `variables` as trained, or of `models.fold`."""

    def body(variables: Variables, batch: Batch) -> tuple[Array, Array]:
        picture = models.normalize(batch["picture"], input_spec)
        with models.folded():
            out = models.apply_in_evaluation(model, variables, picture, batch.get("domain"))
        return heatmaps.decode(out["heatmaps"], stride=model.stride)

    return body
