"""The command that exports a run; the formats are tested in tests/formats."""

import csv
import functools
import importlib
import importlib.util
import json
import pathlib
import runpy
import shutil
import subprocess
import sys

import absent_points
import jax
import numpy as np
import pytest
import tiny
from exported import POINTS, form_of, noise
from PIL import Image

from configs import ft, helping
from ctd_jax import command, data, formats, training_run, versions
from ctd_jax.config import config_of_run
from ctd_jax.data import synthetic
from ctd_jax.errors import UserError
from ctd_jax.tasks import landmarks
from ctd_jax.training import checkpoint

REPO = pathlib.Path(__file__).parents[1]
K, S = len(synthetic.LANDMARKS), 32


@pytest.fixture(scope="module")
def expected(finished_run):
    """Function of pictures: points and confidence by the checkpoint of the run."""
    config, (variables, meta) = config_of_run(finished_run[0]), checkpoint.best(finished_run[0])
    forward = landmarks.forward(landmarks.build(config, meta["encoder"], K), meta["input"])
    return lambda pictures: jax.jit(forward)(variables, {"picture": pictures})


@pytest.fixture(scope="module")
def made():
    """What the tests share, each made by the first that asks for it."""
    return {}


@pytest.fixture
def exported(made, run_export, tmp_path, tmp_path_factory):
    """Function of a format: writes the run's export to `out` under `tmp_path`, as `run_export` does, and returns what
    that prints."""

    def call(to):
        if to not in made:
            code, out, error = run_export(to)
            assert code == 0, error
            made[to] = shutil.copytree(tmp_path / "out", tmp_path_factory.mktemp("exported") / to), out
            return out
        shutil.copytree(made[to][0], tmp_path / "out", dirs_exist_ok=True)
        return made[to][1]

    return call


