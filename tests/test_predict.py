"""Landmarks of pictures without labels."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ctd_jax import checkpoint, data
from ctd_jax.data import synthetic

K = len(synthetic.LANDMARKS)
COLUMNS = "image,subject,landmark,x,y,true_x,true_y,error_px,error_mm,confidence"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def points(path):
    """Image -> [K, 2]."""
    found = {}
    for row in rows(path):
        found.setdefault(row["image"], []).append([float(row["x"]), float(row["y"])])
    return {image: np.array(xy) for image, xy in found.items()}


def face(path, size=(64, 64), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(synthetic.draw(3, 0, size=64, seed=5)[0]).resize(size).convert(mode).save(path)
    return path


@pytest.fixture
def predict(cli, finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments, workdir=finished_run[0], out="out/predictions.csv"):
        return cli("ctd_jax.predict", f"--workdir={workdir}", f"--out={out}", *arguments)

    return call


def test_files_and_folders_of_any_size(predict, tmp_path):
    face(tmp_path / "one.png", (200, 90))
    face(tmp_path / "folder/two.JPG", (30, 70))
    face(tmp_path / "folder/deep/three.tif", (64, 64), "L")
    (tmp_path / "folder/notes.txt").write_text("no picture")
    code, out, error = predict("one.png", "folder", "folder/two.JPG", "--overlays=seen")
    assert code == 0, error
    assert error == ""
    assert "3 pictures" in out
    assert "out/predictions.csv" in out
    path = tmp_path / "out/predictions.csv"
    assert path.read_text().splitlines()[0] == COLUMNS
    images = ["one.png", "folder/deep/three.tif", "folder/two.JPG"]
    table = rows(path)
    assert [(row["image"], row["landmark"]) for row in table] == [(i, k) for i in images for k in synthetic.LANDMARKS]
    for row in table:
        assert [row[c] for c in ("subject", "true_x", "true_y", "error_px", "error_mm")] == [""] * 5
        assert 0 <= float(row["confidence"]) <= 1
    seen = tmp_path / "seen"
    overlays = {p.relative_to(seen).as_posix(): np.asarray(Image.open(p)) for p in seen.rglob("*.png")}
    assert set(overlays) == {"one.png.png", "folder/two.JPG.png", "folder/deep/three.tif.png"}
    assert not np.array_equal(overlays["one.png.png"], np.asarray(Image.open(tmp_path / "one.png")))


def test_predictions_are_those_of_the_evaluation(predict, finished_run, tmp_path):
    run, root = finished_run[0], json.loads((finished_run[0] / "config.json").read_text())["data"]["root"]
    want = points(run / "predictions.csv")
    code, _, error = predict(*(f"{root}/{image}" for image in want))
    assert code == 0, error
    for image, xy in points(tmp_path / "out/predictions.csv").items():
        np.testing.assert_allclose(xy, want[image.removeprefix(f"{root}/")], atol=2e-3)


def test_a_larger_picture_has_its_points_at_the_same_place(predict, tmp_path):
    small = face(tmp_path / "small.png")
    picture = np.asarray(Image.open(small))
    Image.fromarray(picture.repeat(2, 0).repeat(2, 1)).save(tmp_path / "large.png")
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, 32:96] = picture
    Image.fromarray(wide).resize((256, 128), Image.Resampling.NEAREST).save(tmp_path / "wide.png")
    assert predict("small.png", "large.png")[0] == 0
    found = points(tmp_path / "out/predictions.csv")
    np.testing.assert_allclose(found["large.png"], 2 * found["small.png"] + 0.5, atol=0.2)


def test_unreadable_pictures_are_reported_and_the_rest_done(predict, tmp_path):
    face(tmp_path / "folder/good.png")
    whole = face(tmp_path / "folder/truncated.jpg").read_bytes()
    (tmp_path / "folder/truncated.jpg").write_bytes(whole[:-50])
    (tmp_path / "folder/text.png").write_text("no picture")
    code, _, error = predict("folder")
    assert code == 2
    assert "Traceback" not in error
    lines = error.splitlines()
    assert [line.split(":")[0] for line in lines] == ["WARNING", "WARNING", "error"]
    assert "folder/text.png" in lines[0]
    assert "folder/truncated.jpg" in lines[1]
    assert "0x" not in error  # no address of a Python object
    assert "2 of 3 pictures" in lines[2]
    assert {row["image"] for row in rows(tmp_path / "out/predictions.csv")} == {"folder/good.png"}


def test_boxes_crop(predict, tmp_path, monkeypatch):
    picture = face(tmp_path / "whole.png", (64, 64))
    Image.open(picture).crop((8, 8, 56, 56)).save(tmp_path / "crop.png")
    assert predict("crop.png", out="crop.csv")[0] == 0
    best = checkpoint.best
    monkeypatch.setattr(checkpoint, "best", lambda run: (best(run)[0], best(run)[1] | {"boxes": True}))
    code, _, error = predict("whole.png")
    assert code == 2
    assert "--boxes=FILE.csv" in error
    # 32 pixels and a quarter of that on each side: pixels 8 to 55, edges included
    (tmp_path / "boxes.csv").write_text("image,box_x0,box_y0,box_x1,box_y1\nwhole.png,15.5,15.5,47.5,47.5\n")
    code, _, error = predict("whole.png", "--boxes=boxes.csv")
    assert code == 0, error
    found, want = points(tmp_path / "out/predictions.csv")["whole.png"], points(tmp_path / "crop.csv")["crop.png"]
    np.testing.assert_allclose(found, want + 8, atol=0.05)
    code, _, error = predict("crop.png", "--boxes=boxes.csv")
    assert code == 2
    assert "no row whose image is crop.png" in error


def test_each_picture_is_read_when_its_turn_comes(predict, finished_run, tmp_path, monkeypatch):
    for i in range(9):
        face(tmp_path / f"folder/{i}.png")
    seen, batch = [], data.Dataset.batch
    monkeypatch.setattr(data.Dataset, "batch", lambda part, indices: seen.append(len(indices)) or batch(part, indices))
    assert predict("folder")[0] == 0
    assert seen == [4, 4, 1]
    assert len(rows(tmp_path / "out/predictions.csv")) == 9 * K


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no pictures: name files or folders"),
        (["nowhere.png"], "nowhere.png: no such file or folder"),
        (["empty"], "empty: no pictures in this folder"),
        (["one.png", "--out="], "--out: . is a folder"),
        (["one.png", "--out=empty"], "empty is a folder"),
        (["one.png", "--overlays=one.png"], "one.png is a file"),
        (["one.png", "--boxes=nowhere.csv"], "nowhere.csv: no such file"),
        (["one.png", "--workdir=empty"], "config.json: no such file"),
    ],
)
def test_mistakes(predict, tmp_path, arguments, message):
    face(tmp_path / "one.png")
    (tmp_path / "empty").mkdir()
    code, out, error = predict(*arguments)
    assert (code, out) == (2, "")
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert message in error
    assert {p.name for p in tmp_path.iterdir()} == {"one.png", "empty"}


def test_a_place_that_can_not_be_written(predict, tmp_path):
    face(tmp_path / "one.png")
    code, _, error = predict("one.png", "--out=one.png/table.csv")
    assert code == 2 and error.startswith("error: the results can't be written")


def test_pictures_of_one_name_have_overlays_of_their_own(predict, tmp_path):
    for name in ("a_b.png", "a/b.png", "c/a_b.png"):
        face(tmp_path / "in" / name)
    assert predict("in", "--overlays=seen")[0] == 0
    seen = tmp_path / "seen"
    assert {p.relative_to(seen).as_posix() for p in seen.rglob("*.png")} == {
        "a_b.png.png", "a/b.png.png", "c/a_b.png.png",
    }  # fmt: skip


def test_a_training_that_is_still_writing_is_left_alone(predict, finished_run, tmp_path):
    run = shutil.copytree(finished_run[0], tmp_path / "run")
    half = run / "checkpoints" / "9.orbax-checkpoint-tmp"
    half.mkdir()
    face(tmp_path / "one.png")
    assert predict("one.png", f"--workdir={run}")[0] == 0
    assert half.is_dir()


def test_a_run_that_is_no_landmark_run_or_has_no_checkpoint(predict, finished_run, tmp_path):
    face(tmp_path / "one.png")
    run = tmp_path / "run"
    run.mkdir()
    config = json.loads((finished_run[0] / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config))
    code, _, error = predict("one.png", workdir=run)
    assert (code, error.count("error: ")) == (2, 1)
    assert "no checkpoint yet" in error
    shutil.copytree(finished_run[0] / "checkpoints", run / "checkpoints", dirs_exist_ok=True)
    (run / "config.json").write_text(json.dumps(config | {"task": "recognition"}))
    code, _, error = predict("one.png", workdir=run)
    assert code == 2
    assert "learned recognition" in error


def test_measurements(predict, finished_run, tmp_path):
    """Lengths in pixels of the picture; by hand from the points of the same call."""
    face(tmp_path / "one.png", (200, 90))
    code, _, error = predict("one.png", "--measurements=out/measured.csv")
    assert code == 0, error
    xy = dict(zip(synthetic.LANDMARKS, points(tmp_path / "out/predictions.csv")["one.png"], strict=True))
    found = {row["measurement"]: row for row in rows(tmp_path / "out/measured.csv")}
    assert list(found) == list(synthetic.MEASUREMENTS)
    assert {row["image"] for row in found.values()} == {"one.png"}
    assert {row["true_value"] for row in found.values()} == {""}
    width = np.linalg.norm(xy["left_mouth"] - xy["right_mouth"])
    assert found["mouth_width"]["unit"] == "px" and float(found["mouth_width"]["value"]) == pytest.approx(
        width, abs=2e-3
    )
    assert predict("one.png", "--measurements=m.csv", out="m.csv")[0] == 2
    bare = tmp_path / "bare"
    shutil.copytree(finished_run[0], bare)
    summary = json.loads((bare / "metrics.json").read_text())
    del summary["measurements"]
    (bare / "metrics.json").write_text(json.dumps(summary))
    code, _, error = predict("one.png", "--measurements=m.csv", workdir=bare)
    assert code == 2 and "metrics.json: this run has no measurements; leave out --measurements" in error
    (bare / "metrics.json").unlink()
    code, _, error = predict("one.png", "--measurements=m.csv", workdir=bare)
    assert code == 2 and "metrics.json: no such file; --measurements learns from it what to measure" in error
