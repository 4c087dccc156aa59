"""The constraints that a configuration chooses: which functions they reach, and that any set of them trains."""

import contextlib
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from flax.traverse_util import flatten_dict

from configs import default
from ctd_jax import data, models, training_run
from ctd_jax.errors import UserError
from ctd_jax.losses import constraints
from ctd_jax.losses.terms import CONSTRAINTS, Terms, Ties
from ctd_jax.models.resnet import BasicBlock, ResNet
from ctd_jax.tasks.landmarks import LandmarkTask
from ctd_jax.training import checkpoint
from ctd_jax.training.parallel import AXIS

pytestmark = pytest.mark.slow

B = 4
SIZES = {"stage1": (4, 4, 6), "encoder": (2, 2, 8), "head": (5,), "late": (4, 4, 6), "heatmaps": (4, 4, 6)}
WEIGHTS = {
    "cd": 0.3, "ed": 0.5, "spatial": 0.7, "channel": 0.2, "at": 0.4, "hint": 0.6, "delta": 0.8, "rkd_distance": 0.9,
    "rkd_angle": 1.1, "bss": 1e-3, "l2_sp": 1e-2, "l2": 1e-3,
}  # fmt: skip
LAYERS = {"ed": ("encoder", "unpooled"), "rkd_distance": ("unpooled", "encoder")} | dict.fromkeys(
    ("spatial", "channel", "at", "delta"), ("unpooled", "stage1")
)
ALL_ON = {f"constraints__{name}__weight": weight for name, weight in WEIGHTS.items()} | {
    f"constraints__{name}__layers": layers for name, layers in LAYERS.items()
}


def features(seed):
    rng = np.random.default_rng(seed)
    return {layer: rng.normal(1, 1, (B, *size)).astype("float32") for layer, size in SIZES.items()}


def terms_of(changes, student, teacher, params, **constants):
    """The terms of the default configuration with `changes`, as one device sees them."""
    config = default.get_config()
    config.update_from_flattened_dict({f"constraints.{key}": value for key, value in changes.items()})
    terms = Terms(config.constraints)
    one = jax.jit(jax.vmap(lambda s, t: terms(s, t, params=params, domain=None, **constants), axis_name=AXIS))
    return {name: value[0] for name, value in one(*jax.tree.map(lambda x: x[None], (student, teacher))).items()}


def pooled(maps):
    return maps.mean((1, 2))


STUDENT, TEACHER = features(0), features(1)
S, T = STUDENT["encoder"], TEACHER["encoder"]
S1, T1 = STUDENT["stage1"], TEACHER["stage1"]
KERNEL = np.random.default_rng(2).normal(size=(8, 8)).astype("float32")
CHANNELS = np.random.default_rng(3).dirichlet(np.ones(8))
PARAMS = {"encoder": {"w": jnp.asarray([1.0, 2.0])}, "decoder": {"w": jnp.asarray([3.0, 4.0])}}


def softened(temperature, form):
    return constraints.classifier_distance(STUDENT["head"], TEACHER["head"], temperature=temperature, form=form)


def mean_of(function, *layers):
    return sum(function(STUDENT[layer], TEACHER[layer]) for layer in layers) / len(layers)


def hints():
    adapted = constraints.hint_distance(jnp.einsum("bhwc,cd->bhwd", S, KERNEL), T)
    return (adapted + constraints.hint_distance(S1, T1)) / 2


