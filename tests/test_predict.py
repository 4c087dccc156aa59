"""Landmarks of pictures without labels."""

import csv
import importlib
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
from dataclasses import replace

import dicom_files
import numpy as np
import pytest
from PIL import Image

from ctd_jax import Predictor, metrics, predictor
from ctd_jax.data import dicom, given_spacing, synthetic
from ctd_jax.data.given import Given, find
from ctd_jax.errors import UserError
from ctd_jax.labels import exporting
from ctd_jax.report.overlays import MEASURED
from ctd_jax.tasks.landmarks.label_files import LabelFiles
from ctd_jax.tasks.writer import Done
from ctd_jax.training import checkpoint

CASES = pathlib.Path(__file__).parents[1] / "../shared/cases"
K = len(synthetic.LANDMARKS)
COLUMNS = "image,subject,landmark,x,y,true_x,true_y,error_px,error_mm,confidence,radius_px,radius_mm,unlike"


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
    first, *named = error.splitlines()
    assert first.startswith("error: 2 of 3 pictures could not be done, the other 1 are in out/predictions.csv:")
    assert [line.split(":")[0] for line in named] == ["  folder/text.png", "  folder/truncated.jpg"]
    assert all("not a readable picture" in line for line in named)
    assert "0x" not in error  # no address of a Python object
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
    assert "nowhere.csv: no such file" in predict("whole.png", "--boxes=nowhere.csv")[2]


def test_boxes_that_can_not_be_right(predict, tmp_path, monkeypatch):
    best = checkpoint.best
    monkeypatch.setattr(checkpoint, "best", lambda run: (best(run)[0], best(run)[1] | {"boxes": True}))
    for name in ("one.png", "two.png"):
        face(tmp_path / name)

    def refused(*rows_):
        (tmp_path / "boxes.csv").write_text("\n".join(["image,box_x0,box_y0,box_x1,box_y1", *rows_, ""]))
        code, _, error = predict("one.png", "two.png", "--boxes=boxes.csv")
        assert code == 2
        return error

    error = refused("one.png,0,0,40,36", "two.png,0,0,40,36", "./one.png,20,20,40,36")
    assert "row 4" in error and "has another box in boxes.csv, row 2" in error
    assert "boxes.csv, row 3" in refused("one.png,0,0,40,36", "two.png,50,40,30,20")  # x, y, width, height
    assert not (tmp_path / "out").exists()
    error = refused("one.png,0,0,40,36", "two.png,500,500,600,600")
    assert "1 of 2 pictures could not be done" in error
    assert "two.png: boxes.csv, row 3: the box" in error and "lies outside the picture of 64 x 64 pixels" in error
    assert set(points(tmp_path / "out/predictions.csv")) == {"one.png"}


def test_what_is_no_picture_does_not_stop_the_others(predict, tmp_path):
    """The user's pictures only, and none of the kinds of file that can't be read is tried."""
    inside = tmp_path / "in"
    face(inside / "good.png")
    face(inside / ".ipynb_checkpoints/good-checkpoint.png")
    face(inside / "__MACOSX/good.png")
    (inside / "._good.png").write_bytes(b"\x00\x05\x16\x07")
    os.mkfifo(inside / "pipe.png")
    (inside / "loop.png").symlink_to("loop.png")
    (inside / "circle").symlink_to(inside)
    (inside / "device.png").symlink_to("/dev/zero")
    face(tmp_path / "latin.png").rename(os.fsdecode(os.fsencode(inside) + b"/gr\xfcn.png"))
    code, out, error = predict("in")
    assert code == 2 and "1 pictures" in out, error
    assert "4 of 5 pictures could not be done, the other 1 are in out/predictions.csv:" in error
    assert error.count("not a file but a pipe, a socket or a device") == 2
    assert "in/loop.png: a link that leads nowhere, or in a circle" in error
    assert "in/gr\\xfcn.png: its name is not UTF-8, so no table can hold it; rename the file" in error
    assert set(points(tmp_path / "out/predictions.csv")) == {"in/good.png"}
    code, out, error = predict("in/loop.png", "in/pipe.png", out="none.csv")
    assert (code, out) == (2, "") and "2 of 2 pictures could not be done, nothing was written" in error
    assert not (tmp_path / "none.csv").exists()


