"""Rematerialisation: less memory for a training step, and more time."""

import functools
from typing import Any

import flax.linen as nn
import jax
from jax import Array

from ctd_jax.models.hourglass import Residual
from ctd_jax.models.mobilefacenet import InvertedResidual
from ctd_jax.models.resnet import BasicBlock, Bottleneck
from ctd_jax.training.barrier import after

BLOCKS = (BasicBlock, Bottleneck, InvertedResidual, Residual)  # all but a few of the activations are in them


def apply_in_training(model: nn.Module, variables: Any, *inputs: Array | None, remat: bool) -> tuple[Any, Any]:
    """The named features of a batch, and its batch statistics: `model.apply` in training.

    Args:
      model, variables: a network.
      *inputs: of the network: `[B, H, W, 3]` pictures, normalised, and what else it takes.
      remat: of a block only the input is kept for the backward pass, the rest is computed again: the same numbers. Not
        for a network with batch norm per domain, which a block computed again would not know of.
    """
    apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    if not remat:
        return apply(variables, *inputs)
    with nn.intercept_methods(_forget):
        return apply(variables, *inputs)


def _forget(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    """Interceptor of a block's call."""
    block = context.module
    if not isinstance(block, BLOCKS) or context.method_name != "__call__" or block.scope.parent is None:
        return call(*args, **kwargs)
    variables = dict(block.variables)
    y, updates = _block(block.clone(parent=None, name=None), kwargs["train"], variables["params"], variables, *args)
    for name, statistics in updates.get("batch_stats", {}).items():
        block.put_variable("batch_stats", name, statistics)
    return y


def _plain(block: nn.Module, train: bool, params: Any, variables: Any, x_BHWC: Array) -> tuple[Array, Any]:
    return block.apply(variables | {"params": params}, x_BHWC, train=train, mutable=["batch_stats"])


_block = jax.custom_vjp(_plain, nondiff_argnums=(0, 1))


def _forward(block: nn.Module, train: bool, params: Any, variables: Any, x_BHWC: Array) -> tuple[Any, Any]:
    return _plain(block, train, params, variables, x_BHWC), (params, variables, x_BHWC)


def _backward(block: nn.Module, train: bool, saved: Any, grads: Any) -> tuple[Any, None, Array]:
    params, variables, x_BHWC = saved
    grad, _ = grads
    x_BHWC = after(grad, x_BHWC)  # else all blocks would be computed again at once
    _, pull = jax.vjp(lambda params, x: _plain(block, train, params, variables, x)[0], params, x_BHWC)
    grad_params, grad_x = pull(grad)
    return grad_params, None, grad_x


_block.defvjp(_forward, _backward)
