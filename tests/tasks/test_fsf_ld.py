"""Distillation from a landmark run: what teaches, what is taught, and what is left of it."""

import dataclasses
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import older
import optax
import pytest
import tiny
from flax.traverse_util import flatten_dict

from configs import fpd, fsf_ld, fsf_teacher, student
from ctd_jax import data, models, training_run
from ctd_jax.config import config_of_run
from ctd_jax.errors import UserError
from ctd_jax.losses import supervised
from ctd_jax.losses.terms import Terms
from ctd_jax.models import cost
from ctd_jax.tasks import landmarks
from ctd_jax.tasks.landmarks import LandmarkTask, heatmaps
from ctd_jax.tasks.landmarks.teacher_run import load_teacher_run
from ctd_jax.training import checkpoint

pytestmark = pytest.mark.slow

STUDENT = tiny.ENCODER | {"width": 6}
LEVELS = ("stage1", "deconv1=unpooled")


@pytest.fixture(scope="module")
def run(teacher_file, tmp_path_factory):
    """A finished run of two tasks; beside the weights that it began with lie those that a student may begin with."""
    folder = tmp_path_factory.mktemp("teacher")
    began_with = shutil.copy(teacher_file, folder / "teacher.safetensors")
    _, meta = models.weight_file.load(teacher_file)
    net, rng = models.build_encoder(**STUDENT), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    variables = jax.tree.map(lambda x: rng.uniform(0.1, 1, x.shape).astype("f"), shapes)
    models.weight_file.save(folder / "student.safetensors", variables, meta | {"encoder": STUDENT})
    config = tiny.config(began_with, fsf_teacher, eval__gradient_norms=True)
    training_run.train_and_evaluate(config, folder / "run")
    return folder / "run"


def config_of(run, module=fsf_ld, **changes):
    """The configuration of a student whose teacher is `run`: a wider encoder, of random weights, a narrower decoder."""
    weights = pathlib.Path(config_of_run(run).teacher.weights).with_name("student.safetensors")
    keys = {"model__encoder": "auto", "teacher__start": False, "teacher__run": str(run)}
    keys |= {"constraints__hint__layers": LEVELS} if module is fsf_ld else {}
    return tiny.config(weights, module, **keys | {"model__decoder_channels": (4,)} | changes)


def task(run, module=fsf_ld, **changes):
    config = config_of(run, module, **changes)
    return LandmarkTask(config, data.load(config.data, run.parent / "tfds"))


@pytest.fixture(scope="module")
def taught(run):
    """A task with heatmaps and hints, whose teacher has not learned the third landmark, a batch, and one step of plain
    gradient descent at rate 1."""
    changes = {"constraints__hint__weight": 0.5, "constraints__kd__weight": 2e3}
    made = task(run, **changes, train__encoder_lr=1.0, train__decoder_lr=1.0, **tiny.STILL)
    made._run = dataclasses.replace(made._run, unlearned=(2,))
    batch = made.train.batch(np.arange(4))
    variables = jax.device_get(made.init(0))
    return made, batch, variables, tiny.trainer(made, tx=optax.identity())([batch], variables)


def outputs(made, run, batch, variables):
    """Named features of the student in training, and of the teacher as a landmark network of its own."""
    picture = models.normalize(jnp.asarray(batch["picture"]), made.teacher.input)
    network = landmarks.build(made.config, made.encoder, 30)
    student_of = jax.jit(lambda v, x: network.apply(v, x, train=True, mutable=["batch_stats"])[0])
    config = tiny.config("none", fsf_teacher)
    net = models.build(config.model, encoder=tiny.ENCODER, num_landmarks=30)
    teacher_of = jax.jit(lambda v, x: net.apply(v, x, train=False))
    return student_of(variables, picture), teacher_of(checkpoint.best(run)[0], picture)


