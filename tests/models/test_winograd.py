"""Convolutions by fewer products against sums over the kernel's taps, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_jax.models import layers, winograd

SAME, VALID, EARLY, LATE = ((1, 1), (1, 1)), ((0, 0), (0, 0)), ((1, 0), (1, 0)), ((0, 1), (1, 0))


def by_taps(x, kernel, padding, grad):
    """The convolution, and the gradients of its sum weighted with `grad`: every tap sees a part of the padded map."""
    k = len(kernel)
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    h, w = (n - k + 1 for n in x.shape[1:3])
    out, grad_x, grad_kernel = (
        np.zeros((*x.shape[:1], h, w, kernel.shape[3])),
        np.zeros(x.shape),
        np.zeros(kernel.shape),
    )
    for i in range(k):
        for j in range(k):
            seen = np.s_[:, i : i + h, j : j + w]
            out += x[seen] @ kernel[i, j]
            grad_x[seen] += grad @ kernel[i, j].T
            grad_kernel[i, j] = np.einsum("bhwc,bhwd->cd", x[seen], grad)
    (top, bottom), (left, right) = padding
    return out, grad_x[:, top : x.shape[1] - bottom, left : x.shape[2] - right], grad_kernel


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (1, 5, 4, 3), (2, 5, 7, 40), (3, 4, 4, 1), (1, 3, 3, 2)])
@pytest.mark.parametrize(
    ("k", "padding"), [(3, SAME), (3, VALID), (3, LATE), (2, EARLY), (2, LATE), (2, VALID), (2, SAME)]
)
def test_a_convolution_and_its_gradients_are_sums_over_taps(shape, k, padding):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=shape), rng.normal(size=(k, k, shape[-1], 6)) / k
    rows, columns = (n + sum(around) - k + 1 for n, around in zip(shape[1:3], padding, strict=True))
    grad = rng.normal(size=(shape[0], rows, columns, 6))

    @jax.jit
    def found(x, kernel, grad):
        out, pull = jax.vjp(lambda x, kernel: winograd.convolve(x, kernel, padding), x, kernel)
        return out, *pull(grad)

    of_float32 = found(*(a.astype("float32") for a in (x, kernel, grad)))
    for a, b in zip(of_float32, by_taps(x, kernel, padding, grad), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def products(x, kernel, stride=1):
    """Matrix products and convolutions of the program."""
    text = jax.jit(lambda x, kernel: layers.convolve(x, kernel, stride, SAME)).lower(x, kernel).as_text()
    return text.count("stablehlo.dot_general"), text.count("stablehlo.convolution")


def test_wide_maps_take_fewer_products_on_a_cpu_in_float32_alone():
    """Four operations have four each; of a small map each tap is one."""
    x, kernel = jnp.zeros((1, 16, 16, 128)), jnp.zeros((3, 3, 128, 128))
    assert products(x, kernel) == (4, 0)
    assert products(x, kernel, stride=2) == (9, 0)
    assert products(x[:, :3, :5], kernel) == (9, 0), "the kernel is most of the data"
    assert products(x[..., :127], kernel[:, :, :127]) == (0, 1)
    assert products(x, kernel[..., :127]) == (0, 1)
    assert products(x, jnp.zeros((5, 5, 128, 128))) == (0, 1)
    assert products(x.astype("bfloat16"), kernel.astype("bfloat16")) == (0, 1)
    for platform in ("count", "any"):
        with layers.traced_for(platform):
            assert products(x, kernel) == (0, 1)
