"""Networks to export, and what the tests of exports share."""

import functools

import jax
import numpy as np
import pytest
import tiny

from ctd_jax import formats
from ctd_jax.tasks import landmarks
from ctd_jax.tasks.teacher import IMAGENET

S = 32  # side of the pictures
POINTS = "xy", "confidence"


def form_of(name):
    for package in formats.FORMATS[name].packages:
        pytest.importorskip(package.replace("-", "_"))
    return formats.load(name)


def noise(n):
    """Pictures."""
    return np.random.default_rng(n).integers(0, 256, (n, S, S, 3), np.uint8)


NETWORKS = {
    "resnet8": tiny.ENCODER,
    "pooled_as_in_caffe": tiny.ENCODER | {"pool_padding": "ceil"},
    "mobilefacenet": {"name": "mobilefacenet"},
    "efficientnet_lite0": {"name": "efficientnet_lite0"},
    "hourglass": None,
    "mirrored": tiny.ENCODER,
}
MIRRORED = (1, 0, 2, 4, 3)  # its landmarks in a mirror image


@functools.cache
def network(name):
    """A network with random weights: the function `(variables, pictures) -> points, confidence`, and its variables."""
    network = "encoder_decoder" if NETWORKS[name] else "hourglass"
    config = tiny.config("none", model__network=network, data__image_size=2 * S)  # what every encoder can take
    model = landmarks.build(config, NETWORKS[name] or tiny.ENCODER, 5)
    forward = landmarks.forward(model, IMAGENET, MIRRORED if name == "mirrored" else None)
    picture = noise(1) / 255.0
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), picture)
    # peaks of about 1, as those of a trained network: the initial heatmaps are all but flat
    heatmaps = jax.jit(functools.partial(model.apply, train=False))(variables, picture)["heatmaps"]
    last = ("decoder", "final") if NETWORKS[name] else ("heatmaps2",)
    kernel = functools.reduce(dict.__getitem__, last, variables["params"])
    kernel["kernel"] = kernel["kernel"] / heatmaps.max()
    return lambda v, pictures: forward(v, {"picture": pictures}), jax.device_get(variables)
