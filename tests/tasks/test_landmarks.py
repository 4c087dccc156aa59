"""The landmark task: what it starts from, what it refuses."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from configs import ctd_ed, scratch
from ctd_jax import data, models
from ctd_jax.errors import UserError
from ctd_jax.losses import constraints
from ctd_jax.tasks import landmarks


def apply(model, variables, picture):
    return jax.jit(functools.partial(model.apply, train=False))(variables, picture)


@pytest.mark.slow
def test_the_student_starts_as_the_teacher(teacher_file):
    task = tiny.task(teacher_file)
    start, (saved, _) = task.init(0), models.weight_file.load(teacher_file)
    for kind in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, start[kind]["encoder"], saved[kind])
    other = task.init(1)
    assert (start["params"]["decoder"]["final"]["kernel"] != other["params"]["decoder"]["final"]["kernel"]).all()

    picture = task.train.batch(np.arange(4))["picture"]
    picture = models.normalize(picture, task.teacher.input)
    student = apply(task.model, start, picture)
    teacher = apply(models.build_encoder(**tiny.ENCODER), saved, picture)
    assert np.abs(teacher["encoder"]).max() > 0.1
    distance = jax.jit(constraints.encoder_distance)(student["encoder"], teacher["encoder"])
    np.testing.assert_allclose(distance, 0, atol=1e-6)


@pytest.mark.slow
def test_a_teachers_classifier_is_left_behind(teacher_file, tmp_path):
    variables, meta = models.weight_file.load(teacher_file)
    names = set(variables["params"])
    variables["params"]["classifier"] = {"kernel": np.ones((4, 5)), "bias": np.ones(5)}
    path = tmp_path / "classifier.safetensors"
    models.weight_file.save(path, variables, meta | {"encoder": tiny.ENCODER | {"num_outputs": 5}})
    assert set(tiny.task(path).init(0)["params"]["encoder"]) == names


@pytest.mark.slow
def test_from_scratch_without_a_teacher():
    changes = {"model__encoder": "resnet8", "constraints__ed__weight": 0.0}
    task = tiny.task("none", **changes)
    kernel = jax.jit(lambda: task.init(0)["params"]["encoder"]["stem_conv"]["kernel"])()  # no other is computed
    assert np.std(kernel) > 0.01


@pytest.mark.slow
def test_from_scratch_beside_a_teacher(teacher_file):
    """The teacher's architecture, widths included, and none of its weights; the decoder is fine-tuning's."""
    task, fine = tiny.task(teacher_file, scratch), tiny.task(teacher_file, constraints__ed__weight=0.0)
    start, taught = task.init(0), fine.init(0)
    shapes, want = (jax.tree.map(np.shape, variables) for variables in (start, taught))
    assert shapes == want
    for layer in ("stem_conv", "stage1_block0"):
        assert (
            jax.tree.leaves(start["params"]["encoder"][layer])[0]
            != jax.tree.leaves(taught["params"]["encoder"][layer])[0]
        ).all()
    jax.tree.map(np.testing.assert_array_equal, start["params"]["decoder"], taught["params"]["decoder"])


@pytest.mark.slow
def test_bfloat16_is_for_activations_only(teacher_file):
    task = tiny.task(teacher_file, dtype="bfloat16")
    variables = task.init(0)
    out = apply(task.model, variables, jnp.zeros((1, 32, 32, 3)))
    assert (out["encoder"].dtype, out["heatmaps"].dtype) == (jnp.bfloat16, jnp.float32)
    state, (means,) = tiny.trainer(task)([task.train.batch(np.arange(4))])
    assert {x.dtype for x in jax.tree.leaves((state.params, state.batch_stats))} == {np.dtype("float32")}
    assert np.isfinite(list(means.values())).all()


@pytest.mark.slow
def test_the_papers_network():
    config = ctd_ed.get_config("paper")
    net = landmarks.build(config, {"name": "resnet50", "stride_in_1x1": True, "pool_padding": "ceil"}, 24)
    pictures = jax.ShapeDtypeStruct((1, config.data.image_size, config.data.image_size, 3), jnp.float32)
    out, variables = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x, train=False), pictures)
    assert out["heatmaps"].shape == (1, 64, 64, 24)
    assert out["encoder"].shape == (1, 8, 8, 2048)
    assert [out[f"deconv{i}"].shape[-1] for i in (1, 2, 3)] == [256, 256, 256]
    encoder = sum(x.size for x in jax.tree.leaves(variables["params"]["encoder"]))
    assert encoder == 23_508_032  # torchvision's resnet50 without fc


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constraints__ed__weight": -0.1}, r"constraints.ed.weight is -0.1"),
        ({"constraints__ed__layers": ("stage9",)}, r"'stage9'.*encoder, heatmaps, stage1, stem"),
        ({"constraints__ed__layers": ()}, r"constraints.ed.layers is \(\); name one layer or more"),
        ({"data__image_size": 42}, r"data.image_size is 42; resnet8 needs a multiple of 4"),
        ({"data__image_size": 4}, r"data.image_size is 4; .* at least 8"),
        ({"model__deconv": "bilinear"}, r"'bilinear'.*phases, transpose"),
        ({"model__decoder_channels": (8,) * 5}, r"finer than the picture"),
        (
            {"model__encoder": "resnet18", "data__image_size": 64, "constraints__ed__weight": 0.0},
            r"weights of resnet8, but model.encoder is resnet18 and no constraint ties them",
        ),
        ({"dtype": "float16"}, r"dtype is 'float16'"),
    ],
)
def test_what_does_not_go_together_is_refused(teacher_file, changes, message):
    with pytest.raises(UserError, match=message):
        tiny.task(teacher_file, **changes)


def test_a_constraint_needs_a_teacher_that_learned_something():
    with pytest.raises(UserError, match="teacher.weights is none"):
        tiny.task("none", model__encoder="resnet8", constraints__ed__weight=0.1)


def test_heatmaps_of_two_cells_are_refused(teacher_file):
    config = tiny.config(teacher_file, model__decoder_channels=())
    with pytest.raises(UserError, match="heatmaps of 2 cells.*model.decoder_channels"):
        landmarks.build(config, tiny.RESNET8, 3)


@pytest.fixture(scope="module")
def run_of_faces(teacher_file):
    """Configuration, pictures and meta of a run."""
    config = tiny.config(teacher_file)
    pictures = data.load(config.data, None)
    return config, pictures, landmarks.LandmarkTask(config, pictures).meta


@pytest.mark.parametrize("change", ["flip_pairs", "normalizer", "spacing"])
def test_what_must_not_change_during_a_run_is_in_the_meta(run_of_faces, change):
    config, pictures, old = run_of_faces
    everything = pictures.everything
    if change == "spacing":
        other = dataclasses.replace(everything, spacing=np.ones_like(everything.spacing))
    else:
        known = dataclasses.replace(everything.targets.landmarks, **{change: None})
        other = dataclasses.replace(everything, targets=dataclasses.replace(everything.targets, landmarks=known))
    new = landmarks.LandmarkTask(config, dataclasses.replace(pictures, everything=other)).meta
    key = "annotations" if change == "spacing" else change
    assert {k for k in old if old[k] != new[k]} == {key}


@pytest.mark.slow
def test_a_run_on_boxes_is_one_where_any_training_picture_has_a_box(teacher_file):
    """The others are seen as a whole, and so may be those of `Predictor`."""
    config = tiny.config(teacher_file)
    pictures = data.load(config.data, None)
    for boxed, of_run in ((0, False), (1, True), (len(pictures.split_of), True)):
        boxes = np.full((len(pictures.split_of), 4), np.nan)
        boxes[:boxed] = 2, 2, 30, 30
        everything = dataclasses.replace(pictures.everything, boxes=boxes)
        assert (
            landmarks.LandmarkTask(config, dataclasses.replace(pictures, everything=everything)).meta["boxes"] == of_run
        )


@pytest.mark.slow
def test_a_landmark_that_leaves_or_lacks_its_picture_does_not_count(teacher_file):
    """A mirror image of a picture without the left eye lacks the right one; what is behind a rectangle counts."""
    changes = {"augment__flip": 1.0, "augment__scale": 0.0, "augment__shift": 0.0, "augment__occlusion": 0.9}
    task = tiny.task(teacher_file, **changes)
    batch = {key: np.array(value) for key, value in task.train.batch(np.arange(4)).items()}
    order = np.array(task.landmarks.flip_order)
    lone = int(np.flatnonzero(order != np.arange(len(order)))[0])
    batch["mask"][1, lone] = False
    batch["xy"][1, lone], batch["xy"][2, 0] = np.nan, (-9, 5)
    keys = jax.random.split(jax.random.key(0), 4)
    picture, (true_heatmaps, inside, _) = jax.jit(task.augmented)(batch, keys)
    want = np.ones(inside.shape, bool)
    want[1, order[lone]] = want[2, order[0]] = False
    np.testing.assert_array_equal(inside, want)
    assert np.isfinite(true_heatmaps).all() and (np.asarray(true_heatmaps)[1, ..., order[lone]] == 0).all()
    assert (np.asarray(picture) != batch["picture"][:, :, ::-1]).any(axis=(1, 2, 3)).sum() >= 2
