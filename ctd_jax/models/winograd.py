"""Convolutions with fewer products: Winograd's F(2 x 2, k x k) for kernels of 2x2 and 3x3 with stride 1.

Along one axis two neighbours of the result, a x0 + b x1 and a x1 + b x2, are sums of three products,

    a x0 + b x1 = a (x0 - x1) + (a + b) x1
    a x1 + b x2 = (a + b) x1 - b (x1 - x2)

and those of three taps sums of four. Along both axes 2x2 cells take 9 and 16 products where the definition has 16 and
36. Winograd 1980, "Arithmetic Complexity of Computations"; Lavin and Gray 2016, "Fast Algorithms for Convolutional
Neural Networks", has the matrices of 3x3 and the form with whole maps.

Shapes: `n` is k + 1; `h` and `w` are half the rows and columns of the result, rounded up. What belongs to the n
positions in a row is a list, of those in a column a leading axis: so the products are n operations. As one they take an
eighth longer; as n * n a step of ResNet-50 is no faster, and has 180 MiB more of programs (docs/performance.md).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

Pads = tuple[tuple[int, int], tuple[int, int]]
Matrix = tuple[tuple[float, ...], ...]

# Along one axis: what is multiplied, of neighbouring cells and of taps, and two cells of the result from the products.
_CELLS: dict[int, Matrix] = {
    2: ((1, -1, 0), (0, 1, 0), (0, 1, -1)),
    3: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
}
_TAPS: dict[int, Matrix] = {
    2: ((1, 0), (1, 1), (0, 1)),
    3: ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
}
_RESULT: dict[int, Matrix] = {
    2: ((1, 1, 0), (0, 1, -1)),
    3: ((1, 1, 1, 0), (0, 1, -1, -1)),
}


@functools.partial(jax.jit, static_argnums=2)  # layers of one shape are traced once
def _convolve(x_BHWC: Array, kernel: Array, padding: Pads) -> Array:
    """Convolution with stride 1 and a `[k, k, C, D]` kernel, k 2 or 3; `padding` of rows and columns, each before and
    after, as in `layers.convolve`."""
    k = kernel.shape[0]
    rows, columns = _sizes(x_BHWC, k, padding)
    products = _products("nbhwc,ncd->nbhwd", _cells(x_BHWC, k, padding), _taps(kernel))
    return _joined(_RESULT[k], products)[:, :rows, :columns]


@functools.partial(jax.jit, static_argnums=0)
def _backward(padding: Pads, saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    """The transposed sums around as many products for each of both gradients."""
    x_BHWC, kernel = saved
    k = kernel.shape[0]
    # XLA would do what needs no gradient early, and keep it: maps several times as large as `x_BHWC`
    later = 0 * grad[0, 0, 0, 0]
    cells, taps = _cells(x_BHWC + later, k, padding), _taps(kernel + later)
    h, w = cells[0].shape[2:4]
    grad = jnp.pad(grad, ((0, 0), (0, 2 * h - grad.shape[1]), (0, 2 * w - grad.shape[2]), (0, 0)))
    grad_products = _split(_transposed(_RESULT[k]), grad, h, w)
    grad_taps = _products("nbhwc,nbhwd->ncd", cells, grad_products)
    grad_kernel = _kernel(k, grad_taps)
    grad_cells = _products("nbhwd,ncd->nbhwc", grad_products, taps)
    padded, (top, _), (left, _) = _joined(_transposed(_CELLS[k]), grad_cells), *padding
    return padded[:, top : top + x_BHWC.shape[1], left : left + x_BHWC.shape[2]], grad_kernel


convolve = jax.custom_vjp(_convolve, nondiff_argnums=(2,))
convolve.defvjp(lambda x, kernel, padding: (_convolve(x, kernel, padding), (x, kernel)), _backward)


def _sizes(x_BHWC: Array, k: int, padding: Pads) -> tuple[int, int]:
    """Rows and columns of the result."""
    rows, columns = (size + sum(around) - k + 1 for size, around in zip(x_BHWC.shape[1:3], padding, strict=True))
    return rows, columns


def _cells(x_BHWC: Array, k: int, padding: Pads) -> list[Array]:
    """What is multiplied of a map: n times `[n, B, h, w, C]`."""
    h, w = (-(-size // 2) for size in _sizes(x_BHWC, k, padding))
    ends = [
        (before, 2 * cells + k - 1 - size - before)
        for (before, _), cells, size in zip(padding, (h, w), x_BHWC.shape[1:3], strict=True)
    ]
    return _split(_CELLS[k], jnp.pad(x_BHWC, ((0, 0), *ends, (0, 0))), h, w)


def _taps(kernel: Array) -> list[Array]:
    """What is multiplied of a kernel: n times `[n, C, D]`."""
    matrix = _TAPS[kernel.shape[0]]
    rows = [_sums(matrix, jnp.unstack(row)) for row in jnp.unstack(kernel)]
    return [jnp.stack(_sums(matrix, column)) for column in zip(*rows, strict=True)]


def _kernel(k: int, taps: Sequence[Array]) -> Array:
    """The transposed of `_taps`: n times `[n, C, D]` -> `[k, k, C, D]`."""
    matrix = _transposed(_TAPS[k])
    rows = [_sums(matrix, row) for row in zip(*map(jnp.unstack, taps), strict=True)]
    return jnp.stack([jnp.stack(_sums(matrix, column)) for column in zip(*rows, strict=True)], axis=1)


def _products(equation: str, one: Sequence[Array], other: Sequence[Array]) -> list[Array]:
    return [jnp.einsum(equation, *pair) for pair in zip(one, other, strict=True)]


def _split(matrix: Matrix, x_BHWC: Array, h: int, w: int) -> list[Array]:
    """m times `[m, B, h, w, C]`: an m x l matrix of windows of l x l cells, which begin at every second cell."""

    def along(x: Array, axis: int, windows: int) -> list[Array]:
        return _sums(matrix, [lax.slice_in_dim(x, i, i + 2 * windows - 1, 2, axis) for i in range(len(matrix[0]))])

    return along(jnp.stack(along(x_BHWC, 1, h)), 3, w)


def _joined(matrix: Matrix, maps: Sequence[Array]) -> Array:
    """The transposed of `_split`: an l x m matrix of m times `[m, B, h, w, C]` makes windows of l x l cells, which are
    summed where they lie on each other. `[B, 2 h, 2 w, C]`, and two cells more for windows of more than two."""

    def along(maps: Sequence[Array], axis: int) -> Array:
        cells = _sums(matrix, maps)
        more = (len(cells) - 1) // 2

        def turn(start: int) -> Array:
            pads = [[(i, more - i) if a == axis else (0, 0) for a in range(cells[0].ndim)] for i in range(more + 1)]
            return _sum([jnp.pad(x, pad) for x, pad in zip(cells[start::2], pads, strict=False)])

        return jnp.stack([turn(0), turn(1)], axis + 1)

    y = along(jnp.unstack(along(maps, 3)), 1)
    B, h, _, w, _, C = y.shape
    return y.reshape(B, 2 * h, 2 * w, C)


def _sums(matrix: Matrix, members: Sequence[Array]) -> list[Array]:
    """The product of a matrix and a vector of arrays."""
    return [_sum([x if c == 1 else c * x for c, x in zip(row, members, strict=True) if c]) for row in matrix]


def _sum(arrays: Sequence[Array]) -> Array:
    return functools.reduce(jnp.add, arrays)


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))
