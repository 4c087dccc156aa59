"""Deconvolutions against sums over the kernel's taps, in float64, and a calculation by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_jax.models import deconvolution, layers


def by_taps(x, kernel, grad):
    """The output, and the gradients of its sum weighted with `grad`: every tap of the kernel paints each cell of `x`,
    two apart, on a map with a border of one, which is cut off."""
    B, H, W, _ = x.shape
    out, grad = np.zeros((B, 2 * H + 2, 2 * W + 2, kernel.shape[3])), np.pad(grad, ((0, 0), (1, 1), (1, 1), (0, 0)))
    grad_x, grad_kernel = np.zeros(x.shape), np.zeros(kernel.shape)
    for i in range(4):
        for j in range(4):
            painted = np.s_[:, i : i + 2 * H : 2, j : j + 2 * W : 2]
            out[painted] += x @ kernel[i, j]
            grad_x += grad[painted] @ kernel[i, j].T
            grad_kernel[i, j] = np.einsum("bhwc,bhwd->cd", x, grad[painted])
    return out[:, 1:-1, 1:-1], grad_x, grad_kernel


def products(form, x, kernel):
    """Matrix products and convolutions of the program."""
    text = jax.jit(form).lower(x, kernel).as_text()
    return text.count("stablehlo.dot_general"), text.count("stablehlo.convolution")


@pytest.mark.slow
@pytest.mark.parametrize("form", deconvolution.FORMS)
@pytest.mark.parametrize("wide", [1, 256])
@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (1, 5, 4, 3), (2, 5, 7, 40), (1, 1, 1, 1), (1, 6, 5, 2)])
def test_a_deconvolution_and_its_gradients_are_sums_over_taps(shape, wide, form, monkeypatch):
    monkeypatch.setattr(layers, "WIDE", wide)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=shape), rng.normal(size=(4, 4, shape[-1], 6)) / 10
    grad = rng.normal(size=(shape[0], 2 * shape[1], 2 * shape[2], 6))

    @jax.jit
    def found(x, kernel, grad):
        out, pull = jax.vjp(deconvolution.FORMS[form], x, kernel)
        return out, *pull(grad)

    for a, b in zip(found(*(x.astype("float32") for x in (*inputs, grad))), by_taps(*inputs, grad), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_wide_maps_take_fewer_products_on_a_cpu_in_float32_alone():
    """Of each phase three operations have three each; of a small map each tap is one."""
    x, kernel = jnp.zeros((1, 16, 16, 128)), jnp.zeros((4, 4, 128, 128))
    assert products(deconvolution.phases, x, kernel) == (12, 0)
    assert products(deconvolution.phases, x[:, :3, :5], kernel) == (16, 0), "the kernel is most of the data"
    assert products(deconvolution.phases, x, kernel[..., :127]) == (0, 4)
    assert products(deconvolution.phases, x.astype("bfloat16"), kernel.astype("bfloat16")) == (0, 4)
    for platform in ("count", "any"):
        with layers.traced_for(platform):
            assert products(lambda x, kernel: deconvolution.phases(x, kernel), x, kernel) == (0, 4)


@pytest.mark.slow
def test_a_separable_deconvolution_by_hand():
    """1x1 at each cell, each cell four times, then 3x3 of each channel with zeros around."""
    net = deconvolution.SeparableDeconv(2)
    x = np.random.default_rng(0).normal(size=(1, 3, 2, 4)).astype("float32")
    params = jax.tree.map(np.asarray, net.init(jax.random.key(0), x)["params"])
    mixed = (x.astype("float64") @ params["pointwise"]["kernel"][0, 0])[0]
    large = np.pad(np.kron(mixed, np.ones((2, 2, 1))), ((1, 1), (1, 1), (0, 0)))
    kernel = params["depthwise"]["kernel"][:, :, 0]
    want = sum(large[i : i + 6, j : j + 4] * kernel[i, j] for i in range(3) for j in range(3))
    np.testing.assert_allclose(net.apply({"params": params}, x)[0], want, atol=1e-5)
