"""The network of landmarks: built from a configuration, and what it says of pictures."""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import data, models
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


def flip_order_of(config: ConfigDict, known: data.Landmarks) -> tuple[int, ...] | None:
    """`forward`'s: None where mirror images are not asked for, or pictures are not mirrored in training."""
    return known.flip_order if config.eval.mirror and config.augment.flip else None


def forward(
    model: nn.Module,
    input_spec: InputSpec,
    flip_order: Sequence[int] | None = None,
    domain_mirrors: Sequence[bool] = (),
) -> Callable[[Variables, Batch], tuple[Array, Array]]:
    """Body `(variables, {"picture": [B, S, S, 3] uint8}) -> ([B, K, 2] network pixels, [B, K] confidence)`; "domain"
    `[B]` too, where there are domains. `variables` as trained, or of `models.fold`.

    Args:
      model: of `build`.
      input_spec: what pictures it expects, see `models.normalize`.
      flip_order: see `Landmarks.flip_order`; the heatmaps of a picture and of its mirror image, turned back, are then
        averaged. None: a picture is seen as it is.
      domain_mirrors: of each domain, whether its pictures are seen mirrored too; none: all are.
    """

    def body(variables: Variables, batch: Batch) -> tuple[Array, Array]:
        domain = batch.get("domain")

        def maps(picture: Array) -> Array:
            return models.apply_in_evaluation(model, variables, picture, domain)["heatmaps"]

        picture = models.normalize(batch["picture"], input_spec)
        with models.folded():
            found = maps(picture)
            if flip_order is not None:
                mean = (found + models.of_mirror_image(maps, picture)[..., np.array(flip_order)]) / 2
                if domain is not None and not all(domain_mirrors):
                    mean = jnp.where(jnp.array(domain_mirrors)[domain][:, None, None, None], mean, found)
                found = mean
        return heatmaps.decode(found, stride=model.stride)

    return body
