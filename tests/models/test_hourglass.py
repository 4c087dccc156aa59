"""The stacked hourglass against PyTorch's numbers (golden/README.md) and a count by hand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from golden.seeded import draw, picture

from ctd_jax.errors import UserError
from ctd_jax.models import StackedHourglass

KINDS = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
SMALL = StackedHourglass(num_landmarks=5, stacks=2, channels=16, depth=2)


def shapes(net, size):
    return jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, size, size, 3)), train=False))


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "golden/hourglass.npz") as numbers:
        return dict(numbers)


def filled(net):
    """The variables of `net`, with the numbers that PyTorch drew for the same keys."""

    def fill(path, x):
        key = ".".join([*path[1:-1], KINDS[path[-1]]])
        if path[-1] == "kernel":
            return draw(key, tuple(x.shape[i] for i in (3, 2, 0, 1))).transpose(2, 3, 1, 0)
        return draw(key, x.shape)

    return unflatten_dict({path: fill(path, x) for path, x in flatten_dict(shapes(net, 32)).items()})


@pytest.fixture(scope="module")
def variables():
    return filled(SMALL)


@pytest.mark.slow
def test_evaluation_matches_pytorch(variables, golden):
    out = jax.jit(lambda v, x: SMALL.apply(v, x, train=False))(variables, picture(32, 64))
    assert out["stacks"].shape == (2, 2, 32 // SMALL.stride, 64 // SMALL.stride, 5)
    np.testing.assert_allclose(out["stacks"], golden["eval"], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(out["heatmaps"], out["stacks"][-1])
    assert count(variables["params"]) == golden["n_params"]


@pytest.mark.slow
def test_training_matches_pytorch(variables, golden):
    step = jax.jit(lambda v, x: SMALL.apply(v, x, train=True, mutable=["batch_stats"]))
    out, updates = step(variables, picture(32, 64))
    np.testing.assert_allclose(out["stacks"], golden["train"], rtol=1e-4, atol=1e-4)
    got = updates["batch_stats"]["hourglass2"]["inner"]["up"]["norm2"]["mean"]
    np.testing.assert_allclose(got, golden["train_mean"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_parameter_count_of_the_paper_by_hand():
    """256 channels, depth 4, two stacks, 16 landmarks."""
    residual = 2 * 256 + 256 * 128 + 2 * 128 + 9 * 128 * 128 + 2 * 128 + 128 * 256
    stack = (3 * 4 + 1 + 1) * residual + 256 * 256 + 2 * 256 + (256 * 16 + 16)  # four sizes, the bottom, the head
    merge = 256 * 256 + 16 * 256
    stem = 49 * 3 * 64 + 2 * 64
    stem += 2 * 64 + 64 * 64 + 2 * 64 + 9 * 64 * 64 + 2 * 64 + 64 * 128 + 64 * 128
    stem += 2 * 128 + 128 * 64 + 2 * 64 + 9 * 64 * 64 + 2 * 64 + 64 * 128
    stem += 2 * 128 + 128 * 128 + 2 * 128 + 9 * 128 * 128 + 2 * 128 + 128 * 256 + 128 * 256
    assert stem + 2 * stack + merge == 6_553_568
    assert count(shapes(StackedHourglass(16), 64)["params"]) == 6_553_568
    assert count(shapes(StackedHourglass(16, stacks=4), 64)["params"]) == stem + 4 * stack + 3 * merge


@pytest.mark.slow
def test_gradients_reach_every_stack():
    """From the first heatmaps to the first stack alone; from the last to both, through what is merged."""
    net = SMALL.clone(depth=1)
    variables = filled(net)

    @jax.jit
    def gradients(params, stack):
        def loss(params):
            out = net.apply(variables | {"params": params}, picture(32, 32), train=True, mutable=["batch_stats"])[0]
            return jnp.mean(out["stacks"][stack] ** 2)

        return jax.grad(loss)(params)

    def largest(stack):
        return {path: np.abs(g).max() for path, g in flatten_dict(gradients(variables["params"], stack)).items()}

    first, last = map(largest, (0, 1))
    later = ("merge_features1", "merge_heatmaps1", "hourglass2", "residual2", "conv2", "norm2", "heatmaps2")
    assert {path[0] for path, g in first.items() if g == 0} == set(later)
    assert all(g > 1e-6 for path, g in first.items() if path[0] not in later)
    assert all(g > 1e-6 for path, g in last.items() if path != ("heatmaps1", "bias"))  # merged, then normalised away


@pytest.mark.slow
def test_bfloat16_activations_keep_float32_parameters_and_heatmaps(variables, golden):
    net = SMALL.clone(dtype=jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves(shapes(net, 32))} == {jnp.dtype("float32")}
    heatmaps = jax.jit(lambda v, x: net.apply(v, x, train=False)["heatmaps"])(variables, picture(32, 64))
    assert heatmaps.dtype == jnp.float32
    error = np.abs(heatmaps - golden["eval"][-1]).max() / np.abs(golden["eval"]).max()
    assert 1e-4 < error < 0.05  # eight bits of mantissa


@pytest.mark.parametrize(
    "attributes, size, message",
    [
        ({"depth": 4}, 96, r"96 x 96 pixels; an hourglass of depth 4 needs multiples of 64 = 4 \* 2\^4"),
        ({"depth": 2}, 40, "multiples of 16"),
        ({"stacks": 0}, 64, "0 stacks of depth 4; expected 1 or more each"),
        ({"depth": 0}, 64, "2 stacks of depth 0; expected 1 or more"),
        ({"channels": 30}, 64, "channels are 30; expected a multiple of 4"),
    ],
)
def test_what_cannot_be_built(attributes, size, message):
    with pytest.raises(UserError, match=message):
        shapes(StackedHourglass(3, **attributes), size)


@pytest.mark.slow
def test_multiple_is_the_smallest_picture():
    assert StackedHourglass(3, depth=4).multiple == 64
    assert shapes(SMALL, SMALL.multiple)
