"""The source task."""

import csv
import functools
import json
import math
import shutil

import jax
import numpy as np
import pytest
import tiny

from configs import source
from ctd_jax import data, models, training_run
from ctd_jax.errors import UserError
from ctd_jax.tasks import recognition, teacher
from ctd_jax.training.parallel import Parallel

# ---------------------------------------------------------------- the margin


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5, 2.0])
def test_arcface_matches_the_angles(margin):
    """By arc cosines in NumPy; beyond pi, cos(theta) - m sin(m)."""
    cosines = np.random.default_rng(0).uniform(-1, 1, (200, 7))
    cosines[:4, 0] = [-1, 1, -0.9999, 0.9999]
    subjects = np.arange(200) % 7
    subjects[:4] = 0
    true = np.arange(200), subjects
    theta = np.arccos(cosines[true])
    want = cosines.copy()
    want[true] = np.where(theta + margin <= math.pi, np.cos(theta + margin), np.cos(theta) - margin * math.sin(margin))
    assert margin == 0 or 0 < (theta + margin > math.pi).sum() < 200
    logits = jax.jit(recognition.arcface_logits, static_argnames=("margin", "scale"))
    found = logits(cosines.astype(np.float32), subjects, margin=margin, scale=30.0)
    np.testing.assert_allclose(found, 30 * want, atol=0.03)  # the sine of 0 is 0.001 there
    np.testing.assert_allclose(found[4:], 30 * want[4:], atol=1e-4)


def test_the_gradient_of_arcface_is_finite_at_the_ends():
    def logit(cosine):
        return recognition.arcface_logits(cosine[None, None], np.zeros(1, int), margin=0.5, scale=1.0)[0, 0]

    slopes = jax.jit(jax.vmap(jax.grad(logit)))(np.array([-1, 0, 1], np.float32))
    # d cos(theta + m) / d cos(theta) = sin(theta + m) / sin(theta), 1 where the cosine is continued; at theta = 0 it is
    # infinite, and cut
    np.testing.assert_allclose(slopes, [1, math.cos(0.5), math.cos(0.5)], rtol=1e-6)


# ---------------------------------------------------------------- the task


def make_task(**changes):
    keys = {"model__encoder": "resnet8", "data__synthetic__identities": (4, 2, 0)} | changes
    config = tiny.config("none", source, **keys)
    return recognition.RecognitionTask(config, data.load(config.data, None, targets=data.IDENTITIES))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["softmax", "arcface"])
def test_a_run_becomes_a_teacher(loss, tmp_path):
    task = make_task(
        eval__batch_size=3, recognition__loss=loss, recognition__scale=8.0
    )  # 3: no multiple of the devices
    parallel = Parallel("shard_map")
    variables = task.init(0)
    result = task.finish(variables, parallel, tmp_path, 0.0)
    assert result == json.loads((tmp_path / "metrics.json").read_text())
    assert result["ci95"] == {} and 0 <= result["verification_auc"] <= 1  # without one of two people there are no pairs
    assert result["n_images"] == 4 and result["n_subjects"] == 2 and result["split"] == "val"
    made = teacher.load_teacher(str(tmp_path / "teacher.safetensors"), "auto")
    assert made.encoder == {"name": "resnet8", "num_outputs": 4}
    encoder, classifier = variables["params"]["encoder"], variables["params"]["classifier"]
    np.testing.assert_array_equal(made.variables["params"]["stem_conv"]["kernel"], encoder["stem_conv"]["kernel"])

    pictures = task.pictures.split("val").batch(np.arange(4))["picture"]
    network = models.build_encoder(**made.encoder)
    see = jax.jit(lambda x: network.apply(made.variables, models.normalize(x, made.input), train=False))
    out = see(pictures)
    features, kernel = np.asarray(out["pooled"], float), np.asarray(classifier["kernel"], float)
    want = features @ kernel
    if loss == "arcface":  # 8 cos(theta) |f| / mean |f|
        want = 8 * want / np.linalg.norm(kernel, axis=0) / np.linalg.norm(features, axis=1).mean()
    np.testing.assert_allclose(out["classifier"], want, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["softmax", "arcface"])
