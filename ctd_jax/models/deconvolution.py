"""Deconvolutions, which double a map: NHWC, float32 parameters, activations in `dtype`.

PyTorch's `ConvTranspose2d(kernel_size=4, stride=2, padding=1)` is four 2x2 convolutions, one for each phase of the
output (even or odd rows, even or odd columns), which XLA:CPU trains 30 times as fast as `lax.conv_transpose`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from ctd_jax.models import layers

_TAPS = slice(3, None, -2), slice(2, None, -2)  # kernel rows 3, 1 make the even output rows; 2, 0 the odd


def _phases(x_BHWC: Array, kernel: Array) -> Array:
    """See the module.

    Args:
      x_BHWC: `[B, H, W, C]`.
      kernel: `[4, 4, C, D]`, PyTorch's weight transposed (2, 3, 0, 1).

    Returns:
      `[B, 2 H, 2 W, D]`.
    """
    pads = (1, 0), (0, 1)
    rows = [
        jnp.concatenate(
            [layers.convolve(x_BHWC, kernel[_TAPS[a]][:, _TAPS[b]], 1, (pads[a], pads[b])) for b in (0, 1)], axis=-1
        )
        for a in (0, 1)
    ]
    B, H, W, _ = x_BHWC.shape
    return jnp.stack(rows, axis=2).reshape(B, 2 * H, 2 * W, -1)


def _forward(x_BHWC: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _phases(x_BHWC, kernel), (x_BHWC, kernel)


def _backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x_BHWC, kernel = saved
    if layers.by_winograd(x_BHWC, 2, kernel.shape[3]):
        grads: tuple[Array, Array] = jax.vjp(_phases, x_BHWC, kernel)[1](grad)
        return grads
    B, H, W, C = x_BHWC.shape
    (grad_x,) = jax.vjp(lambda x: _phases(x, kernel), x_BHWC)[1](grad)
    grad, x = jnp.pad(grad, ((0, 0), (1, 1), (1, 1), (0, 0))), x_BHWC.reshape(-1, C)

    def row(i: int) -> Array:  # one product for the four taps of a kernel's row, [4, C, D]
        taps = jnp.concatenate([grad[:, i : i + 2 * H : 2, j : j + 2 * W : 2] for j in range(4)], -1)
        return (x.T @ taps.reshape(B * H * W, -1)).reshape(C, 4, -1).swapaxes(0, 1)

    return grad_x, jnp.stack([row(i) for i in range(4)])


phases = jax.custom_vjp(_phases)
phases.defvjp(_forward, _backward)


def transpose(x_BHWC: Array, kernel: Array) -> Array:
    """The same as `phases` by `lax.conv_transpose`: for accelerators."""
    return lax.conv_transpose(x_BHWC, kernel[::-1, ::-1], (2, 2), "SAME", dimension_numbers=layers.DIMENSIONS)


FORMS: dict[str, Callable[[Array, Array], Array]] = {"phases": phases, "transpose": transpose}


class Deconv(nn.Module):
    """4x4 deconvolution with stride 2. Parameter: `kernel` `[4, 4, in, features]`. `form` is a key of `FORMS`."""

    features: int
    form: str = "phases"
    kernel_init: Callable = layers.he_normal
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (4, 4, x_BHWC.shape[-1], self.features))
        return FORMS[self.form](x_BHWC.astype(self.dtype), kernel.astype(self.dtype))


class SeparableDeconv(nn.Module):
    """Doubles a map cheaply: 1x1 convolution, nearest neighbours, 3x3 depthwise convolution at the doubled size.
    Parameters: pointwise, depthwise, each with a `kernel`."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        x = layers.double(layers.Conv(self.features, 1, dtype=self.dtype, name="pointwise")(x_BHWC))
        return layers.DepthwiseConv(3, 1, 1, dtype=self.dtype, name="depthwise")(x)
