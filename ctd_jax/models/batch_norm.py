"""Batch norm, which keeps one map for its gradient on a CPU, where Flax's keeps two."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from ctd_jax.models.layers import for_cpu


def batch_norm(
    *,
    train: bool,
    dtype: Any,
    axis_name: str | None,
    name: str,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
) -> nn.BatchNorm:
    """Batch norm, by default as in PyTorch.

    Args:
      train: whether it takes part in training.
      dtype: of the activations.
      axis_name: mapped axis over which it takes its statistics, or None.
      name: of the module.
      momentum: of the running statistics; PyTorch calls 0.9 a momentum of 0.1.
      epsilon: what is added to the variance.
    """
    if train and axis_name and lax.axis_size(axis_name) == 1:
        axis_name = None  # XLA:CPU copies the data of a mean even over one device
    kind = BatchNorm if train and for_cpu() else nn.BatchNorm
    return kind(not train, momentum=momentum, epsilon=epsilon, dtype=dtype, axis_name=axis_name, name=name)


class BatchNorm(nn.BatchNorm):
    """That of Flax while it takes part in training, in less memory: see `standardize`."""

    @nn.compact
    def __call__(self, x: Array) -> Array:  # type: ignore[override]
        """`[B, ..., C]` normalized by its own statistics, in `dtype`, or else in that of `x`."""
        channels, over = x.shape[-1:], tuple(range(x.ndim - 1))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        scale = self.param("scale", self.scale_init, channels)
        bias = self.param("bias", self.bias_init, channels)
        x_float = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean, square = x_float.mean(over), (x_float**2).mean(over)
        if self.axis_name and not self.is_initializing():
            mean, square = lax.pmean(jnp.stack((mean, square)), self.axis_name)
        var = jnp.maximum(square - mean**2, 0)
        if not self.is_initializing():
            for running, batch in ((running_mean, mean), (running_var, var)):
                running.value = self.momentum * running.value + (1 - self.momentum) * batch
        y = standardize(x_float, mean, lax.rsqrt(var + self.epsilon) * scale, bias)
        return y.astype(self.dtype or x.dtype)


@jax.custom_vjp
def standardize(x: Array, mean: Array, factor: Array, bias: Array) -> Array:
    """(x - mean) factor + bias; for the gradient x alone is kept.

    Left to itself, XLA computes x - mean once for the value and the gradient, and so keeps it beside x: a quarter of
    all that a step of ResNet-50 keeps. Behind a barrier, the mean of the gradient is another one.

    Args:
      x: `[B, ..., C]`.
      mean, factor, bias: as `x`, or what is broadcast to that.
    """
    return _standardized(x, mean, factor, bias)


def _standardized(x: Array, mean: Array, factor: Array, bias: Array) -> Array:
    return (x - mean) * factor + bias


def _standardize_forward(x: Array, mean: Array, factor: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    return _standardized(x, mean, factor, bias), (x, mean, factor, bias)


def _standardize_backward(saved: tuple[Array, ...], grad: Array) -> tuple[Array, ...]:
    x, mean, factor, bias = saved
    return jax.vjp(_standardized, x, lax.optimization_barrier(mean), factor, bias)[1](grad)


standardize.defvjp(_standardize_forward, _standardize_backward)