def test_the_terms_in_float64(taught, run):
    made, batch, variables, (_, (means,)) = taught
    s, t = jax.tree.map(lambda x: np.asarray(x, "float64"), outputs(made, run, batch, variables))
    hints = []
    for mine, theirs, layer in (("stage1", "stage1", "stage1"), ("deconv1", "unpooled", "deconv1=unpooled")):
        adapter = variables["params"]["adapters"].get(layer)
        a = (s[mine] if adapter is None else s[mine] @ adapter.astype("float64")).reshape(4, -1)
        b = t[theirs].reshape(4, -1)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        hints.append(np.mean(1 - cosine))
    true = heatmaps.draw(batch["xy"], size=32, stride=2, sigma=made.config.model.sigma)
    apart = np.delete(s["heatmaps"] - t["heatmaps"], 2, axis=-1)
    want = {"heatmap": np.mean((s["heatmaps"] - true) ** 2), "kd": np.mean(apart**2)}
    want["hint"] = np.mean(hints)
    want["loss"] = want["heatmap"] + 2e3 * want["kd"] + 0.5 * want["hint"]
    assert means == pytest.approx({name: float(value) for name, value in want.items()}, rel=1e-3)
    assert want["hint"] > 0.1 and 2e3 * want["kd"] > 0.01
    assert set(variables["params"]["adapters"]) == {"stage1"}  # 6 to 4 channels; the others have 4 each


def test_the_teacher_stays_and_adapters_learn(taught):
    """That the constants are as before, `tiny.trainer` has checked."""
    made, _, variables, (state, _) = taught
    assert {"encoder", "decoder"} == set(made.constants["teacher"]["params"])
    for path, value in flatten_dict(variables["params"]["adapters"]).items():
        assert (state.params["adapters"][path[0]] != value).any()
    seen = made._teacher_network.features
    grad = jax.jit(jax.grad(lambda v: seen(v, jnp.ones((1, 32, 32, 3)))["heatmaps"].sum()))
    assert jax.tree.leaves(grad(made.constants["teacher"]))  # it could have one: what keeps it is the terms' own
    features = jax.jit(seen)(made.constants["teacher"], jnp.ones((2, 32, 32, 3)))
    spec = {name: x for name, x in features.items() if name in ("stage1", "unpooled", "heatmaps")}
    others = {"params": {}, "start": None, "channel_weights": {}, "domain": None}

    def through_terms(teacher):
        same = jax.lax.stop_gradient(spec) | {"deconv1": 2 * jax.lax.stop_gradient(spec["unpooled"]) + 1}
        return sum(x.sum() for x in made._constraints(same, teacher, **others).values())

    for value in jax.tree.leaves(jax.jit(jax.grad(through_terms))(spec)):
        assert not value.any()


def test_a_student_that_is_its_teacher_has_no_distance(run):
    layers = {"constraints__hint__layers": ("stem", "stage1", "deconv1")}
    made = task(run, model__decoder="dense", model__decoder_channels=(8,), **layers)
    picture = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")

    @jax.jit
    def terms(teacher):
        features = made._teacher_network.features(teacher, picture)
        return made._constraints(features, features, params={}, start=None, channel_weights={}, domain=None)

    found = terms(made.constants["teacher"])
    assert set(found) == {"hint", "kd"}
    for value in found.values():
        np.testing.assert_allclose(value, 0, atol=1e-6)


def trained(run):
    """All the parameters of the last checkpoint."""
    last = max((run / "checkpoints").iterdir(), key=lambda folder: int(folder.name))
    return checkpoint.read(last)["params"]


def test_what_a_run_leaves_has_no_adapters(run, tmp_path):
    config = config_of(run)
    result = training_run.train_and_evaluate(config, tmp_path)
    variables, meta = checkpoint.best(tmp_path)
    assert set(trained(tmp_path)) == {"encoder", "decoder", "adapters"}
    assert set(variables["params"]) == {"encoder", "decoder"}
    assert result["n_params"] == sum(x.size for x in jax.tree.leaves(variables["params"]))
    network = landmarks.build(config, STUDENT, 30)
    assert result["gflops"] == pytest.approx(cost.gflops(network, 32), abs=1e-6)
    assert meta["teacher run"] == checkpoint.digest(LandmarkTask(config, data.load(config.data, None))._run.variables)


def test_the_second_head_serves_training_only(run):
    assert trained(run)["coordinates"]["kernel"].shape == (4, 60)
    params = checkpoint.best(run)[0]["params"]
    assert set(params) == {"encoder", "decoder"}
    n_params = json.loads((run / "metrics.json").read_text())["n_params"]
    assert n_params == sum(x.size for x in jax.tree.leaves(params))
    columns = (run / "log.csv").read_text().splitlines()[0].split(",")
    assert {"coordinates", "gradient_coordinates"} <= set(columns)


