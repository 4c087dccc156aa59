"""Whether landmarks are there: the head, what it is trained on, and a run from end to end; and a landmark that no
training picture has."""

import csv
import functools
import json
import logging
import shutil

import absent_points
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from exported import form_of, noise
from PIL import Image

from configs import ft
from ctd_jax import Predictor, data, metrics, run_folder, training_run
from ctd_jax.data import synthetic
from ctd_jax.errors import UserError
from ctd_jax.tasks.landmarks import LandmarkTask, presence
from ctd_jax.tasks.landmarks.network import look
from ctd_jax.tasks.landmarks.trained import TrainedLandmarks
from ctd_jax.tasks.trained import Run
from ctd_jax.training import checkpoint, step

pytestmark = pytest.mark.slow

K = len(synthetic.LANDMARKS)
NOSE, CHIN, NEVER = (synthetic.LANDMARKS.index(name) for name in (*absent_points.MAY_BE_ABSENT, absent_points.NEVER))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return absent_points.write(tmp_path_factory.mktemp("absent") / "faces")


@pytest.fixture(scope="module")
def run(teacher_file, root, tmp_path_factory):
    """A finished run on pictures with absent points."""
    workdir = tmp_path_factory.mktemp("presence") / "run"
    training_run.train_and_evaluate(tiny.config(teacher_file, ft, data__root=str(root)), workdir)
    return workdir


def task(teacher_file, root, **changes):
    config = tiny.config(teacher_file, ft, data__root=str(root), **changes)
    return LandmarkTask(config, data.load(config.data, root.parent / "tfds"))


@pytest.fixture(scope="module")
def made(teacher_file, root):
    return task(teacher_file, root)


# ---------------------------------------------------------------- the head


def test_its_logits_are_the_equation():
    """Masses are resampled as Pillow does it. The heads stand in the order that is asked for, which is not that of
    their names: jit sorts these."""
    rng = np.random.default_rng(0)
    features = {
        "encoder": rng.normal(size=(2, 3, 3, 5)), "deconv1": rng.normal(size=(2, 6, 6, 9)),
        "deconv2": rng.normal(size=(2, 6, 6, 4)), "heatmaps": rng.normal(size=(2, 6, 6, 3)),
        "stage1": rng.normal(size=(2, 3, 3, 7)), "block1": rng.normal(size=(2, 6, 6, 7)),
    }  # fmt: skip
    features = {name: value.astype(np.float32) for name, value in features.items()}
    heads = presence.init(jax.random.key(0), features, {"final_b": 2, "final_a": 1})
    heads = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), heads)
    s, a, b, c, d = (
        np.concatenate([heads[f"final_{name}"][part] for name in "ba"], axis=-1)
        for part in ("stage1", "deconv2", "of_picture", "peak", "bias")
    )
    assert s.shape == (7, 3) and a.shape == (4, 3) and b.shape == (5, 3)
    want = np.zeros((2, 3))
    for n, k in np.ndindex(2, 3):
        H = features["heatmaps"][n, ..., k].astype(float)
        m = np.maximum(H, 0) ** 2
        maps = features["stage1"][n], features["deconv2"][n], features["encoder"][n].mean((0, 1))
        g, f, e = (x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True)) for x in maps)
        small = np.asarray(Image.fromarray(m.astype(np.float32)).resize((3, 3), Image.Resampling.BILINEAR))
        g, f = ((one[..., None] * x).sum((0, 1)) / one.sum() for one, x in ((small, g), (m, f)))
        want[n, k] = g @ s[:, k] + f @ a[:, k] + e @ b[:, k] + H.max() * c[k] + d[k]
    logits = functools.partial(presence.logits, order=["final_b", "final_a"])
    np.testing.assert_allclose(jax.jit(logits)(features, heads), want, rtol=1e-4, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda f: logits(f, heads).sum()))(features)
    assert not np.any(gradient["heatmaps"]) and np.any(gradient["deconv2"]) and np.any(gradient["stage1"])
    assert np.all(gradient["encoder"] != 0)