@pytest.mark.parametrize(
    ("term", "changes", "want"),
    [
        ("cd", {}, lambda: softened(4.0, "kl")),
        ("cd", {"temperature": 2.0, "form": "l2"}, lambda: softened(2.0, "l2")),
        ("ed", {}, lambda: constraints.encoder_distance(S, T, over="map")),
        ("ed", {"over": "location"}, lambda: constraints.encoder_distance(S, T, over="location")),
        ("ed", {"over": "pooled", "layers": ("stage1",)}, lambda: constraints.encoder_distance(S1, T1, over="pooled")),
        (
            "spatial",
            {"layers": ("stage1", "encoder")},
            lambda: mean_of(constraints.spatial_attention_distance, "stage1", "encoder"),
        ),
        ("channel", {"layers": ("encoder",)}, lambda: constraints.channel_attention_distance(S, T)),
        ("at", {"layers": ("stage1",)}, lambda: constraints.attention_transfer(S1, T1)),
        ("hint", {"layers": ("encoder", "stage1")}, hints),
        (
            "hint",
            {"form": "normalized"},
            lambda: constraints.hint_distance(jnp.einsum("bhwc,cd->bhwd", S, KERNEL), T, form="normalized"),
        ),
        ("kd", {"layers": ("stage1",)}, lambda: constraints.heatmap_distance(S1, T1)),
        ("at", {"layers": ("stage1=late",)}, lambda: constraints.attention_transfer(S1, TEACHER["late"])),
        (
            "rkd_angle",
            {"layers": ("late=encoder",)},
            lambda: constraints.relational_angle(pooled(STUDENT["late"]), pooled(T)),
        ),
        ("delta", {"layers": ("encoder",)}, lambda: constraints.delta(S, T, CHANNELS)),
        ("rkd_distance", {}, lambda: constraints.relational_distance(pooled(S), pooled(T))),
        ("rkd_angle", {"layers": ("stage1",)}, lambda: constraints.relational_angle(pooled(S1), pooled(T1))),
        ("bss", {"k": 2}, lambda: constraints.batch_spectral_shrinkage(pooled(S), k=2)),
        ("l2_sp", {}, lambda: np.full(B, (1 + 4) / 2)),  # from (0, 0) to (1, 2)
        ("l2", {}, lambda: np.full(B, (9 + 16) / 2)),
    ],
)
def test_a_term_is_its_function_of_the_layers_named(term, changes, want):
    constants = {"channel_weights": {"encoder": CHANNELS}, "start": {"w": jnp.zeros(2)}}
    params = PARAMS | {"adapters": {"encoder": jnp.asarray(KERNEL)}}
    keys = {"weight": 1.0} | changes
    found = terms_of({f"{term}.{key}": value for key, value in keys.items()}, STUDENT, TEACHER, params, **constants)
    assert list(found) == [term]
    expected = np.asarray(jax.jit(want)())
    np.testing.assert_allclose(*found.values(), expected, rtol=2e-5)
    assert np.all(expected > 1e-4)


def test_heatmaps_of_landmarks_that_the_teacher_never_learned_teach_nothing():
    constants = {"start": None, "channel_weights": {}}
    changes = {"kd.weight": 1.0, "hint.weight": 1.0, "hint.layers": ("heatmaps", "late")}
    late = ((STUDENT["late"] - TEACHER["late"]) ** 2).mean((1, 2, 3))
    square = ((STUDENT["heatmaps"] - TEACHER["heatmaps"]) ** 2).mean((1, 2))
    for unlearned, known in (((), [0, 1, 2, 3, 4, 5]), ((1, 4), [0, 2, 3, 5])):
        found = terms_of(changes, STUDENT, TEACHER, PARAMS, **constants, unlearned=unlearned)
        np.testing.assert_allclose(found["kd"], square[:, known].mean(1), rtol=1e-5)
        np.testing.assert_allclose(found["hint"], 0.5 * (square[:, known].mean(1) + late) / 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("term", "shape", "message"),
    [
        ("spatial", (1, 5), r"constraints.spatial.layers names 'encoder', which has no places .* \(5,\)"),
        ("at", (1, 1, 1, 5), r"constraints.at.layers names 'encoder', which has no places .* \(1, 1, 5\)"),
        ("delta", (1, 5), r"constraints.delta.layers names 'encoder', which has no places"),
        ("channel", (1, 5), None),
        ("ed", (1, 5), None),
    ],
)
def test_terms_of_places_need_a_map(term, shape, message):
    config = default.get_config()
    config.constraints[term].weight, config.constraints[term].layers = 1.0, ("encoder",)
    features = {"encoder": jax.ShapeDtypeStruct(shape, jnp.float32)}
    with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
        Terms(config.constraints).check(features, features)


def test_every_constraint_of_the_configuration_has_a_row_and_every_row_its_keys():
    config = default.get_config().constraints
    assert set(config) == set(CONSTRAINTS)
    for name, row in CONSTRAINTS.items():
        keys = set(config[name]) - {"weight", "layers"}
        assert set(row.keys) == keys <= set(inspect.signature(row.function).parameters), name
        assert ("layers" in config[name]) == (row.ties in (Ties.MAP, Ties.BATCH)), name


def test_a_constraint_without_a_row_is_refused():
    config = default.get_config().constraints
    config.other = config.l2
    with pytest.raises(UserError, match="constraints.other: there is no such constraint; expected cd, ed, spatial"):
        Terms(config)


@pytest.fixture(scope="module")
def everything(classifier_file):
    """A task with all the terms, a batch, variables in which no term is 0, and what a step of plain gradient descent
    at rate 1 makes of them on one device: so the change is the gradient."""
    task = tiny.task(classifier_file, train__encoder_lr=1.0, train__decoder_lr=1.0, **ALL_ON, **tiny.STILL)
    batch = task.train.batch(np.arange(8))
    variables, rng = jax.device_get(task.init(0)), np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.05, x.shape).astype("f"), variables["params"])
    variables |= {"params": params}
    return task, batch, variables, tiny.trainer(task, tx=optax.identity())([batch], variables)


