"""Both wrappers do to a body what one device does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_jax.errors import UserError
from ctd_jax.training.parallel import AXIS, Parallel

KINDS = ("shard_map", "pmap")


@pytest.fixture(params=KINDS)
def parallel(request):
    assert len(jax.devices()) == 4, "tests/conftest.py asks for 4 simulated devices"
    return Parallel(request.param)


def test_what_is_placed_comes_back(parallel):
    tree = {"a": np.arange(6.0).reshape(2, 3), "b": np.int32(7)}
    back = parallel.first(parallel.replicate(tree))
    assert jax.tree.map(np.shape, back) == {"a": (2, 3), "b": ()}
    jax.tree.map(np.testing.assert_array_equal, back, tree)


def test_a_sharded_result_is_in_the_order_of_the_batch(parallel):
    batch = {"x": np.arange(8 * 3.0).reshape(8, 3)}
    double = parallel.compile(lambda factor, b: factor * b["x"], sharded=True)
    found = parallel.gather(double(parallel.replicate(jnp.float32(2)), parallel.shard(batch)))
    np.testing.assert_array_equal(found, 2 * batch["x"])


def test_mean_of_gradients_is_the_gradient_of_the_mean(parallel):
    x = np.random.default_rng(0).normal(size=8).astype(np.float32)

    def body(w, batch):
        assert batch.shape == (2,)  # this device's share
        return jax.lax.pmean(jax.grad(lambda w: jnp.mean((w * batch) ** 2))(w), AXIS)

    found = parallel.first(parallel.compile(body, sharded=False)(parallel.replicate(3.0), parallel.shard(x)))
    np.testing.assert_allclose(found, 2 * 3 * np.mean(x**2), rtol=1e-6)


def test_batches_that_cannot_be_shared_out(parallel):
    parallel.check_batch(8, "train.batch_size")
    for size in (6, 0, -4):
        with pytest.raises(UserError, match=f"train.batch_size is {size}.*devices, 4"):
            parallel.check_batch(size, "train.batch_size")


def test_another_kind_is_refused():
    with pytest.raises(UserError, match="'pjit'.*shard_map or pmap"):
        Parallel("pjit")