def terms_of(made, batch):
    """The truth that the loss sees of a batch, and its terms; none of the pictures is moved."""
    picture, truth = jax.jit(made.augmented)(batch, jax.random.split(jax.random.key(0), 4))
    variables = made.init(0)
    head = jax.tree.map(lambda x: x + 0.3, variables["params"][presence.NAME])
    features = jax.jit(lambda v, x: made.model.apply(v, x, train=False))(variables, picture / 255)
    terms = jax.jit(made.task_terms)(features, {presence.NAME: head}, truth)
    return terms, jax.jit(functools.partial(presence.logits, order=[presence.ALONE]))(features, head)


def test_only_what_is_known_of_landmarks_that_may_be_absent_counts(teacher_file, root):
    still = task(teacher_file, root, **tiny.STILL)
    batch = still.train.batch(np.arange(4))
    batch["xy"][1, NOSE] = [40, 10]  # it has left the picture: neither there nor absent
    batch["mask"][3] = False  # nothing is annotated
    terms, logits = terms_of(still, batch)
    z = np.asarray(logits, float)
    # of picture 0 chin and nose are absent, of 1 the chin is there, of 2 the chin is absent and the nose there
    absent, there = (lambda z: np.log1p(np.exp(z))), (lambda z: np.log1p(np.exp(-z)))
    want = [
        (absent(z[0, CHIN]) + absent(z[0, NOSE])) / 2,
        there(z[1, CHIN]),
        (absent(z[2, CHIN]) + there(z[2, NOSE])) / 2,
        0,
    ]
    np.testing.assert_allclose(terms[presence.NAME], want, rtol=1e-5)


def test_in_a_mirror_image_the_sides_of_absent_points_change(teacher_file, root, tmp_path):
    folder = shutil.copytree(root, tmp_path / "sides")
    absent_points.about(folder, absent=["left_cheek"])
    mirrored = task(teacher_file, folder, **tiny.STILL | {"augment__flip": 1.0})
    left, right = (synthetic.LANDMARKS.index(f"{side}_cheek") for side in ("left", "right"))
    batch = mirrored.train.batch(np.arange(4))
    batch["mask"][:, left] = False
    _, (_, inside, xy) = jax.jit(mirrored.augmented)(batch, jax.random.split(jax.random.key(0), 4))
    assert (xy[:, right] == -jnp.inf).all() and (xy[:, left] > -jnp.inf).all() and inside[:, left].all()


def test_its_weight_and_gradient_are_those_of_a_term(made, resnet8_file, root):
    assert made.terms[:2] == ("heatmap", "presence") and made.term_weights["presence"] == 0.03
    of_all_stages = task(resnet8_file, root, **tiny.OF_RESNET8)
    head = jax.eval_shape(of_all_stages.init, 0)["params"]["presence"]["final"]
    assert {name: leaf.shape for name, leaf in head.items()} == {
        "stage1": (4, K), "stage2": (8, K), "stage3": (16, K), "deconv2": (8, K), "of_picture": (16, K), "peak": (K,),
        "bias": (K,),
    }  # fmt: skip
    batch = made.train.batch(np.arange(4))
    state, (means,) = tiny.trainer(made)([batch])
    assert means["presence"] == pytest.approx(np.log(2), rel=0.05)
    moved = np.abs(state.params["presence"]["final"]["bias"]) > 0
    np.testing.assert_array_equal(np.flatnonzero(moved), sorted([CHIN, NOSE]))


def test_without_the_key_or_with_a_weight_of_0_nothing_changes(teacher_file, root, tmp_path):
    plain = shutil.copytree(root, tmp_path / "plain")
    absent_points.about(plain, absent=None)
    runs = [task(teacher_file, plain), task(teacher_file, root, presence__weight=0.0)]
    trained = [tiny.trainer(one, newer_fusions=True)([one.train.batch(np.arange(4))] * 2) for one in runs]
    for one in runs:
        assert "presence" not in one.terms and "presence" not in one.init(0)["params"]
    jax.tree.map(np.testing.assert_array_equal, *trained)


