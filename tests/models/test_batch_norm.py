"""Batch norm against Flax's."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_jax.models import layers
from ctd_jax.models.batch_norm import BatchNorm, batch_norm, normalized


@pytest.mark.slow
@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_is_that_of_flax(train):
    """Result, gradients of the picture, of scale and of bias, and the statistics that it leaves."""
    rng = np.random.default_rng(0)
    x, scale, bias, mean = (rng.normal(m, 2, shape) for m, shape in ((5, (4, 6, 5, 3)), (1, 3), (0, 3), (4, 3)))
    start = {"batch_stats": {"mean": mean, "var": np.array([0.5, 1, 2])}}
    start, x, scale, bias = jax.tree.map(jnp.float32, (start, x, scale, bias))
    ours = batch_norm(train=train, dtype=jnp.float32, axis_name=None, name=None, momentum=0.7, epsilon=1e-3)
    flax = nn.BatchNorm(not train, momentum=0.7, epsilon=1e-3)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x)) == jax.tree.map(
        jnp.shape, flax.init(jax.random.key(0), x)
    )

    weights = rng.normal(size=x.shape).astype("float32")

    def with_gradients(norm):
        def call(x, scale, bias):
            return norm.apply(start | {"params": {"scale": scale, "bias": bias}}, x, mutable=["batch_stats"])

        @jax.jit
        def all_of(*inputs):
            found, pull, left = jax.vjp(call, *inputs, has_aux=True)
            return (found, *pull(weights)), left["batch_stats"]

        return all_of(x, scale, bias)

    (found, left), (want, of_flax) = map(with_gradients, (ours, flax))
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), left, of_flax)
    assert (np.abs(left["mean"] - start["batch_stats"]["mean"]).max() > 0.1) == train


@pytest.mark.slow
def test_training_keeps_one_map_for_a_batch_norm():
    """Eight products, batch norms and ReLUs of a map of 4 MiB: of each the product and the result are kept, and of
    Flax's the difference from the mean too."""

    class Blocks(nn.Module):
        norm: type[nn.BatchNorm]

        @nn.compact
        def __call__(self, x):
            for i in range(8):
                product = x @ self.param(f"kernel{i}", nn.initializers.lecun_normal(), (256, 256))
                x = layers.relu(self.norm(False)(product))
            return x.sum()

    x = jnp.ones((4096, 256))

    def kept(norm):
        net = Blocks(norm)
        variables = jax.eval_shape(lambda: net.init(jax.random.key(0), x))
        gradient = jax.grad(lambda v: net.apply(v, x, mutable=["batch_stats"])[0])
        return jax.jit(gradient).lower(variables).compile().memory_analysis().temp_size_in_bytes / x.nbytes

    assert kept(BatchNorm) < 20 < kept(nn.BatchNorm)


def test_layers_of_one_shape_are_traced_once():
    def both(x, c):
        y, _ = normalized(x, c, c, 1e-5, None)
        z, _ = normalized(y, c, c, 1e-5, None)
        return normalized(z[:, :2], c, c, 1e-5, None)

    eqns = jax.make_jaxpr(both)(jnp.ones((2, 4, 4, 3)), jnp.ones(3)).eqns
    first, again, smaller = (eqn.params["jaxpr"] for eqn in eqns if eqn.params.get("name") == "normalized")
    assert first is again and first is not smaller
