"""The network of landmarks: built from a configuration, and what it says of pictures."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import data, models
from ctd_jax.errors import UserError
from ctd_jax.tasks.landmarks import heatmaps, presence
from ctd_jax.typing import Batch, EncoderSpec, Features, InputSpec, Variables


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


def look(
    model: nn.Module,
    input_spec: InputSpec,
    flip_order: Sequence[int] | None = None,
    domain_mirrors: Mapping[str, bool] = MappingProxyType({}),
    *,
    doubts: bool = True,
) -> Callable[[Variables, Batch], dict[str, Array]]:
    """Body `(variables, {"picture": [B, S, S, 3] uint8})`; "domain" `[B]` too, where there are domains. `variables` as
    trained, or of `models.fold`. It gives

    - `xy` `[B, K, 2]` in network pixels, and `confidence` `[B, K]`;
    - `width` `[B, K]`, see `heatmaps.width`; where mirror images are averaged also `mirror` `[B, K]`, network pixels
      between the points of the picture and of its mirror image;
    - `presence` `[B, K]`, the logits of `presence`, of the picture as it is; only where the network has such a head;
    - `features` `[B, C]`, means of the encoder's channels over the picture; not where the network has no encoder.

    Args:
      model: of `build`.
      input_spec: what pictures it expects, see `models.normalize`.
      flip_order: see `Landmarks.flip_order`; the heatmaps of a picture and of its mirror image, turned back, are then
        averaged. None: a picture is seen as it is.
      domain_mirrors: of each domain, in the order of its landmarks, whether its pictures are seen mirrored too; none:
        there are no domains.
      doubts: False: `xy`, `confidence` and `presence` are all that is given.
    """

    heads = [presence.head_of(name) for name in domain_mirrors] or [presence.ALONE]
    mirrors = list(domain_mirrors.values())

    def seen_by(variables: Variables, batch: Batch) -> dict[str, Array]:
        domain = batch.get("domain")

        def features(picture: Array) -> Features:
            return models.apply_in_evaluation(model, variables, picture, domain)

        def maps(picture: Array) -> Array:
            return features(picture)["heatmaps"]

        picture = models.normalize(batch["picture"], input_spec)
        seen: dict[str, Array] = {}
        with models.folded():
            of_picture = features(picture)
            found = of_picture["heatmaps"]
            if presence.NAME in variables["params"]:
                seen["presence"] = presence.logits(of_picture, variables["params"][presence.NAME], heads)
            if doubts and "encoder" in of_picture:
                seen["features"] = models.pooled(of_picture)
            if flip_order is not None:
                turned = models.of_mirror_image(maps, picture)[..., np.array(flip_order)]
                if doubts:
                    here, there = (heatmaps.decode(one, stride=model.stride)[0] for one in (found, turned))
                    apart = here - there
                    seen["mirror"] = jnp.sqrt((apart * apart).sum(-1))
                mean = (found + turned) / 2
                if domain is not None and not all(mirrors):
                    mean = jnp.where(jnp.array(mirrors)[domain][:, None, None, None], mean, found)
                found = mean
        seen["xy"], seen["confidence"] = heatmaps.decode(found, stride=model.stride)
        if doubts:
            seen["width"] = heatmaps.width(found, stride=model.stride)
        return seen

    return seen_by


def forward(*made_of: Any, **keys: Any) -> Callable[[Variables, Batch], tuple[Array, Array]]:
    """Body as that of `look`, of the same arguments, for `xy` and `confidence` alone."""
    points = look(*made_of, **keys, doubts=False)

    def points_of(variables: Variables, batch: Batch) -> tuple[Array, Array]:
        seen = points(variables, batch)
        return seen["xy"], seen["confidence"]

    return points_of