@pytest.fixture
def predicted(cli, tmp_path):
    """Function of a run and the arguments of `predict`: picture -> x, y and confidence of each of its landmarks."""

    def call(run, *arguments):
        code, _, error = cli("ctd_jax.predict", f"--workdir={run}", *arguments, "--out=p.csv")
        assert code == 0, error
        found = {}
        with (tmp_path / "p.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["image"], []).append([float(row[key]) for key in ("x", "y", "confidence")])
        return found

    return call


@pytest.fixture
def run_export(cli, finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(to, *arguments, workdir=finished_run[0]):
        return cli("ctd_jax.export", f"--workdir={workdir}", f"--to={to}", "--out=out/landmarks", *arguments)

    return call


@pytest.mark.parametrize("to", formats.FORMATS)
def test_export(exported, expected, to, tmp_path):
    form = form_of(to)
    out = exported(to)
    file, about = tmp_path / "out/landmarks", json.loads((tmp_path / "out/landmarks.json").read_text())
    b = "b" if to != "tflite" else "1"
    assert about["landmarks"] == list(synthetic.LANDMARKS)
    assert (about["size"], about["boxes"], about["margin"]) == (S, False, 0.0)
    assert about["input"]["picture"] | {"unit": ""} == {"shape": [b, S, S, 3], "dtype": "uint8", "unit": ""}
    assert [x["shape"] for x in about["output"].values()] == [[b, K, 2], [b, K]]
    report = about["report"]
    assert report["validation_pictures"] == 4 and report["bytes"] == file.stat().st_size
    assert 0 <= report["largest_difference_px"] < 1e-3 and 0 <= report["largest_difference_network_px"] < 1e-3
    assert report["latency_ms"] > 0 and report["checkpoint_latency_ms"] > 0
    assert f"{report['bytes'] / 1e6:.2f} MB" in out and f"[{b}, {K}, 2] float32" in out
    call = form.load(file.read_bytes(), POINTS)
    for n in (1, 3):
        for found, want in zip(call(noise(n)), expected(noise(n)), strict=True):
            np.testing.assert_allclose(found, want, atol=1e-3)


def test_onnx_carries_what_a_user_must_know(exported, tmp_path):
    form_of("onnx")
    import onnx
    import onnxruntime

    exported("onnx")
    onnx.checker.check_model(str(tmp_path / "out/landmarks"), full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "out/landmarks")
    about = json.loads((tmp_path / "out/landmarks.json").read_text())
    found = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert found == {key: value for key, value in about.items() if key != "report"}
    assert about["versions"].items() >= versions.describe().items() and "onnxruntime" in about["versions"]
    assert [(x.name, x.shape, x.type) for x in session.get_inputs()] == [("picture", ["b", S, S, 3], "tensor(uint8)")]
    assert [(x.name, x.shape) for x in session.get_outputs()] == [("xy", ["b", K, 2]), ("confidence", ["b", K])]


@pytest.mark.parametrize("to", formats.FORMATS)
def test_an_export_that_differs_is_refused(run_export, to, tmp_path, monkeypatch):
    form = form_of(to)
    right = form.write

    def wrong(body, variables, *rest):
        return right(body, jax.tree.map(lambda x: x * 1.05, variables), *rest)

    monkeypatch.setattr(form, "write", wrong)
    code, out, error = run_export(to)
    assert (code, out) == (2, "")
    assert "differs from the checkpoint by" in error and "more than 0.05; nothing was written" in error
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(form, "load", lambda *_: lambda pictures: (np.full((len(pictures), K, 2), np.nan),) * 2)
    assert run_export(to)[0] == 2


@pytest.fixture
def run_example(tmp_path, monkeypatch, capsys):
    """Function of the example and its arguments: what it prints of the export, or the sentence that it ends with."""

    def call(example, *arguments):
        monkeypatch.setattr(sys, "argv", list(map(str, (example, tmp_path / "out/landmarks", *arguments))))
        capsys.readouterr()
        try:
            runpy.run_path(str(example))
        except SystemExit as end:
            return end.code
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize("to", ["stablehlo", "onnx"])
def test_it_is_served_without_this_package(
    exported, run_export, run_example, predicted, made, finished_run, to, tmp_path, monkeypatch
):
    """The example against `predict`: tall and wide pictures, larger and smaller than the network's, and a box."""
    form_of(to)
    example = REPO / "docs" / f"serve_{to}.py"
    assert "ctd_jax" not in example.read_text()
    exported(to)
    monkeypatch.chdir(tmp_path)
    face = Image.fromarray(synthetic.draw(3, 0, size=64, seed=5)[0])

    run = functools.partial(run_example, example)

    def served(*arguments, picture="face.png"):
        rows = [line.split(",") for line in run(picture, *arguments).splitlines()]
        assert [row[0] for row in rows] == list(synthetic.LANDMARKS)
        return np.array([row[1:] for row in rows], float)

    for i, size in enumerate(((200, 91), (27, 70), (300, 3))):
        face.resize(size).save(tmp_path / f"face{i}.png")
    transparent = face.convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(face.size))
    transparent.save(tmp_path / "face.png")
    exif = Image.Exif()
    exif[0x112] = 6
    for name in ("turned.tif", "turned.png"):  # Pillow turns a TIFF by itself
        face.resize((90, 64)).convert("L").save(tmp_path / name, exif=exif)
    pictures = ("face0.png", "face1.png", "face2.png", "face.png", "turned.tif", "turned.png")
    if "pictures" not in made:
        made["pictures"] = predicted(finished_run[0], *pictures)
    for picture in pictures:
        np.testing.assert_allclose(served(picture=picture), made["pictures"][picture], atol=0.01)
    (tmp_path / "no.dcm").write_bytes(b"no picture")
    assert run("no.dcm").startswith("no.dcm: not a kind of picture that this example reads; save it as an 8-bit PNG (")
    assert run("face.png", 1, 2, 3, 4) == "expected no box: it learned whole pictures; found 1 2 3 4"

    best = checkpoint.best
    monkeypatch.setattr(checkpoint, "best", lambda run: (best(run)[0], best(run)[1] | {"boxes": True}))
    assert run_export(to)[0] == 0
    (tmp_path / "boxes.csv").write_text("image,box_x0,box_y0,box_x1,box_y1\nface.png,3,5.5,21.25,60\n")
    if "box" not in made:
        made["box"] = predicted(finished_run[0], "face.png", "--boxes=boxes.csv")["face.png"]
    np.testing.assert_allclose(served(3, 5.5, 21.25, 60), made["box"], atol=0.01)
    for wrong in ("", "3 5.5 21.25", "21.25 60 3 5.5", "3 5.5 21.25 x", "70 5.5 80 60"):
        expected = f"expected x0 y0 x1 y1, two corners of a box in it; found {wrong or 'nothing'}"
        assert run("face.png", *wrong.split()) == expected
    if to == "stablehlo":
        (tmp_path / "out/landmarks.json").write_text('{"classes": [], "size": 32}')
        assert run("face.png").endswith("out/landmarks: finds no landmarks, which is all that this example prints")


@pytest.fixture(scope="module")
def run_of_absent_points(teacher_file, tmp_path_factory):
    """Its folder of pictures, and its workdir."""
    base = tmp_path_factory.mktemp("absent")
    root, run = absent_points.write(base / "faces"), base / "run"
    training_run.train_and_evaluate(tiny.config(teacher_file, ft, data__root=str(root), train__steps=2), run)
    return root, run


@pytest.mark.parametrize("to", ["stablehlo", "onnx"])
def test_what_is_said_of_absent_points_is_served(run_export, cli, run_of_absent_points, to, tmp_path):
    """The lines of the example are the rows of `predict` that have a point."""
    form_of(to)
    root, run = run_of_absent_points
    assert run_export(to, workdir=run)[0] == 0
    picture = root / "images" / "015.png"
    command = [sys.executable, REPO / "docs" / f"serve_{to}.py", tmp_path / "out/landmarks", picture]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code, _, error = cli("ctd_jax.predict", f"--workdir={run}", picture, "--out=p.csv")
    assert code == 0, error
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["x"]]
    found = [line.split(",") for line in done.stdout.splitlines()]
    assert [one[0] for one in found] == [row["landmark"] for row in rows] and len(rows) == K - 1
    assert {one[0] for one in found if one[4]} == set(absent_points.MAY_BE_ABSENT)
    for one, row in zip(found, rows, strict=True):
        want = [float(row[key] or "nan") for key in ("x", "y", "confidence", "present")]
        np.testing.assert_allclose([float(cell or "nan") for cell in one[1:]], want, atol=0.01)


