"""Training with pictures without labels: their part in the loss, on one device or several, and a whole run."""

import csv
import functools

import chex
import jax
import numpy as np
import pytest
import tiny

from configs import ctd_ed, ft
from ctd_jax import data, models, training_run
from ctd_jax.errors import UserError
from ctd_jax.tasks.landmarks import LandmarkTask
from ctd_jax.training.parallel import Parallel

pytestmark = pytest.mark.slow

KEYS = {"data__budget": 4, "data__unlabelled": "rest", "train__unlabelled_batch_size": 4}
SIZE, STRIDE = 32, 2


def batches(task, number=1):
    train = task.config.train
    order = {"batch_size": train.batch_size, "unlabelled_batch_size": train.unlabelled_batch_size, "seed": 0}
    batches = task.train.training_batches(start=0, **order)
    return [next(batches) for _ in range(number)]


def gaussians(batch, sigma):
    """The true heatmaps, by NumPy."""
    cell = (batch["xy"] + 0.5) / STRIDE - 0.5
    x, y = np.meshgrid(np.arange(SIZE // STRIDE), np.arange(SIZE // STRIDE))
    squares = [(axis[None, :, :, None] - cell[:, None, None, :, i]) ** 2 for i, axis in enumerate((x, y))]
    return np.exp(-sum(squares) / (2 * sigma**2))


def test_the_heatmaps_loss_is_that_of_the_labelled_pictures_alone(teacher_file):
    """Batch norm sees all pictures; the constraint's mean is over all of them."""
    task = tiny.task(teacher_file, ctd_ed, train__batch_norm="device", **KEYS, **tiny.STILL)
    (batch,) = batches(task)
    labelled = batch["labelled"]
    assert labelled.sum() == 4 == (~labelled).sum()
    variables = jax.device_get(task.init(0))
    picture = models.normalize(batch["picture"].astype("float32"), task.teacher.input)
    apply = jax.jit(lambda v, x: models.apply_in_training(task.model, v, x, None, remat=False)[0])
    student = jax.device_get(apply(variables, picture))
    assert student["heatmaps"].shape[1] == SIZE // STRIDE
    error = ((student["heatmaps"] - gaussians(batch, task.config.model.sigma)) ** 2).mean((1, 2, 3))
    encoder = models.build_encoder(**task.teacher.encoder)
    teacher = jax.device_get(jax.jit(functools.partial(encoder.apply, train=False))(task.teacher.variables, picture))
    one, other = (features["encoder"].reshape(8, -1) for features in (student, teacher))
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    _, (means,) = tiny.trainer(task)([batch])
    assert means["heatmap"] == pytest.approx(error[labelled].mean(), rel=1e-4)
    assert means["ed"] == pytest.approx((1 - cosine).mean(), rel=1e-3)
    assert abs(means["ed"] - (1 - cosine)[labelled].mean()) > 0.01 * means["ed"]
    assert means["loss"] == pytest.approx(means["heatmap"] + 0.01 * means["ed"], rel=1e-5)


@pytest.fixture(scope="module")
def one_device(teacher_file):
    """A task, two batches, and what one device makes of them."""
    task = tiny.task(teacher_file, ctd_ed, **KEYS)
    seen = batches(task, 2)
    return task, seen, tiny.trainer(task)(seen)


@pytest.mark.parametrize("changes", [{"devices": 2}, {"devices": 4}, {"devices": 2, "kind": "pmap"}])
def test_several_devices_train_like_one(one_device, changes):
    task, seen, one = one_device
    several = tiny.trainer(task, **changes)(seen)
    chex.assert_trees_all_close(several[1], one[1], rtol=1e-4)
    chex.assert_trees_all_close(several[0].batch_stats, one[0].batch_stats, rtol=1e-3, atol=1e-5)


def test_parts_of_a_batch_train_like_devices(teacher_file):
    """Four parts of one device do what four devices with batch norm of their own do."""
    parts = tiny.task(teacher_file, ctd_ed, train__accumulate_steps=4, **KEYS)
    devices = tiny.task(teacher_file, ctd_ed, train__batch_norm="device", **KEYS)
    seen = batches(parts, 2)
    of_parts, of_devices = tiny.trainer(parts)(seen)[1], tiny.trainer(devices, devices=4)(seen)[1]
    chex.assert_trees_all_close(of_parts, of_devices, rtol=1e-4)


@pytest.fixture(scope="module")
def runs(teacher_file, tmp_path_factory):
    """Rows of log.csv that have a loss, and those of split.csv, of runs of four steps."""
    folder = tmp_path_factory.mktemp("runs")
    changes = {
        "host": KEYS | {"data__on_device": "no"},
        "device": KEYS | {"data__on_device": "yes"},
        "without": KEYS | {"data__on_device": "no", "data__unlabelled": ""},
    }
    tiny.train_with_newer_fusions(changes, teacher_file, folder)
    found = {}
    for name in changes:
        texts = [(folder / name / table).read_text("utf-8").splitlines() for table in ("log.csv", "split.csv")]
        log, split = map(list, map(csv.DictReader, texts))
        found[name] = [row for row in log if row["loss"]], split
    return found


def test_a_run_and_the_same_with_its_pictures_on_the_device(runs):
    (rows, split), (on_device, _) = runs["host"], runs["device"]
    words = [row["split"] for row in split]
    assert (words.count("train"), words.count("unlabelled"), words.count("unused")) == (4, 4, 0)
    assert [row["step"] for row in on_device] == [row["step"] for row in rows] == ["2", "4"]
    for row, want in zip(on_device, rows, strict=True):
        for key in ("loss", "heatmap", "ed"):
            assert float(row[key]) == pytest.approx(float(want[key]), rel=1e-4), key


def test_the_pictures_without_labels_matter(runs):
    """Through the constraint and batch norm: without them the run is another."""
    last, other = (runs[name][0][-1] for name in ("host", "without"))
    assert last["heatmap"] != other["heatmap"] and last["ed"] != other["ed"]


def test_delta_measures_its_channels_on_the_labelled_pictures(teacher_file):
    keys = {"constraints__delta__weight": 1.0, "constraints__delta__layers": ("stage1",)}
    hidden, few = (
        tiny.task(teacher_file, ft, **keys, data__budget=3, data__unlabelled=unlabelled) for unlabelled in ("rest", "")
    )
    chex.assert_trees_all_equal(hidden.constants["channel_weights"], few.constants["channel_weights"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train__unlabelled_batch_size": 6},
            "unlabelled_batch_size is 6; expected a positive multiple of the number of dev",
        ),
        (
            {"train__unlabelled_batch_size": 0},
            "unlabelled_batch_size is 0; expected a positive multiple of the number of dev",
        ),
        (
            {"train__unlabelled_batch_size": 4, "train__accumulate_steps": 2, "train__batch_size": 8},
            "unlabelled_batch_size is 4; expected a multiple of 8: of the number of devices, 4, times train",
        ),
    ],
)
def test_batches_that_cannot_be_shared_out(teacher_file, tmp_path, changes, message):
    config = tiny.config(teacher_file, ft, **KEYS | changes)
    with pytest.raises(UserError, match=message):
        training_run.prepare(config, tmp_path)


def test_without_the_key_the_batch_size_of_unlabelled_pictures_is_not_read(teacher_file, tmp_path):
    config = tiny.config(teacher_file, ft, train__unlabelled_batch_size=7)
    task, parallel = training_run.prepare(config, tmp_path)
    assert isinstance(task, LandmarkTask) and isinstance(parallel, Parallel) and not task.train.has_unlabelled


def test_hidden_labels_are_in_no_batch(teacher_file):
    config = tiny.config(teacher_file, ctd_ed, **KEYS)
    pictures = data.load(config.data, None)
    one = LandmarkTask(config, pictures)
    assert np.isnan(pictures.everything.targets.xy[list(pictures.unlabelled)]).all()
    for batch in batches(one, 3):
        assert not batch["mask"][~batch["labelled"]].any() and batch["mask"][batch["labelled"]].all()
        assert (batch["xy"][~batch["labelled"]] == 0).all()
