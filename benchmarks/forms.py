"""Why `ctd_jax/models/layers.py` looks as it does: each layer's form beside the plain one.

    python -m benchmarks.forms [--json=forms.json]

Milliseconds for forward and backward (batch 16), medians of interleaved repeats; about one minute on 2 CPU cores.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ctd_jax.models import deconvolution, layers

BATCH = 16


def measure(calls: dict[str, Callable[[], Any]], repeats: int = 5) -> dict[str, float]:
    """Median milliseconds of each; the calls take turns, so that a busy machine slows all of them."""
    for call in calls.values():
        jax.block_until_ready(call())
    seconds = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    return {name: round(1e3 * float(np.median(s)), 1) for name, s in seconds.items()}


def layer(form: Callable[[Array, Array], Array], x: Array, kernel: Array) -> Callable[[], Any]:
    step = jax.jit(lambda x, kernel, g: jax.vjp(form, x, kernel)[1](g))
    g = jnp.ones(jax.eval_shape(form, x, kernel).shape)
    return lambda: step(x, kernel, g)


def conv(stride: int, padding: int, groups: int = 1) -> Callable[[Array, Array], Array]:
    return lambda x, kernel: lax.conv_general_dilated(
        x, kernel, (stride,) * 2, [(padding,) * 2] * 2, dimension_numbers=layers.DIMENSIONS, feature_group_count=groups
    )


def table_of_forms() -> dict[str, dict[str, float]]:
    draw = lambda *shape: jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)  # noqa: E731
    table = {}
    small = ((3, 56, 64, 1), (3, 56, 128, 2), (3, 28, 128, 1), (3, 14, 256, 1))
    for k, size, channels, stride in (*small, (5, 28, 144, 2), (5, 14, 240, 1), (5, 7, 672, 1)):
        x, kernel = draw(BATCH, size, size, channels), draw(k, k, 1, channels)
        forms = {
            "ours": lambda x, kernel, s=stride, p=k // 2: layers.depthwise(x, kernel, s, p),
            "autodiff": lambda x, kernel, s=stride, p=k // 2: layers.depthwise_sum(x, kernel, s, p),
            "plain": conv(stride, k // 2, channels),
        }
        name = f"depthwise {k}x{k}, {size}x{size}x{channels}, stride {stride}"
        table[name] = measure({form: layer(f, x, kernel) for form, f in forms.items()})
    for size, inputs, outputs in ((56, 64, 128), (28, 128, 64), (14, 128, 256)):
        x, kernel = draw(BATCH, size, size, inputs), draw(1, 1, inputs, outputs)
        ours = lambda x, k, n=outputs: layers.Conv(n, 1).apply({"params": {"kernel": k}}, x)  # noqa: E731
        name = f"1x1, {size}x{size}x{inputs} to {outputs}"
        table[name] = measure({"ours": layer(ours, x, kernel), "plain": layer(conv(1, 0), x, kernel)})
    x, kernel = draw(BATCH, 7, 7, 512), draw(4, 4, 512, 128)
    forms = {"ours": deconvolution.phases, "plain": deconvolution.transpose}
    table["deconvolution, 7x7x512 to 128"] = measure({form: layer(f, x, kernel) for form, f in forms.items()}, 3)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the table as json")
    args = parser.parse_args()
    result = {
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores",
        "jax": jax.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "forms": table_of_forms(),
    }
    print("forward and backward, ms")
    for name, numbers in result["forms"].items():
        print(f"  {name:<44}" + "".join(f"{form:>10} {ms:8.1f}" for form, ms in numbers.items()))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
