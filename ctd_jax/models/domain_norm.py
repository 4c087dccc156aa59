"""Batch norm per domain: filters are shared, statistics and affine parameters are each domain's own.

y = gamma_d (x - mu_d) / sqrt(var_d + eps) + beta_d   for a picture of domain d      (Boutillon et al. 2021, 2105.10310)

A reconstruction: the abstract names it; the batch statistics here are those of the batch's pictures of that domain, so
that one batch may mix domains. Variables are those of batch norm with the domain in between: `norm1/<domain>/scale`.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

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
    """
    if not domains:
        yield
        return
    with nn.intercept_methods(functools.partial(_intercept, domain, tuple(domains))):
        yield


def _intercept(domain: Array, domains: tuple[str, ...], call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    norm = context.module
    if not isinstance(norm, nn.BatchNorm) or context.method_name != "__call__":
        return call(*args, **kwargs)
    return _normalize(norm, *args, [_Own(args[0].shape[-1], name=name, parent=norm) for name in domains], domain)


class _Own(nn.Module):
    """The variables of one domain."""

    channels: int

    def setup(self) -> None:
        shape = (self.channels,)
        self.scale = self.param("scale", nn.initializers.ones, shape)
        self.bias = self.param("bias", nn.initializers.zeros, shape)
        self.mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        self.var = self.variable("batch_stats", "var", jnp.ones, shape)


def _normalize(norm: nn.BatchNorm, x_BHWC: Array, own: list[_Own], domain: Array) -> Array:
    x = x_BHWC.astype(jnp.float32)
    if norm.use_running_average:
        mean, var = (jnp.stack([getattr(one, key).value for one in own]) for key in ("mean", "var"))  # [domains, C]
    else:
        present, mean, var = _statistics(x, domain, len(own), norm.axis_name)
        for d, one in enumerate(own):
            for variable, batch in ((one.mean, mean[d]), (one.var, var[d])):
                moved = norm.momentum * variable.value + (1 - norm.momentum) * batch
                variable.value = jnp.where(present[d], moved, variable.value)
    scale, bias = jnp.stack([one.scale for one in own]), jnp.stack([one.bias for one in own])

    def of_pictures(table: Array) -> Array:
        return table[domain].reshape(len(x), *[1] * (x.ndim - 2), -1)

    y = (x - of_pictures(mean)) * of_pictures(jax.lax.rsqrt(var + norm.epsilon) * scale) + of_pictures(bias)
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


def spread(variables: Mapping[str, Any], domains: Sequence[str]) -> dict[str, Any]:
    """A network's variables, `params` and `batch_stats`, with each batch norm copied to every domain."""
    norms = {path[:-1] for path in flatten_dict(variables["batch_stats"])}

    def copies(tree: Any) -> Any:
        out = {}
        for path, leaf in flatten_dict(tree).items():
            out |= {(*path[:-1], name, path[-1]): leaf for name in domains} if path[:-1] in norms else {path: leaf}
        return unflatten_dict(out)

    return {kind: copies(tree) for kind, tree in variables.items()}


def alone(variables: Mapping[str, Any], name: str, domains: Sequence[str]) -> dict[str, Any]:
    """The variables of one domain's network, with that domain's batch norm and head under the names of a network
    without domains: the opposite of `spread`."""

    def own(tree: Any) -> Any:
        out = {}
        for path, leaf in flatten_dict(tree).items():
            of = owner(path, domains)
            if of is None:
                out[path] = leaf
            elif of == name:
                head = path[-2] == f"final_{name}"
                out[(*path[:-2], *["final"] * head, path[-1])] = leaf
        return unflatten_dict(out)

    return {kind: own(tree) for kind, tree in variables.items()}


def owner(path: Sequence[str], domains: Sequence[str]) -> str | None:
    """The domain that a variable belongs to, by its path: of batch norm per domain, or of a head (`final_<domain>`);
    None: it is shared."""
    for name in domains:
        of_norm = len(path) > 2 and "norm" in path[-3] and path[-2] == name and path[-1] in _LEAVES
        if of_norm or (len(path) > 1 and path[-2] == f"final_{name}"):
            return name
    return None