def test_linked_folders_are_searched_too(tmp_path, monkeypatch):
    """Each once, under a name without a link if there is one; none around the folder, and nothing that is hidden."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/b/here.png", "in/.kept/now/new.png", "disk/deep/there.png", "disk/other.png", "hidden/no.png"):
        face(tmp_path / name)
    links = {
        "a": "b", "disk": "../disk", "disk again": "../disk/deep", "self": ".", "around": "..", ".link": "../hidden",
        "new": ".kept/now", "../disk/back": "../in", "nowhere": "gone",
    }  # fmt: skip
    for name, target in links.items():
        (tmp_path / "in" / name).symlink_to(target)
    found = {path: list(map(str, find([path])[0])) for path in ("in", "in/disk", ".")}
    there, new = ["in/disk/deep/there.png", "in/disk/other.png"], ["in/new/new.png"]
    assert found["in"] == ["in/b/here.png", *there, *new]
    assert found["in/disk"] == ["in/disk/back/b/here.png", "in/disk/back/new/new.png", *there]
    assert found["."] == ["disk/deep/there.png", "disk/other.png", "hidden/no.png", "in/b/here.png", *new]
    both, faults = find(["in", "disk/deep", "in/b/here.png"])
    assert list(map(str, both)) == ["in/b/here.png", there[1], *new, "disk/deep/there.png"] and not faults
    given = Given.of(["in"], boxes=None, grey={})
    below = [given.below_all(file).as_posix() for file in given.files]
    assert below == ["in/b/here.png", "disk/deep/there.png", "disk/other.png", "in/.kept/now/new.png"]


def test_a_picture_is_seen_once_however_it_is_spelt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    face(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").symlink_to("a.png")
    (tmp_path / "link").symlink_to("in")
    for spelt in (tmp_path / "in", "in/../in", "link", tmp_path / "in/a.png"):
        assert list(map(str, find(["in", str(spelt)])[0])) == ["in/a.png", "in/b.png"]
    with pytest.raises(UserError, match="in/a.png is given twice"):
        Given.of_objects(["in/a.png", str(tmp_path / "in/a.png")], boxes=None, grey={})


@pytest.mark.parametrize("flag", ["--out", "--measurements", "--overlays"])
def test_no_picture_is_overwritten(predict, finished_run, tmp_path, flag):
    """Nor what the run keeps."""
    face(tmp_path / "in/a.png")
    name = "in/a.csv" if flag != "--overlays" else "in/a.png.png"
    shutil.copy("in/a.png", name)
    (tmp_path / "link.csv").symlink_to(name)
    before = {path: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    for place in [name, "link.csv"] if flag != "--overlays" else ["in"]:
        code, _, error = predict("in/a.png", name, f"{flag}={place}")
        assert code == 2 and f"{flag} would overwrite the picture" in error
        assert len(error.splitlines()) == 1
    assert {path: path.read_bytes() for path in (tmp_path / "in").iterdir()} == before
    if flag != "--overlays":
        code, _, error = predict("in/a.png", f"{flag}={finished_run[0]}/predictions.csv")
        assert code == 2 and "is where the run keeps its own" in error


@pytest.mark.parametrize("flag", ["out", "measurements"])
def test_another_table_is_not_replaced(predict, tmp_path, flag):
    """Labels may be called so; what an earlier call has written is replaced."""
    face(tmp_path / "a.png")
    labels = tmp_path / "landmarks.csv"
    for content in ("image,subject,chin_x,chin_y\na.png,anna,1,2\n", "image,subject\n"):
        labels.write_text(content)
        code, _, error = predict("a.png", f"--{flag}=landmarks.csv")
        assert code == 2 and f"--{flag}: landmarks.csv is there already and is another table" in error
        assert labels.read_text() == content
    labels.write_text("")
    for _ in range(2):
        code, _, error = predict("a.png", f"--{flag}=landmarks.csv")
        assert code == 0, error
    assert labels.read_text().startswith("image,subject,")


def test_two_flags_do_not_write_one_file(predict, tmp_path):
    """But may write to one stream."""
    face(tmp_path / "one.png")
    (tmp_path / "link.csv").symlink_to("p.csv")
    (tmp_path / "null.csv").symlink_to("/dev/null")
    code, out, error = predict("one.png", "--measurements=link.csv", out="p.csv")
    assert (code, out, (tmp_path / "p.csv").exists()) == (2, "", False)
    assert "--out and --measurements would both write link.csv; give each a place of its own" in error
    code, _, error = predict("one.png", "--measurements=null.csv", out="/dev/null")
    assert code == 0, error
    for flags, what in (("--measurements=p_long.csv --format=long", "p_long.csv"),
                        ("--overlays=p_labelme --format=labelme", "p_labelme")):  # fmt: skip
        code, out, error = predict("one.png", *flags.split(), out="p.csv")
        assert (code, out, (tmp_path / what).exists()) == (2, "", False)
        assert f"would both write {what}; give each a place of its own" in error


def test_a_table_for_a_pipe(predict, finished_run, tmp_path):
    face(tmp_path / "one.png")
    command = [sys.executable, "-m", "ctd_jax.predict", f"--workdir={finished_run[0]}", "one.png", "--out=/dev/stdout"]
    repo = pathlib.Path(__file__).parents[1]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": repo})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == COLUMNS and len(done.stdout.splitlines()) == 1 + K
    assert "1 pictures" in done.stderr
    assert not stat.S_ISREG(os.stat("/dev/stdout", follow_symlinks=False).st_mode)


def test_paths_from_home(predict, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    face(tmp_path / "one.png")
    assert predict("~/one.png", out="~/p/predictions.csv")[0] == 0
    assert set(points(tmp_path / "p/predictions.csv")) == {str(tmp_path / "one.png")}


def test_very_small_and_very_wide_pictures(predict, tmp_path):
    for name, size in (("small.png", (8, 8)), ("wide.png", (600, 20)), ("one.png", (1, 1))):
        face(tmp_path / name, size)
    assert predict("small.png", "wide.png", "one.png")[0] == 0
    found = points(tmp_path / "out/predictions.csv")
    assert all(np.isfinite(xy).all() for xy in found.values())
    assert (found["small.png"] > -1).all() and (found["small.png"] < 8).all()


def test_the_grey_range_is_that_of_the_run(predict, tmp_path, monkeypatch):
    """A run that saw 12 bits reads 12 bits, however bright the picture; one that saw 8 says that it guesses."""
    grey = np.asarray(Image.open(face(tmp_path / "8.png", mode="L")))
    grey = (grey * (255 / grey.max())).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 4).save(tmp_path / "10.png")  # all below 1024
    Image.fromarray(np.rint(grey * (1020 / 4095)).astype(np.uint8)).save(tmp_path / "dark.png")
    code, _, error = predict("8.png", "10.png", out="guessed.csv")
    assert code == 0
    assert "WARNING: the run knows no grey range for pictures of more than 8 bits (integer): 0 to 1023" in error
    found = points(tmp_path / "guessed.csv")
    np.testing.assert_allclose(found["10.png"], found["8.png"], atol=0.05)
    best = checkpoint.best
    kept = {"grey": {"": {"integer": [0.0, 4095.0]}}}
    monkeypatch.setattr(checkpoint, "best", lambda run: (best(run)[0], best(run)[1] | kept))
    code, _, error = predict("dark.png", "10.png", out="kept.csv")
    assert (code, error) == (0, "")
    found = points(tmp_path / "kept.csv")
    np.testing.assert_allclose(found["10.png"], found["dark.png"], atol=0.05)


@pytest.mark.parametrize(("case", "words"), [
    ("two_boxes_of_one_picture", "row 3: THIS/a.png has another box in boxes.csv, row 2"),
    ("box_outside_the_picture", "boxes.csv, row 2: the box"),
])  # fmt: skip
def test_cases_of_boxes(predict, tmp_path, monkeypatch, case, words):
    if not (CASES / case).is_dir():
        pytest.skip(f"{CASES / case} is not there")
    best = checkpoint.best
    monkeypatch.setattr(checkpoint, "best", lambda run: (best(run)[0], best(run)[1] | {"boxes": True}))
    shutil.copytree(CASES / case, tmp_path / "THIS")
    shutil.copy(tmp_path / "THIS/boxes.csv", tmp_path / "boxes.csv")
    code, _, error = predict("THIS/a.png", "--boxes=boxes.csv")
    assert code == 2 and words in error
    assert not (tmp_path / "out/predictions.csv").exists()


@pytest.mark.parametrize("path", sorted(CASES.glob("picture_*")), ids=lambda path: path.name)
def test_cases_of_pictures(predict, tmp_path, path):
    code, _, error = predict(path)
    assert code == 0, error
    reference, found = (xy for _, xy in sorted(points(tmp_path / "out/predictions.csv").items(), key=lambda one:
                                               "reference" not in one[0]))  # fmt: skip
    (name,) = [file.name for file in path.iterdir() if file.name not in ("README", "reference.png")]
    assert name in error or np.abs(found - reference).max() < 0.5, error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no pictures: name files or folders"),
        (["nowhere.png"], "nowhere.png: no such file or folder"),
        (["empty"], "empty: no pictures in this folder"),
        (["one.png", "--out="], "--out: . is a folder"),
        (["one.png", "--out=empty"], "empty is a folder"),
        (["one.png", "--overlays=one.png"], "--overlays would overwrite the picture one.png; give another place"),
        (["one.png", "--overlays=text"], "--overlays: text is a file; give a folder"),
        (
            ["one.png", "--boxes=nowhere.csv"],
            "was trained on whole pictures, not on what is in a box; leave out --boxes",
        ),
        (["one.png", "--out=x.xlsx"], "--out: x.xlsx does not end in .csv"),
        (["one.png", "--out=x"], "--out: x does not end in .csv"),
        (["one.png", "--measurements=x.ods"], "--measurements: x.ods does not end in .csv"),
        (["https://example.org/one.png"], "https://example.org/one.png is a URL; fetch it first"),
        (["one.png", "--workdir=empty"], "config.json: no such file"),
    ],
)
def test_mistakes(predict, tmp_path, arguments, message):
    face(tmp_path / "one.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").touch()
    code, out, error = predict(*arguments)
    assert (code, out) == (2, "")
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert message in error
    assert {p.name for p in tmp_path.iterdir()} == {"one.png", "empty", "text"}


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


def test_millimetres(predict, tmp_path, monkeypatch):
    """A table with one of two pictures: 0.5 mm across and 0.25 down; and a known distance."""
    face(tmp_path / "one.png", (200, 90))
    face(tmp_path / "two.png")
    (tmp_path / "mm.csv").write_text("image,spacing_x_mm,spacing_y_mm\none.png,0.5,0.25\n")
    measured = "--measurements=out/measured.csv"
    code, _, error = predict("one.png", "two.png", measured, "--spacing=mm.csv")
    assert code == 0 and "mm.csv: 1 of 2 pictures have no spacing, and nothing in mm: two.png" in error
    table = rows(tmp_path / "out/predictions.csv")
    assert list(table[0]) == [*COLUMNS.split(","), "x_mm", "y_mm"]
    for row in table[:K]:
        assert float(row["x_mm"]) == pytest.approx(0.5 * float(row["x"]), abs=6e-4)
        assert float(row["y_mm"]) == pytest.approx(0.25 * float(row["y"]), abs=6e-4)
    assert {row["x_mm"] + row["y_mm"] for row in table[K:]} == {""}
    again = metrics.read_predictions(tmp_path / "out/predictions.csv")
    assert again.xy.shape == (2, K, 2)
    first, second = (row for row in rows(tmp_path / "out/measured.csv") if row["measurement"] == "mouth_width")
    of = {row["landmark"]: np.array([float(row["x_mm"]), float(row["y_mm"])]) for row in table[:K]}
    width = np.linalg.norm(of["left_mouth"] - of["right_mouth"])
    assert first["unit"] == "mm" and float(first["value"]) == pytest.approx(width, abs=2e-3)
    assert (second["unit"], second["value"]) == ("mm", "") and second["reason"] == "no spacing, so nothing in mm"
    code, out, error = predict("one.png", "two.png", measured, "--scale=left_mouth,right_mouth,40")
    assert code == 0 and "lengths are in mm" in out
    widths = [row["value"] for row in rows(tmp_path / "out/measured.csv") if row["measurement"] == "mouth_width"]
    assert [float(width) for width in widths] == pytest.approx([40, 40])
    trained = predictor._trained
    monkeypatch.setattr(predictor, "_trained", lambda *given: replace(trained(*given), never_annotated=("left_mouth",)))
    code, _, error = predict("one.png", "--scale=right_mouth,left_mouth,40", out="none.csv")
    assert code == 2 and "scale names 'left_mouth', which is not predicted, because no training picture had" in error
    code, _, error = predict("one.png", "--spacing=0", out="none.csv")
    assert code == 2 and "--spacing=0: expected the mm of a pixel" in error and not (tmp_path / "none.csv").exists()


def test_label_files(predict, finished_run, tmp_path):
    """With all digits, beside the table; a picture that can't be read is in none."""
    face(tmp_path / "in/one.png", (200, 90))
    face(tmp_path / "in/deep/two.png")
    (tmp_path / "in/text.png").write_text("no picture")
    code, out, error = predict("in", "--format=coco,labelme")
    assert code == 2 and "in/text.png" in error and "out/predictions_coco.json: 2 pictures" in out
    content = json.loads((tmp_path / "out/predictions_coco.json").read_text())
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in content["images"]}
    assert sizes == {"deep/two.png": (64, 64), "one.png": (200, 90)}
    found = Predictor(finished_run[0])(["in/deep/two.png", "in/one.png"]).xy
    for annotation, xy in zip(content["annotations"], found, strict=True):
        np.testing.assert_allclose(np.reshape(annotation["keypoints"], (-1, 3))[:, :2], xy, atol=1e-9)
    shapes = json.loads((tmp_path / "out/predictions_labelme/deep/two.json").read_text())["shapes"]
    np.testing.assert_allclose([shape["points"][0] for shape in shapes], found[0] + 0.5, atol=1e-9)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--format=coko"], "--format: there is no format 'coko'; the nearest is coco"),
        (
            ["--format=tps,slicer"],
            "one.png: Slicer's positions are in mm, but its spacing is unknown; give --spacing=MM, or its",
        ),
        (["--format=tps", "--out=/dev/stdout"], "--format writes files beside --out, and /dev/stdout is no file"),
        (["--format=pts", "one.jpg"], "one.png and one.jpg would share the label file one.pts; rename one of them"),
        (["--format=coco"], "none_coco.json is there already, and may have corrections; move it, or give another"),
    ],
)
def test_label_files_that_cannot_be_written_are_refused_before_anything_is(predict, tmp_path, flags, said):
    face(tmp_path / "one.png")
    face(tmp_path / "one.jpg")
    (tmp_path / "none_coco.json").write_text("corrected")
    code, out, error = predict("one.png", *flags, out="none.csv")
    assert (code, out) == (2, "") and said in error.replace("one.jpg and one.png", "one.png and one.jpg")
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "one.jpg", "none_coco.json"}
    assert (tmp_path / "none_coco.json").read_text() == "corrected"


