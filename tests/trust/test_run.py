"""How sure a run is, from end to end: in its files, in `predict`, `Predictor` and an average of runs."""

import csv
import dataclasses
import json
import logging
import re
import shutil

import jax
import numpy as np
import pytest
import tiny
from PIL import Image

from configs import ft
from ctd_jax import Predictor, formats, metrics, tasks, training_run, trust
from ctd_jax.data import splits
from ctd_jax.errors import UserError
from ctd_jax.tasks import landmarks
from ctd_jax.training import checkpoint
from ctd_jax.trust import unlike


@pytest.fixture(scope="module")
def table(sure_run):
    return metrics.read_predictions(sure_run[0] / "predictions.csv")


@pytest.fixture(scope="module")
def pictures(sure_run):
    part = sure_run[1]
    return [part.original(i) for i in range(len(part))]


@pytest.fixture(scope="module")
def predictor(sure_run):
    return Predictor(sure_run[0])


def test_what_the_file_says_is_what_the_metrics_say(sure_run, table):
    with (sure_run[0] / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    within = [float(row["error_px"]) <= float(row["radius_px"]) for row in rows]
    of_run = json.loads((sure_run[0] / "metrics.json").read_text())["radius"]
    assert of_run["coverage"] == pytest.approx(np.mean(within)) and of_run["n_points"] == len(rows)
    assert of_run["n_subjects"] == 10 and of_run["own"] == 0 and of_run["without"] == []
    assert of_run["mean_px"] == pytest.approx(np.mean([float(row["radius_px"]) for row in rows]))
    assert 0.6 < of_run["coverage"] <= 1
    assert np.isnan(table.radius_mm).all()  # drawn faces have no spacing


def test_new_pictures_get_the_radii_of_the_evaluation(pictures, table, predictor):
    result = predictor(pictures)
    np.testing.assert_allclose(result.radius, table.radius_px, rtol=1e-3)
    np.testing.assert_allclose(result.unlike, table.unlike, atol=2e-3)
    assert result.radius.shape == result.xy.shape[:2] and np.isfinite(result.unlike).all()


def test_in_a_picture_of_twice_the_size_it_is_twice_as_long(pictures, predictor):
    large = np.asarray(Image.fromarray(pictures[0]).resize((128, 128), Image.Resampling.NEAREST))
    once, twice = predictor(pictures[0]), predictor(large)
    np.testing.assert_allclose(twice.radius, once.radius * 128 / len(pictures[0]), rtol=0.2)


def test_the_command_writes_them_and_names_the_pictures_that_are_unlike(sure_run, cli, tmp_path, pictures):
    folder = tmp_path / "pictures"
    folder.mkdir()
    squares = np.random.default_rng(0).integers(0, 2, (8, 8), np.uint8) * 255
    Image.fromarray(pictures[0]).save(folder / "a.png")
    Image.fromarray(np.kron(squares, np.ones((4, 4), np.uint8))).save(folder / "squares.png")
    out = tmp_path / "out.csv"
    code, _, error = cli(
        "ctd_jax.predict", f"--workdir={sure_run[0]}", folder, f"--out={out}", f"--overlays={tmp_path / 'painted'}"
    )
    assert code == 0, error
    found = metrics.read_predictions(out)
    assert np.isfinite(found.radius_px).all()
    assert found.unlike[1] > 1 > found.unlike[0]
    assert re.search(r"1 of 2 pictures are unlike those.*squares\.png", error)
    assert unlike.find(Predictor(sure_run[0]), folder) == [
        (str(folder / "squares.png"), pytest.approx(found.unlike[1], abs=6e-4))
    ]


def test_an_older_run_predicts_as_before_and_says_what_is_missing(sure_run, tmp_path, pictures, caplog, predictor):
    old = shutil.copytree(sure_run[0], tmp_path / "old")
    (old / "trust.safetensors").unlink()
    with caplog.at_level(logging.WARNING):
        result = Predictor(old)(pictures)
    assert "has no trust.safetensors" in caplog.text and "report.html" in caplog.text
    np.testing.assert_array_equal(result.xy, predictor(pictures).xy)
    assert np.isnan(result.radius).all() and np.isnan(result.unlike).all()
    result.to_csv(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines()[1].endswith(",,,")  # the three columns are there, and empty
    with pytest.raises(UserError, match=r"can't tell which.*no trust\.safetensors"):
        unlike.find(Predictor(old), pictures)


def test_other_weights_do_not_use_it(sure_run, tmp_path, pictures, caplog):
    other = tiny.other_weights(sure_run[0], tmp_path / "other", 1)
    with caplog.at_level(logging.WARNING):
        result = Predictor(other)(pictures[0])
    assert "not of the weights that are used" in caplog.text and np.isnan(result.radius).all()


def test_without_the_mirror_images_it_was_judged_with_there_is_none(sure_run, pictures, caplog):
    with caplog.at_level(logging.WARNING):
        result = Predictor(sure_run[0], mirror=False)(pictures[0])
    assert "with mirror images averaged" in caplog.text and np.isnan(result.radius).all()


def test_an_average_is_calibrated_by_its_own_errors(sure_run, tmp_path, pictures, predictor):
    """Two copies of a run agree, and their average is like it; where one has other pictures in val, there is none."""
    twin = shutil.copytree(sure_run[0], tmp_path / "twin")
    both = Predictor([sure_run[0], twin])
    np.testing.assert_allclose(both(pictures).radius, predictor(pictures).radius, rtol=1e-6)
    np.testing.assert_allclose(both(pictures).unlike, predictor(pictures).unlike, rtol=1e-6)
    one = predictor.trained.evidence
    fewer = trust.Evidence(
        one.images[1:], one.subjects[1:], one.landmarks, one.offset[1:],
        {name: values[1:] for name, values in one.doubts.items()}, one.mirrored, one.unlike,
    )  # fmt: skip
    digest = re.search(r'"digest":"(\w+)"', (twin / "trust.safetensors").read_bytes()[:20000].decode("latin1"))[1]
    trust.evidence.write(twin, digest, 4, {"": fewer})
    other = Predictor([sure_run[0], twin])
    assert np.isnan(other(pictures[0]).radius).all() and "other pictures in val" in other.trained.lacks
    elsewhere = shutil.copytree(sure_run[0], tmp_path / "elsewhere")
    rows = splits.read(elsewhere / "split.csv")
    (elsewhere / "split.csv").write_text(splits.text([(*row[:3], row[3][::-1]) for row in rows]))
    other = Predictor([sure_run[0], elsewhere])
    assert "other pictures in val" in other.trained.lacks and other.trained.evidence is None, "of the same names"


def test_an_average_of_networks_with_and_without_mirror_images_has_none(sure_run, tmp_path):
    """And that is the reason that is given, though val is the same."""
    plain = shutil.copytree(sure_run[0], tmp_path / "plain")
    config = json.loads((plain / "config.json").read_text())
    config["eval"]["mirror"] = False
    (plain / "config.json").write_text(json.dumps(config))
    network = tasks.trained(plain)
    assert not network.mirrored
    known = dataclasses.replace(tasks.trained(sure_run[0]).evidence, mirrored=False)
    trust.evidence.write(plain, checkpoint.digest(network.variables), 4, {"": known})
    assert Predictor(plain).trained.evidence
    for runs in ([sure_run[0], plain], [plain, sure_run[0]]):
        trained = Predictor(runs).trained
        assert trained.evidence is None
        assert f"{sure_run[0]} was evaluated with mirror images averaged, and {plain} without" in trained.lacks


def test_of_too_few_subjects_the_report_says_so(finished_run):
    of_run = json.loads((finished_run[0] / "metrics.json").read_text())["radius"]
    assert of_run["n_subjects"] == 2 and "coverage" not in of_run
    page = (finished_run[0] / "report.html").read_text()
    assert "No radius can be given" in page and "val has 2 subjects" in page


@pytest.mark.slow
def test_val_can_not_tell_what_its_own_radii_hold(teacher_file, tmp_path):
    config = tiny.config(
        teacher_file, ft, data__synthetic__identities=(4, 10, 2), data__synthetic__shots=(1, 1, 1), eval__split="val",
        train__steps=2,
    )  # fmt: skip
    result = training_run.train_and_evaluate(config, tmp_path)
    assert "radius" not in result
    assert np.isfinite(metrics.read_predictions(tmp_path / "predictions.csv").radius_px).all()
    page = (tmp_path / "report.html").read_text()
    assert "made from the errors in these very pictures" in page and "lie within it" not in page


def test_the_report_shows_what_is_covered(sure_run):
    of_run = json.loads((sure_run[0] / "metrics.json").read_text())["radius"]
    page = (sure_run[0] / "report.html").read_text()
    assert f"<b>{100 * of_run['coverage']:.1f}&nbsp;%</b>" in page and "another clinic" in page
    assert (sure_run[0] / "reliability.png").exists()


@pytest.fixture(scope="module")
def looked(sure_run, pictures):
    """The network of the run, and what it says of the pictures."""
    network = tasks.trained(sure_run[0])
    return network, jax.device_get(jax.jit(network.look)(network.variables, {"picture": np.stack(pictures)}))


@pytest.mark.parametrize("doubt", [None, "peak", "width", "mirror"])
def test_an_export_has_the_radius_of_every_doubt(looked, pictures, doubt):
    """The graph of the export against `Predictor`, whichever doubt the run has chosen, as ONNX."""
    network, seen = looked
    one, size = network.evidence, network.config.data.image_size
    error = np.linalg.norm(one.offset, axis=-1)
    radius = trust.Radius.of_doubt(doubt, error, one.doubts, one.subjects)
    if doubt:
        radius = dataclasses.replace(radius, scale=dataclasses.replace(radius.scale, slope=0.5))
    body = jax.jit(landmarks.trained.with_radius(network.look, radius, size))
    found = body(network.variables, {"picture": np.stack(pictures)})["radius"]
    doubts = landmarks.trained.doubts_of(seen, size)
    np.testing.assert_allclose(found, size * radius(doubts, len(pictures)), rtol=1e-4)
    batch = jax.ShapeDtypeStruct((2, size, size, 3), "uint8")
    write = formats.load("onnx").write

    def graph(variables, x):
        found = body(variables, {"picture": x})
        return tuple(found[name] for name in ("xy", "confidence", "radius"))

    content = write(graph, network.variables, batch, ("xy", "confidence", "radius"), {})
    exported = formats.load("onnx").load(content, ("radius",))(np.stack(pictures[:2]))[0]
    np.testing.assert_allclose(exported, found[:2], rtol=1e-3)


def test_an_exported_file_has_the_radius(sure_run, pictures, cli, tmp_path, predictor):
    code, _, error = cli("ctd_jax.export", f"--workdir={sure_run[0]}", "--to=onnx", f"--out={tmp_path / 'a.onnx'}")
    assert code == 0, error
    about = json.loads((tmp_path / "a.onnx.json").read_text())
    assert about["output"]["radius"]["shape"][1] == len(predictor.names) and "90 %" in about["output"]["radius"]["unit"]
    call = formats.load("onnx").load((tmp_path / "a.onnx").read_bytes(), ("xy", "confidence", "radius"))
    *_, radius = call(np.stack(pictures))
    np.testing.assert_allclose(radius, predictor(pictures).radius, rtol=1e-3)  # pictures are of the network's size
