"""Batch norm, which keeps one map for its gradient on a CPU, where Flax's keeps two."""

import functools
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
        channels = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        scale = self.param("scale", self.scale_init, channels)
        bias = self.param("bias", self.bias_init, channels)
        axis_name = None if self.is_initializing() else self.axis_name
        y, statistics = normalized(x, scale, bias, self.epsilon, axis_name)
        if not self.is_initializing():
            for running, batch in zip((running_mean, running_var), statistics, strict=True):
                running.value = self.momentum * running.value + (1 - self.momentum) * batch
        return y.astype(self.dtype or x.dtype)


@functools.partial(jax.jit, static_argnums=(3, 4))  # layers of one shape are traced once
def normalized(
    x: Array, scale: Array, bias: Array, epsilon: float, axis_name: str | None
) -> tuple[Array, tuple[Array, Array]]:
    """`[B, ..., C]` normalized by its own mean and variance `[C]`, and these; in float32 at least.

    Args:
      x: `[B, ..., C]`.
      scale, bias: `[C]`.
      epsilon: what is added to the variance.
      axis_name: mapped axis over which mean and variance are taken too, or None.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    over = tuple(range(x.ndim - 1))
    mean, square = x.mean(over), (x**2).mean(over)
    if axis_name:
        mean, square = lax.pmean(jnp.stack((mean, square)), axis_name)
    var = jnp.maximum(square - mean**2, 0)
    return standardize(x, mean, lax.rsqrt(var + epsilon) * scale, bias), (mean, var)


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