def test_each_domain_has_a_head_and_learns_from_its_own_pictures(teacher_file, root, tmp_path):
    other = tiny.write_folder(tmp_path / "another", people=4, shots=2)  # sorted before faces
    config = tiny.config(teacher_file, ft, data__root=f"{root},{other}")
    made = LandmarkTask(config, data.load(config.data, tmp_path / "tfds"))
    batch = made.train.batch(np.r_[:4, len(made.train) - 2 : len(made.train)])
    assert batch["domain"].tolist() == [0, 0, 0, 0, 1, 1]
    np.testing.assert_array_equal(np.argwhere(made._absent(batch)), [[0, NOSE], [0, CHIN], [2, CHIN], [3, NOSE]])
    variables = jax.device_get(made.init(0))
    heads = variables["params"]["presence"]
    assert set(heads) == {"final_faces", "final_another"}
    for i, name in enumerate(("faces", "another")):
        bias = heads[f"final_{name}"]["bias"]
        heads[f"final_{name}"]["bias"] = np.arange(len(bias), dtype="f") + 100 * i
    seen = look(made.model, made.teacher.input, domain_mirrors=made._mirrors)
    common = jax.jit(seen)(variables, {key: batch[key] for key in ("picture", "domain")})["presence"]
    run = Run(tmp_path, config, variables, json.loads(json.dumps(made.meta)))
    for i, (name, absent) in enumerate({"faces": absent_points.MAY_BE_ABSENT, "another": ()}.items()):
        network = TrainedLandmarks.read(run, name, config)
        assert network.absent == absent
        assert list(network.outputs) == ["xy", "confidence"] + ["present"] * bool(absent)
        rows = np.flatnonzero(batch["domain"] == i)
        alone = jax.jit(look(network.model, network.input))(network.variables, {"picture": batch["picture"][rows]})
        np.testing.assert_allclose(alone["presence"], common[rows, i * K : (i + 1) * K], rtol=1e-4, atol=1e-3)
    assert TrainedLandmarks.read(run, "faces", config).never_annotated == (absent_points.NEVER,)
    assert TrainedLandmarks.read(run, "another", config).never_annotated == ()


def left_by(task, workdir):
    """Random parameters, and what a training that ends with them leaves in `workdir`."""
    variables, rng = jax.device_get(task.init(0)), np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.1, x.shape).astype("f"), variables["params"])
    run_folder.begin(workdir, task.config, task.pictures.rows())
    state = step.TrainState(np.int32(4), params, variables["batch_stats"], ())
    with checkpoint.manager(workdir) as checkpoints:
        checkpoint.save(checkpoints, 4, state, task.meta, 0.1)
        checkpoints.wait_until_finished()
    return params


def test_a_domain_added_later_leaves_the_heads_of_the_others(teacher_file, root, tmp_path):
    """The new domain stands before the old ones in the alphabet."""
    roots = [tiny.write_folder(tmp_path / name, people=8, shots=1) for name in ("eyes", "b")]
    config = tiny.config(teacher_file, ft, data__root=f"{root},{roots[0]}")
    known = left_by(LandmarkTask(config, data.load(config.data, tmp_path / "tfds")), tmp_path / "run")["presence"]
    keys = {"data__root": f"{root},{roots[0]},{roots[1]}", "domains__start": str(tmp_path / "run")}
    config = tiny.config(teacher_file, ft, **keys)
    made = LandmarkTask(config, data.load(config.data, tmp_path / "tfds"))
    params = made.init(1)["params"]
    labels = made.param_labels(params)["presence"]
    for name in ("faces", "eyes"):
        jax.tree.map(np.testing.assert_array_equal, params["presence"][f"final_{name}"], known[f"final_{name}"])
        assert set(labels[f"final_{name}"].values()) == {"frozen"}
    assert set(labels["final_b"].values()) == {"decoder"}


def test_an_hourglass_has_nothing_to_read_it_from(teacher_file, root):
    with pytest.raises(UserError, match=r"presence\.weight is not 0, but an hourglass has no encoder"):
        task("none", root, model__network="hourglass", model__encoder="resnet8")


# ---------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def table(run):
    return metrics.read_predictions(run / "predictions.csv")


@pytest.fixture(scope="module")
def pictures(run, root):
    config = tiny.config("none", data__root=str(root))
    test = data.load(config.data, run / "tfds").split("test")
    return [test.original(i) for i in range(len(test))]


