"""What one picture costs a network."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from ctd_jax.models import layers
from ctd_jax.models.evaluation import apply_in_evaluation
from ctd_jax.training import devices
from ctd_jax.typing import Variables


def gflops(model: nn.Module, size: int) -> float | None:
    """1e9 floating point operations from one normalised picture of `size` x `size` pixels to its heatmaps.

    As XLA's cost analysis counts the program lowered for a CPU: 2 for a multiply-add, 1 for each operation of batch
    norm and activations, 0 for a product with padding. Papers that count multiply-adds have about half of it. The
    compilers of accelerators do not count: None where JAX_PLATFORMS leaves the CPU out.
    """
    inputs = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), *inputs)

    def heatmaps(variables: Variables, *inputs: Array) -> Array:
        return apply_in_evaluation(model, variables, *inputs)["heatmaps"]

    with devices.host(), layers.traced_for("count"):
        analysis: Any = jax.jit(heatmaps).lower(variables, *inputs).cost_analysis()
    return analysis["flops"] / 1e9 if analysis else None
