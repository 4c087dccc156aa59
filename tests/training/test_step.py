"""The training step: the same on one device and on four, by either wrapper."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.spatial.distance
import tiny
from flax.traverse_util import flatten_dict

from configs import ctd_ed, hg
from ctd_jax import models, training_run
from ctd_jax.models.mobilenet import MobileNet
from ctd_jax.tasks.landmarks import LandmarkTask, heatmaps
from ctd_jax.training import pace, step
from ctd_jax.training.parallel import Parallel

pytestmark = pytest.mark.slow

BATCH = 8


def make_task(teacher_file, **changes):
    changes = {"constraints__ed__weight": 0.5, "train__steps": 100, "train__encoder_lr": 1e-4} | changes
    return tiny.task(teacher_file, **changes)


def batches(task, n):
    rng = np.random.default_rng(0)
    return [task.train.batch(rng.permutation(len(task.train))[:BATCH]) for _ in range(n)]


def perturbed(task, by=0.05):
    """The variables at the start, moved a little, so that no term is 0."""
    variables, rng = jax.device_get(task.init(0)), np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + rng.normal(0, by, x.shape).astype("f"), variables["params"])
    return variables | {"params": params}


def assert_same_run(found, want):
    """Parameters and batch statistics at the end, and the means of each step."""
    (state, means), (want_state, want_means) = found, want
    chex.assert_tree_all_finite(state)
    for name in ("params", "batch_stats"):
        chex.assert_trees_all_close(getattr(state, name), getattr(want_state, name), rtol=0, atol=1e-5)
    for mean, want_mean in zip(means, want_means, strict=True):
        assert mean == pytest.approx(want_mean, abs=1e-5)


@pytest.fixture(scope="module")
def one_device(teacher_file):
    task = make_task(teacher_file)
    return task, tiny.trainer(task, newer_fusions=True), batches(task, 3)


@pytest.fixture(scope="module")
def four_devices(one_device):
    """The state and the means of four devices after the batches of `one_device`."""
    task, _, seen = one_device
    return tiny.trainer(task, devices=4, newer_fusions=True)(seen)


@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
def test_four_devices_do_what_one_does(one_device, four_devices, kind):
    task, train, seen = one_device
    want, want_means = train(seen)
    state, means = four_devices if kind == "shard_map" else tiny.trainer(task, kind, 4, newer_fusions=True)(seen)
    assert [set(m) for m in means] == [{"loss", "heatmap", "ed"}] * 3
    assert_same_run((state, means), (want, want_means))
    assert state.step == 3


@pytest.fixture(scope="module")
def ghosts(teacher_file):
    """Batch norm of each of four devices by itself."""
    task = make_task(teacher_file, train__batch_norm="device")
    seen = batches(task, 3)
    return seen, tiny.trainer(task, devices=4, newer_fusions=True)(seen)


def test_batch_norm_of_a_device_is_that_of_its_own_pictures(teacher_file):
    """By hand: one quarter of the batch after the other goes through the network; then the mean of all."""
    task = make_task(teacher_file, train__batch_norm="device", **tiny.STILL)
    batch, variables = batches(task, 1)[0], perturbed(task)
    picture = models.normalize(batch["picture"], task.teacher.input)
    net = models.build(task.config.model, encoder=tiny.ENCODER, num_landmarks=len(task.landmarks.names))
    true = heatmaps.draw(jnp.asarray(batch["xy"]), size=32, stride=2, sigma=1.5)
    inside = batch["mask"] & ((batch["xy"] > -0.5) & (batch["xy"] < 31.5)).all(-1)
    apply = jax.jit(lambda x: net.apply(variables, x, train=True, mutable=["batch_stats"]))
    parts = [apply(part) for part in jnp.split(picture, 4)]
    error = ((np.concatenate([out["heatmaps"] for out, _ in parts]) - true) ** 2).mean((1, 2))
    want = np.mean([e[c].mean() for e, c in zip(error, inside, strict=True)])
    want_stats = jax.tree.map(lambda *of: np.mean(of, axis=0), *(updates["batch_stats"] for _, updates in parts))

    state, (means,) = tiny.trainer(task, devices=4)([batch], variables)
    assert means["heatmap"] == pytest.approx(want, abs=1e-5)
    chex.assert_trees_all_close(state.batch_stats, want_stats, rtol=1e-7, atol=1e-5)
    whole, _ = tiny.trainer(task)([batch], variables)
    differ = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.batch_stats, whole.batch_stats)
    assert max(jax.tree.leaves(differ)) > 1e-3


def test_four_parts_do_what_four_devices_do(ghosts, teacher_file):
    """With augmentation: a picture keeps its place in the global batch."""
    seen, want = ghosts
    task = make_task(teacher_file, train__accumulate_steps=4)
    assert_same_run(tiny.trainer(task, newer_fusions=True)(seen), want)
    task = make_task(teacher_file, train__batch_norm="device", train__accumulate_steps=2)
    assert_same_run(tiny.trainer(task, "pmap", 2, newer_fusions=True)(seen), want)


@pytest.mark.parametrize("devices", [1, 2])
def test_one_device_does_not_speak_to_others(teacher_file, devices):
    task = make_task(teacher_file, eval__gradient_norms=True)
    variables = task.init(0)
    labels = task.param_labels(variables["params"])
    tx, parallel = step.optimizer(labels), Parallel("shard_map", jax.devices()[:devices])
    state = step.TrainState(np.int32(0), variables["params"], variables["batch_stats"], tx.init(variables["params"]))
    arguments = (
        state,
        step.constants(task.config.seed, task.config.train, task.constants),
        task.train.batch(np.arange(4)),
    )
    for body in (step.make(task.loss, tx, labels), step.gradient_norms(task.loss, task.gradient_terms, labels)):
        text = parallel.compile(body, sharded=False).lower(*arguments).as_text()
        assert ("all_reduce" in text) == (devices > 1)


def test_parts_are_the_whole_where_no_picture_sees_another():
    """Least squares against numbers drawn for each picture; no batch norm."""
    rng = np.random.default_rng(0)
    batch, labels = {"picture": rng.normal(size=(8, 3)).astype("f")}, {"w": "encoder"}

    def loss(params, batch_stats, frozen, batch, keys):
        losses = (batch["picture"] @ params["w"] - jax.vmap(jax.random.normal)(keys)) ** 2
        return losses, (batch_stats, {"fit": losses})

    def train(parts):
        parallel, tx = Parallel("shard_map", jax.devices()[:2]), step.optimizer(labels)
        compiled = parallel.compile(step.make(loss, tx, labels, accumulate_steps=parts), sharded=False)
        params = {"w": np.ones(3, "f")}
        state = parallel.replicate(step.TrainState(np.int32(0), params, {}, tx.init(params)))
        constants, means = parallel.replicate(step.constants(0, tiny.config("none").train, {})), []
        for _ in range(3):
            state, mean = compiled(state, constants, parallel.shard(batch))
            means.append({name: float(value) for name, value in parallel.first(mean).items()})
        norms = parallel.compile(step.gradient_norms(loss, ("fit",), labels, accumulate_steps=parts), sharded=False)
        norm = parallel.first(norms(state, constants, parallel.shard(batch)))["fit"]
        return (parallel.first(state), means), norm

    (whole, norm), (parts, norm_of_parts) = train(1), train(4)
    assert_same_run(parts, whole)
    assert norm_of_parts == pytest.approx(norm, rel=1e-5)
    assert norm > 0.1 and np.abs(whole[0].params["w"] - 1).max() > 1e-3


REMAT = {
    "resnet8": ("tiny", ctd_ed, {"constraints__ed__weight": 0.5}),
    "classifier": ("classifier", ctd_ed, {"constraints__cd__weight": 0.1}),
    "frozen": ("tiny", ctd_ed, {"constraints__ed__weight": 0.0, "train__encoder_layers": "none"}),
    "mobilenet": ("none", ctd_ed, {"model__encoder": "small_mobilenet", "constraints__ed__weight": 0.0}),
}


@pytest.mark.parametrize("network", REMAT)
def test_rematerialisation_changes_nothing(teacher_file, classifier_file, four_devices, monkeypatch, network):
    small = functools.partial(MobileNet, 4, ((2, 8, 1), (2, 8, 2)))
    monkeypatch.setitem(models.ENCODERS, "small_mobilenet", small)
    file, module, of_network = REMAT[network]
    file = {"tiny": teacher_file, "classifier": classifier_file}.get(file, file)

    def run(remat):
        keys = {"train__remat": remat, "train__steps": 100, "train__encoder_lr": 1e-4, **of_network}
        task = tiny.task(file, module, **keys)
        return tiny.trainer(task, devices=4, newer_fusions=True)(batches(task, 3))

    assert_same_run(run(True), four_devices if network == "resnet8" else run(False))


def test_rematerialisation_knows_all_blocks_of_mobilefacenet():
    """They are those of `mobilenet` above, fifteen here: shapes are enough."""
    net, picture = models.build_encoder("mobilefacenet"), jnp.zeros((2, 32, 32, 3))
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), picture, train=False))

    def forward(variables, remat):
        return models.apply_in_training(net, variables, picture, remat=remat)

    def loss(params, batch_stats):
        return forward({"params": params, "batch_stats": batch_stats}, True)[0]["encoder"].sum()

    (plain, want), (again, found) = (
        jax.make_jaxpr(forward, static_argnums=1, return_shape=True)(variables, remat) for remat in (False, True)
    )
    assert found == want
    assert str(again).count("custom_vjp_call") - str(plain).count("custom_vjp_call") == 15
    assert jax.eval_shape(jax.grad(loss), variables["params"], variables["batch_stats"]) == variables["params"]


def compiled_step(task, devices=1):
    """The step, its state at the start, its constants and the devices."""
    parallel, variables = Parallel("shard_map", jax.devices()[:devices]), task.init(0)
    labels = task.param_labels(variables["params"])
    tx = step.optimizer(labels)
    state = step.TrainState(np.int32(0), variables["params"], variables["batch_stats"], tx.init(variables["params"]))
    made = step.make(task.loss, tx, labels, accumulate_steps=task.config.train.accumulate_steps)
    state, constants = parallel.replicate((state, step.constants(task.config.seed, task.config.train, task.constants)))
    example = parallel.shard(batches(task, 1)[0])
    return parallel.compile(made, sharded=False).lower(state, constants, example).compile(), state, constants, parallel


def temporary(compiled):
    """Temporary memory, bytes."""
    return compiled.memory_analysis().temp_size_in_bytes


def test_rematerialisation_of_an_hourglass_changes_nothing_but_its_memory():
    """Few parameters and large maps."""
    runs, needs = [], []
    for remat in (False, True):
        changes = {"train__steps": 100, "train__decoder_lr": 1e-4, "model__hourglass__stacks": 1}
        task = tiny.task("none", hg, train__remat=remat, **changes)
        compiled, state, constants, parallel = compiled_step(task, devices=2)
        needs.append(temporary(compiled))
        means = []
        for batch in batches(task, 3):
            state, mean = compiled(state, constants, parallel.shard(batch))
            means.append({name: float(parallel.first(mean)[name]) for name in ("loss", "heatmap")})
        runs.append((parallel.first(state), means))
    assert_same_run(*runs)
    assert needs[1] / needs[0] < 0.8, needs


def test_parts_take_less_memory(teacher_file):
    needs = [temporary(compiled_step(tiny.task(teacher_file, data__image_size=64, train__accumulate_steps=parts))[0])
             for parts in (1, 4)]  # fmt: skip
    assert needs[1] / needs[0] < 0.5, needs


def test_training_changes_all_that_it_should(one_device):
    task, train, seen = one_device
    before, (state, _) = task.init(0), train(seen)
    for tree in ("params", "batch_stats"):
        for part in ("encoder", "decoder"):
            moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before[tree][part], getattr(state, tree)[part])
            assert all(m > 0 for m in jax.tree.leaves(moved)), (tree, part)


def test_terms_are_those_of_the_equations(teacher_file):
    task = make_task(teacher_file, **tiny.STILL)
    batch, variables = batches(task, 1)[0], perturbed(task, 0.2)
    _, (means,) = tiny.trainer(task)([batch], variables)

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
    u = np.arange(16)  # cells of 2 pixels
    x, y = (batch["xy"][:, None, None, :, axis] / 2 - 0.25 for axis in (0, 1))
    true = np.exp(-((u[None, None, :, None] - x) ** 2 + (u[None, :, None, None] - y) ** 2) / (2 * 1.5**2))
    counted = batch["mask"] & ((batch["xy"] > -0.5) & (batch["xy"] < 31.5)).all(-1)
    error = ((student["heatmaps"] - true) ** 2).mean((1, 2))
    heatmap = np.mean([e[c].mean() for e, c in zip(error, counted, strict=True)])
    assert means == pytest.approx({"heatmap": heatmap, "ed": ed, "loss": heatmap + 0.5 * ed}, abs=1e-5)


def test_gradient_norms_are_those_of_the_terms_by_the_layers_that_learn(teacher_file):
    task = make_task(teacher_file, train__encoder_layers="last", eval__gradient_norms=True, **tiny.STILL)
    batch, variables = batches(task, 1)[0], perturbed(task)
    labels = task.param_labels(variables["params"])
    parallel = Parallel("shard_map", jax.devices()[:4])
    norms = parallel.compile(step.gradient_norms(task.loss, task.gradient_terms, labels), sharded=False)
    state = parallel.replicate(step.TrainState(np.int32(0), variables["params"], variables["batch_stats"], ()))
    found = parallel.first(
        norms(
            state,
            parallel.replicate(step.constants(task.config.seed, task.config.train, task.constants)),
            parallel.shard(batch),
        )
    )

    picture = models.normalize(batch["picture"], task.teacher.input)
    K = len(task.landmarks.names)
    net = models.build(task.config.model, encoder=tiny.ENCODER, num_landmarks=K, encoder_norm=False)
    apply = jax.jit(lambda v: models.build_encoder(**tiny.ENCODER).apply(v, picture, train=False)["encoder"])
    teacher = apply(task.teacher.variables)
    true = heatmaps.draw(jnp.asarray(batch["xy"]), size=32, stride=2, sigma=1.5)
    inside = batch["mask"] & ((batch["xy"] > -0.5) & (batch["xy"] < 31.5)).all(-1)

    def terms(last):
        params = variables["params"]
        block = params["encoder"]["stage1_block0"] | last
        params = params | {"encoder": params["encoder"] | {"stage1_block0": block}}
        both = {"params": params, "batch_stats": variables["batch_stats"]}
        student, _ = net.apply(both, picture, train=True, mutable=["batch_stats"])
        s, t = student["encoder"].reshape(BATCH, -1), teacher.reshape(BATCH, -1)
        ed = 1 - (s * t).sum(1) / jnp.sqrt((s**2).sum(1) * (t**2).sum(1))
        error = jnp.where(inside, ((student["heatmaps"] - true) ** 2).mean((1, 2)), 0.0).sum(1) / inside.sum(1)
        return {"heatmap": error.mean(), "ed": ed.mean()}

    last = {key: variables["params"]["encoder"]["stage1_block0"][key] for key in ("conv2", "norm2")}
    grads = jax.jit(jax.jacrev(terms))(last)
    want = {name: np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grad))) for name, grad in grads.items()}
    assert found == pytest.approx(want, rel=1e-3)
    assert min(want.values()) > 1e-4


@pytest.mark.parametrize(
    ("layers", "learning"), [("none", ()), ("last", ("stage3_block0/conv2/", "stage3_block0/norm2/"))]
)
def test_what_is_frozen_stays_bit_by_bit(resnet8_file, layers, learning):
    changes = {"constraints__ed__weight": 0.0, "train__encoder_layers": layers}
    task = tiny.task(resnet8_file, **changes, **tiny.OF_RESNET8)
    before = jax.device_get(task.init(0))
    state, _ = tiny.trainer(task)(batches(task, 2))
    trained = 0
    for kind in ("params", "batch_stats"):
        after = flatten_dict(getattr(state, kind), sep="/")
        for path, start in flatten_dict(before[kind], sep="/").items():
            learns = path.startswith("decoder/")
            learns |= kind == "params" and path.removeprefix("encoder/").startswith(learning or ("-",))
            assert (start != after[path]).any() == learns, path
            trained += learns * (kind == "params") * start.size
    # Adam's two moments of what is trained, and a count for each of the two parts
    assert sum(np.size(x) for x in jax.tree.leaves(state.opt_state)) == 2 * trained + 2


def test_an_hourglass_learns_from_the_heatmaps_of_all_its_stacks(teacher_file):
    task = tiny.task("none", hg, **tiny.STILL)
    batch, start = batches(task, 1)[0], jax.device_get(task.init(0))
    state, (means,) = tiny.trainer(task)([batch])
    assert set(means) == {"loss", "heatmap"}
    net = models.StackedHourglass(len(task.landmarks.names), stacks=2, channels=8, depth=1)
    picture = models.normalize(batch["picture"], task.teacher.input)
    stacks = jax.jit(lambda v: net.apply(v, picture, train=True, mutable=["batch_stats"])[0]["stacks"])(start)
    true = heatmaps.draw(jnp.asarray(batch["xy"]), size=32, stride=4, sigma=1.5)
    inside = batch["mask"] & ((batch["xy"] > -0.5) & (batch["xy"] < 31.5)).all(-1)
    errors = ((stacks - true) ** 2).mean((2, 3))  # [stacks, B, K]
    want = sum(np.mean([e[c].mean() for e, c in zip(stack, inside, strict=True)]) for stack in errors)
    assert means == pytest.approx({"loss": want, "heatmap": want}, rel=1e-4)
    moved = jax.tree.map(lambda a, b: (a != b).any(), start["params"], state.params)
    assert all(jax.tree.leaves(moved))


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
    config = tiny.config("none", train__steps=10, train__encoder_lr=0.5, train__decay_power=2.0)
    constants = step.constants(config.seed, config.train, {})
    for rates in (
        step.schedule(config.train),
        lambda t: {p: step.learning_rate(constants, p, t) for p in ("encoder", "decoder")},
    ):
        assert [float(rates(t)["encoder"]) for t in (0, 5, 10)] == pytest.approx([0.5, 0.125, 0])
        assert float(rates(0)["decoder"]) == pytest.approx(1e-3)


def test_masked_landmarks_have_no_influence(one_device):
    _, train, seen = one_device
    batch = {key: value.copy() for key, value in seen[0].items()}
    batch["mask"][:, :5] = False  # left ones, whose partners in a mirror image are not masked
    moved = batch | {"xy": batch["xy"].copy()}
    moved["xy"][:, :5] = 13.0
    (a, means_a), (b, means_b) = train([batch]), train([moved])
    chex.assert_trees_all_equal(a.params, b.params)
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
        tx, params, labels = optax.identity(), {"w": jnp.ones(())}, {"w": "encoder"}
        constants = parallel.replicate(step.constants(seed, tiny.config("none").train, {}))
        state = parallel.replicate(step.TrainState(jnp.zeros((), jnp.int32), params, {}, tx.init(params)))
        compiled = parallel.compile(step.make(loss, tx, labels), sharded=False)
        found = []
        for _ in range(3):
            state, means = compiled(state, constants, parallel.shard({"picture": picture}))
            found.append(float(parallel.first(means)["drawn"]))
        return found

    want = drawn(0)
    assert len(set(want)) == 3
    for kind in ("shard_map", "pmap"):
        assert drawn(0, kind, 4) == pytest.approx(want, abs=1e-6)
    assert drawn(1) != want


def test_runs_that_differ_in_numbers_alone_are_one_program(teacher_file):
    """Seed, learning rates, steps, weights and pictures are inputs: one compilation on disk serves them all."""

    def program(**changes):
        task = make_task(teacher_file, **changes)
        variables = task.init(task.config.seed)
        labels = task.param_labels(variables["params"])
        tx = step.optimizer(labels)
        zero = jnp.zeros((), jnp.int32)
        state = step.TrainState(zero, variables["params"], variables["batch_stats"], tx.init(variables["params"]))
        compiled = Parallel("shard_map").compile(step.make(task.loss, tx, labels), sharded=False)
        return compiled.lower(
            state, step.constants(task.config.seed, task.config.train, task.constants), task.train.batch(np.arange(4))
        ).as_text()

    numbers = {"seed": 1, "data__budget": 5, "data__budget_seed": 1, "constraints__ed__weight": 0.1}
    rates = {"train__encoder_lr": 1e-2, "train__decoder_lr": 1e-2, "train__steps": 50, "train__decay_power": 1.0}
    want = program(data__budget=8)
    assert program(**numbers, **rates) == want
    assert program(constraints__ed__over="pooled", data__budget=8) != want


@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
def test_a_run_traces_its_step_once_and_waits_for_each(teacher_file, tmp_path, monkeypatch, kind):
    """Five steps, with evaluations and checkpoints in between."""
    make, made, waited_for = step.make, [], []

    def make_counted(*arguments, **keys):
        made.append(chex.assert_max_traces(make(*arguments, **keys), n=1))
        return made[-1]

    monkeypatch.setattr(step, "make", make_counted)
    monkeypatch.setattr(pace.Pace, "add", lambda self, result: waited_for.append(result))
    monkeypatch.setattr(LandmarkTask, "finish", lambda *_: {})  # all steps are done by then
    config = tiny.config(teacher_file, train__steps=5, eval__every=2, parallel=kind)
    chex.clear_trace_counter()
    training_run.train_and_evaluate(config, tmp_path / "run")
    assert len(made) == 1 and len(waited_for) == 5
    assert (tmp_path / "run" / "log.csv").read_text().splitlines()[-1].startswith("5,")
