"""Batch norm per domain: filters are shared, statistics and affine parameters are each domain's own.

y = gamma_d (x - mu_d) / sqrt(var_d + eps) + beta_d   for a picture of domain d      (Boutillon et al. 2021, 2105.10310)

A reconstruction: the abstract names it; the batch statistics here are those of the batch's pictures of that domain, so
that one batch may mix domains. Variables are those of batch norm with the domain in between: `norm1/<domain>/scale`.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from ctd_jax.models.batch_norm import standardize
from ctd_jax.typing import Tree, Variables

_HIGHEST = jax.lax.Precision.HIGHEST  # float32 even where the default is bfloat16 or TF32
_LEAVES = ("scale", "bias", "mean", "var")


@contextlib.contextmanager
def per_domain(domain: Array | None, domains: Sequence[str]) -> Iterator[None]:
    """Context in which every `nn.BatchNorm` is one per domain.

    In training, the running statistics of a domain that the batch does not have stay as they are. Where batch norm has
    no `axis_name`, statistics are of a device's own pictures.

    Args:
      domain: `[B]` index in `domains` of each picture.
      domains: names; with none, the context changes nothing.

    Raises:
      ValueError: there are domains, but it is not known of which the pictures are.
    """
    if not domains:
        yield
        return
    if domain is None:
        raise ValueError(f"batch norm for the domains {', '.join(domains)} needs the domain of each picture")
    with nn.intercept_methods(functools.partial(_intercept, domain, tuple(domains))):
        yield


def _intercept(
    domain: Array,
    domains: tuple[str, ...],
    call: Callable,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    """Interceptor of all calls, see `nn.intercept_methods`: batch norm has `domain` and `domains` of `per_domain`."""
    norm = context.module
    if not isinstance(norm, nn.BatchNorm) or context.method_name != "__call__":
        return call(*args, **kwargs)
    (x_BHWC,) = args
    variables = [_DomainVariables(x_BHWC.shape[-1], name=name, parent=norm) for name in domains]
    return _normalize(norm, x_BHWC, variables, domain)


class _DomainVariables(nn.Module):
    """Batch norm's variables for one domain."""

    channels: int

    def setup(self) -> None:
        shape = (self.channels,)
        self.scale = self.param("scale", nn.initializers.ones, shape)
        self.bias = self.param("bias", nn.initializers.zeros, shape)
        self.mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        self.var = self.variable("batch_stats", "var", jnp.ones, shape)


def _normalize(norm: nn.BatchNorm, x_BHWC: Array, variables: list[_DomainVariables], domain: Array) -> Array:
    x = x_BHWC.astype(jnp.float32)
    if norm.use_running_average:
        mean, var = (jnp.stack([getattr(one, key).value for one in variables]) for key in ("mean", "var"))
    else:
        present, mean, var = _statistics(x, domain, len(variables), norm.axis_name)
        for d, one in enumerate(variables):
            for variable, batch in ((one.mean, mean[d]), (one.var, var[d])):
                moved = norm.momentum * variable.value + (1 - norm.momentum) * batch
                variable.value = jnp.where(present[d], moved, variable.value)
    scale, bias = jnp.stack([one.scale for one in variables]), jnp.stack([one.bias for one in variables])

    def of_pictures(table: Array) -> Array:
        """`[domains, C]` -> that of each picture's domain, `[B, 1, ..., C]`."""
        return table[domain].reshape(len(x), *[1] * (x.ndim - 2), -1)

    factor = jax.lax.rsqrt(var + norm.epsilon) * scale
    y = standardize(x, *map(of_pictures, (mean, factor, bias)))
    return y.astype(norm.dtype or x_BHWC.dtype)


def _statistics(x: Array, domain: Array, number: int, axis_name: str | None) -> tuple[Array, Array, Array]:
    """`[domains]` whether a domain is there, `[domains, C]` mean and variance (0 where it is not)."""
    member = jax.nn.one_hot(domain, number)
    places = tuple(range(1, x.ndim - 1))
    sums = [member.sum(0)]
    sums += [jnp.einsum("bd,bc->dc", member, y.mean(places), precision=_HIGHEST) for y in (x, x**2)]
    count, total, square = jax.lax.psum(sums, axis_name) if axis_name else sums
    n = jnp.maximum(count, 1)[:, None]
    return count > 0, total / n, jnp.maximum(square / n - (total / n) ** 2, 0)


def spread(variables: Variables, domains: Sequence[str]) -> dict[str, Any]:
    """A network's variables, `params` and `batch_stats`, with each batch norm copied to every domain."""
    norms = {path[:-1] for path in flatten_dict(variables["batch_stats"])}

    def copies(tree: Tree) -> Tree:
        out: dict[tuple[str, ...], Any] = {}
        for path, leaf in flatten_dict(tree).items():
            if path[:-1] in norms:
                out |= {(*path[:-1], name, path[-1]): leaf for name in domains}
            else:
                out[path] = leaf
        return unflatten_dict(out)

    return {kind: copies(tree) for kind, tree in variables.items()}


def alone(variables: Variables, name: str, domains: Sequence[str]) -> dict[str, Any]:
    """The variables of one domain's network, with that domain's batch norm and head under the names of a network
    without domains: the opposite of `spread`.

    Args:
      variables: a network's, `params` and `batch_stats`.
      name: of the domain.
      domains: names of all that the network knows.
    """

    def select(tree: Tree) -> Tree:
        out = {}
        for path, leaf in flatten_dict(tree).items():
            domain = owner(path, domains)
            if domain is None:
                out[path] = leaf
            elif domain == name and path[-2] == f"final_{name}":
                out[(*path[:-2], "final", path[-1])] = leaf
            elif domain == name:
                out[(*path[:-2], path[-1])] = leaf
        return unflatten_dict(out)

    return {kind: select(tree) for kind, tree in variables.items()}


def owner(path: Sequence[str], domains: Sequence[str]) -> str | None:
    """The domain that a variable belongs to, or None if all share it.

    Args:
      path: names from the top of the tree down to the variable, which is one of batch norm per domain, of a domain's
        head (`final_<domain>`), or any other.
      domains: names of all that the network knows.
    """
    for name in domains:
        in_norm = len(path) > 2 and "norm" in path[-3] and path[-2] == name and path[-1] in _LEAVES
        if in_norm or (len(path) > 1 and path[-2] == f"final_{name}"):
            return name
    return None
