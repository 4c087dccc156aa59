"""Training from Python: the same run as the command's, from a folder, paths or arrays."""

import csv
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict, FrozenConfigDict
from PIL import Image

import ctd_jax
from ctd_jax import training_run
from ctd_jax.config import load_config
from ctd_jax.errors import UserError

pytestmark = pytest.mark.slow

REPO = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(landmark_folder):
    return landmark_folder(size=40)


@pytest.fixture(scope="module")
def lists(folder):
    """The folder's pictures and rows, as somebody has them in a notebook."""
    with (folder / "landmarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    about = json.loads((folder / "dataset.json").read_text())
    names = about["landmarks"]
    points = [[[float(row[f"{name}_{axis}"]) for axis in "xy"] for name in names] for row in rows]
    return {
        "pictures": [folder / row["image"] for row in rows],
        "points": np.array(points),
        "names": names,
        "subjects": [row["subject"] for row in rows],
        "splits": [row["split"] for row in rows],
        **{key: about[key] for key in ("flip_pairs", "normalizer", "measurements")},
    }


@pytest.fixture(scope="module")
def keys(teacher_file):
    names = ("train.steps", "train.batch_size", "eval.every", "eval.batch_size", "data.image_size", "data.budget")
    return {name: tiny.KEYS[name] for name in (*names, "model.decoder_channels")} | {"teacher.weights": teacher_file}


@pytest.fixture(scope="module")
def from_folder(folder, keys, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "folder"
    return workdir, ctd_jax.train("ctd_ed", workdir, data=folder, overrides=keys)


@pytest.fixture(scope="module")
def measured(lists):
    """The lists, with what millimetres need."""
    return lists | {"spacing": (0.5, 0.25), "success_radii_mm": (1, 3.5)}


@pytest.fixture(scope="module")
def from_lists(measured, keys, tmp_path_factory):
    """A run of these and its result."""
    workdir, pictures = tmp_path_factory.mktemp("runs") / "lists", ctd_jax.LabelledPictures(**measured)
    return workdir, ctd_jax.train("ft", workdir, data=pictures, overrides=keys | {"train.steps": 2})


def numbers(workdir):
    """The predictions but for the pictures' names."""
    with (workdir / "predictions.csv").open(newline="") as file:
        return [[row[key] for key in ("landmark", "x", "y", "true_x", "true_y")] for row in csv.DictReader(file)]


@pytest.mark.parametrize("kind", ["paths", "arrays"])
def test_lists_give_what_the_folder_gives(kind, from_folder, lists, keys, tmp_path):
    workdir, wanted = from_folder
    given = dict(lists)
    if kind == "arrays":
        given["pictures"] = [np.asarray(Image.open(path)) for path in lists["pictures"]]
    pictures = ctd_jax.LabelledPictures(**given)
    result = ctd_jax.train("ctd_ed", tmp_path / "run", data=pictures, overrides=keys)
    assert result["n_train"] == wanted["n_train"] == 8
    assert numbers(tmp_path / "run") == numbers(workdir)
    again = ctd_jax.train("ctd_ed", tmp_path / "run", data=pictures, overrides=keys)
    assert again == result
    predictor = ctd_jax.Predictor(tmp_path / "run")
    assert predictor(given["pictures"][:2]).xy.shape == (2, len(lists["names"]), 2)


def test_other_points_are_another_run(from_lists, measured, keys, tmp_path, caplog):
    """Finished, or stopped before the end."""
    (workdir, result), lists = from_lists, measured
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)

    def train(**changes):
        pictures = ctd_jax.LabelledPictures(**lists | changes)
        return ctd_jax.train("ft", tmp_path, data=pictures, overrides=keys | {"train.steps": 2})

    for changes, message in (
        ({"points": lists["points"] + 1}, "annotations of this run have changed"),
        ({"normalizer": None}, "normalizer of this run have changed"),
        ({"pictures": list(map(np.asarray, map(Image.open, lists["pictures"])))}, "pictures, or their order, are not"),
        ({"splits": lists["splits"][::-1]}, "pictures, or their order, are not those that this run began"),
        ({name: lists[name][::-1] for name in ("pictures", "points", "subjects", "splits")}, "or their order, are not"),
    ):
        with pytest.raises(UserError, match=message):
            train(**changes)
    assert train() == result
    moved = [tmp_path / "moved" / path.name for path in map(pathlib.Path, lists["pictures"])]
    shutil.copytree(pathlib.Path(lists["pictures"][0]).parent, moved[0].parent)
    assert train(pictures=moved) == result and "no whole checkpoint" not in caplog.text
    shutil.move(tmp_path / "checkpoints", tmp_path / "moved")
    assert train(points=lists["points"] + 1) == result
    assert "no whole checkpoint, which would say whether the points are still the same" in caplog.text
    shutil.move(tmp_path / "moved" / "checkpoints", tmp_path)
    (tmp_path / "report.html").unlink()  # as if stopped before the end
    with pytest.raises(UserError, match="annotations of this run have changed"):
        train(points=lists["points"] + 1)


def test_a_run_that_chose_its_size_continues(lists, keys, tmp_path):
    pictures, keys = ctd_jax.LabelledPictures(**lists), keys | {"data.image_size": 0, "train.steps": 2}
    result = ctd_jax.train("ft", tmp_path, data=pictures, overrides=keys)
    (tmp_path / "report.html").unlink()  # as if stopped before the end
    again = ctd_jax.train("ft", tmp_path, data=pictures, overrides=keys)
    assert again["config_hash"] == result["config_hash"] and again["me_px"] == result["me_px"]


def test_a_configuration_of_ones_own(teacher_file, lists, tmp_path):
    config = tiny.config(teacher_file, train__steps=2)
    result = ctd_jax.train(config, tmp_path / "run", data=ctd_jax.LabelledPictures(**lists))
    assert result["n_images"] == 4
    assert config.data.root == "synthetic"  # the caller's stays as it is
    with pytest.raises(UserError, match="overrides are for a configuration that is named"):
        ctd_jax.train(config, tmp_path / "run", overrides={"seed": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": np.zeros((3, 2, 2))}, "points"),
        ({"splits": ["train"]}, "splits"),
        ({"pictures": []}, "no pictures|empty"),
        ({"names": ["a", "a"]}, "a"),
    ],
)
def test_what_is_wrong_with_lists_is_said_before_training(changes, message, lists, keys, tmp_path):
    with pytest.raises(UserError, match=message):
        ctd_jax.train("ft", tmp_path / "run", data=ctd_jax.LabelledPictures(**lists | changes), overrides=keys)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("no_such_method", {}, "there is no such no_such_method"),
        ("ft", {"train.step": 4}, "--config.train.step: no such key; the nearest is train.steps"),
        ("ft", {"data.share": -1.5}, "data.share is -1.5; expected more than 0, and 1 at most"),
        ("ft", {"data.image_size": -1}, "data.image_size is -1; expected 1 .. 8192, or 0"),
        ("ft", {"data.seed": -1}, "data.seed is -1; expected 0 or more"),
        ("ft", {"data.share": 0.5, "data.budget": 2}, "data.share is 0.5 and data.budget 2; give one of them"),
        ("ft", {"train.steps": "many"}, "expected a whole number"),
        ("mtmd", {}, "LabelledPictures have landmarks, and mtmd learns segmentation; give a folder"),
    ],
)
def test_a_wrong_configuration(config, overrides, message, lists, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        ctd_jax.train(config, tmp_path, data=ctd_jax.LabelledPictures(**lists | {"splits": None}), overrides=overrides)


def test_what_is_no_data(tmp_path):
    with pytest.raises(UserError, match="data is a list; expected a folder, or ctd_jax.LabelledPictures"):
        ctd_jax.train("ft", tmp_path, data=["a.png"])
    with pytest.raises(UserError, match="overrides is a list; expected key -> value, such as"):
        ctd_jax.train("ft", tmp_path, data="faces", overrides=["train.steps=2"])
    with pytest.raises(UserError, match="data and overrides both say where the pictures are"):
        ctd_jax.train("ft", tmp_path, data="faces", overrides={"data.root": "hands"})
    with pytest.raises(UserError, match="train.stpes: no such key; the nearest is train.steps"):
        ctd_jax.train(ConfigDict({"train": {"stpes": 4}}), tmp_path, data="faces")


@pytest.mark.parametrize("frozen", [False, True])
def test_the_home_folder_and_a_frozen_configuration(frozen, monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setattr(training_run, "train_and_evaluate", lambda config, workdir, pictures: (config, workdir))
    config = load_config("ft")
    config.teacher.weights, config.data.tfds.order = "~/t.safetensors", "yx"
    given = FrozenConfigDict(config) if frozen else config
    made, workdir = ctd_jax.train(given, "~/runs/eyes", data="~/faces,tfds:hands")
    assert workdir == pathlib.Path("/home/anna/runs/eyes")
    assert (made.data.root, made.teacher.weights) == ("/home/anna/faces,tfds:hands", "/home/anna/t.safetensors")
    assert config.teacher.weights == "~/t.safetensors"


def test_a_run_of_lists_is_named_by_the_commands(from_lists):
    assert json.loads((from_lists[0] / "config.json").read_text())["data"]["root"] == "python"


def test_radii_of_ones_own(from_lists):
    assert {key for key in from_lists[1] if key.startswith("sdr_le_")} == {"sdr_le_1mm", "sdr_le_3.5mm"}


def test_what_the_page_says(folder, lists, keys, monkeypatch, tmp_path):
    """The example of docs/predict.md, with the pictures and points of the folder, and tiny keys."""
    page = (REPO / "docs" / "train_in_python.md").read_text("utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    monkeypatch.chdir(tmp_path)
    real = ctd_jax.train

    def small(config, *arguments, overrides, **given):
        load_config(config, [f"{key}={value}" for key, value in overrides.items()])  # the page's own
        return real(config, *arguments, overrides=overrides | keys, **given)

    monkeypatch.setattr(ctd_jax, "train", small)
    names = {"paths": lists["pictures"], "points": lists["points"], "landmarks": lists["names"]}
    exec(code, names | {"people": lists["subjects"]})
    assert (tmp_path / "runs" / "eyes" / "report.html").exists()
