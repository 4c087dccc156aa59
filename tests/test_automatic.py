"""What a configuration leaves open is chosen from the training pictures, said, and kept when a run continues."""

import json

import pytest
import tiny
from ml_collections import FrozenConfigDict

from ctd_jax import automatic, training_run
from ctd_jax.config import load_config
from ctd_jax.data import roots
from ctd_jax.errors import UserError
from ctd_jax.training import memory

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("side", "platform", "size"),
    [(40, "cpu", 96), (96, "cpu", 96), (97, "cpu", 128), (1935, "cpu", 256), (397, "gpu", 416), (1935, "tpu", 512)],
)
def test_the_picture_is_as_large_as_the_photographs_and_no_larger_than_the_platform_can_take(side, platform, size):
    assert automatic.image_size(side, platform) == size


def test_more_labels_get_more_steps():
    assert [automatic.steps(labels) for labels in (1, 5, 50, 100, 1000)] == [800, 800, 1000, 2000, 2400]


def test_the_size_is_that_of_the_longer_side_of_the_training_pictures(teacher_file, landmark_folder, tmp_path, capsys):
    root = landmark_folder(size=120)
    config = tiny.config(teacher_file, data__root=str(root), data__image_size=0, train__steps=0)
    task, _ = training_run.prepare(config, tmp_path)
    assert (task.config.data.image_size, task.config.train.steps) == (128, 800)
    assert task.train.batch([0])["picture"].shape == (1, 128, 128, 3)
    assert isinstance(task.config, FrozenConfigDict)
    assert config.data.image_size == 0, "the caller's configuration stays as it is"
    said = capsys.readouterr().err
    size = "--config.data.image_size=128 (the pictures have 120 pixels)"
    assert f"chosen: {size}, --config.train.steps=800 (for 8 labelled pictures)" in said


def test_half_the_size_is_named_where_networks_take_it(teacher_file, landmark_folder, tmp_path, capsys):
    config = tiny.config(teacher_file, data__root=str(landmark_folder(size=200)), data__image_size=0)
    training_run.prepare(config, tmp_path)
    assert "image_size=224 (the pictures have 200 pixels; its error on val tells whether 96," in capsys.readouterr().err


def test_of_pictures_with_boxes_the_box_counts_with_its_margin(teacher_file, landmark_folder, tmp_path):
    root = landmark_folder(size=200)
    head, *lines = (root / "landmarks.csv").read_text().splitlines()
    boxed = [f"{head},box_x0,box_y0,box_x1,box_y1", *(f"{line},10,10,110,90" for line in lines)]
    (root / "landmarks.csv").write_text("\n".join(boxed))
    config = tiny.config(teacher_file, data__root=str(root), data__image_size=0, data__margin=0.25)
    task, _ = training_run.prepare(config, tmp_path)
    assert task.config.data.image_size == 160, "100 pixels and a quarter on both sides"


def test_a_run_that_continues_keeps_what_was_chosen(teacher_file, landmark_folder, tmp_path, monkeypatch):
    config = tiny.config(teacher_file, data__root=str(landmark_folder()), train__steps=0)
    monkeypatch.setattr(automatic, "steps", lambda labels: 2)
    first = training_run.train_and_evaluate(config, tmp_path / "run")
    assert json.loads((tmp_path / "run/config.json").read_text())["train"]["steps"] == 2
    monkeypatch.setattr(automatic, "steps", lambda labels: 4)
    assert training_run.train_and_evaluate(config, tmp_path / "run") == first
    (tmp_path / "run/report.html").unlink()
    again = training_run.train_and_evaluate(config, tmp_path / "run")
    assert again["config_hash"] == first["config_hash"]


def test_a_size_that_does_not_fit_into_memory_is_made_smaller(
    teacher_file, landmark_folder, tmp_path, monkeypatch, capsys
):
    needs = []

    def check(need, limit, train, devices):
        needs.append(need)
        room = need.total - need.activations // 2  # for half the activations: sides of 1 / sqrt(2)
        if len(needs) == 1:
            raise memory.TooLarge("does not fit", need, room)

    monkeypatch.setattr(memory, "check", check)
    root = landmark_folder(size=160)
    config = tiny.config(teacher_file, data__root=str(root), data__image_size=0, train__steps=2)
    training_run.train_and_evaluate(config, tmp_path / "run")
    assert json.loads((tmp_path / "run/config.json").read_text())["data"]["image_size"] == 96, "160 / sqrt(2) is 113"
    assert "data.image_size=96 (the pictures have 160 pixels, larger ones need more" in capsys.readouterr().err
    assert len(needs) == 2
    needs.clear()
    with pytest.raises(UserError, match="does not fit"):
        training_run.train_and_evaluate(tiny.config(teacher_file, data__root=str(root)), tmp_path / "given")


@pytest.mark.parametrize(("size", "room", "smaller"), [(256, 0.5, 160), (256, 0.9, 224), (256, 0.999, 224)])
def test_the_next_size_is_that_for_which_there_is_room(size, room, smaller):
    need = memory.Need(parameters=0, optimizer=0, activations=1000, total=5000)
    assert automatic.smaller(size, memory.TooLarge("", need, 4000 + int(1000 * room))) == smaller
    with pytest.raises(memory.TooLarge):
        automatic.smaller(size, memory.TooLarge("", need, 4100))
    with pytest.raises(memory.TooLarge):
        automatic.smaller(size, memory.TooLarge("", need, 3000))


def test_the_recipe_for_own_pictures_needs_a_folder_and_a_teacher(resnet8_file, landmark_folder, tmp_path):
    config = load_config("recipe:own")
    with pytest.raises(UserError, match="(?s)data.root.*no teacher"):
        training_run.prepare(config, tmp_path)
    config.data.root, config.teacher.weights = str(landmark_folder(size=120)), str(resnet8_file)
    task, _ = training_run.prepare(config, tmp_path)
    assert (task.config.data.image_size, task.config.train.steps) == (128, 800)
    assert (task.config.name, task.config.variant) == ("recipe", "own")


def test_drawn_pictures_need_a_size(teacher_file, tmp_path):
    config = tiny.config(teacher_file, data__image_size=0)
    with pytest.raises(UserError, match="data.image_size is 0.*drawn pictures have the size that is asked for"):
        training_run.prepare(config, tmp_path)
    assert roots.drawn_size(tiny.config(teacher_file).data) == 32