def labelled(tmp_path, formats, **keys):
    """Label files of one picture, beside p.csv; the picture; and what was found there: the second point is absent."""
    given, names = Given.of([str(face(tmp_path / "one.png"))], boxes=None, grey={}), ("base", "top", "tip")
    given.spacing = given_spacing.read(None, "base,top,50", given.files, names)
    table = metrics.Predictions.from_points(
        [str(given.files[0])], [""], names, np.array([[[1, 1], [30, 1], [5, 5]]]), confidence=np.ones((1, 3)),
        present=np.array([[0.9, 0.2, 0.9]]),
    )  # fmt: skip
    return LabelFiles(names, tmp_path / "p.csv", formats, **keys), given, Done({given.files[0]: (64, 64)}, table, {})


def test_a_format_that_lacks_a_point_or_a_spacing_takes_nothing_from_the_others(tmp_path):
    files, given, done = labelled(tmp_path, ["pts", "slicer", "coco"])
    files.outputs(given)
    files.close(given, lambda: [done])
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "p_coco.json"}
    with pytest.raises(
        UserError, match="(?s)--format=pts: .*p_pts could not be written.*top is absent.*--format=slicer: .*mm"
    ):
        given.check_done("p.csv")
    given.faults[tmp_path / "two.png"] = "no picture"
    with pytest.raises(UserError, match="(?s)^1 of 2 pictures could not be done.*--format=pts: "):
        given.check_done("p.csv")