def test_the_loss_is_the_cross_entropy_of_the_right_subject(loss):
    task = make_task(recognition__loss=loss, recognition__scale=8.0, recognition__margin=0.0)
    rng = np.random.default_rng(0)
    features, kernel, bias = rng.normal(size=(5, 128)), rng.normal(size=(128, 4)), rng.normal(size=4)
    subjects = np.array([0, 3, 1, 2, 2])
    logits = jax.jit(task.logits)(features, {"kernel": kernel, "bias": bias}, subjects)
    want = features @ kernel + bias
    if loss == "arcface":
        want = 8 * features @ kernel / np.linalg.norm(features, axis=1)[:, None] / np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-4)


@functools.cache
def shapes_of(size, **encoder):
    """Those of an encoder's parameters."""
    template = models.build_encoder(**encoder)
    made = jax.eval_shape(lambda x: template.init(jax.random.key(0), x, train=False), np.zeros((1, size, size, 3)))
    return jax.tree.map(np.shape, made["params"])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["softmax", "arcface"])
def test_the_head_of_mobilefacenet_is_its_embedding(loss):
    """Shapes only: its file has what `build_encoder` asks for, and its classifier gets a gradient in training."""
    keys = {"model__encoder": "mobilefacenet", "data__image_size": 112, "train__batch_norm": "device"}
    task = make_task(recognition__loss=loss, **keys)
    variables = jax.eval_shape(task.init, 0)
    assert variables["params"]["classifier"]["kernel"].shape == (128, 4)
    params = task.teacher_variables(variables, np.ones((2, 128)))["params"]
    assert task.meta["encoder"] == {"name": "mobilefacenet", "num_outputs": 128}
    assert jax.tree.map(np.shape, params) == shapes_of(112, **task.encoder)
    batch, variables = task.train.batch(np.arange(2)), jax.tree.map(lambda x: np.ones(x.shape, x.dtype), variables)

    def loss_of(params, batch):
        keys = jax.random.split(jax.random.key(0), 2)
        return task.loss(params, variables["batch_stats"], (), batch, keys)[0].mean()

    found = jax.eval_shape(jax.grad(loss_of), variables["params"], batch)
    assert found["classifier"]["kernel"].shape == (128, 4)
    assert found["encoder"]["embedding_conv"]["kernel"].shape[-1] == 128


@pytest.mark.slow
def test_a_head_behind_another_layer_stays_behind():
    """EfficientNet-Lite0's classifier does not read the encoder's mean, which people are told apart by."""
    task = make_task(model__encoder="efficientnet_lite0", data__image_size=64)
    params = task.teacher_variables(jax.eval_shape(task.init, 0), np.ones((2, 320)))["params"]
    assert task.meta["encoder"] == {"name": "efficientnet_lite0", "num_outputs": 0}
    assert jax.tree.map(np.shape, params) == shapes_of(64, **task.encoder)


# ---------------------------------------------------------------- a folder of faces with names


