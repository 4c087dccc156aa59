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
N = 3  # the largest number of pictures at a time
POINTS = "xy", "confidence"


def form_of(name):
    for package in formats.FORMATS[name].packages:
        pytest.importorskip(package.replace("-", "_"))
    return formats.load(name)


def noise(n):
    """Pictures."""
    return np.random.default_rng(n).integers(0, 256, (n, S, S, 3), np.uint8)


NETWORKS = {
    "resnet8": tiny.RESNET8 | {"stage_sizes": [1, 1]},  # the second stage has a 1x1 convolution of stride 2
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
    keys = {"model__network": network, "data__image_size": 2 * S}  # what every encoder can take
    if name in ("mobilefacenet", "efficientnet_lite0"):
        keys |= tiny.OF_RESNET8
    config = tiny.config("none", **keys)
    model = landmarks.build(config, NETWORKS[name] or tiny.ENCODER, 5)
    forward = landmarks.forward(model, IMAGENET, MIRRORED if name == "mirrored" else None)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), noise(1) / 255.0, train=False))
    rng = np.random.default_rng(0)

    def drawn(path, leaf):
        kind = path[-1].key
        if kind == "kernel":
            return rng.normal(0, (2 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape).astype(np.float32)
        return np.full(leaf.shape, kind in ("scale", "var"), np.float32)

    def body(v, pictures):
        return forward(v, {"picture": pictures})

    variables = jax.tree_util.tree_map_with_path(drawn, shapes)
    last = ("decoder", "final") if NETWORKS[name] else ("heatmaps2",)
    layer = functools.reduce(dict.__getitem__, last, variables["params"])
    layer["kernel"] /= 1000  # a confidence is 1 at most
    layer["kernel"] /= jax.jit(body)(variables, noise(N))[1].max()  # peaks of about 1, as those of a trained network
    return body, variables