@pytest.mark.parametrize(
    ("format_", "said"),
    [("pts", "top is absent, and a .pts file knows points by their order"), ("slicer", "in mm, but")],
)
def test_a_format_that_cannot_be_without_what_is_never_annotated_is_refused_before(tmp_path, format_, said):
    files, given, _ = labelled(tmp_path, ["coco", format_], never_annotated=("top",))
    with pytest.raises(UserError, match=said):
        files.outputs(given)


def test_nothing_is_unfinished_where_a_format_could_not_be_written(predict, tmp_path, monkeypatch):
    for i in range(9):
        face(tmp_path / f"in/{i}.png")
    write = exporting.write_files

    def refused(labels, name, out):
        if name == "pts":
            raise UserError("0.png: chin is absent")
        return write(labels, name, out)

    monkeypatch.setattr(exporting, "write_files", refused)
    code, out, error = predict("in", "--format=pts,tps")
    assert code == 2 and "9 pictures" in out
    assert (
        "error: --format=pts: out/predictions_pts could not be written, all else is there: 0.png: chin is absent"
        in error
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"predictions.csv", "predictions_tps.tps"}


def test_dicom(predict, tmp_path, caplog):
    """The points are those of the same picture as PNG, and nothing of the header is in any output."""
    grey = np.asarray(Image.open(face(tmp_path / "plain.png", mode="L")))
    one = dicom_files.dataset(grey.astype(np.uint16) * 16, bits=12, WindowCenter=2041, WindowWidth=4081)
    (tmp_path / "one.dcm").write_bytes(dicom_files.written(one))
    (tmp_path / "cut.dcm").write_bytes(dicom_files.written(one)[:-2000])
    measured = ("--overlays=out/seen", "--measurements=out/measured.csv")
    code, out, error = predict("one.dcm", "cut.dcm", "plain.png", *measured)
    assert code == 2 and "cut.dcm: its pixels, coded by Explicit VR Little Endian, can't be decoded" in error
    found = points(tmp_path / "out/predictions.csv")
    np.testing.assert_allclose(found["one.dcm"], found["plain.png"], atol=2e-3)
    written = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert len(written) == 4
    everything = [out.encode(), error.encode(), caplog.text.encode(), *(file.read_bytes() for file in written)]
    assert not [text for text in dicom_files.identities(one) if any(text.encode() in part for part in everything)]