def test_coordinates_are_a_task_of_the_encoder(teacher_file):
    made = tiny.task(teacher_file, fsf_teacher, coordinates__weight=0.5, **tiny.STILL)
    batch, variables = made.train.batch(np.arange(4)), jax.device_get(made.init(0))
    _, (means,) = tiny.trainer(made)([batch], variables)
    picture = models.normalize(jnp.asarray(batch["picture"]), made.teacher.input)
    net = models.build_encoder(**tiny.ENCODER)
    inner = {kind: variables[kind]["encoder"] for kind in variables}
    encoder = jax.jit(lambda v, x: net.apply(v, x, train=True, mutable=["batch_stats"])[0]["encoder"])(inner, picture)
    head = variables["params"]["coordinates"]
    read = np.asarray(encoder, "float64").mean((1, 2)) @ head["kernel"] + head["bias"]
    want = np.abs(read.reshape(4, 30, 2) - batch["xy"] / 32).mean()
    assert means["coordinates"] == pytest.approx(want, rel=1e-4)
    assert means["loss"] == pytest.approx(means["heatmap"] + 0.5 * want, rel=1e-4)
    plain = tiny.task(teacher_file, fsf_teacher, coordinates__weight=0.0)
    assert "coordinates" not in plain.init(0)["params"] and plain.terms == ("heatmap",)


