"""The network of class maps: built from a configuration, and what it says of pictures of one or several domains."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import models
from ctd_jax.errors import UserError
from ctd_jax.typing import Batch, EncoderSpec, Features, InputSpec, Variables

IMPOSSIBLE = -1e9  # logit of a class that is out of the question


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the classes of D domains stand among the C logits of a pixel; M is the largest number of classes."""

    columns: np.ndarray  # [D, M] int32 place of each class, the background first; -1: the domain has no such class
    total: int  # C

    @classmethod
    def of(cls, classes: Mapping[str, Sequence[str]], *, heads: bool) -> "Layout":
        """`heads`: every domain has all of its classes to itself; else they share the background, which stands first.

        Args:
          classes: domain -> names of its classes, the background first.
        """
        columns = np.full((len(classes), max(map(len, classes.values()))), -1, np.int32)
        total = 0 if heads else 1
        for row, names in zip(columns, classes.values(), strict=True):
            number = len(names) if heads else len(names) - 1
            row[: len(names)] = [*([] if heads else [0]), *range(total, total + number)]
            total += number
        return cls(columns, total)

    @property
    def foreground(self) -> np.ndarray:
        """`[C]` bool."""
        return ~np.isin(np.arange(self.total), self.columns[:, 0])

    def places(self, classes: Array, domain: Array) -> Array:
        """`[B, S, S]` classes of pictures of the domains `[B]` -> their places among the logits; -1: does not count."""
        table = np.full((len(self.columns), 256), -1, np.int32)
        table[:, : self.columns.shape[1]] = self.columns
        return jnp.asarray(table)[domain[:, None, None], classes.astype(jnp.int32)]

    def within(self, logits: Array, domain: Array) -> Array:
        """`[B, S, S, C]` logits, `IMPOSSIBLE` where the class is of another domain."""
        allowed = (self.columns[..., None] == np.arange(self.total)).any(1)
        return jnp.where(jnp.asarray(allowed)[domain][:, None, None], logits, IMPOSSIBLE)

    def probabilities(self, logits: Array, domain: Array) -> Array:
        """`[B, S, S, M]` of the classes of each picture's own domain; 0 where it has fewer."""
        columns = jnp.asarray(self.columns)[domain][:, None, None]
        found = jnp.take_along_axis(jax.nn.softmax(self.within(logits, domain)), jnp.maximum(columns, 0), axis=-1)
        return jnp.where(columns >= 0, found, 0.0)


def build(
    config: ConfigDict,
    encoder: EncoderSpec,
    classes: Mapping[str, Sequence[str]],
    *,
    num_outputs: int = 0,
    axis_name: str | None = None,
) -> models.EncoderDecoder:
    """The network of a configuration.

    Args:
      config: of the run.
      encoder: keyword arguments of models.build_encoder.
      classes: domain -> names of its classes, the background first.
      num_outputs: of the encoder's head.
      axis_name: see models.build.

    Raises:
      UserError: a picture size that the network can't take, or another network that can't be built.
    """
    model = models.build_segmentation(
        config.model,
        encoder=encoder | {"num_outputs": num_outputs},
        num_classes=Layout.of(classes, heads=config.domains.heads).total,
        encoder_norm=config.train.encoder_layers == "all",
        dtype=models.activation_dtype(config.dtype),
        axis_name=axis_name,
        norms=tuple(classes) if config.domains.norm and (len(classes) > 1 or config.domains.start) else (),
        heads=tuple((domain, len(names)) for domain, names in classes.items()) if config.domains.heads else (),
    )
    size, multiple = config.data.image_size, model.multiple
    if size % multiple or size < 2 * multiple:
        raise UserError(
            f"data.image_size is {size}; {encoder['name']} needs a multiple of {multiple}, at least {2 * multiple}"
        )
    return model


def mirrors(config: ConfigDict) -> bool:
    """`forward`'s `mirror`: mirror images are asked for, and pictures are mirrored in training."""
    return bool(config.eval.mirror and config.augment.flip)


def look(
    model: nn.Module, input_spec: InputSpec, layout: Layout, *, mirror: bool = False, features: bool = True
) -> Callable[[Variables, Batch], dict[str, Array]]:
    """Body `(variables, {"picture": [B, S, S, 3] uint8, "domain": [B]})` that gives `probabilities` `[B, S, S, M]`, of
    each class of the picture's domain, and `features` `[B, C]`, see `models.pooled`; without "domain", for a network
    that knows one. `variables` as trained, or of `models.fold`.

    Args:
      model: of `build`.
      input_spec: what pictures it expects, see `models.normalize`.
      layout: of its classes.
      mirror: whether the probabilities of a picture and of its mirror image, turned back, are averaged.
      features: False: `probabilities` are all that is given.
    """

    def body(variables: Variables, batch: Batch) -> dict[str, Array]:
        domain = batch.get("domain")

        def apply(picture: Array) -> Features:
            return models.apply_in_evaluation(model, variables, picture, domain)

        def probabilities(logits: Array) -> Array:
            return jax.nn.softmax(logits) if domain is None else layout.probabilities(logits, domain)

        picture = models.normalize(batch["picture"], input_spec)
        with models.folded():
            of_picture = apply(picture)
            found = probabilities(of_picture["logits"])
            if mirror:
                turned = models.of_mirror_image(lambda x: probabilities(apply(x)["logits"]), picture)
                found = (found + turned) / 2
        return {"probabilities": found} | ({"features": models.pooled(of_picture)} if features else {})

    return body


def forward(*made_of: Any, **keys: Any) -> Callable[[Variables, Batch], Array]:
    """Body as that of `look`, of the same arguments, for `probabilities` alone."""
    whole = look(*made_of, **keys, features=False)
    return lambda variables, batch: whole(variables, batch)["probabilities"]
