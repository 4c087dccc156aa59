"""The training step: the same on one device and on four, by either wrapper."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.spatial.distance
import tiny

from ctd_jax import data, models, step
from ctd_jax.landmarks import LandmarkTask
from ctd_jax.parallel import Parallel

BATCH = 8
STILL = {"augment__flip": 0.0, "augment__scale": 0.0, "augment__shift": 0.0}


def make_task(teacher_file, **changes):
    changes |= {"constraints__ed__weight": 0.5, "train__steps": 100, "train__encoder_lr": 1e-4}
    config = tiny.config(teacher_file, **changes)
    return LandmarkTask(config, data.load(config.data, None))


def batches(task, n):
    rng = np.random.default_rng(0)
    return [task.train.batch(rng.permutation(len(task.train))[:BATCH]) for _ in range(n)]


def trainer(task, kind="shard_map", devices=1):
    """Function of batches that starts anew each time: the final state, and the means of each step, as NumPy."""
    parallel = Parallel(kind, jax.devices()[:devices])
    start = jax.device_get(task.init(0))
    tx = step.optimizer(task.config.train, task.labels(start["params"]))
    compiled = parallel.compile(step.make(task.loss, tx, seed=0), sharded=False, donate=(0,))

    def train(batches, variables=start):
        state = step.TrainState(
            np.int32(0), variables["params"], variables["batch_stats"], tx.init(variables["params"])
        )
        state, frozen, means = parallel.replicate(state), parallel.replicate(task.frozen), []
        for batch in batches:
            state, mean = compiled(state, frozen, parallel.shard(batch))
            means.append({name: float(value) for name, value in parallel.first(mean).items()})
        jax.tree.map(np.testing.assert_array_equal, parallel.first(frozen), task.teacher.variables)
        return parallel.first(state), means

    return train


@pytest.fixture(scope="module")
def one_device(teacher_file):
    task = make_task(teacher_file)
    return task, trainer(task), batches(task, 3)


@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
def test_four_devices_do_what_one_does(one_device, kind):
    task, train, seen = one_device
    want, want_means = train(seen)
    state, means = trainer(task, kind, 4)(seen)
    assert [set(m) for m in means] == [{"loss", "heatmap", "ed"}] * 3
    for name in ("params", "batch_stats"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), getattr(state, name), getattr(want, name)
        )
    for mean, want_mean in zip(means, want_means, strict=True):
        assert mean == pytest.approx(want_mean, abs=1e-5)
    assert state.step == 3


def test_training_changes_all_that_it_should(one_device):
    task, train, seen = one_device
    before, (state, _) = task.init(0), train(seen)
    for tree in ("params", "batch_stats"):
        for part in ("encoder", "decoder"):
            moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before[tree][part], getattr(state, tree)[part])
            assert all(m > 0 for m in jax.tree.leaves(moved)), (tree, part)


def test_terms_are_those_of_the_equations(teacher_file):
    task = make_task(teacher_file, **STILL)
    batch = batches(task, 1)[0]
    variables = jax.device_get(task.init(0))
    rng = np.random.default_rng(0)
    variables["params"] = jax.tree.map(lambda x: x + rng.normal(0, 0.05, x.shape).astype("f"), variables["params"])
    _, (means,) = trainer(task)([batch], variables)

    picture = (batch["picture"] / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    picture = picture.astype(np.float32)
    net = models.build(task.config.model, encoder=tiny.ENCODER, num_landmarks=len(task.landmarks.names))
    student, _ = jax.jit(lambda v: net.apply(v, picture, train=True, mutable=["batch_stats"]))(variables)
    teacher = jax.jit(lambda v: models.build_encoder(**tiny.ENCODER).apply(v, picture, train=False))(
        task.teacher.variables
    )
    ed = np.mean(
        [
            scipy.spatial.distance.cosine(np.ravel(s), np.ravel(t))
            for s, t in zip(student["encoder"], teacher["encoder"], strict=True)
        ]
    )
    assert ed > 0.05
    u = np.arange(8)  # cells of 4 pixels
    x, y = (batch["xy"][:, None, None, :, axis] / 4 - 0.375 for axis in (0, 1))
    true = np.exp(-((u[None, None, :, None] - x) ** 2 + (u[None, :, None, None] - y) ** 2) / (2 * 1.5**2))
    counted = batch["mask"] & ((batch["xy"] > -0.5) & (batch["xy"] < 31.5)).all(-1)
    error = ((student["heatmaps"] - true) ** 2).mean((1, 2))
    heatmap = np.mean([e[c].mean() for e, c in zip(error, counted, strict=True)])
    assert means == pytest.approx({"heatmap": heatmap, "ed": ed, "loss": heatmap + 0.5 * ed}, abs=1e-5)


def test_encoder_and_decoder_have_their_own_learning_rates(one_device):
    task, train, seen = one_device
    before = task.init(0)["params"]
    state, _ = train(seen[:1])
    for part, lr in (("encoder", 1e-4), ("decoder", 1e-3)):
        moved = jax.tree.map(lambda a, b: np.abs(a - b).ravel(), before[part], state.params[part])
        moved = np.concatenate(jax.tree.leaves(moved))
        # Adam's first step is lr g / (|g| + 1e-8).
        assert moved.max() == pytest.approx(lr, rel=1e-2)
        assert np.median(moved) == pytest.approx(lr, rel=0.05)


def test_learning_rate_decays_to_nothing():
    config = tiny.config("none", train__steps=10, train__encoder_lr=0.5, train__decay_power=2.0).train
    assert [float(step.schedule(config, "encoder")(t)) for t in (0, 5, 10)] == pytest.approx([0.5, 0.125, 0])
    assert float(step.schedule(config, "decoder")(0)) == pytest.approx(1e-3)


def test_masked_landmarks_have_no_influence(one_device):
    _, train, seen = one_device
    batch = {key: value.copy() for key, value in seen[0].items()}
    batch["mask"][:, :5] = False  # left ones, whose partners in a mirror image are not masked
    moved = batch | {"xy": batch["xy"].copy()}
    moved["xy"][:, :5] = 13.0
    (a, means_a), (b, means_b) = train([batch]), train([moved])
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
    assert means_a == means_b
    moved["mask"] = np.ones_like(batch["mask"])
    assert train([moved])[1] != means_a


def test_randomness_depends_on_seed_step_and_place_alone():
    picture = np.arange(8.0).reshape(8, 1)

    def loss(params, batch_stats, frozen, batch, keys):
        drawn = jax.vmap(jax.random.uniform)(keys)
        return drawn * params["w"], ({}, {"drawn": drawn * batch["picture"][:, 0]})

    def drawn(seed, kind="shard_map", devices=1):
        parallel = Parallel(kind, jax.devices()[:devices])
        tx, params = optax.sgd(0.0), {"w": jnp.ones(())}
        state = parallel.replicate(step.TrainState(jnp.zeros((), jnp.int32), params, {}, tx.init(params)))
        compiled = parallel.compile(step.make(loss, tx, seed), sharded=False)
        found = []
        for _ in range(3):
            state, means = compiled(state, {}, parallel.shard({"picture": picture}))
            found.append(float(parallel.first(means)["drawn"]))
        return found

    want = drawn(0)
    assert len(set(want)) == 3
    for kind in ("shard_map", "pmap"):
        assert drawn(0, kind, 4) == pytest.approx(want, abs=1e-6)
    assert drawn(1) != want
