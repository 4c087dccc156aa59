"""Batch norm folded into the convolution before it, for prediction: one pass less over each map.

gamma (W x - mu) / sqrt(var + eps) + beta  =  (s W) x + b     with  s = gamma / sqrt(var + eps),  b = beta - s mu
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ctd_jax.models.deconvolution import Deconv
from ctd_jax.models.layers import Conv, DepthwiseConv
from ctd_jax.typing import Variables


def fold(model: nn.Module, variables: Variables, size: int) -> dict[str, Any]:
    """Variables of the same network for prediction, which `folded` reads: where batch norm comes straight after a
    convolution, only its `bias` is left. Batch norm anywhere else, and that of several domains, stays as it is.

    Args:
      model: a network of `build` or `build_segmentation`.
      variables: `params` and `batch_stats`, on the host.
      size: of a picture, in pixels.
    """
    params, statistics = (flatten_dict(jax.device_get(variables[kind])) for kind in ("params", "batch_stats"))
    for norm, (convolution, epsilon) in _pairs(model, variables, size).items():
        gamma, beta = (params.pop((*norm, name)) for name in ("scale", "bias"))
        mean, var = (statistics.pop((*norm, name)) for name in ("mean", "var"))
        with np.errstate(over="ignore", invalid="ignore"):  # numbers that are not finite are found in the outputs
            scale = gamma / np.sqrt(var + epsilon)
            params[*convolution, "kernel"] = params[*convolution, "kernel"] * scale  # [..., output channel]
            params[*norm, "bias"] = beta - scale * mean
    return {"params": unflatten_dict(params), "batch_stats": unflatten_dict(statistics)}


def _pairs(model: nn.Module, variables: Variables, size: int) -> dict[tuple[str, ...], tuple[tuple[str, ...], float]]:
    """Path of a batch norm -> path of the convolution whose output it takes, and epsilon."""
    made, found = {}, {}

    def watch(
        call: Callable, args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        out, module = call(*args, **kwargs), context.module
        if isinstance(module, (Conv, DepthwiseConv, Deconv)) and not getattr(module, "use_bias", False):
            made[id(out)] = out, module.path  # with `out`, so that its id is not given again
        elif isinstance(module, nn.BatchNorm) and id(args[0]) in made and module.has_variable("batch_stats", "mean"):
            found[module.path] = made[id(args[0])][1], module.epsilon
        return out

    def look(variables: Variables) -> None:
        with nn.intercept_methods(watch):
            model.apply(variables, jnp.zeros((1, size, size, 3)), jnp.zeros(1, jnp.int32), train=False)

    jax.eval_shape(look, variables)
    return found


@contextlib.contextmanager
def folded() -> Iterator[None]:
    """Context in which a network takes the variables that `fold` makes; others it takes as before."""
    with nn.intercept_methods(_add_bias):
        yield


def _add_bias(
    call: Callable, args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
) -> Any:
    """Interceptor of all calls: folded batch norm adds what is left of it."""
    norm = context.module
    is_norm = isinstance(norm, nn.BatchNorm) and context.method_name == "__call__"
    if not is_norm or norm.has_variable("batch_stats", "mean") or not norm.has_variable("params", "bias"):
        return call(*args, **kwargs)
    (x,) = args
    return x + norm.get_variable("params", "bias").astype(x.dtype)
