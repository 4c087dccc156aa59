"""Which weights are taken as a teacher."""

import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny

from ctd_jax import models
from ctd_jax.data import synthetic
from ctd_jax.errors import UserError
from ctd_jax.metrics.verification import verification_auc
from ctd_jax.tasks import teacher


def test_a_teacher_is_what_its_file_says(teacher_file):
    made = teacher.load_teacher(str(teacher_file), "auto")
    assert made.encoder == tiny.ENCODER
    assert made.input == teacher.IMAGENET
    assert made.trained
    jax.tree.map(np.testing.assert_array_equal, made.variables, models.weight_file.load(teacher_file)[0])


def test_the_embedded_teacher_is_small():
    made = teacher.load_teacher("embedded", "auto")
    assert made.trained
    assert teacher.EMBEDDED.stat().st_size < 5e6


def test_none_has_learned_nothing():
    assert not teacher.load_teacher("none", "resnet8").trained


@pytest.mark.parametrize(
    ("weights", "encoder", "message"),
    [
        ("", "auto", "--config.teacher.weights=FILE.*convert mobilefacenet.*--config=source"),
        ("none", "auto", "--config.model.encoder=resnet8"),
        ("nowhere.safetensors", "auto", "nowhere.safetensors: no such weight file"),
    ],
)
def test_no_teacher(weights, encoder, message):
    with pytest.raises(UserError, match=message):
        teacher.load_teacher(weights, encoder)


def test_weights_of_another_encoder(teacher_file, tmp_path):
    made = teacher.load_teacher(str(teacher_file), "resnet50")  # a student may be another network
    assert made.encoder == tiny.ENCODER
    variables, meta = models.weight_file.load(teacher_file)
    wrong = tmp_path / "wrong.safetensors"
    models.weight_file.save(wrong, variables, meta | {"encoder": {"name": "resnet8", "width": 8}})
    with pytest.raises(UserError, match="wrong.safetensors: the weights do not match the network"):
        teacher.load_teacher(str(wrong), "auto")
    models.weight_file.save(wrong, variables, meta | {"encoder": {"name": "resnet9"}})
    with pytest.raises(UserError, match="'resnet9'"):
        teacher.load_teacher(str(wrong), "auto")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"width": 2.5}, r"width is 2.5; expected a whole number, 1 or more"),
        ({"width": True}, "width is True; expected a whole"),
        ({"stage_sizes": []}, r"stage_sizes is \[\]; expected 1 to 8 whole numbers, 1 to 100 each"),
        ({"stage_sizes": [1, "2"]}, "stage_sizes is .*; expected 1 to 8"),
        ({"stage_sizes": [10**7]}, "stage_sizes is .*; expected 1 to 8"),
        ({"pool_padding": "valid"}, "pool_padding is 'valid'; expected same or ceil"),
        ({"stride_in_1x1": 1}, "stride_in_1x1 is 1; expected true or false"),
        ({"num_outputs": -1}, "num_outputs is -1; expected a whole number, 0 or more"),
        ({"block": "BasicBlock"}, "block is 'BasicBlock'; expected left out"),
        ({"name": "mobilefacenet"}, "cannot be built with {'width': 4, 'stage_sizes'"),
    ],
)
def test_an_encoder_that_a_file_cannot_mean(teacher_file, tmp_path, wrong, said):
    variables, meta = models.weight_file.load(teacher_file)
    models.weight_file.save(tmp_path / "t.safetensors", variables, meta | {"encoder": tiny.ENCODER | wrong})
    with pytest.raises(UserError, match=f"t.safetensors: encoder '.*' ?.*{said}"):
        teacher.load_teacher(str(tmp_path / "t.safetensors"), "auto")


@pytest.mark.parametrize(
    "wrong",
    [
        {"std": [0.2, 0.0, 0.2]},
        {"mean": [0.5, 0.5]},
        {"channels": "rgb"},
        {"scale": 0},
        {"scale": "255"},
        {"mean": [[0.5]] * 3},
        {"mean": [0.5, 0.5, np.nan]},
    ],
)
def test_pictures_that_a_file_cannot_mean(teacher_file, tmp_path, wrong):
    variables, meta = models.weight_file.load(teacher_file)
    models.weight_file.save(tmp_path / "t.safetensors", variables, meta | {"input": meta["input"] | wrong})
    with pytest.raises(UserError, match="t.safetensors: its metadata say of pictures .*; expected channels RGB or BGR"):
        teacher.load_teacher(str(tmp_path / "t.safetensors"), "auto")


def test_files_that_are_no_weights(tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"PK\x03\x04 a PyTorch file, perhaps")
    with pytest.raises(UserError, match="not a safetensors file"):
        teacher.load_teacher(str(path), "auto")
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    with pytest.raises(UserError, match="does not say which encoder"):
        teacher.load_teacher(str(path), "auto")
    for meta in ("{}", '{"encoder": {"name": "resnet8"}}'):
        safetensors.numpy.save_file({"a": np.zeros(3, np.float32)}, path, {"ctd_jax": meta})
        with pytest.raises(UserError, match="file.safetensors"):
            teacher.load_teacher(str(path), "auto")


@pytest.mark.slow
def test_the_embedded_teacher_knows_people_it_has_never_seen():
    made = teacher.load_teacher("embedded", "auto")
    faces = synthetic.faces(range(25), 4, size=96, seed=7)  # it learned the people of seed 1000
    model = models.build_encoder(**made.encoder)
    features = jax.jit(lambda x: model.apply(made.variables, models.normalize(x, made.input), train=False)["pooled"])
    assert verification_auc(np.asarray(features(faces["pictures"])), np.array(faces["subjects"])) > 0.95
