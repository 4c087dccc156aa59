"""Rematerialisation: less memory for a training step, and more time."""

import functools
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
from jax import Array

from ctd_jax.errors import UserError
from ctd_jax.training.barrier import after
from ctd_jax.typing import Features, Params, Tree, Variables


def apply_in_training(
    model: nn.Module, variables: Variables, *inputs: Array | None, remat: bool
) -> tuple[Features, Variables]:
    """The named features of a batch, and its batch statistics: `model.apply` in training.

    Args:
      model, variables: a network.
      *inputs: of the network: `[B, H, W, 3]` pictures, normalised, and what else it takes.
      remat: of each of the model's `blocks` only the input is kept for the backward pass, the rest is computed again:
        the same numbers. Not for a network with batch norm per domain, which a block computed again would not know of.

    Raises:
      UserError: `remat` is asked of a network whose blocks cannot be computed again.
    """
    if not remat:
        return _apply(model, variables, *inputs, train=True)
    blocks, found = getattr(model, "blocks", ()), set[str]()
    with nn.intercept_methods(functools.partial(_forget, blocks, found)):
        out = _apply(model, variables, *inputs, train=True)
    if not found:
        raise UserError(
            "train.remat computes the blocks of a network again, but this one has none of the classes that it names in "
            f"`blocks` ({', '.join(block.__name__ for block in blocks)}); set train.remat to False"
        )
    return out


def _apply(model: nn.Module, variables: Variables, *inputs: Array | None, train: bool) -> tuple[Any, Variables]:
    """What a network or a block returns, and its batch statistics."""
    out = model.apply(variables, *inputs, train=train, mutable=["batch_stats"])
    return cast(tuple[Any, Variables], out)


def _forget(
    blocks: tuple[type[nn.Module], ...],
    found: set[str],
    call: Callable,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    """Interceptor of all calls: those of blocks keep nothing but their input. The names of their classes go to `found`.

    Args:
      blocks: classes of the blocks.
      found: is added to.
      call, args, kwargs, context: see `nn.intercept_methods`.
    """
    block = context.module
    if not isinstance(block, blocks) or context.method_name != "__call__" or _is_root(block):
        return call(*args, **kwargs)
    name = type(block).__name__
    if len(args) != 1 or set(kwargs) != {"train"}:
        raise UserError(
            f"train.remat knows blocks that are called as `block(x, train=train)`, but {name} is called with "
            f"{len(args)} arguments and {', '.join(kwargs) or 'no keyword'}; set train.remat to False"
        )
    found.add(name)
    variables = dict(block.variables)
    y, updates = _block(block.clone(parent=None, name=None), kwargs["train"], variables["params"], variables, *args)
    for name, statistics in updates.get("batch_stats", {}).items():
        block.put_variable("batch_stats", name, statistics)
    return y


def _is_root(module: nn.Module) -> bool:
    return module.scope is None or module.scope.parent is None


def _plain(
    block: nn.Module, train: bool, params: Params, variables: dict[str, Any], x_BHWC: Array
) -> tuple[Array, Variables]:
    return _apply(block, variables | {"params": params}, x_BHWC, train=train)


_block = jax.custom_vjp(_plain, nondiff_argnums=(0, 1))


def _forward(
    block: nn.Module, train: bool, params: Params, variables: dict[str, Any], x_BHWC: Array
) -> tuple[Tree, Tree]:
    return _plain(block, train, params, variables, x_BHWC), (params, variables, x_BHWC)


def _backward(block: nn.Module, train: bool, saved: Tree, grads: Tree) -> tuple[Params, None, Array]:
    params, variables, x_BHWC = saved
    grad, _ = grads
    x_BHWC = after(grad, x_BHWC)  # else all blocks would be computed again at once
    _, pull = jax.vjp(lambda params, x: _plain(block, train, params, variables, x)[0], params, x_BHWC)
    grad_params, grad_x = pull(grad)
    return grad_params, None, grad_x


_block.defvjp(_forward, _backward)
