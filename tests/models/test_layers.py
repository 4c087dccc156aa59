"""Layers against XLA's plain ones, PyTorch's numbers (golden/README.md) and a calculation by hand."""

import functools
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.seeded import draw
from jax import lax

from ctd_jax.models import layers

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "models.npz") as numbers:
        return dict(numbers)


def with_gradients(function, *inputs):
    """What a function gives, and by each of its inputs the gradient of its sum, weighted with numbers drawn for it."""
    shape = jax.eval_shape(function, *inputs).shape
    weights = np.random.default_rng(1).normal(size=shape).astype("float32")

    @jax.jit
    def both(*inputs):
        found, pull = jax.vjp(function, *inputs)
        return found, *pull(weights)

    return both(*inputs)


@pytest.mark.parametrize("padding", ["same", "ceil"])
@pytest.mark.parametrize(("height", "width"), [(8, 12), (9, 7), (12, 9), (3, 4)])
def test_max_pool_and_its_gradient_are_those_of_the_plain_one(padding, height, width):
    """`nn.max_pool` is XLA's reduce-window; PyTorch's numbers are those of the ResNets above."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.permutation(2 * height * width * 3).reshape(2, height, width, 3) + 1.0)  # no two are equal
    pad = ((1, 1), (1, 1)) if padding == "same" else ((0, 1 - height % 2), (0, 1 - width % 2))
    plain = functools.partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2), padding=pad)
    want, want_gradient = with_gradients(plain, x)
    found, gradient = with_gradients(functools.partial(layers.max_pool, padding=padding), x)
    np.testing.assert_array_equal(found, want)
    np.testing.assert_allclose(gradient, want_gradient, rtol=1e-6)


def test_relu_and_its_gradient_by_hand():
    x = jnp.asarray([-np.inf, -2, -0.0, 0, 3, np.inf, np.nan], jnp.float32)
    np.testing.assert_array_equal(layers.relu(x), [0, 0, 0, 0, 3, np.inf, np.nan])
    grad = jax.grad(lambda x: (layers.relu(x) * jnp.arange(1.0, 7)).sum())(x[:6])
    np.testing.assert_array_equal(grad, [0, 0, 0, 0, 5, 6])
    assert layers.relu(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_relu_is_not_computed_again_by_the_next_blocks():
    """Four blocks that add to a shortcut of 4 MiB, each reading the one before and its own product: 3 times 4 MiB to
    add, 2 to multiply. Of a maximum XLA:CPU would read the products of all blocks before again."""

    def blocks(relu, x, kernels):
        for kernel in kernels:
            x = relu(x + 2 * (x @ kernel))
        return x

    x, kernels = jnp.ones((4096, 256)), jnp.ones((4, 256, 256))

    def read(relu):
        compiled = jax.jit(lambda x, kernels: blocks(relu, x, kernels)).lower(x, kernels).compile()
        return compiled.cost_analysis()["bytes accessed"] / x.nbytes

    assert read(layers.relu) < 4 * 5.5 < read(nn.relu)


@pytest.mark.parametrize("outputs", [3, 5, 9])
def test_a_product_and_its_gradients_are_those_of_numpy(outputs):
    rng = np.random.default_rng(0)
    x, kernel, g = (rng.normal(size=shape).astype(np.float32) for shape in ((20, 5), (5, outputs), (20, outputs)))
    found, pull = jax.vjp(jax.jit(layers.product), x, kernel)
    np.testing.assert_allclose(found, x @ kernel, atol=1e-5)
    for ours, want in zip(pull(jnp.asarray(g)), (g @ kernel.T, x.T @ g), strict=True):
        np.testing.assert_allclose(ours, want, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (2, 1), (5, 2)])
@pytest.mark.parametrize("size", [4, 7, 12])
def test_convolution_and_its_gradients_are_those_of_the_plain_one(kernel, stride, size):
    """40 channels: maps of up to 6 x 6 places go as a matrix product, larger ones as XLA's convolution."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, size, size + 1, 40)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(kernel, kernel, 40, 5)) / 20, jnp.float32)
    pad = ((1, 2), (kernel // 2, 0))
    plain = lambda x, w: lax.conv_general_dilated(x, w, (stride,) * 2, pad, dimension_numbers=layers.DIMENSIONS)  # noqa: E731
    want, *want_gradients = with_gradients(plain, x, w)
    found, *gradients = with_gradients(lambda x, w: layers.convolve(x, w, stride, pad), x, w)
    np.testing.assert_allclose(found, want, atol=1e-5)
    for a, b in zip(gradients, want_gradients, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (2, 1), (7, 2)])
@pytest.mark.parametrize("size", [7, 12])
def test_gradients_of_a_large_map_are_sums_over_places(kernel, stride, size, monkeypatch):
    """As any size with `LARGE` 1; in float64 by NumPy."""
    monkeypatch.setattr(layers, "LARGE", 1)
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, size, size + 1, 3)), rng.normal(size=(kernel, kernel, 3, 5))
    pad = ((1, 2), (kernel // 2, 0))
    padded = np.pad(x, ((0, 0), *pad, (0, 0)))
    h, v = ((n - kernel) // stride + 1 for n in padded.shape[1:3])
    grad = rng.normal(size=(2, h, v, 5))
    want_x, want_w = np.zeros_like(padded), np.zeros_like(w)
    for row in range(h):
        for column in range(v):
            seen = np.s_[:, row * stride : row * stride + kernel, column * stride : column * stride + kernel]
            want_x[seen] += np.einsum("bd,klcd->bklc", grad[:, row, column], w)
            want_w += np.einsum("bklc,bd->klcd", padded[seen], grad[:, row, column])
    inputs = [a.astype("float32") for a in (x, w, grad)]
    found_x, found_w = jax.jit(
        lambda x, w, grad: jax.vjp(lambda x, w: layers.convolve(x, w, stride, pad), x, w)[1](grad)
    )(*inputs)
    np.testing.assert_allclose(found_x, want_x[:, 1:-2, kernel // 2 :], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found_w, want_w, rtol=1e-5, atol=1e-5)


def test_a_large_map_s_kernel_has_no_convolution_for_its_gradient_on_a_cpu():
    """2**16 numbers are large: three products, one for each row of the kernel."""

    def operations(size, features):
        x, kernel = jnp.zeros((2, size, size, 4)), jnp.zeros((3, 3, 4, features))

        def gradients(x, kernel):
            return jax.grad(lambda *of: layers.convolve(*of, 1, ((1, 1), (1, 1))).sum(), (0, 1))(x, kernel)

        text = jax.jit(gradients).lower(x, kernel).as_text()
        return text.count("stablehlo.dot_general"), text.count("stablehlo.convolution")

    assert operations(64, 16) == (3, 1)
    assert operations(64, 15) == (0, 2)
    for platform in ("count", "any"):
        with layers.traced_for(platform):
            assert operations(64, 16) == (0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 2])
def test_a_large_depthwise_kernel_and_its_gradients_are_those_of_xla(padding, stride):
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=n).astype("float32") for n in ((2, 9, 8, 3), (5, 5, 1, 3)))

    def plain(x, kernel):
        pads, form = [(padding, padding)] * 2, layers.DIMENSIONS
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=form, feature_group_count=3
        )

    want, *want_gradients = with_gradients(plain, x, kernel)
    found, *gradients = with_gradients(lambda x, kernel: layers.depthwise(x, kernel, stride, padding), x, kernel)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)
    for a, b in zip(gradients, want_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(8, 8), (7, 5)])