def test_an_error_of_coordinates_by_hand():
    true = np.float32([[[0.5, 0.5], [np.inf, np.inf]], [[0.0, 1.0], [0.2, 0.2]], [[np.nan] * 2] * 2])
    mask = np.isfinite(true[..., 0])
    read = np.full((3, 2, 2), 0.4, np.float32)

    @jax.jit
    def error_of(read):
        error, vjp = jax.vjp(lambda x: supervised.coordinate_error(x, true, mask), read)
        return error, *vjp(jnp.ones(3))

    error, grad = error_of(read)
    assert float(error.sum()) == pytest.approx(0.1 + ((0.4 + 0.6) / 2 + 0.2) / 2)
    np.testing.assert_allclose(error, [0.1, 0.35, 0.0], atol=1e-7)
    np.testing.assert_allclose(grad, [[[-0.5, -0.5], [0, 0]], [[0.25, -0.25], [0.25, 0.25]], [[0, 0], [0, 0]]])


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (fpd, {"teacher__run": ""}, "constraints.kd.weight .* teacher.run is empty; .*--config=fsf_teacher:demo"),
        (fsf_ld, {"teacher__run": "nowhere"}, "teacher.run: no such folder, nowhere; make one .*=fsf_teacher"),
        (fpd, {"data__image_size": 64}, "data.image_size is 32 in .* and 64 here"),
        (fsf_ld, {"constraints__hint__layers": ("stage9",)}, "names 'stage9'; the student's features are deconv1, "),
        (fsf_ld, {"constraints__hint__layers": ("stage1=deconv7",)}, "'deconv7'; the teacher's features are deconv1, "),
        (fsf_ld, {"constraints__hint__layers": ("deconv1=stage1",)}, r"\(1, 16, 16, 4\) and .* \(1, 8, 8, 4\)"),
        (fpd, {"model__decoder_channels": ()}, r"constraints.kd.*\(1, 8, 8, 30\) and .* \(1, 16, 16, 30\)"),
        (fpd, {"data__seed": 5, "data__synthetic__identities": (2, 4, 2)}, None),
        (fpd, {"data__synthetic__identities": (2, 4, 2)}, "trained on 4 pictures .* judged by"),
        (fpd, {"model__sigma": 4.0}, "model.sigma is 1.5 in .* and 4.0 here; constraints.kd compares heatmaps"),
        (fsf_ld, {"model__sigma": 4.0, "constraints__kd__weight": 0.0}, None),
        (fsf_ld, {"constraints__hint__form": "curly"}, "hint.form is 'curly'; expected plain or normalized"),
        (fpd, {"constraints__cd__weight": 1.0}, "constraints.cd.* but teacher.run is a landmark network"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(run, module, changes, message):
    if message is None:
        assert task(run, module, **changes)._run
        return
    with pytest.raises(UserError, match=message):
        task(run, module, **changes)


def test_a_teacher_that_knows_people_of_val_or_test_by_other_pictures_is_refused(run):
    """The names of drawn people tell nothing."""
    drawn = {"data__seed": 5, "data__synthetic__identities": (2, 4, 2)}
    config = config_of(run, fpd, **drawn)
    pictures = data.load(config.data, run.parent / "tfds")
    assert load_teacher_run(config, pictures)
    with pytest.raises(UserError, match=f"teacher.run is {run}, which was trained on .* others of their subjects"):
        load_teacher_run(config, dataclasses.replace(pictures, drawn=False))


def test_runs_that_are_no_teacher(run, landmark_folder, tmp_path):
    unfinished = shutil.copytree(run, tmp_path / "unfinished")
    (unfinished / "report.html").unlink()
    with pytest.raises(UserError, match="unfinished is not finished"):
        task(unfinished)
    root = landmark_folder(size=32, name="other")
    (root / "landmarks.csv").write_text((root / "landmarks.csv").read_text().replace("chin_", "knee_"))
    content = (root / "dataset.json").read_text().replace('"chin"', '"knee"')
    (root / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=r"1 only in .*\(chin\); 1 only in the data \(knee\)"):
        task(run, data__root=str(root))


def test_the_teacher_may_be_a_run_of_an_older_version(run, tmp_path):
    old, today = task(older.copy(run, tmp_path / "run", "first")), task(run)
    jax.tree.map(np.testing.assert_array_equal, old.constants, today.constants)


def test_a_teacher_of_another_grey_range(run, monkeypatch, caplog):
    made, best = task(run), checkpoint.best
    pictures = dataclasses.replace(made.pictures, grey={"": {"integer": (0.0, 4095.0)}})
    for theirs, words in (([0.0, 65535.0], "learned with the grey range 0 to 65535"), ([0.0, 4095.0], "")):
        kept = {"grey": {"": {"integer": theirs}}}
        monkeypatch.setattr(checkpoint, "best", lambda run, kept=kept: (best(run)[0], best(run)[1] | kept))
        caplog.clear()
        load_teacher_run(made.config, pictures)
        said = [record.getMessage() for record in caplog.records if record.name == "ctd_jax.tasks.trained"]
        assert len(said) == bool(words) and words in "".join(said)


def given(run):
    """A student's configuration, and its pictures."""
    config = config_of(run)
    return config, data.load(config.data, run.parent / "tfds")


def test_boxes_are_the_teachers_and_the_students_or_neithers(run, monkeypatch):
    (config, pictures), best = given(run), checkpoint.best
    boxes = np.full((len(pictures.everything), 4), [0.0, 0, 60, 60])
    boxed = dataclasses.replace(pictures, everything=dataclasses.replace(pictures.everything, boxes=boxes))
    with pytest.raises(UserError, match="trained on whole pictures, and here are boxes in pictures; .*or neither"):
        load_teacher_run(config, boxed)
    monkeypatch.setattr(checkpoint, "best", lambda run: (best(run)[0], best(run)[1] | {"boxes": True}))
    assert load_teacher_run(config, boxed)
    with pytest.raises(UserError, match="trained on boxes in pictures, and here are whole pictures; .*or neither"):
        load_teacher_run(config, pictures)


def test_a_landmark_is_learned_where_the_student_or_a_teacher_of_heatmaps_has_it(run, monkeypatch):
    (config, pictures), best = given(run), checkpoint.best
    points, never = pictures.targets, {"never_annotated": ["nasion", "chin"]}
    names = np.array(points.landmarks.names)
    xy = np.where(np.isin(names, ["chin", "nose_tip"])[:, None], np.nan, points.xy)
    everything = dataclasses.replace(pictures.everything, targets=dataclasses.replace(points, xy=xy))
    monkeypatch.setattr(checkpoint, "best", lambda run: (best(run)[0], best(run)[1] | never))
    made = LandmarkTask(config, dataclasses.replace(pictures, everything=everything))
    assert names[list(made._run.unlearned)].tolist() == ["nasion", "chin"]
    assert names[~made._learned].tolist() == ["chin"]
    config.constraints.kd.weight = 0.0
    made._constraints = Terms(config.constraints)
    assert names[~made._learned].tolist() == ["nose_tip", "chin"], "hints teach no landmark"


def test_weights_that_nobody_would_use(run):
    with pytest.raises(UserError, match="weights of resnet8, but model.encoder is mobilefacenet .* to none"):
        task(run, model__encoder="mobilefacenet")


def test_the_student_may_start_from_weights_of_its_encoder(run):
    made = task(run, teacher__start=True)
    found = made.init(0)["params"]["encoder"]
    jax.tree.map(
        np.testing.assert_array_equal, found, models.weight_file.load(made.config.teacher.weights)[0]["params"]
    )


def test_a_student_alone_has_no_teacher(run, caplog):
    assert task(run, student)._run is None
    assert f"teacher.run is {run}, but no term of the loss reads it: nothing of it is used" in caplog.messages