@pytest.mark.parametrize("to", ["stablehlo", "onnx"])
def test_it_is_served_with_the_grey_range_of_the_run(
    exported, run_export, run_example, predicted, made, finished_run, to, tmp_path, monkeypatch
):
    """12 bits below 0 too, and fractions; what the run saw none of is refused."""
    form_of(to)
    example = REPO / "docs" / f"serve_{to}.py"
    grey = np.asarray(Image.fromarray(synthetic.draw(3, 0, size=64, seed=5)[0]).convert("L"))
    hounsfield = (grey * 16.0 - 1024).astype(np.int32)
    hounsfield[5, 5] = 30000
    fractions = (grey / 200).astype(np.float32)
    fractions[7, 7] = np.nan

    def served(picture, **options):
        picture.save(tmp_path / "face.tif", **options)
        return run_example(example, "face.tif")

    def refused(picture, **options):
        assert served(picture, **options).startswith("face.tif: not a kind of picture")

    exported(to)
    monkeypatch.chdir(tmp_path)
    refused(Image.fromarray(hounsfield))
    refused(Image.fromarray(fractions))
    if (case := REPO / "../shared/cases/serve_onnx_16_bit/grey16.png").exists():
        with Image.open(case) as picture:
            refused(picture)
    best = checkpoint.best
    kept = {"grey": {"": {"integer": [-1024.0, 4095.0], "float": [0.0, 1.0]}}}
    monkeypatch.setattr(checkpoint, "best", lambda run: (best(run)[0], best(run)[1] | kept))
    assert run_export(to)[0] == 0
    assert json.loads((tmp_path / "out/landmarks.json").read_text())["grey"] == kept["grey"][""]
    sixteen = (grey * 16.0).astype(np.uint16)
    pictures = {"hounsfield.tif": (hounsfield, {}), "fractions.tif": (fractions, {})}
    pictures |= {"sixteen.tif": (sixteen, {"format": "PNG"})}
    if "greys" not in made:
        for name, (values, options) in pictures.items():
            Image.fromarray(values).save(tmp_path / name, **options)
        made["greys"] = predicted(finished_run[0], *pictures)
    for name, (values, options) in pictures.items():
        lines = served(Image.fromarray(values), **options).splitlines()
        found = np.array([line.split(",")[1:] for line in lines], float)
        np.testing.assert_allclose(found, made["greys"][name], atol=0.01)
    refused(Image.fromarray(grey).convert("RGBA").point(lambda x: 0))
    refused(Image.fromarray(grey), save_all=True, append_images=[Image.fromarray(grey)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to=coreml"], "--to is 'coreml'; expected stablehlo, onnx, tflite"),
        (["--workdir=empty"], "config.json: no such file"),
        (["--out=empty"], "--out: empty is a folder"),
        (["--out=report.html"], "--out: report.html ends in .html, but what is written is ONNX"),
        (["--out=network.tflite"], "--out: network.tflite ends in .tflite, but what is written is ONNX"),
        (["--out=mine"], "--out: mine is there already, and is no export that mine.json describes; give another name"),
        (["--out=kept"], "--out: kept.json, where its description goes, is there already; give another name"),
        (["--out=one.png/landmarks"], "one.png; give the name of a file"),
        (["--config.data.root="], "only --config.data.root=DIR is read"),
        (["--config.seed=3"], "--config.seed=3: the run's configuration stays"),
        (
            ["--config.data.root=nowhere"],
            "the validation pictures, which an export is checked on, can't be read: nowhere",
        ),
    ],
)
def test_mistakes(run_export, tmp_path, arguments, message):
    form_of("onnx")
    (tmp_path / "one.png").touch()
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "kept.json").write_text("mine")
    (tmp_path / "out").mkdir()  # of an export that has been moved: no hindrance
    (tmp_path / "out/landmarks.json").write_text('{"config_hash": "", "frame": "", "report": {}}')
    code, out, error = run_export("onnx", *arguments)
    assert (code, out) == (2, "")
    assert error.startswith("error: ") and len(error.splitlines()) == 1
    assert message in error
    assert {p.name for p in tmp_path.iterdir()} == {"one.png", "mine", "empty", "kept.json", "out"}
    assert (tmp_path / "kept.json").read_text() == (tmp_path / "mine").read_text() == "mine"