@pytest.fixture(scope="module")
def nets():
    """The student, whose head is the teacher's, and the teacher, as functions of all their variables."""
    student = models.build_encoder(**tiny.ENCODER, num_outputs=5)
    return (
        jax.jit(lambda v, x: student.apply(v, x, train=True, mutable=["batch_stats"])[0]),
        jax.jit(lambda v, x: student.apply(v, x, train=False)),
    )


def test_the_loss_is_the_weighted_sum_of_the_terms(everything, nets):
    task, batch, variables, (_, (means,)) = everything
    picture = models.normalize(batch["picture"], task.teacher.input)
    student_of, teacher_of = nets
    classifier = {"classifier": task.teacher.variables["params"]["classifier"]}
    inner = {kind: variables[kind]["encoder"] for kind in variables}
    s = student_of(inner | {"params": inner["params"] | classifier}, picture)
    t = teacher_of(task.teacher.variables, picture)
    maps, channels = ("unpooled", "stage1"), task.constants["channel_weights"]
    params = variables["params"]
    start, now = (flatten_dict(tree) for tree in (task.teacher.variables["params"], params["encoder"]))

    @jax.jit
    def by_layers(s, t):
        def mean(function, *layers):
            return jnp.mean(jnp.stack([jnp.mean(function(s[layer], t[layer])) for layer in layers]))

        rows = {layer: (pooled(s[layer]), pooled(t[layer])) for layer in ("unpooled", "encoder")}
        return {
            "cd": jnp.mean(
                constraints.classifier_distance(s["classifier"], t["classifier"], temperature=4.0, form="kl")
            ),
            "ed": mean(constraints.encoder_distance, "encoder", "unpooled"),
            "spatial": mean(constraints.spatial_attention_distance, *maps),
            "channel": mean(constraints.channel_attention_distance, *maps),
            "at": mean(constraints.attention_transfer, *maps),
            "hint": mean(constraints.hint_distance, "encoder"),
            "delta": sum(jnp.mean(constraints.delta(s[x], t[x], channels[x])) for x in maps) / len(maps),
            "rkd_distance": sum(jnp.mean(constraints.relational_distance(*rows[x])) for x in rows) / len(rows),
            "rkd_angle": jnp.mean(constraints.relational_angle(*rows["encoder"])),
            "bss": jnp.mean(constraints.batch_spectral_shrinkage(rows["encoder"][0])),
        }

    want = by_layers(s, t) | {
        "l2_sp": 0.5 * sum(((w - start[path]) ** 2).sum() for path, w in now.items()),
        "l2": 0.5 * sum((w**2).sum() for w in jax.tree.leaves(params["decoder"])),
    }
    want = {name: float(value) for name, value in want.items()} | {"heatmap": means["heatmap"]}
    want["loss"] = want["heatmap"] + sum(WEIGHTS[name] * want[name] for name in WEIGHTS)
    assert means == pytest.approx(want, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
def test_gradients_of_all_terms_on_four_devices_are_those_of_one(everything, kind):
    """Relations between the pictures of a batch, too, look at those of all devices."""
    task, batch, variables, (want, (want_means,)) = everything
    state, (means,) = tiny.trainer(task, kind, 4, optax.identity())([batch], variables)
    assert means == pytest.approx(want_means, rel=1e-4, abs=1e-5)
    found, start = flatten_dict(state.params), flatten_dict(variables["params"])
    for path, value in flatten_dict(want.params).items():
        scale = np.abs(value - start[path]).max()
        assert scale > 0, path
        np.testing.assert_allclose(found[path], value, rtol=0, atol=1e-3 * scale + 1e-6, err_msg="/".join(path))


def test_the_head_is_the_teachers_and_nothing_of_it_is_trained(everything):
    task, _, variables, (state, _) = everything
    for tree in (variables, task.param_labels(variables["params"]), state.params, state.batch_stats):
        assert not any("classifier" in path for path in flatten_dict(tree))
    assert "classifier" in task.constants["teacher"]["params"]


def test_an_embeddings_batch_norm_stays_as_it_is():
    config = default.get_config().model
    config.decoder_channels = (4,)
    net = models.build(config, encoder={"name": "mobilefacenet", "num_outputs": 4}, num_landmarks=2)
    x, same = jnp.zeros((1, 112, 112, 3)), set()

    def look(variables):
        after = net.apply(variables, x, train=True, mutable=["batch_stats"])[1]
        before, after = (flatten_dict(tree["batch_stats"]) for tree in (variables, after))
        same.update(path[1] for path in before if after[path] is before[path])  # nothing was computed

    jax.eval_shape(look, jax.eval_shape(lambda: net.init(jax.random.key(0), x, train=False)))
    assert same == {"embedding_depthwise_norm", "embedding_norm"}


def test_terms_are_0_where_the_student_is_the_teacher(everything, nets):
    task = everything[0]
    _, apply = nets
    x = models.normalize(everything[1]["picture"], task.teacher.input)
    out = apply(task.teacher.variables, x)
    out |= {"head": out["classifier"]}
    start = task.init(0)["params"]
    terms = Terms(task.config.constraints)
    constants = {key: task.constants[key] for key in ("start", "channel_weights")}
    equal = jax.vmap(lambda s: terms(s, s, params=start, domain=None, **constants), axis_name=AXIS)
    found = jax.jit(equal)(jax.tree.map(lambda v: v[None], out))
    for name, value in found.items():
        if name not in ("bss", "l2"):  # they need no teacher
            np.testing.assert_allclose(value, 0, atol=1e-6, err_msg=name)


@pytest.fixture
def another_student(monkeypatch):
    """An encoder of another name, twice as wide as the tiny teacher."""
    small = functools.partial(ResNet, (1,), BasicBlock, width=8)
    monkeypatch.setitem(models.ENCODERS, "small", small)
    return {"model__encoder": "small", "constraints__ed__weight": 0.0, "constraints__hint__weight": 1.0}


def test_adapters_serve_training_only(another_student, teacher_file, tmp_path):
    keys = {"train__steps": 2, "constraints__hint__layers": ("stem", "encoder")}
    config = tiny.config(teacher_file, **another_student, **keys)
    result = training_run.train_and_evaluate(config, tmp_path / "run")
    params = checkpoint.read(tmp_path / "run" / "checkpoints" / "2")["params"]
    assert set(checkpoint.best(tmp_path / "run")[0]["params"]) == {"encoder", "decoder"}
    shapes = {layer: kernel.shape for layer, kernel in params["adapters"].items()}
    assert shapes == {"stem": (8, 4), "encoder": (8, 4)}
    start = LandmarkTask(config, data.load(config.data, None)).init(0)["params"]
    for layer, kernel in start["adapters"].items():
        assert (params["adapters"][layer] != kernel).mean() > 0.9
    assert result["n_params"] == sum(x.size for part in ("encoder", "decoder") for x in jax.tree.leaves(start[part]))


def test_an_adapter_goes_from_the_students_width_to_the_teachers():
    config = default.get_config().constraints
    config.hint.weight, config.hint.layers = 1.0, ("stage1", "encoder", "late=stage1", "stem")
    student, teacher = (
        {layer: jax.ShapeDtypeStruct((1, 4, 4, width), jnp.float32) for layer, width in widths.items()}
        for widths in ({"stem": 3, "stage1": 8, "late": 5, "encoder": 32}, {"stem": 3, "stage1": 4, "encoder": 16})
    )
    found = jax.eval_shape(lambda key: Terms(config).adapters(student, teacher, key), jax.random.key(0))
    shapes = {layer: kernel.shape for layer, kernel in found.items()}
    assert shapes == {"stage1": (8, 4), "encoder": (32, 16), "late=stage1": (5, 4)}


def test_no_adapter_where_the_widths_agree(teacher_file):
    task = tiny.task(teacher_file, constraints__ed__weight=0.0, constraints__hint__weight=1.0)
    assert set(jax.eval_shape(lambda: task.init(0))["params"]) == {"encoder", "decoder"}


def test_channel_weights_of_delta_are_those_of_the_labelled_pictures(everything, nets):
    """The tiny teacher's maps and the true heatmaps, drawn at the size of each map."""
    task = everything[0]
    shapes = {layer: weights.shape for layer, weights in task.constants["channel_weights"].items()}
    assert shapes == {"unpooled": (4,), "stage1": (4,)}
    batch = task.train.batch(np.arange(len(task.train)))
    maps = nets[1](task.teacher.variables, models.normalize(batch["picture"], task.teacher.input))["stage1"]
    cells = (np.arange(8) + 0.5) * 4 - 0.5  # centres of the 8 cells of 4 pixels, in pixels
    x, y = (batch["xy"][:, None, None, :, axis] for axis in (0, 1))
    squares = (cells[None, None, :, None] - x) ** 2 + (cells[None, :, None, None] - y) ** 2
    true = np.exp(-squares / (2 * (1.5 * 4) ** 2))
    want = constraints.channel_importance(maps, true)
    np.testing.assert_allclose(task.constants["channel_weights"]["stage1"], want, rtol=1e-3)
    assert np.ptp(want) > 1e-3


def test_only_features_that_have_channel_weights_are_kept_for_them(teacher_file, monkeypatch):
    """Those of all layers took more memory than a training step."""
    task, kept = tiny.task(teacher_file, constraints__delta__weight=1e-6, constraints__delta__layers=("stage1",)), []
    monkeypatch.setattr(Terms, "channel_weights", lambda _, teacher, true_maps: kept.append(teacher) or {})
    task._channel_weights()
    assert {layer: maps.shape for layer, maps in kept[0].items()} == {"stage1": (8, 8, 8, 4)}
