"""Batch norm per domain: each picture is normalised as if the batch held its own domain only."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ctd_jax.models import domain_norm, layers
from ctd_jax.models.batch_norm import batch_norm
from ctd_jax.training.parallel import AXIS, Parallel

DOMAINS = ("hand", "head", "hip")
DOMAIN = np.array([0, 2, 0, 0, 2, 0, 2, 0], np.int32)  # no head
X = np.random.default_rng(0).normal(2, 3, (8, 4, 5, 6)).astype("float32")


class Net(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, domain, *, train):
        with domain_norm.per_domain(domain, DOMAINS):
            norm = batch_norm(train=train, dtype=jnp.float32, axis_name=self.axis_name, name="norm1")
            return norm(x)


@pytest.fixture(scope="module")
def variables():
    """With numbers of its own in every leaf."""
    tree = jax.eval_shape(lambda: Net().init(jax.random.key(0), X, DOMAIN, train=False))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.uniform(0.5, 2, x.shape).astype("float32"), tree)


def by_hand(variables, *, train):
    """In float64, one domain after the other: the output, and the running statistics after."""
    y, after = np.empty(X.shape), {}
    for d, name in enumerate(DOMAINS):
        params, stats = (
            {k: np.asarray(v, "float64") for k, v in variables[kind]["norm1"][name].items()}
            for kind in ("params", "batch_stats")
        )
        x = X[d == DOMAIN].astype("float64")
        mean, var = stats["mean"], stats["var"]
        if train and len(x):
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            stats = {"mean": 0.9 * stats["mean"] + 0.1 * mean, "var": 0.9 * stats["var"] + 0.1 * var}
        y[d == DOMAIN] = (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]
        after[name] = stats
    return y, after


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_a_mixed_batch_is_that_of_each_domain_alone(variables, train, devices):
    def body(variables, batch):
        return Net(AXIS).apply(variables, batch["x"], batch["domain"], train=train, mutable=["batch_stats"])

    parallel = Parallel("shard_map", jax.devices()[:devices])
    compiled = parallel.compile(lambda v, b: jax.tree.map(lambda x: x[None], body(v, b)), sharded=True)
    batch = parallel.shard({"x": X, "domain": DOMAIN})
    y, updates = parallel.gather(compiled(parallel.replicate(variables), batch))
    want, stats = by_hand(variables, train=train)
    np.testing.assert_allclose(y.reshape(X.shape), want, rtol=1e-4, atol=1e-4)
    for path, found in flatten_dict(updates["batch_stats"]["norm1"]).items():
        for of_device in found:  # of each device
            np.testing.assert_allclose(of_device, stats[path[0]][path[1]], rtol=1e-5)
    absent = updates["batch_stats"]["norm1"]["head"]
    for key, value in variables["batch_stats"]["norm1"]["head"].items():
        np.testing.assert_array_equal(absent[key][0], value)


@pytest.mark.slow
def test_gradients_stay_within_their_domain(variables):
    def loss(params, x):
        y, _ = Net().apply(variables | {"params": params}, x, DOMAIN, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.where((DOMAIN == 0)[:, None, None, None], y**3, 0))

    grads, grad_x = jax.device_get(jax.jit(jax.grad(loss, argnums=(0, 1)))(variables["params"], X))
    for name, leaves in grads["norm1"].items():
        assert all((leaf != 0).all() == (name == "hand") and np.isfinite(leaf).all() for leaf in leaves.values())
    moved = np.abs(grad_x).max((1, 2, 3)) > 0
    np.testing.assert_array_equal(moved, DOMAIN == 0)


def test_a_teachers_tree_is_copied_to_every_domain():
    encoder = nn.Sequential([layers.Conv(4, 3), nn.BatchNorm(True), layers.Conv(2, 1, use_bias=True)])
    tree = jax.device_get(jax.jit(encoder.init)(jax.random.key(0), X))
    found = domain_norm.spread(tree, DOMAINS)
    norm = tree["params"]["layers_1"]
    assert set(found["params"]["layers_1"]) == set(found["batch_stats"]["layers_1"]) == set(DOMAINS)
    for name in DOMAINS:
        np.testing.assert_array_equal(found["params"]["layers_1"][name]["scale"], norm["scale"])
    for layer in ("layers_0", "layers_2"):
        jax.tree.map(np.testing.assert_array_equal, found["params"][layer], tree["params"][layer])


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("encoder/stage1_block0/norm1/head/scale", "head"),
        ("decoder/norm2/hip/bias", "hip"),
        ("decoder/final_hand/kernel", "hand"),
        ("decoder/final/kernel", None),
        ("decoder/norm2/scale", None),
        ("head/conv/bias", None),
    ],
)
def test_whose_a_parameter_is(path, owner):
    assert domain_norm.owner(path.split("/"), DOMAINS) == owner


def test_without_domains_nothing_changes():
    @functools.partial(jax.jit, static_argnums=1)
    def apply(x, domains):
        with domain_norm.per_domain(None, domains):
            return nn.BatchNorm(False).init_with_output(jax.random.key(0), x)

    y, tree = apply(X, ())
    assert set(tree["params"]) == {"scale", "bias"}
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)


def test_pictures_of_an_unknown_domain_are_refused(variables):
    with pytest.raises(ValueError, match="batch norm for the domains hand, head, hip needs the domain of each picture"):
        Net().apply(variables, X, None, train=False)
