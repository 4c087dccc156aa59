"""The consistency of heatmaps with those of the moving average: what moves how, who gets a gradient, and runs."""

import csv
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy import ndimage

from configs import ft, mtmd
from ctd_jax import data, models, training_run
from ctd_jax.errors import UserError
from ctd_jax.tasks.landmarks import LandmarkTask, heatmaps

pytestmark = pytest.mark.slow

ON = {"constraints__consistency__weight": 1.0, "train__average": 0.9}
UNLABELLED = {"data__budget": 4, "data__unlabelled": "rest", "train__unlabelled_batch_size": 4}
SIZE, STRIDE = 32, 4


def variables_of(task, seed=0):
    """Random variables in which every layer counts."""
    variables, rng = jax.device_get(task.init(0)), np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + rng.normal(0, 0.05, x.shape).astype("f"), variables["params"]), variables[
        "batch_stats"
    ]


def consistency_of(task, batch):
    """Function of parameters and an average: the consistency of each picture, compiled."""
    keys = jax.random.split(jax.random.key(0), len(batch["picture"]))
    _, batch_stats = variables_of(task)

    def consistency(params, average):
        constants = task.constants | {"average": average}
        return task.loss(params, batch_stats, constants, batch, keys)[1][1]["consistency"]

    return jax.jit(consistency)


def average_of(task, seed=0):
    params, batch_stats = variables_of(task, seed)
    return {"params": params, "batch_stats": batch_stats}


def batch_of(task, number=4):
    return task.train.batch(np.arange(number))


@pytest.fixture(scope="module")
def moved(teacher_file):
    """A task whose pictures are moved, on one device, and its consistency."""
    task = tiny.task(teacher_file, ft, train__batch_norm="device", **ON)
    return task, consistency_of(task, batch_of(task))


def test_0_for_identical_copies(teacher_file, moved):
    """The same network and the same picture; not where one of the two sees it moved, or has other weights."""
    task = tiny.task(teacher_file, ft, train__batch_norm="device", **ON, **tiny.STILL)
    consistency, average = consistency_of(task, batch_of(task)), average_of(task)
    np.testing.assert_allclose(consistency(average["params"], average), 0, atol=1e-12)
    assert (consistency(variables_of(task, seed=1)[0], average) > 1e-6).all()
    task, consistency = moved
    average = average_of(task)
    assert (consistency(average["params"], average) > 1e-6).all()


def test_a_mirror_image_by_hand(teacher_file):
    """Every picture is mirrored: the average's heatmaps are turned round, and left and right are exchanged."""
    task = tiny.task(teacher_file, ft, train__batch_norm="device", **ON, **tiny.STILL | {"augment__flip": 1.0})
    batch, average = batch_of(task), average_of(task)
    found = consistency_of(task, batch)(average["params"], average)

    @jax.jit
    def maps(picture):
        seen = models.normalize(picture.astype("float32"), task.teacher.input)
        return models.apply_in_training(task.model, average, seen, None, remat=False)[0]["heatmaps"]

    names = task.landmarks.names
    other = dict(task.landmarks.flip_pairs) | {b: a for a, b in task.landmarks.flip_pairs}
    order = [names.index(other.get(name, name)) for name in names]
    turned = np.asarray(maps(batch["picture"]))[:, :, ::-1][..., order]
    want = ((np.asarray(maps(batch["picture"][:, :, ::-1])) - turned) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(found, want, rtol=1e-4)
    assert np.abs(want).min() > 1e-6


def test_heatmaps_move_as_points_and_pictures_do(teacher_file, monkeypatch):
    """A network that draws the true heatmaps of the pictures as they are gives those of the moved points; what is known
    is what a white picture still covers."""
    moves = {"augment__rotation": 30.0, "augment__aspect": 0.1, "augment__shift": 0.2}
    task = tiny.task(teacher_file, ft, model__sigma=1.0, **ON, **moves)
    batch = batch_of(task, 8) | {"picture": np.full((8, SIZE, SIZE, 3), 255, np.uint8)}
    draw = jax.jit(functools.partial(heatmaps.draw, size=SIZE, stride=STRIDE, sigma=1.0))
    drawn = draw(batch["xy"])
    monkeypatch.setattr(models, "apply_in_training", lambda *_, **__: ({"heatmaps": drawn}, {}))
    keys = jax.random.split(jax.random.key(3), 8)
    maps, known = jax.jit(task.average_heatmaps)({}, batch, keys)
    picture, (_, inside, xy) = jax.jit(task.augmented)(batch, keys)
    found, _ = jax.jit(functools.partial(heatmaps.decode, stride=STRIDE))(maps)
    well_inside = np.asarray(inside) & (np.abs(np.asarray(xy) - 15.5) < 13).all(-1)
    assert well_inside.sum() > 30
    assert np.abs(np.asarray(found - xy))[well_inside].max() < 1.0  # pixels, a quarter of a cell
    assert known.shape == maps.shape and (known == known[..., :1]).all()
    cells = np.arange(SIZE // STRIDE) * STRIDE + (STRIDE - 1) / 2  # centres, in pixels
    for white, mask in zip(np.asarray(picture)[..., 0], np.asarray(known)[..., 0], strict=True):
        at = ndimage.map_coordinates(white, np.meshgrid(cells, cells, indexing="ij"), order=1)
        sure = (at < 1) | (at > 254)
        np.testing.assert_array_equal(mask[sure], at[sure] > 128)
    assert 0.02 < 1 - np.mean(known) < 0.6
    assert (np.asarray(maps)[~np.asarray(known)] == 0).all()


def test_the_gradient_is_the_students_alone(moved):
    task, consistency = moved
    average = average_of(task, seed=1)

    def mean(params, average):
        return consistency(params, average).mean()

    of_student, of_average = jax.jit(jax.grad(mean, (0, 1)))(variables_of(task)[0], average)
    assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(of_average))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(of_student))
    assert sum(np.abs(x).max() > 0 for x in jax.tree.leaves(of_student)) > len(jax.tree.leaves(of_student)) / 2


