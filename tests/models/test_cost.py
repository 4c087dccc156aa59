"""What the tiny students cost, counted by the compiler and by hand."""

import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from ctd_jax import models
from ctd_jax.models import cost, deconvolution, layers

STUDENTS = {
    "mobilenet_tiny": ((64, 64, 64), 562_915, 1e6, 0.267, 0.251),
    "mobilenet_micro": ((32, 32, 32), 113_867, 0.2e6, 0.081, 0.074),
}


def network(encoder, channels, decoder="separable"):
    config = importlib.import_module("configs.student").get_config().model
    config.encoder, config.decoder, config.decoder_channels = encoder, decoder, channels
    return models.build(config, encoder={"name": encoder}, num_landmarks=19)


def multiply_adds(net, size):
    """Output places times kernel, summed over the layers."""
    total = 0

    def count(call, args, kwargs, context):
        nonlocal total
        y, layer = call(*args, **kwargs), context.module
        if isinstance(layer, (layers.Conv, deconvolution.Deconv, layers.DepthwiseConv)):
            per_place = layer.variables["params"]["kernel"].size
            places = y.shape[1] * y.shape[2]
            total += per_place * (places // 4 if isinstance(layer, deconvolution.Deconv) else places)
        return y

    with nn.intercept_methods(count):
        jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, size, size, 3)), train=False))
    return total


def test_multiply_adds_of_a_network_by_hand():
    """One block: 3x3 stem at 16x16, expansion at 16x16, depthwise and projection at 8x8, two doublings, heatmaps."""
    net = models.mobilenet.MobileNet(4, ((2, 6, 1),))
    want = 27 * 4 * 256 + 4 * 8 * 256 + 9 * 8 * 64 + 8 * 6 * 64
    assert multiply_adds(net, 32) == want
    dense = models.EncoderDecoder(net, models.decoder.Decoder(5, (3,)))
    assert multiply_adds(dense, 32) == want + 16 * 6 * 3 * 64 + 3 * 5 * 256
    light = models.EncoderDecoder(net, models.decoder.Decoder(5, (3,), light=True))
    assert multiply_adds(light, 32) == want + 6 * 3 * 64 + 9 * 3 * 256 + 3 * 5 * 256


@pytest.mark.slow
@pytest.mark.parametrize("encoder", STUDENTS)
def test_a_tiny_student_keeps_its_bounds(encoder):
    channels, n_params, most, gflops, by_hand = STUDENTS[encoder]
    net = network(encoder, channels)
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False))
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == n_params < most
    found, products = cost.gflops(net, 256), 2e-9 * multiply_adds(net, 256)
    assert (found, products) == pytest.approx((gflops, by_hand), abs=5e-4)
    assert products < found < 0.3
    assert cost.gflops(net, 128) == pytest.approx(found / 4, rel=1e-3)


@pytest.mark.slow
def test_the_compiler_counts_two_for_a_multiply_add():
    """All but batch norm and activations; less where a tap meets padding, which the dense deconvolution has most of."""
    for net in (network("resnet18", (128, 128, 128), "dense"), network("mobilefacenet", (64, 64))):
        assert cost.gflops(net, 128) == pytest.approx(2e-9 * multiply_adds(net, 128), rel=0.05)


def test_the_configurations_students_are_these():
    for name in ("student", "fpd", "fitnets", "attention_transfer", "fsf_ld"):
        for variant in ("demo", "paper"):
            config = importlib.import_module(f"configs.{name}").get_config(variant).model
            assert (config.encoder, config.decoder) == ("mobilenet_tiny", "separable")
            assert tuple(config.decoder_channels) == STUDENTS["mobilenet_tiny"][0]


@pytest.mark.slow
def test_operations_are_counted_for_the_host(monkeypatch):
    """An accelerator's compiler does not count them, and its forms are others."""
    (here,) = jax.local_devices(backend="cpu")[:1]
    monkeypatch.setattr(jax.stages.Lowered, "cost_analysis", counted_on(here, jax.stages.Lowered.cost_analysis))
    net = models.EncoderDecoder(models.mobilenet.MobileNet(4, ((2, 6, 1),)), models.decoder.Decoder(5, (3,)))
    assert cost.gflops(net, 32) is None, "nothing counts on this one device"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = cost.gflops(net, 32)
    monkeypatch.undo()
    assert found == cost.gflops(net, 32) > 0


def counted_on(device, count):
    """`Lowered.cost_analysis`, which answers only while JAX computes on `device`."""
    return lambda self: count(self) if jax.config.jax_default_device == device else None