@pytest.fixture(scope="module")
def named(landmark_folder):
    """Pictures and subjects without any landmark; the people of the split `teacher` are to be trained on."""
    root = landmark_folder(people=8, size=32)
    with (root / "landmarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:4]:
        row["split"] = "teacher"
    with (root / "landmarks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "subject", "split"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (root / "dataset.json").unlink()
    return root


@pytest.fixture
def faces(named, tmp_path):
    """A copy of them."""
    return shutil.copytree(named, tmp_path / "copy" / named.name)


@pytest.fixture(scope="module")
def run(named, tmp_path_factory):
    """A configuration, and the workdir and the result of its run."""
    config = tiny.config("none", source, model__encoder="resnet8", data__root=str(named), data__train_split="teacher")
    config.recognition.loss, config.eval.split = "arcface", "test"
    workdir = tmp_path_factory.mktemp("named") / "run"
    return config, workdir, training_run.train_and_evaluate(config, workdir)


@pytest.mark.slow
def test_faces_with_names_are_enough(run):
    _, workdir, result = run
    assert (result["split"], result["n_images"], result["n_subjects"]) == ("test", 4, 2)
    made = teacher.load_teacher(str(workdir / "teacher.safetensors"), "auto")
    assert made.encoder["num_outputs"] == 2
    with (workdir / "split.csv").open(newline="") as file:
        assert [row["split"] for row in csv.DictReader(file)] == [
            *["train"] * 4, *["unused"] * 4, *["val"] * 4, *["test"] * 4
        ]  # fmt: skip


@pytest.mark.slow
def test_a_run_continues_with_its_folder_elsewhere_and_not_with_other_boxes(run, faces, tmp_path):
    config, workdir, result = run
    place, config = shutil.copytree(workdir, tmp_path / "run"), config.copy_and_resolve_references()
    (place / "metrics.json").unlink()  # as if stopped before the end
    config.data.root = str(faces)
    again = training_run.train_and_evaluate(config, place)
    assert again | {"seconds": 0} == result | {"seconds": 0}
    (place / "metrics.json").unlink()
    head, *rows = (faces / "landmarks.csv").read_text().splitlines()
    boxed = [f"{head},box_x0,box_y0,box_x1,box_y1", *(f"{row},4,4,28,28" for row in rows)]
    (faces / "landmarks.csv").write_text("\n".join(boxed))
    with pytest.raises(UserError, match="annotations of this run have changed since it began; restore them"):
        training_run.train_and_evaluate(config, place)


def test_faces_without_landmarks_teach_no_landmarks(faces, tmp_path, teacher_file):
    config = tiny.config(teacher_file, data__root=str(faces))
    with pytest.raises(UserError, match="none of the 4 pictures of split train has an annotated landmark"):
        training_run.train_and_evaluate(config, tmp_path / "run")


@pytest.mark.slow
def test_without_landmarks_there_can_be_mirror_images(faces, tmp_path):
    (faces / "dataset.json").write_text('{"name": "faces", "flip_pairs": []}')
    still = tiny.STILL | {"augment__flip": 1.0}
    config = tiny.config("none", source, model__encoder="resnet8", data__root=str(faces), **still)
    task = recognition.RecognitionTask(config, data.load(config.data, tmp_path, targets=data.IDENTITIES))
    batch = task.train.batch(np.arange(2))
    mirrored = jax.jit(task.augmented)(batch, jax.random.split(jax.random.key(0), 2))
    np.testing.assert_array_equal(mirrored, batch["picture"][:, :, ::-1])


def test_a_train_split_that_no_row_has(faces, tmp_path):
    config = tiny.config("none", source, data__root=str(faces), data__train_split="techer")
    with pytest.raises(UserError, match="data.train_split is 'techer'.*there are teacher, test, train, val"):
        data.load(config.data, tmp_path, targets=data.IDENTITIES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__synthetic__identities": (4, 1, 0)}, "two people in val"),
        ({"data__synthetic__identities": (4, 0, 0)}, "two people in val"),
        ({"data__synthetic__shots": (2, 1, 1)}, "two people in val, and two pictures of one of them.*column `subject`"),
        ({"data__synthetic__identities": (4, 2, 1), "eval__split": "test"}, "two people in test"),
        ({"data__synthetic__identities": (1, 2, 0)}, "all 2 training pictures are of .*two people"),
        ({"model__encoder": "mobilefacenet"}, "at least 112x112"),
        ({"teacher__weights": "embedded"}, "teacher.weights is embedded, .*; give --config.teacher.weights=none"),
        ({"train__encoder_layers": "last"}, "train.encoder_layers is last, but the task is recognition"),
        ({"constraints__ed__weight": 0.1}, "constraints.ed.weight is 0.1, .*; give --config.constraints.ed.weight=0.0"),
    ],
)
def test_what_cannot_be_learned_or_judged(changes, message):
    with pytest.raises(UserError, match=message):
        make_task(**changes)


def test_nobody_is_on_two_sides(tmp_path):
    config = tiny.config("none", source, model__encoder="resnet8", data__synthetic__identities=(4, 2, 0))
    known = data.load(config.data, tmp_path, targets=data.IDENTITIES)
    split = ["train"] * 7 + ["val"] * 5  # person 3 has a picture in each
    assert len(split) == len(known.split_of)
    with pytest.raises(UserError, match="1 people of val are also trained on, first .*drawn"):
        recognition.RecognitionTask(config, data.SplitPictures(known.everything, split, known.sha256))