def test_its_numbers_are_those_of_its_table(run, table):
    found = json.loads((run / "metrics.json").read_text())
    of = found["presence"]
    with (run / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["landmark"] in absent_points.MAY_BE_ABSENT]
    there, said = (np.array([row["true_x"] != "" for row in rows]), np.array([float(r["present"]) for r in rows]))
    assert (of["n_present"], of["n_absent"]) == (there.sum(), (~there).sum()) and of["n_absent"] >= 2
    if (said >= 0.5).any():
        assert of["precision"] == pytest.approx(there[said >= 0.5].mean())
    assert of["recall"] == pytest.approx((said >= 0.5)[there].mean())
    assert of["brier"] == pytest.approx(((said - there) ** 2).mean(), abs=1e-3)
    assert of["temperature"] > 0
    others = [k for k in range(K) if k not in (CHIN, NOSE)]
    assert np.isnan(table.present[:, others]).all()
    assert np.isfinite(table.xy[:, [CHIN, NOSE]]).all()  # the coordinates stay
    page = (run / "report.html").read_text("utf-8")
    assert "Is it there?" in page and "chin" in page


def test_new_pictures_get_the_probabilities_of_the_evaluation(run, table, pictures, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        result = Predictor(run)(pictures)
    assert caplog.text.count("no training picture had it annotated: left_jaw") == 1
    np.testing.assert_allclose(result.present, table.present, atol=2e-4)
    np.testing.assert_allclose(result.xy, table.xy, atol=2e-3)
    assert np.isnan(result.xy[:, NEVER]).all() and np.isnan(result.confidence[:, NEVER]).all()
    result.to_csv(tmp_path / "p.csv")
    np.testing.assert_allclose(metrics.read_predictions(tmp_path / "p.csv").present, result.present, atol=6e-5)


def test_what_is_said_to_be_absent_is_not_drawn_and_not_measured(run, root, cli, tmp_path, monkeypatch):
    from ctd_jax.metrics import presence as of_metrics

    drawn = []
    arguments = ["ctd_jax.predict", f"--workdir={run}", root / "images" / "015.png", f"--out={tmp_path / 'p.csv'}"]
    arguments += [f"--overlays={tmp_path / 'o'}", f"--measurements={tmp_path / 'm.csv'}"]
    for threshold in (0.0, 1.0):  # all are there; none of those that may be absent is
        monkeypatch.setattr(of_metrics, "THRESHOLD", threshold)
        code, _, error = cli(*arguments)
        assert code == 0, error
        assert "no training picture had it annotated: left_jaw" in error
        with (tmp_path / "m.csv").open() as file:
            values = {row["measurement"]: row["value"] for row in csv.DictReader(file)}
        assert values["left_eye_opening"] and not values["chin_angle"]
        drawn.append(next((tmp_path / "o").rglob("*.png")).read_bytes())
    assert drawn[0] != drawn[1]


def test_what_is_said_to_be_absent_is_no_ruler(run, root, cli, tmp_path, monkeypatch):
    from ctd_jax.metrics import presence as of_metrics

    picture, predictor = root / "images" / "015.png", Predictor(run)
    arguments = ["ctd_jax.predict", f"--workdir={run}", picture, f"--out={tmp_path / 'p.csv'}"]
    arguments += [f"--scale={','.join(absent_points.MAY_BE_ABSENT)},20", f"--measurements={tmp_path / 'm.csv'}"]
    for threshold, known in ((0.0, True), (1.0, False)):
        monkeypatch.setattr(of_metrics, "THRESHOLD", threshold)
        code, _, error = cli(*arguments)
        assert code == 0, error
        with (tmp_path / "p.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["x"]]
        assert len(rows) == K - 1 and all(bool(row.get("x_mm")) == known for row in rows)
        with (tmp_path / "m.csv").open() as file:
            values = {row["measurement"]: row["value"] for row in csv.DictReader(file)}
        assert bool(values["left_eye_opening"]) == known
        result = predictor(picture, scale=(*absent_points.MAY_BE_ABSENT, 20))
        assert (np.isfinite(result.spacing) == known).all() and np.isfinite(result.xy[:, CHIN]).all()


def test_without_what_val_showed_it_is_not_calibrated(run, pictures, table, tmp_path, caplog):
    old = shutil.copytree(run, tmp_path / "old")
    (old / "trust.safetensors").unlink()
    with caplog.at_level(logging.WARNING):
        result = Predictor(old)(pictures)
    assert "not calibrated" in caplog.text
    T = json.loads((run / "metrics.json").read_text())["presence"]["temperature"]
    odds = np.log(table.present / (1 - table.present)) * T
    np.testing.assert_allclose(result.present, 1 / (1 + np.exp(-odds)), atol=5e-3)


@pytest.mark.parametrize("to", ["stablehlo", "onnx"])
def test_an_export_has_it(run, cli, tmp_path, to):
    form = form_of(to)
    code, out, error = cli("ctd_jax.export", f"--workdir={run}", f"--to={to}", f"--out={tmp_path / 'network'}")
    assert code == 0, error
    about = json.loads((tmp_path / "network.json").read_text())
    assert list(about["output"]) == ["xy", "confidence", "present"]
    assert about["absent"] == list(absent_points.MAY_BE_ABSENT)
    assert about["never_annotated"]["landmarks"] == [absent_points.NEVER]
    assert about["report"]["largest_difference_present"] < 1e-3
    xy, confidence, present = form.load((tmp_path / "network").read_bytes(), list(about["output"]))(noise(2))
    want = Predictor(run)(list(noise(2)))
    np.testing.assert_allclose(present[:, [CHIN, NOSE]], want.present[:, [CHIN, NOSE]], atol=1e-3)
    assert (np.delete(present, [CHIN, NOSE], axis=1) == -1).all()
    assert (xy[:, NEVER] == -1).all() and (confidence[:, NEVER] == 0).all() and (np.delete(xy, NEVER, 1) > -1).all()


def test_the_average_of_two_has_the_mean_of_their_probabilities(run, pictures, tmp_path):
    other = tiny.other_weights(run, tmp_path / "other", 1)
    one, two, both = (Predictor(runs)(pictures).present for runs in (run, other, [run, other]))
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-6)
    assert np.nanmax(np.abs(one - two)) > 1e-4


# ---------------------------------------------------------------- a landmark that no training picture has


def test_its_column_stays_empty_and_the_reason_is_said(run, table):
    assert table.landmarks[NEVER] == absent_points.NEVER and np.isfinite(table.true_xy[:, NEVER]).all()
    for values in (table.xy, table.confidence, table.error_px, table.radius_px, table.present):
        assert np.isnan(values[:, NEVER]).all()
    found = json.loads((run / "metrics.json").read_text())
    assert found["per_landmark"][absent_points.NEVER] == {"n": 0, "ci95": {}, "n_train": 0}
    others = [k for k in range(K) if k != NEVER]
    assert found["me_px"] == pytest.approx(np.nanmean(np.nanmean(table.error_px[:, others], axis=1)))
    said = "Not predicted, as no training picture has it annotated: left_jaw"
    assert found["cautions"][-1].startswith(said)
    assert (run / "report.html").read_text("utf-8").count(said) == 1


def test_a_split_with_such_landmarks_alone_is_refused(teacher_file, root, tmp_path):
    import landmark_rows

    folder = shutil.copytree(root, tmp_path / "other")
    columns = [c for c in landmark_rows.read(folder)[0] if c.endswith(("_x", "_y")) and absent_points.NEVER not in c]
    rows = landmark_rows.read(folder)
    landmark_rows.change(folder, {i: dict.fromkeys(columns, "") for i, row in enumerate(rows) if row["split"] == "val"})
    with pytest.raises(
        UserError, match=r"none of the 4 pictures of split val has a landmark that is annotated in train"
    ):
        task(teacher_file, folder)


def test_the_checkpoint_is_not_chosen_by_it(made, run):
    """The validation error is that of the other landmarks."""
    from ctd_jax.training.parallel import Parallel

    parallel = Parallel("shard_map", jax.devices()[:1])
    variables = parallel.replicate(checkpoint.best(run)[0])
    error, _ = made.validator(parallel)(variables)
    val = Predictor(run)([made.val.original(i) for i in range(len(made.val))])
    apart = np.linalg.norm(val.xy - made.val.targets.xy, axis=-1)
    a, b = (synthetic.LANDMARKS.index(name) for name in synthetic.NORMALIZER)
    size = np.linalg.norm(made.val.targets.xy[:, a] - made.val.targets.xy[:, b], axis=-1)
    assert error == pytest.approx(np.mean(np.nanmean(apart, axis=1) / size), rel=1e-4)
