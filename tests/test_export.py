"""Networks as files: each format in its own runtime against the network in JAX."""

import csv
import functools
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax import export
from PIL import Image

from ctd_jax import checkpoint, formats, landmarks
from ctd_jax import workdir as workdirs
from ctd_jax.data import synthetic
from ctd_jax.models import layers
from ctd_jax.teacher import IMAGENET

REPO = pathlib.Path(__file__).parents[1]
K = len(synthetic.LANDMARKS)


def form_of(name):
    for package in formats.FORMATS[name].packages:
        pytest.importorskip(package.replace("-", "_"))
    return formats.load(name)


def noise(n, size=32):
    """Pictures."""
    return np.random.default_rng(n).integers(0, 256, (n, size, size, 3), np.uint8)


NETWORKS = {
    "resnet18": {"name": "resnet18", "width": 4},
    "caffe_resnet50": {"name": "resnet50", "width": 4, "stride_in_1x1": True, "pool_padding": "ceil"},
    "mobilefacenet": {"name": "mobilefacenet"},
    "hourglass": None,
}


@pytest.fixture(scope="module")
def network():
    """Makes a network with random weights: the function `(variables, pictures) -> points, confidence`, variables."""

    @functools.cache
    def make(name):
        config = tiny.config("none", model__network="encoder_decoder" if NETWORKS[name] else "hourglass")
        config.model.decoder_channels = (8, 8, 8)
        model = landmarks.build(config, NETWORKS[name] or tiny.ENCODER, 5)
        forward = landmarks.forward(model, IMAGENET)
        variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        # peaks of about 1, as those of a trained network; the initial heatmaps are all but flat
        heatmaps = model.apply(variables, jnp.zeros((1, 32, 32, 3)), train=False)["heatmaps"]
        last = ("decoder", "final") if NETWORKS[name] else ("heatmaps2",)
        kernel = functools.reduce(dict.__getitem__, last, variables["params"])
        kernel["kernel"] = kernel["kernel"] / jnp.abs(heatmaps).max()
        return lambda v, pictures: forward(v, {"picture": pictures}), jax.device_get(variables)

    return make


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("to", formats.FORMATS)
def test_every_network_in_every_format(network, to, name):
    form, (body, variables) = form_of(to), network(name)
    (b,) = export.symbolic_shape("b") if formats.FORMATS[to].any_batch else (1,)
    content = form.write(body, variables, jax.ShapeDtypeStruct((b, 32, 32, 3), jnp.uint8), {})
    call = form.load(content)
    for n in (1, 3):
        found, want = call(noise(n)), jax.jit(body)(variables, noise(n))
        assert [x.shape for x in found] == [(n, 5, 2), (n, 5)]
        for x, y in zip(found, want, strict=True):
            np.testing.assert_allclose(x, y, atol=2e-3, err_msg=name)
    weights = sum(x.nbytes for x in jax.tree.leaves(variables))
    assert weights < len(content) < 1.3 * weights + 300_000  # each of them once