def test_runs_that_can_not_be_exported(run_export, finished_run, landmark_folder, tmp_path):
    form_of("onnx")
    run = shutil.copytree(finished_run[0], tmp_path / "run")
    config = json.loads((run / "config.json").read_text())

    def refused(*arguments):
        code, out, error = run_export("onnx", *arguments, workdir=run)
        assert (code, out, error.count("error: "), len(error.splitlines())) == (2, "", 1, 1)
        assert not (tmp_path / "out").exists()
        return error

    strangers = landmark_folder(size=40)
    assert "4 of the 4 validation pictures" in refused(f"--config.data.root={strangers}")
    (run / "config.json").write_text(json.dumps(config | {"data": config["data"] | {"root": "moved"}}))
    assert "moved" in refused() and "--config.data.root=DIR" in refused()
    assert run_export("onnx", f"--config.data.root={config['data']['root']}", workdir=run)[0] == 0
    shutil.rmtree(tmp_path / "out")
    (run / "config.json").write_text(json.dumps(config | {"task": "recognition"}))
    assert "this run learned recognition; give one that learned landmarks or segmentation" in refused()
    (run / "config.json").write_text(json.dumps(config))
    (run / "report.html").unlink()
    assert "the run is not finished" in refused()


def test_a_domain_that_only_helps_has_nothing_to_be_checked_on(tmp_path):
    export, config = importlib.import_module("ctd_jax.export"), tiny.config("none", helping)
    pictures = data.load(config.data, None)
    (helper,) = pictures.helping
    (tmp_path / "split.csv").write_text(data.splits.text(pictures.rows()))
    for domain in (helper, *pictures.evaluated):
        command.parse([f"--workdir={tmp_path}", "--to=onnx", f"--domain={domain}"], export._FLAGS)
        if domain != helper:
            assert len(export._validation(tmp_path, config)) > 0
            continue
        with pytest.raises(UserError, match=f"domain {helper} of {tmp_path} has no validation pictures"):
            export._validation(tmp_path, config)


@pytest.mark.parametrize(("to", "extra"), [("stablehlo", "export"), ("onnx", "export"), ("tflite", "tflite")])
def test_a_missing_extra(run_export, to, extra, monkeypatch):
    find, absent = importlib.util.find_spec, {p.replace("-", "_") for p in formats.FORMATS[to].packages}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *args: name not in absent and find(name, *args) or None
    )
    code, out, error = run_export(to)
    assert (code, out) == (2, "")
    assert f"pip install 'ctd_jax[{extra}]'" in error and len(error.splitlines()) == 1