def test_landmarks_of_other_domains_are_not_known(teacher_file, landmark_folder, tmp_path):
    roots = [str(landmark_folder(name=name)) for name in ("one", "two")]
    config = tiny.config(teacher_file, ft, data__root=",".join(roots), **ON, **tiny.STILL)
    task = LandmarkTask(config, data.load(config.data, tmp_path))
    rows = np.array([0, len(task.train) - 1])
    batch = task.train.batch(rows)
    params, batch_stats = variables_of(task)
    average, keys = {"params": params, "batch_stats": batch_stats}, jax.random.split(jax.random.key(0), 2)
    parallel = jax.vmap(lambda _: task.average_heatmaps(average, batch, keys)[1], axis_name="data")
    known = np.asarray(jax.jit(parallel)(jnp.zeros(1)))[0]
    half = len(task.landmarks.names) // 2
    assert batch["domain"].tolist() == [0, 1]
    assert known[0, ..., :half].all() and not known[0, ..., half:].any()
    assert known[1, ..., half:].all() and not known[1, ..., :half].any()


def test_several_devices_train_like_one(teacher_file):
    task = tiny.task(teacher_file, ft, **ON, **UNLABELLED)
    order = {"batch_size": 4, "unlabelled_batch_size": 4, "seed": 0}
    seen = list(itertools.islice(task.train.training_batches(start=0, **order), 2))
    one, several = tiny.trainer(task)(seen), tiny.trainer(task, devices=4)(seen)
    chex.assert_trees_all_close(several[1], one[1], rtol=1e-3, atol=1e-7)
    assert all(means["consistency"] > 0 for means in one[1])


def test_the_step_compares_with_the_average_which_lags(teacher_file):
    """Without augmentation: 0 at the first step, where the average is the network; not after it."""
    task = tiny.task(teacher_file, ft, **ON, **tiny.STILL)
    batch = batch_of(task)
    _, (first, second) = tiny.trainer(task)([batch, batch])
    assert first["consistency"] == pytest.approx(0, abs=1e-12) and second["consistency"] > 1e-8


def test_a_run(teacher_file, tmp_path):
    """With pictures without labels, and with the gradients' norms."""
    training_run.train_and_evaluate(
        tiny.config(teacher_file, ft, **ON, **UNLABELLED, eval__gradient_norms=True), tmp_path / "run"
    )
    with (tmp_path / "run/log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["loss"]:
            assert float(row["loss"]) == pytest.approx(float(row["heatmap"]) + float(row["consistency"]), rel=1e-4)
            assert float(row["consistency"]) > 0
        else:
            assert float(row["gradient_consistency"]) > 0


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (
            ft,
            {"constraints__consistency__weight": 1.0},
            "but train.average is 0, so there is no average of the w",
        ),
        (mtmd, ON, "but it compares heatmaps of landmarks, and the task is segmentation; set it to 0"),
    ],
)
def test_where_there_is_nothing_to_be_consistent_with(teacher_file, tmp_path, module, changes, message):
    config = tiny.config(teacher_file, module, **changes)
    with pytest.raises(UserError, match=f"^constraints.consistency.weight is not 0, {message}"):
        training_run.prepare(config, tmp_path)


def test_a_frozen_encoder_may_have_it(teacher_file, tmp_path):
    config = tiny.config(teacher_file, ft, train__encoder_layers="none", **ON)
    task, _ = training_run.prepare(config, tmp_path)
    assert "consistency" in task.terms
