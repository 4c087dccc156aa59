"""The smallest run: 32 x 32 pixels, four drawn people to train on, an encoder of a few thousand parameters."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from configs import ctd_ed
from ctd_jax import models
from ctd_jax.teacher import IMAGENET

ENCODER = {"name": "resnet8", "width": 4}
KEYS = {
    "data.image_size": 32,
    "data.budget": 0,
    "data.synthetic.identities": (4, 2, 2),
    "data.synthetic.shots": (2, 2, 2),
    "model.decoder_channels": (8, 8),
    "train.steps": 4,
    "train.batch_size": 4,
    "eval.every": 2,
    "eval.batch_size": 4,
    "eval.bootstrap": 20,
}


def write_teacher(path: pathlib.Path, encoder: dict = ENCODER) -> pathlib.Path:
    """Random weights, with the batch statistics of noise."""
    model = models.build_encoder(**encoder)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(1), jnp.zeros((1, 32, 32, 3)))
    noise = np.random.default_rng(0).normal(size=(30, 4, 32, 32, 3)).astype("float32")
    seen = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])[1])
    for batch in noise:
        variables = variables | seen(variables, batch)
    models.weights.save(path, variables, {"encoder": encoder, "input": IMAGENET, "source": "random"})
    return path


def config(teacher: pathlib.Path, module=ctd_ed, **changes):
    """A configuration of `module` made small; `changes` has `__` for the dots of its keys."""
    small = module.get_config()
    if small.constraints.ed.weight:
        small.constraints.ed.weight = 0.01  # strong enough for a test to see it
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    small.update_from_flattened_dict(KEYS | {"teacher.weights": str(teacher)} | dotted)
    return small


def arguments(teacher: pathlib.Path, **changes) -> list[str]:
    """The same as a command line has it."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    keys = KEYS | {"teacher.weights": str(teacher)} | dotted
    return [f"--config.{key}={value}" for key, value in keys.items()]
