"""Deconvolutions, which double a map: NHWC, float32 parameters, activations in `dtype`.

PyTorch's `ConvTranspose2d(kernel_size=4, stride=2, padding=1)` is four 2x2 convolutions, one for each phase of the
output (even or odd rows, even or odd columns), which XLA:CPU trains 30 times as fast as `lax.conv_transpose`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from ctd_jax.models import layers

WIDE = 256  # channels, from which on fewer products win more than maps that are written and read cost
_TAPS = slice(3, None, -2), slice(2, None, -2)  # kernel rows 3, 1 make the even output rows; 2, 0 the odd


def _phases(x_BHWC: Array, kernel: Array) -> Array:
    """See the module.

    Args:
      x_BHWC: `[B, H, W, C]`.
      kernel: `[4, 4, C, D]`, PyTorch's weight transposed (2, 3, 0, 1).

    Returns:
      `[B, 2 H, 2 W, D]`.
    """
    if _by_fewer_products(x_BHWC, kernel):
        return _winograd(x_BHWC, kernel)
    B, H, W, _ = x_BHWC.shape
    pads = (1, 0), (0, 1)
    phases = [
        layers.convolve(x_BHWC, kernel[_TAPS[a]][:, _TAPS[b]], 1, (pads[a], pads[b])) for a in (0, 1) for b in (0, 1)
    ]
    y = jnp.stack(phases, axis=3).reshape(B, H, W, 2, 2, -1)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(B, 2 * H, 2 * W, -1)


def _by_fewer_products(x_BHWC: Array, kernel: Array) -> bool:
    """Whether `_winograd` is the faster form, on a CPU and with maps that are larger than the kernel. Half precision
    would lose digits by it."""
    _, H, W, C = x_BHWC.shape
    pays = min(kernel.shape[2:]) >= WIDE and H * W >= C and x_BHWC.dtype == jnp.float32
    return pays and layers.for_cpu() and not layers.for_counting()


def _winograd(x_BHWC: Array, kernel: Array) -> Array:
    """The same with 9 products of matrices where the phases have 16: F(2, 2) of Winograd 1980, "Arithmetic Complexity
    of Computations", along both axes. Two neighbours of a phase with the taps a, b are

        a x0 + b x1 = a (x0 - x1) + (a + b) x1
        a x1 + b x2 = (a + b) x1 - b (x1 - x2)

    so three products make them, and 3 x 3 make 2 x 2 cells.
    """
    B, H, W, C = x_BHWC.shape
    h, w = -(-H // 2), -(-W // 2)
    x = jnp.pad(x_BHWC, ((0, 0), (1, 1 + H % 2), (1, 1 + W % 2), (0, 0)))

    def inputs(x: Array, axis: int, start: int, number: int) -> tuple[Array, Array, Array]:
        stop = start + 2 * number - 1
        x0, x1, x2 = (lax.slice_in_dim(x, start + i, stop + i, 2, axis) for i in range(3))
        return x0 - x1, x1, x1 - x2

    def taps(kernel: Array) -> tuple[Array, Array, Array]:
        return kernel[0], kernel[0] + kernel[1], kernel[1]

    def outputs(products: Sequence[Array]) -> tuple[Array, Array]:
        return products[0] + products[1], products[1] - products[2]

    def product(x: Array, kernel: Array) -> Array:
        return (x.reshape(-1, C) @ kernel).reshape(B, h, w, -1)

    def cells(a: int, b: int) -> list[tuple[Array, Array]]:
        """Of a phase: for the first and the second column of each 2x2 cells, the first and the second row."""
        maps = [inputs(rows, 2, b, w) for rows in inputs(x, 1, a, h)]
        kernels = [taps(row) for row in taps(kernel[_TAPS[a]][:, _TAPS[b]])]
        columns = [outputs([*map(product, *row)]) for row in zip(maps, kernels, strict=True)]
        return [outputs(rows) for rows in zip(*columns, strict=True)]

    phases = [[cells(a, b) for b in (0, 1)] for a in (0, 1)]
    rows = [
        jnp.concatenate([phases[a][b][j][i] for j in (0, 1) for b in (0, 1)], axis=-1) for i in (0, 1) for a in (0, 1)
    ]
    return jnp.stack(rows, axis=2).reshape(B, 4 * h, 4 * w, -1)[:, : 2 * H, : 2 * W]


def _forward(x_BHWC: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _phases(x_BHWC, kernel), (x_BHWC, kernel)


def _backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x_BHWC, kernel = saved
    if _by_fewer_products(x_BHWC, kernel):
        grads: tuple[Array, Array] = jax.vjp(_winograd, x_BHWC, kernel)[1](grad)
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
