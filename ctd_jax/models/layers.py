"""Layers that the encoders and the decoder share: NHWC, float32 parameters, activations in `dtype`.

Strides and paddings are those of PyTorch (pixels on every side) or of TensorFlow (`Padding`), so that published weights
give published numbers. Depthwise convolutions, and on a CPU 1x1 too, have the form that trains quickly on XLA:CPU;
`benchmarks/forms.py` compares them with the plain one.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from ctd_jax.models import winograd
from ctd_jax.models.winograd import Pads

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
Padding = int | Literal["tensorflow"]  # pixels on every side, or what TensorFlow's "SAME" adds, see `around`
WIDE = 128  # channels, from which on fewer products win more than maps that are written and read cost
LARGE = 2**16  # numbers in a picture's map, from which on the kernel's gradient is better not a convolution
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """What is traced within has the forms for that platform, whatever this process runs on: "cpu"; "count": the same
    with all products that a layer has by its definition; or "any": every convolution is one, and no more than that (for
    accelerators, and for converters, which know them)."""
    token = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(token)


def for_cpu() -> bool:
    """Whether what is traced now has the forms for a CPU."""
    return (_platform.get() or jax.default_backend()) in ("cpu", "count")


def for_counting() -> bool:
    """Whether what is traced now is only to be counted."""
    return _platform.get() == "count"


def relu(x: Array) -> Array:
    """max(x, 0), with the gradient 0 at 0.

    On a CPU it is a choice between x and 0, and its gradient looks at the result. A maximum is cheap to XLA:CPU, which
    computes it again wherever it is read, with the sums before it: a block would read all shortcuts of its stage anew.
    """
    return _chosen(x) if for_cpu() else nn.relu(x)


@jax.custom_jvp
def _chosen(x: Array) -> Array:
    return jnp.where(x <= 0, 0, x)  # so that NaN stays NaN


@_chosen.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = _chosen(*primals)
    return y, jnp.where(y > 0, *tangents, 0)


def around(x_BHWC: Array, size: int, stride: int, padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels of padding before and after the rows, and before and after the columns.

    TensorFlow's "SAME" is as much as makes ceil(n / stride) cells of n pixels; where that is odd, one more comes after
    than before.

    Args:
      x_BHWC: `[B, H, W, C]`.
      size: of the kernel.
      stride: of the convolution.
      padding: see `Padding`.
    """
    if padding != "tensorflow":
        return (padding, padding), (padding, padding)
    rows, columns = (max((-(-n // stride) - 1) * stride + size - n, 0) for n in x_BHWC.shape[1:3])
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def max_pool(x_BHWC: Array, *, padding: str) -> Array:
    """3x3 max pooling with stride 2 of a map that is nowhere negative (after ReLU).

    Args:
      x_BHWC: `[B, H, W, C]`.
      padding: "same" is PyTorch's padding 1; "ceil" is Caffe's: none at the top left, and the last window may overhang.
    """
    return _max_of_three(_max_of_three(x_BHWC, 1, padding), 2, padding)


def _max_of_three(x: Array, axis: int, padding: str) -> Array:
    """Along one axis: of every pair, and the cell before it ("same") or after it ("ceil")."""

    def pad(x: Array, before: int, after: int) -> Array:  # 0 never wins against a ReLU's output
        return jnp.pad(x, [(before, after) if i == axis else (0, 0) for i in range(x.ndim)])

    n = x.shape[axis]
    pairs = pad(x, 0, n % 2).reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    first, second = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
    if padding == "same":
        third = lax.slice_in_dim(pad(second, 1, 0), 0, second.shape[axis], axis=axis)
    else:
        third = lax.slice_in_dim(pad(first, 0, 1), 1, None, axis=axis)
    out = jnp.maximum(jnp.maximum(first, second), third)
    return out if padding == "same" else lax.slice_in_dim(out, 0, n // 2, axis=axis)


def convolve(x_BHWC: Array, kernel: Array, stride: int, padding: Pads) -> Array:
    """Convolution with a `[k, k, C, D]` kernel; `padding` of rows and columns, each before and after.

    On a CPU wide ones take fewer products. Small maps of many channels go as a sum of matrix products: there the kernel
    is most of the data, and XLA:CPU moves it about for the gradients of a convolution. The kernel's gradient of a large
    map is not a convolution either.
    """
    k, _, C, D = kernel.shape
    if stride == 1 and by_winograd(x_BHWC, k, D):
        return winograd.convolve(x_BHWC, kernel, padding)
    h, w = ((n + sum(around) - k) // stride + 1 for n, around in zip(x_BHWC.shape[1:3], padding, strict=True))
    if h * w >= C or not for_cpu():
        large = for_cpu() and not for_counting() and h * w * D >= LARGE
        return (_large if large else _plain)(x_BHWC, kernel, stride, padding)
    x = jnp.pad(x_BHWC, ((0, 0), *padding, (0, 0)))

    def tap(i: int, j: int) -> Array:
        return _window(x, i, j, h, w, stride).reshape(-1, C) @ kernel[i, j]

    return _sum(tap(i, j) for i in range(k) for j in range(k)).reshape(-1, h, w, D)


def _plain(x_BHWC: Array, kernel: Array, stride: int, padding: Pads) -> Array:
    return lax.conv_general_dilated(x_BHWC, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS)


def _large_backward(stride: int, padding: Pads, saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    """The gradient of each row of the kernel as one matrix product. XLA:CPU would compute it as a convolution of maps
    with maps, on one core, and for large ones many times slower."""
    x_BHWC, kernel = saved
    k, _, C, D = kernel.shape
    h, w = grad.shape[1:3]
    (grad_x,) = jax.linear_transpose(lambda x: _plain(x, kernel, stride, padding), x_BHWC)(grad)
    x = jnp.pad(x_BHWC, ((0, 0), *padding, (0, 0)))
    rows: list[Array] = []
    for i in range(k):
        # XLA would have the windows of all rows at once, and since the forward pass: these need the row before
        x += 0 * (rows[-1][0, 0] if rows else grad[0, 0, 0, 0])
        windows = jnp.concatenate([_window(x, i, j, h, w, stride) for j in range(k)], axis=-1)
        rows.append(jnp.einsum("bhwc,bhwd->cd", windows, grad))
    return grad_x, jnp.stack(rows).reshape(kernel.shape)


_large = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))
_large.defvjp(lambda x, kernel, *how: (_plain(x, kernel, *how), (x, kernel)), _large_backward)


def by_winograd(x_BHWC: Array, k: int, D: int) -> bool:
    """Whether `winograd.convolve` is the fastest form for D kernels of k x k: on a CPU, with wide maps that are not
    small beside the kernel. Half precision would lose digits by it."""
    _, H, W, C = x_BHWC.shape
    pays = k in (2, 3) and min(C, D) >= WIDE and 8 * H * W >= C and x_BHWC.dtype == jnp.float32
    return pays and for_cpu() and not for_counting()


def product(x: Array, kernel: Array) -> Array:
    """`[N, C]` @ `[C, D]`.

    On a CPU the gradient of a kernel with D < C is computed transposed: XLA:CPU leaves it to Eigen, which takes two
    thirds of the time for a wide result. The barrier keeps XLA from turning it back.
    """
    return _narrowing(x, kernel) if kernel.shape[1] < kernel.shape[0] and for_cpu() else x @ kernel


@jax.custom_vjp
def _narrowing(x: Array, kernel: Array) -> Array:
    return x @ kernel


def _narrowing_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return grad @ kernel.T, lax.optimization_barrier(grad.T @ x).T


_narrowing.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _narrowing_backward)


def _sum(arrays: Iterable[Array]) -> Array:
    """There is at least one, so the sum is an array."""
    return cast(Array, sum(arrays))


def double(x_BHWC: Array) -> Array:
    """Nearest-neighbour upsampling: every cell becomes 2x2 cells."""
    return x_BHWC.repeat(2, axis=1).repeat(2, axis=2)


def _window(x_BHWC: Array, i: int, j: int, h: int, w: int, stride: int) -> Array:
    """`[B, h, w, C]`: h rows from i on, w columns from j on, each `stride` after the one before.

    The same as by indexing, which would gather single rows where B is symbolic (in exports).
    """
    stop = (x_BHWC.shape[0], i + stride * (h - 1) + 1, j + stride * (w - 1) + 1, x_BHWC.shape[3])
    return lax.slice(x_BHWC, (0, i, j, 0), stop, (1, stride, stride, 1))


@functools.partial(jax.jit, static_argnums=(2, 3))  # layers of one shape are traced once
def depthwise_sum(x_BHWC: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """Every channel with its own `[k, k, 1, C]` kernel, as a sum of k*k shifted and scaled maps."""
    k = kernel.shape[0]
    x = jnp.pad(x_BHWC, ((0, 0), *around(x_BHWC, k, stride, padding), (0, 0)))
    h, w = ((n - k) // stride + 1 for n in x.shape[1:3])
    return _sum(_window(x, i, j, h, w, stride) * kernel[i, j] for i in range(k) for j in range(k))


def _depthwise_forward(
    x_BHWC: Array, kernel: Array, stride: int, padding: Padding
) -> tuple[Array, tuple[Array, Array]]:
    return depthwise_sum(x_BHWC, kernel, stride, padding), (x_BHWC, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _depthwise_backward(stride: int, padding: Padding, saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x_BHWC, kernel = saved
    B, h, w, C = grad.shape
    k = kernel.shape[0]
    if k > 3:
        grad_x = _depthwise_of_gradient(x_BHWC, kernel, stride, padding, grad)
    else:
        (grad_x,) = jax.vjp(lambda x: depthwise_sum(x, kernel, stride, padding), x_BHWC)[1](grad)
    x = jnp.pad(x_BHWC, ((0, 0), *around(x_BHWC, k, stride, padding), (0, 0)))

    def tap(n: Array) -> Array:
        shifted = lax.dynamic_slice(x, (0, n // k, n % k, 0), (B, stride * (h - 1) + 1, stride * (w - 1) + 1, C))
        return jnp.sum(shifted[:, ::stride, ::stride] * grad, axis=(0, 1, 2), dtype=jnp.float32)

    # one tap after the other: XLA:CPU would fuse the k*k sums into one slow loop
    return grad_x, lax.map(tap, jnp.arange(k * k)).reshape(kernel.shape).astype(kernel.dtype)


def _depthwise_of_gradient(x_BHWC: Array, kernel: Array, stride: int, padding: Padding, grad: Array) -> Array:
    """The gradient of `x_BHWC`: `grad`, with stride - 1 zeros between its cells, under the kernel turned by 180°.
    Of a 5x5 kernel it takes XLA:CPU a quarter to a tenth of the time of autodiff's sum of padded maps."""
    k = kernel.shape[0]
    befores = [before for before, _ in around(x_BHWC, k, stride, padding)]
    pads = [
        (k - 1 - before, n + before - stride * (cells - 1) - 1, stride - 1)
        for before, n, cells in zip(befores, x_BHWC.shape[1:3], grad.shape[1:3], strict=True)
    ]
    spread = lax.pad(grad, jnp.zeros((), grad.dtype), ((0, 0, 0), *pads, (0, 0, 0)))
    return depthwise_sum(spread, kernel[::-1, ::-1], 1, 0)


depthwise = jax.custom_vjp(depthwise_sum, nondiff_argnums=(2, 3))
depthwise.defvjp(_depthwise_forward, _depthwise_backward)


class Conv(nn.Module):
    """Square convolution. Parameters: `kernel` `[k, k, in, features]`, `bias` if asked.

    On a CPU a 1x1 is a matrix product; XLA:GPU would try each product in dozens of tilings, for minutes.
    """

    features: int
    size: int
    stride: int = 1
    padding: Padding = 0
    use_bias: bool = False
    kernel_init: Callable = he_normal
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        shape = (self.size, self.size, x_BHWC.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        x = x_BHWC.astype(self.dtype)
        if self.size == 1 and for_cpu():
            if self.stride > 1:
                h, w = (-(-n // self.stride) for n in x.shape[1:3])
                x = _window(x, 0, 0, h, w, self.stride)
            y = product(x.reshape(-1, x.shape[-1]), kernel[0, 0]).reshape(*x.shape[:3], self.features)
        else:
            y = convolve(x, kernel, self.stride, around(x, self.size, self.stride, self.padding))
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


class DepthwiseConv(nn.Module):
    """`depthwise` with its parameter: `kernel` `[k, k, 1, C]`."""

    size: int
    stride: int = 1
    padding: Padding = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: Array) -> Array:
        init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        kernel = self.param("kernel", init, (self.size, self.size, 1, x_BHWC.shape[-1]))
        x, kernel = x_BHWC.astype(self.dtype), kernel.astype(self.dtype)
        if _platform.get() == "any":
            pads = around(x, self.size, self.stride, self.padding)
            strides, C = (self.stride, self.stride), x.shape[-1]
            return lax.conv_general_dilated(
                x, kernel, strides, pads, dimension_numbers=DIMENSIONS, feature_group_count=C
            )
        return depthwise(x, kernel, self.stride, self.padding)
