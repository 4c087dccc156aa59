"""Blocks that are computed again: which networks can. That no number changes is in tests/training/test_step.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_jax import models
from ctd_jax.errors import UserError


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.tanh(nn.Dense(3)(x))


class Scaled(Block):
    @nn.compact
    def __call__(self, x, factor, *, train):
        return factor * nn.Dense(3)(x)


class Other(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(3)(x)


class Net(nn.Module):
    block: type = Block
    further: tuple = ()
    blocks = (Block,)

    @nn.compact
    def __call__(self, x, *, train):
        return self.block(name="block")(x, *self.further, train=train)


class NoBlocks(Net):
    blocks = ()


X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


def gradient(net, *, remat):
    """Function of parameters, and parameters."""

    def loss(params):
        return jnp.sum(models.apply_in_training(net, {"params": params}, X, remat=remat)[0] ** 2)

    return jax.grad(loss), net.init(jax.random.key(0), X, train=False)["params"]


@pytest.mark.slow
def test_a_block_that_the_network_names_is_computed_again():
    grads, times = [], []
    for remat in (False, True):
        function, params = gradient(Net(), remat=remat)
        grads.append(function(params))
        times.append(str(jax.make_jaxpr(function)(params)).count("= tanh"))
    jax.tree.map(np.testing.assert_array_equal, *grads)
    assert times == [1, 2]


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (NoBlocks(), r"none of the classes that it names in `blocks` \(\); set train.remat to False"),
        (Net(Other), r"none of the classes that it names in `blocks` \(Block\)"),
        (Net(Scaled, (2.0,)), r"called as `block\(x, train=train\)`, but Scaled is called with 2 arguments and train"),
    ],
)
def test_a_network_whose_blocks_are_not_known_is_refused(net, message):
    function, params = gradient(net, remat=True)
    with pytest.raises(UserError, match=message):
        function(params)