def test_spacing_of_dicom(predict, tmp_path):
    """0.2 mm between rows and 0.1 between columns: y is in 0.2 and x in 0.1; of the detector only where asked for."""
    grey = np.asarray(Image.open(face(tmp_path / "plain.png", mode="L")))
    (tmp_path / "in.dcm").write_bytes(dicom_files.content(grey, PixelSpacing=[0.2, 0.1], ImagerPixelSpacing=[0.3, 0.4]))
    (tmp_path / "at.dcm").write_bytes(dicom_files.content(grey, ImagerPixelSpacing=[0.5, 0.25]))
    given = ("in.dcm", "at.dcm", "plain.png", "--measurements=out/measured.csv")

    def in_mm(columns):
        table = rows(tmp_path / "out/predictions.csv")
        xy = np.array([[float(row["x"]), float(row["y"])] for row in table])
        mm = np.array([[float(row[column] or "nan") for column in columns] for row in table])
        return xy.reshape(3, K, 2), mm.reshape(3, K, 2), set(table[0])

    code, out, error = predict(*given)
    assert code == 0 and "lengths are in mm" in out and "detector" not in out
    assert "1 of 2 DICOM files say the size of a pixel at the detector only" in error
    assert "--imager_spacing=detector takes it" in error and "(first at.dcm)" in error
    assert "2 of 3 pictures have no spacing, and nothing in mm: at.dcm, plain.png" in error
    xy, mm, _ = in_mm(("x_mm", "y_mm"))
    np.testing.assert_allclose(mm[0], xy[0] * [0.1, 0.2], atol=6e-4)
    assert np.isnan(mm[1:]).all()

    code, out, error = predict(*given, "--imager_spacing=detector")
    assert code == 0 and "lengths are in mm at the detector" in out
    assert "1 of 2 DICOM files have a Pixel Spacing in the patient, which is not used" in error
    xy, mm, header = in_mm(("x_mm_at_detector", "y_mm_at_detector"))
    np.testing.assert_allclose(mm[:2], xy[:2] * [[[0.4, 0.3]], [[0.25, 0.5]]], atol=6e-4)
    assert np.isnan(mm[2]).all() and not {"x_mm", "y_mm"} & header
    assert {row["radius_mm"] for row in rows(tmp_path / "out/predictions.csv")} == {""}
    units = {row["unit"] for row in rows(tmp_path / "out/measured.csv")}
    assert "mm at the detector" in units and "mm" not in units and "px" not in units
    assert metrics.read_predictions(tmp_path / "out/predictions.csv").xy.shape == (3, K, 2)

    code, out, error = predict(*given, "--spacing=0.7")
    assert code == 0 and "--spacing=0.7: 1 spacings are not those of the DICOM files, and are used" in error
    assert "in.dcm: 0.7 x 0.7 mm against 0.1 x 0.2 mm, x by y" in error
    xy, mm, _ = in_mm(("x_mm", "y_mm"))
    np.testing.assert_allclose(mm, xy * 0.7, atol=6e-4)
    for more, words in (("--spacing=1", "give one of them"), ("--scale=chin,nose,4", "give one of them")):
        code, _, error = predict(*given, "--imager_spacing=detector", more)
        assert code == 2 and words in error
    code, _, error = predict("at.dcm", "--imager_spacing=detector", "--format=slicer")
    assert code == 2 and "its spacing is unknown" in error
    code, _, error = predict("plain.png", "--imager_spacing=detector")
    assert code == 2 and "no picture has an Imager Pixel Spacing" in error


