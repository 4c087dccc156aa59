"""The teacher: which network, its weights, and what pictures it expects."""

import dataclasses
import functools
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ctd_jax import models
from ctd_jax.errors import UserError

EMBEDDED = pathlib.Path(__file__).parents[1] / "weights" / "synthetic_faces.safetensors"
MISSING = (
    "no teacher: give the weights of a network that learned another task, --config.teacher.weights=FILE. `ctd-jax "
    "convert vggface2`, `convert torchvision` and `convert mobilefacenet` make such a file from a published network, "
    "`ctd-jax train --config=source --config.model.encoder=resnet50 --config.data.root=DIR` trains one on pictures of "
    "people"
)
IMAGENET = {"channels": "RGB", "scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A network that learned another task."""

    encoder: dict[str, Any]  # keyword arguments of models.build_encoder
    input: dict[str, Any]  # see models.normalize
    variables: dict[str, Any]  # params, batch_stats; empty if it has learned nothing
    trained: bool = True


@dataclasses.dataclass(frozen=True)
class Guide:
    """The frozen network whose named features the student's are tied to: a teacher's encoder, or the whole landmark
    network of a run."""

    network: nn.Module
    input: dict[str, Any]  # see models.normalize
    variables: dict[str, Any]

    def features(self, variables: Any, picture: Array) -> dict[str, Array]:
        """Of `[B, S, S, 3]` RGB in 0..255, in evaluation mode; `variables` are its own, on the devices."""
        return self.network.apply(variables, models.normalize(picture, self.input), train=False)


def load(weights: str, encoder: str) -> Teacher:
    """The teacher of a configuration.

    Args:
      weights: `config.teacher.weights`.
      encoder: `config.model.encoder`: what an untrained teacher is.

    Raises:
      UserError: no weights, or a file that doesn't hold what it says.
    """
    if not weights:
        raise UserError(MISSING)
    if weights == "none":
        return _untrained(encoder)
    path = EMBEDDED if weights == "embedded" else pathlib.Path(weights)
    variables, meta = models.weights.load(path)
    try:
        meta["encoder"]["name"], meta["input"]  # noqa: B018
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: its metadata lack {error}, take a file that this project wrote") from error
    teacher = Teacher(meta["encoder"], meta["input"], variables)
    models.weights.match(variables, _template(teacher.encoder), path)
    return teacher


def _untrained(encoder: str) -> Teacher:
    if encoder == "auto":
        raise UserError(
            f"teacher.weights is none: name the encoder, --config.model.encoder={'|'.join(models.ENCODERS)}"
        )
    return Teacher({"name": encoder}, IMAGENET, {}, trained=False)


def _template(encoder: dict[str, Any]) -> Any:
    model = models.build_encoder(**encoder)
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
