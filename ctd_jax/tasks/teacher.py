"""The teacher: which network, its weights, and what pictures it expects."""

import dataclasses
import functools
import importlib
import math
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from ctd_jax import converters, models
from ctd_jax.errors import UserError
from ctd_jax.typing import EncoderSpec, Features, InputSpec, Tree, Variables

EMBEDDED = pathlib.Path(__file__).parents[1] / "weights" / "synthetic_faces.safetensors"
NO_TEACHER = (
    "no teacher: give the weights of a network that learned another task, --config.teacher.weights=FILE. `ctd-jax "
    "convert vggface2`, `convert torchvision` and `convert mobilefacenet` make such a file from a published network; "
    "without one, --config.teacher.weights=embedded takes a small network of drawn faces, which is here already; "
    "`ctd-jax train --config=source --config.model.encoder=resnet50 --config.data.root=DIR` trains one on pictures of "
    "people"
)
IMAGENET = {"channels": "RGB", "scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A network that learned another task."""

    encoder: EncoderSpec  # keyword arguments of models.build_encoder
    input: InputSpec  # see models.normalize
    variables: Variables  # params, batch_stats; empty if it has learned nothing
    trained: bool = True


@dataclasses.dataclass(frozen=True)
class TeacherNetwork:
    """The frozen network whose named features the student's are tied to: a teacher's encoder, or the whole landmark
    network of a run."""

    network: nn.Module
    input: InputSpec  # see models.normalize
    variables: Variables
    unlearned: tuple[int, ...] = ()  # landmarks that no picture has taught it

    def features(self, variables: Variables, picture: Array) -> Features:
        """The named features of `[B, S, S, 3]` RGB pictures, 0..255, in evaluation mode; `variables` are its own, on
        the devices."""
        return models.apply_in_evaluation(self.network, variables, models.normalize(picture, self.input))


def load_teacher(weights: str, encoder: str) -> Teacher:
    """The teacher of a configuration.

    Args:
      weights: `config.teacher.weights`.
      encoder: `config.model.encoder`: what an untrained teacher is.

    Raises:
      UserError: no weights, or a file that doesn't hold what it says, or a package that is not installed.
    """
    if not weights:
        raise UserError(NO_TEACHER)
    if weights == "none":
        return _untrained(encoder)
    if weights == "imagenet":
        variables, meta = importlib.import_module(converters.module("efficientnet_lite")).installed()
        return Teacher(meta["encoder"], meta["input"], variables)
    path = EMBEDDED if weights == "embedded" else pathlib.Path(weights)
    variables, meta = models.weight_file.load(path)
    try:
        input_spec, _ = meta["input"], meta["encoder"]["name"]
        _check_input(input_spec, path)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: its metadata lack {error}, take a file that this project wrote") from error
    try:
        template = _template(meta["encoder"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    models.weight_file.match(variables, template, path)
    return Teacher(meta["encoder"], input_spec, variables)


def _check_input(input_spec: InputSpec, path: pathlib.Path) -> None:
    """Raises UserError if `models.normalize` can't do what it says."""
    numbers = [input_spec["scale"], *input_spec["std"], *input_spec["mean"]]
    told = len(numbers) == 7 and all(isinstance(one, int | float) and math.isfinite(one) for one in numbers)
    if not told or min(numbers[:4]) <= 0 or input_spec["channels"] not in ("RGB", "BGR"):
        raise UserError(
            f"{path}: its metadata say of pictures {input_spec}; expected channels RGB or BGR, three means, three std "
            "above 0 and a scale above 0: take a file that this project wrote"
        )


def _untrained(encoder: str) -> Teacher:
    if encoder == "auto":
        raise UserError(
            f"teacher.weights is none: name the encoder, --config.model.encoder={'|'.join(models.ENCODERS)}"
        )
    return Teacher({"name": encoder}, IMAGENET, {}, trained=False)


def _template(encoder: EncoderSpec) -> Tree:
    model = models.build_encoder(**encoder)
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, 224, 224, 3)))


def missing_run(config: ConfigDict) -> str:
    """How to get a run for `teacher.run`, for messages."""
    keys = [f"--config.data.{key}={config.data[key]}" for key in ("root", "split") if config.data[key]]
    make = " ".join([f"ctd-jax train --config=fsf_teacher:{config.variant}", *keys])
    return f"make one with `{make}`, then give --config.teacher.run=runs/fsf_teacher-{config.variant}"
