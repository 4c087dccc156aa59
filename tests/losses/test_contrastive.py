"""The supervised contrastive term: PyTorch's numbers, cases by hand, and that it sees the pictures of all devices."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from flax.traverse_util import flatten_dict
from golden.seeded import draw

from configs import domains
from ctd_jax.losses import constraints
from ctd_jax.training.parallel import AXIS

LAYERS = ("stem", "encoder", "deconv1")
LABELS = np.array([0, 1, 0, 2, 1, 0])  # as in golden/contrastive.py


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_value_and_gradient_are_pytorchs(temperature):
    features = 5 * draw("constraints/student", (6, 5))

    def mean(features):
        term = constraints.supervised_contrastive(features, LABELS, temperature=temperature)
        return term.mean(), term

    gradient, term = jax.jit(jax.grad(mean, has_aux=True))(features)
    with np.load(Path(__file__).parents[1] / "golden/contrastive.npz") as golden:
        np.testing.assert_allclose(term, golden[f"{temperature}/value"], rtol=1e-4, atol=1e-5)
        want = golden[f"{temperature}/gradient"]
        np.testing.assert_allclose(gradient, want, rtol=1e-3, atol=1e-5 * np.abs(want).max())
    assert term[3] == 0  # no positives


def test_two_pairs_by_hand():
    """Two domains at right angles: of three others, one at cosine 1 and two at 0; the length of features is nothing."""
    features = np.float32([[1, 0], [7, 0], [0, 2], [0, 1]])
    term = jax.jit(partial(constraints.supervised_contrastive, temperature=0.5))
    found = term(features, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(found, np.full(4, np.log(1 + 2 * np.exp(-2))), rtol=1e-5)
    mixed = term(features, np.array([0, 1, 0, 1]))
    np.testing.assert_allclose(mixed, np.full(4, np.log(2 + np.exp(2))), rtol=1e-5)


@jax.jit
@jax.value_and_grad
def of_two_domains(features):
    return constraints.supervised_contrastive(features, np.arange(len(features)) % 2, temperature=0.07).mean()


@pytest.mark.slow
@pytest.mark.parametrize("features", [np.zeros((4, 4)), np.ones((4, 4)), np.ones((1, 4)), 1e4 * np.eye(4)])
def test_finite_in_the_corners(features):
    value, slope = of_two_domains(np.float32(features))
    assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.mark.slow
def test_bfloat16_is_computed_in_float32():
    features = jnp.bfloat16(draw("constraints/student", (6, 5)))
    term = partial(constraints.supervised_contrastive, labels=LABELS, temperature=0.07)
    half = term(features)
    assert half.dtype == jnp.float32
    whole = term(features.astype(jnp.float32))
    np.testing.assert_array_equal(half, whole)


@pytest.fixture(scope="module")
def multi_scale(teacher_file):
    """A task with the term on encoder and decoder, a mixed batch, and a step of plain gradient descent at rate 1."""
    task = tiny.task(
        teacher_file,
        domains,
        constraints__contrastive__weight=0.5,
        constraints__contrastive__layers=LAYERS,
        train__encoder_lr=1.0,
        train__decoder_lr=1.0,
        **tiny.STILL,
    )
    batch = task.train.batch(np.array([0, 8, 1, 9, 2, 3, 10, 4]))
    assert batch["domain"].tolist() == [0, 1, 0, 1, 0, 0, 1, 0]
    return task, batch, tiny.trainer(task, tx=optax.identity())([batch])


@pytest.mark.slow
def test_the_mean_over_the_layers_with_the_domains_as_labels(multi_scale):
    task, batch, (_, (means,)) = multi_scale
    picture = (batch["picture"] / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    variables = task.init(0)

    def of_layers(picture, domain):
        out = task.model.apply(variables, picture, domain, train=True, mutable=["batch_stats"])[0]
        term = partial(constraints.supervised_contrastive, labels=domain, temperature=0.07)
        return [term(out[layer].mean((1, 2))) for layer in LAYERS]

    each = jax.jit(jax.vmap(of_layers, axis_name=AXIS))(picture.astype("float32")[None], batch["domain"][None])
    assert means["contrastive"] == pytest.approx(np.mean(each), rel=1e-3)
    assert means["loss"] == pytest.approx(means["heatmap"] + 0.5 * means["contrastive"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "devices"), [("shard_map", 2), ("shard_map", 4), ("pmap", 4)])
def test_several_devices_do_what_one_does(multi_scale, kind, devices):
    """Values and gradients, of the term and of batch norm per domain."""
    task, batch, (want, (want_means,)) = multi_scale
    start = flatten_dict(jax.device_get(task.init(0))["params"])
    state, (means,) = tiny.trainer(task, kind, devices, optax.identity())([batch])
    assert means == pytest.approx(want_means, rel=1e-4, abs=1e-5)
    found = flatten_dict(state.params)
    for path, value in flatten_dict(want.params).items():
        scale = np.abs(value - start[path]).max()
        np.testing.assert_allclose(found[path], value, rtol=0, atol=1e-3 * scale + 1e-6, err_msg="/".join(path))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.batch_stats, want.batch_stats)