def test_dicom_without_pydicom(predict, tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "_pydicom", lambda: importlib.import_module("no_such_package"))
    for name in ("one.dcm", "two.dcm"):
        (tmp_path / name).write_bytes(dicom_files.content(np.zeros((64, 64), np.uint8)))
    code, _, error = predict("one.dcm", "two.dcm")
    assert code == 2 and len(error.splitlines()) == 1 and "pip install" in error


def test_measurements(predict, finished_run, tmp_path):
    """Lengths in pixels of the picture; by hand from the points of the same call."""
    face(tmp_path / "one.png", (200, 90))
    code, out, error = predict("one.png", "--measurements=out/measured.csv")
    assert code == 0, error
    assert "lengths are in pixels: no spacing is given" in out
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
    (tmp_path / "mine.json").write_text('{"measurements": {"turn": {"signed_angle": ["chin", "nose_tip", "nasion"]}}}')
    (tmp_path / "norms.csv").write_text("measurement,unit,mean,sd\nturn,deg,10,5\n")
    flags = ("--measurements=out/mine.csv", "--measure=mine.json", "--norms=norms.csv", "--overlays=seen")
    assert predict("one.png", *flags)[0] == 0
    painted = np.asarray(Image.open(tmp_path / "seen/one.png.png"))
    assert (painted == MEASURED).all(axis=-1).any()
    (row,) = rows(tmp_path / "out/mine.csv")
    exact = dict(zip(synthetic.LANDMARKS, Predictor(finished_run[0])(["one.png"]).xy[0], strict=True))
    u, v = exact["chin"] - exact["nose_tip"], exact["nasion"] - exact["nose_tip"]
    turn = np.degrees(np.angle(complex(*v) / complex(*u)))  # y is downwards: counted clockwise
    assert (row["measurement"], row["unit"]) == ("turn", "deg") and float(row["value"]) == pytest.approx(turn, abs=0.01)
    assert float(row["z"]) == pytest.approx((float(row["value"]) - 10) / 5, abs=1e-3)
    for flags, expected in (
        (
            ["--measure=mine.json"],
            "--measure is about measurements, and nothing says where they go; add --measurements=FILE.csv",
        ),
        (["--measurements=m.csv", "--people=p.csv"], "--people says who is on the pictures, which only norms by sex"),
        (["--measurements=m.csv", "--measure=x.json"], "x.json: no such file of definitions; those that come along"),
        (["--measurements=m.csv", "--measure=ceph_basic"], "names 'sella', which is not one of the landmarks"),
    ):
        code, _, error = predict("one.png", *flags)
        assert code == 2 and expected in error and not (tmp_path / "m.csv").exists()
    bare = tmp_path / "bare"
    shutil.copytree(finished_run[0], bare)
    summary = json.loads((bare / "metrics.json").read_text())
    del summary["measurements"]
    (bare / "metrics.json").write_text(json.dumps(summary))
    code, _, error = predict("one.png", "--measurements=m.csv", workdir=bare)
    assert code == 2 and "metrics.json: this run has no measurements; leave out --measurements" in error
    (bare / "metrics.json").write_text("{")
    code, _, error = predict("one.png", "--measurements=m.csv", workdir=bare)
    assert code == 2 and "metrics.json: not JSON" in error and "evaluates anew" in error
    (bare / "metrics.json").unlink()
    code, _, error = predict("one.png", "--measurements=m.csv", workdir=bare)
    assert code == 2 and "metrics.json: no such file; --measurements learns from it what to measure" in error