@pytest.mark.parametrize("size", [3, 5])
def test_padding_as_in_tensorflow_is_that_of_xla(size, shape, stride):
    def plain(x, kernel, groups):
        strides, form = (stride, stride), layers.DIMENSIONS
        return lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=form, feature_group_count=groups)

    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=n).astype("float32") for n in ((2, *shape, 3), (size, size, 1, 3)))
    want, *want_gradients = with_gradients(lambda x, kernel: plain(x, kernel, 3), x, kernel)
    found, *gradients = with_gradients(lambda x, kernel: layers.depthwise(x, kernel, stride, "tensorflow"), x, kernel)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)
    for a, b in zip(gradients, want_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    conv, kernel = layers.Conv(4, size, stride, "tensorflow"), rng.normal(size=(size, size, 3, 4)).astype("float32")
    found, want = jax.jit(lambda x, k: (conv.apply({"params": {"kernel": k}}, x), plain(x, k, 1)))(x, kernel)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_and_its_gradients_match_pytorch(stride, golden):
    x = draw("depthwise/x", (2, 5, 9, 8)).transpose(0, 2, 3, 1)
    kernel = draw("depthwise/weight", (5, 1, 3, 3)).transpose(2, 3, 1, 0)
    want = golden[f"depthwise/{stride}/y"]

    @jax.jit
    def with_gradients(x, kernel):
        y, pull_back = jax.vjp(lambda x, k: layers.depthwise(x, k, stride, 1), x, kernel)
        return y, *pull_back(draw("depthwise/g", want.shape).transpose(0, 2, 3, 1))

    y, grad_x, grad_kernel = with_gradients(x, kernel)
    np.testing.assert_allclose(y.transpose(0, 3, 1, 2), want, rtol=1e-4, atol=1e-5)
    with layers.traced_for("any"):
        plain = layers.DepthwiseConv(3, stride, 1).apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(plain.transpose(0, 3, 1, 2), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grad_x.transpose(0, 3, 1, 2), golden[f"depthwise/{stride}/grad_x"], rtol=1e-4, atol=1e-5)
    want = golden[f"depthwise/{stride}/grad_kernel"]
    np.testing.assert_allclose(grad_kernel.transpose(3, 2, 0, 1), want, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
def test_on_an_accelerator_a_1x1_is_a_convolution(stride, monkeypatch):
    """XLA:GPU tries a product in dozens of tilings: of ResNet-50 it compiled for over five minutes."""
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(2, 6, 5, 3)).astype("float32"), rng.normal(size=(2, -(-6 // stride), -(-5 // stride), 4))
    conv = layers.Conv(4, 1, stride)
    params = {"params": {"kernel": rng.normal(size=(1, 1, 3, 4)).astype("float32")}}

    def both(params, x):
        y, pull = jax.vjp(conv.apply, params, x)
        return y, pull(g.astype("float32"))

    def traced():  # of a function that JAX has not traced before
        return str(jax.make_jaxpr(lambda *arguments: both(*arguments))(params, x))

    want = jax.jit(both)(params, x)
    assert "conv_general_dilated" not in traced()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "dot_general" not in traced()
    found = jax.jit(lambda *arguments: both(*arguments))(params, x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_depthwise_convolutions_of_one_shape_are_traced_once():
    def both(x, kernel):
        return layers.depthwise(layers.depthwise(x, kernel, 1, 1), kernel, 1, 1).sum()

    for function, name in ((both, "depthwise_sum"), (jax.grad(both), "_depthwise_backward")):
        text = jax.jit(function).lower(jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 1, 3))).as_text()
        assert (text.count(f"func private @{name}("), text.count(f"call @{name}(")) == (1, 2)
