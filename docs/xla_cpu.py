"""What XLA:CPU does slowly in a ResNet, each in a few lines beside the same done otherwise: for reports upstream.

    pip install jax numpy torch
    OMP_WAIT_POLICY=passive python docs/xla_cpu.py

1. A ReLU is computed again wherever it is read, with the sums before it. The fusion pass takes the maximum for a unary
   operation, which it may copy into all of its readers, and then copies the sum below it as well: the fusion of
   residual block n reads the products of all n blocks. As a choice, `where(x <= 0, 0, x)`, it is computed once.
2. The gradient of a matrix with fewer columns than rows, x.T @ g, is left to Eigen, which takes longer for a tall
   result than for a wide one. XLA undoes (g.T @ x).T, unless a barrier stands between.
3. The kernel gradient of a 7x7 convolution of pictures runs on one core and takes six to nine times as long as in
   PyTorch (oneDNN) with AVX2, twice with AVX-512. As a matrix product for each row of the kernel it takes a third of
   that.

Times are processor time of all cores, divided by their number: the least of calls in turns.
"""

import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

CORES = os.cpu_count() or 1


def race(title: str, calls: dict[str, Callable[[], object]], repeats: int = 15) -> None:
    for call in calls.values():
        call()
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            least[name] = min(least[name], (time.process_time() - start) / CORES)
    print(title + "".join(f"\n  {name:<28}{1e3 * seconds:8.1f} ms" for name, seconds in least.items()))


def compiled(function: Callable[..., jax.Array], *arrays: jax.Array) -> Callable[[], object]:
    call = jax.jit(function).lower(*arrays).compile()
    return lambda: call(*arrays).block_until_ready()


def relu() -> None:
    x, kernels = jnp.ones((32768, 64)), jnp.full((6, 64, 64), 1e-3)

    def blocks(form: Callable[[jax.Array], jax.Array]) -> Callable[[], object]:
        def network(x: jax.Array, kernels: jax.Array) -> jax.Array:
            for kernel in kernels:
                x = form(x + 2 * (x @ kernel))
            return x

        return compiled(network, x, kernels)

    forms = {"jax.nn.relu": jax.nn.relu, "where(x <= 0, 0, x)": lambda x: jnp.where(x <= 0, 0, x)}
    race("six residual blocks, 32768 x 64", {name: blocks(form) for name, form in forms.items()})


def tall_product() -> None:
    x, g = jnp.ones((32768, 256)), jnp.ones((32768, 64))
    calls = {
        "x.T @ g": compiled(lambda x, g: x.T @ g, x, g),
        "barrier(g.T @ x).T": compiled(lambda x, g: jax.lax.optimization_barrier(g.T @ x).T, x, g),
    }
    a, b = torch.ones(32768, 256), torch.ones(32768, 64)
    race("x.T @ g of 32768 x 256 and 32768 x 64", calls | {"PyTorch": lambda: a.T @ b})


def kernel_gradient() -> None:
    x, kernel, g = np.ones((8, 256, 256, 3), "f"), np.ones((7, 7, 3, 64), "f"), np.ones((8, 128, 128, 64), "f")

    def form(x: jax.Array, kernel: jax.Array) -> jax.Array:
        pads = ((3, 3), (3, 3))
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def gradient(x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
        return jax.vjp(lambda kernel: form(x, kernel), kernel)[1](g)[0]

    def by_rows(x: jax.Array, kernel: jax.Array, g: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))

        def row(i: int) -> jax.Array:
            windows = jnp.concatenate([x[:, i : i + 255 : 2, j : j + 255 : 2] for j in range(7)], axis=-1)
            return jnp.einsum("bhwc,bhwd->cd", windows, g)

        return jnp.stack([row(i) for i in range(7)]).reshape(kernel.shape)

    a, b, c = (
        torch.from_numpy(v).permute(order)
        for v, order in ((x, (0, 3, 1, 2)), (kernel, (3, 2, 0, 1)), (g, (0, 3, 1, 2)))
    )
    options = (None, [2, 2], [3, 3], [1, 1], False, [0, 0], 1, [False, True, False])
    calls = {
        "XLA": compiled(gradient, *map(jnp.asarray, (x, kernel, g))),
        "XLA, a product for each row": compiled(by_rows, *map(jnp.asarray, (x, kernel, g))),
        "PyTorch": lambda: torch.ops.aten.convolution_backward(c, a, b, *options),
    }
    race("kernel gradient of 7x7, stride 2, 8 x 256 x 256 x 3 to 64", calls)


if __name__ == "__main__":
    relu()
    tall_product()
    kernel_gradient()
