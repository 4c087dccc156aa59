"""Several networks that are averaged: against the mean of what each of them says alone."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import tiny
from exported import form_of, noise
from PIL import Image

from ctd_jax import Predictor, command, formats, metrics
from ctd_jax.data import splits, synthetic
from ctd_jax.errors import UserError
from ctd_jax.tasks import averaged

pytestmark = pytest.mark.slow

REPO = pathlib.Path(__file__).parents[2]
OUTPUTS = ("xy", "confidence", "spread")


@pytest.fixture(scope="module")
def runs(finished_run, tmp_path_factory):
    """Three runs; the second has a comma in its name, the third sees larger pictures."""
    folder = tmp_path_factory.mktemp("runs")
    return (
        finished_run[0],
        tiny.other_weights(finished_run[0], folder / "b,2", 1),
        tiny.other_weights(finished_run[0], folder / "c", 2, image_size=48),
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files of several sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, size in enumerate(((60, 40), (33, 71), (32, 32))):
        Image.fromarray(synthetic.draw(3, i, size=64, seed=5)[0]).resize(size).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def alone(runs, pictures):
    """`[3, N, K, 2]` points and `[3, N, K]` confidence of each network."""
    found = [Predictor(run)(pictures) for run in runs]
    return np.array([one.xy for one in found]), np.array([one.confidence for one in found])


@pytest.fixture(scope="module")
def together(runs, pictures):
    """What `Predictor` says of all three."""
    return Predictor(runs)(pictures)


def test_points_are_means_and_the_spread_is_that_of_the_networks(together, pictures, alone):
    result, (xy, confidence) = together, alone
    mean = xy.mean(0)
    assert np.abs(xy - mean).max() > 3  # the networks differ, by pixels of the pictures
    np.testing.assert_allclose(result.xy, mean, atol=1e-9)
    np.testing.assert_allclose(result.confidence, confidence.mean(0), rtol=1e-6)
    by_hand = np.sqrt(((xy[..., 0] - mean[..., 0]) ** 2 + (xy[..., 1] - mean[..., 1]) ** 2).sum(0) / 3)
    np.testing.assert_allclose(result.spread, by_hand, rtol=1e-9)
    assert result.spread.shape == (3, len(result.names)) and result.images == tuple(map(str, pictures))


def test_one_network_has_no_spread(runs, pictures, alone):
    one = Predictor([runs[1]])(pictures)
    assert one.spread is None
    np.testing.assert_array_equal(one.xy, alone[0][1])


def test_the_command_writes_the_spread_of_several(runs, pictures, together, cli, tmp_path):
    folder, tables = pictures[0].parent, {}
    a, _, c = runs
    b = shutil.copytree(runs[1], tmp_path / "b")  # beside others, a name has no comma
    together.to_csv(tmp_path / "python.csv")
    for name, workdir in (("several", f"{a},{b},{c}"), ("comma", f"{runs[1]}"), ("one", f"{b}")):
        out = tmp_path / f"{name}.csv"
        code, _, error = cli("ctd_jax.predict", f"--workdir={workdir}", folder, f"--out={out}")
        assert code == 0, error
        tables[name] = out.read_text()
    assert tables["several"] == (tmp_path / "python.csv").read_text()
    assert tables["comma"] == tables["one"]
    first = {name: table.splitlines()[0] for name, table in tables.items()}
    assert first["several"].replace(",spread_px", "") == first["one"] and first["one"].endswith(
        "radius_px,radius_mm,unlike"
    )
    read = metrics.read_predictions(tmp_path / "several.csv")
    np.testing.assert_allclose(read.spread_px, together.spread, atol=6e-4)
    assert np.isnan(metrics.read_predictions(tmp_path / "one.csv").spread_px).all()


@pytest.mark.parametrize("change", [{"of": {"distance": ["chin", "nose_tip"]}}, None])
def test_runs_that_measure_something_else_are_told_what_to_measure(runs, pictures, cli, tmp_path, change):
    b = shutil.copytree(runs[1], tmp_path / "b")
    summary = json.loads((b / "metrics.json").read_text())
    *others, name = summary["measurements"]
    summary["measurements"] = {other: summary["measurements"][other] for other in others}
    summary["measurements"] |= {name: change} if change else {}
    (b / "metrics.json").write_text(json.dumps(summary))
    command_ = ["ctd_jax.predict", f"--workdir={runs[0]},{b}", pictures[0], f"--out={tmp_path / 'p.csv'}"]
    code, _, error = cli(*command_, f"--measurements={tmp_path / 'm.csv'}")
    assert code == 2 and f"{b} and {runs[0]} do not measure the same: {name} differs" in error
    assert "--measure=FILE.json" in error and not (tmp_path / "m.csv").exists()
    (tmp_path / "mine.json").write_text('{"measurements": {"d": {"distance": ["chin", "nose_tip"]}}}')
    code, _, error = cli(*command_, f"--measurements={tmp_path / 'm.csv'}", f"--measure={tmp_path / 'mine.json'}")
    assert code == 0, error


def test_runs_that_measure_the_same_measure(runs, pictures, cli, tmp_path):
    """In whatever order they do."""
    b = shutil.copytree(runs[1], tmp_path / "b")
    summary = json.loads((b / "metrics.json").read_text())
    summary["measurements"] = dict(reversed(summary["measurements"].items()))
    (b / "metrics.json").write_text(json.dumps(summary))
    flags = [f"--out={tmp_path / 'p.csv'}", f"--measurements={tmp_path / 'm.csv'}"]
    code, _, error = cli("ctd_jax.predict", f"--workdir={runs[0]},{b}", pictures[0], *flags)
    assert code == 0, error


def test_nothing_of_any_of_the_runs_is_overwritten(runs, pictures, cli, tmp_path):
    b = shutil.copytree(runs[1], tmp_path / "b")
    before = (b / "predictions.csv").read_bytes()
    code, _, error = cli("ctd_jax.predict", f"--workdir={runs[0]},{b}", pictures[0], f"--out={b / 'predictions.csv'}")
    assert code == 2 and "is where the run keeps its own" in error
    assert (b / "predictions.csv").read_bytes() == before


# ---------------------------------------------------------------- export


@pytest.fixture(scope="module")
def two(runs, tmp_path_factory):
    """Two runs, the second under a name without a comma."""
    return runs[0], shutil.copytree(runs[1], tmp_path_factory.mktemp("two") / "b")


@pytest.fixture(scope="module")
def each(two):
    """What each of them says of the same pictures."""
    return [Predictor(run)(list(noise(3))) for run in two]


@pytest.fixture(scope="module")
def exported(two, tmp_path_factory):
    """Function of `cli` and a format: the file of their average, and what the command said of it; made once."""
    folder, said = tmp_path_factory.mktemp("exported"), {}

    def export(cli, to):
        out = folder / to
        if to not in said:
            code, said[to], error = cli("ctd_jax.export", f"--workdir={two[0]},{two[1]}", f"--to={to}", f"--out={out}")
            assert code == 0, error
        return out, said[to]

    return export


@pytest.mark.parametrize("to", formats.FORMATS)
def test_an_export_has_the_average_in_its_graph(two, each, exported, cli, to):
    form, (out, said) = form_of(to), exported(cli, to)
    found = form.load(out.read_bytes(), OUTPUTS)(noise(3))
    xy = np.array([one.xy for one in each])
    assert np.abs(xy[0] - xy[1]).max() > 3
    np.testing.assert_allclose(found[0], xy.mean(0), atol=2e-3)
    np.testing.assert_allclose(found[1], np.mean([one.confidence for one in each], axis=0), atol=1e-4)
    half = np.linalg.norm(xy[0] - xy[1], axis=-1) / 2  # of two points the distance of each from the middle
    np.testing.assert_allclose(found[2], half, atol=2e-3)
    about = json.loads(out.with_name(f"{to}.json").read_text())
    assert list(about["output"]) == list(OUTPUTS) and "of 2 networks' points" in about["output"]["spread"]["unit"]
    hashes = [json.loads((run / "metrics.json").read_text())["config_hash"] for run in two]
    assert about["config_hash"] == ",".join(hashes)
    assert "output spread" in said


def test_an_export_of_several_is_served_by_the_example(two, exported, pictures, cli):
    form_of("stablehlo")
    command_ = [sys.executable, REPO / "docs" / "serve_stablehlo.py", exported(cli, "stablehlo")[0], pictures[0]]
    done = subprocess.run(list(map(str, command_)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = np.array([line.split(",")[1:3] for line in done.stdout.splitlines()], float)
    np.testing.assert_allclose(found, Predictor(two)(pictures[0]).xy[0], atol=0.01)


@pytest.mark.parametrize(
    ("second", "out", "message"),
    [
        (
            "c",
            ["--out=file"],
            "c: its data.image_size is 48, that of .*run is 32; one graph takes pictures of one size",
        ),
        ("b", [], "--out is missing: the average of 2 runs belongs to none; name the file"),
    ],
)
def test_what_cannot_be_exported(runs, cli, second, out, message, tmp_path, monkeypatch):
    form_of("stablehlo")
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(runs["abc".index(second)], tmp_path / second)
    code, _, error = cli("ctd_jax.export", f"--workdir={runs[0]},{run}", "--to=stablehlo", *out)
    assert code == 2 and error.count("error: ") == 1
    with pytest.raises(UserError, match=message):
        raise UserError(error)
    assert [path.name for path in tmp_path.iterdir()] == [second]


# ---------------------------------------------------------------- which go together


def network(name, **changes):
    """What `averaged.check` looks at."""
    facts = {"task": "landmarks", "names": ("chin", "nose"), "boxes": False, "margin": 0.25, "grey": {}}
    facts |= {"absent": (), "never_annotated": ()} | changes
    config = types.SimpleNamespace(task=facts.pop("task"), data=types.SimpleNamespace(margin=facts.pop("margin")))
    return types.SimpleNamespace(workdir=pathlib.Path(name), config=config, **facts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "segmentation"}, "c: its task is segmentation, that of a is landmarks; only networks that agree"),
        (
            {"names": ("chin", "nose", "ear")},
            r"c: its landmarks or classes are not those of a: 1 only here \(ear\)",
        ),
        ({"names": ("chin",)}, r"c: its landmarks or classes are not those of a: 1 only there \(nose\)"),
        ({"names": ("nose", "chin")}, r"c: its landmarks or classes are not those of a: another order, nose, chin"),
        ({"absent": ("chin",)}, r"c: its list of landmarks that may be absent is \('chin',\), that of a is unknown"),
        ({"never_annotated": ("chin",)}, "c: its list of landmarks that no training picture had is"),
        ({"boxes": True}, "c: it was trained on boxes in pictures, a on whole pictures"),
        (
            {"grey": {"integer": [0.0, 255.0]}},
            r"c: its grey range is {'integer': \(0.0, 255.0\)}, that of a is unknown",
        ),
    ],
)
def test_networks_that_do_not_agree_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        averaged.check([network("a"), network("b"), network("c", **changes)])


def test_the_margin_counts_where_there_are_boxes():
    averaged.check([network("a"), network("b", margin=0.5)])
    with pytest.raises(UserError, match="b: its data.margin is 0.5, that of a is 0.25"):
        averaged.check([network("a", boxes=True), network("b", boxes=True, margin=0.5)])


def test_of_several_domains_the_pictures_of_that_one_count(tmp_path, monkeypatch):
    """The third run has that domain alone."""
    monkeypatch.setattr(averaged.trust, "calibrated", lambda each: each[0])
    known = dataclasses.make_dataclass("known", ["workdir", "domain", "evidence", "lacks"])

    def networks(domain):
        names = {"both": ("faces/1", "hands/1"), "three": ("faces/1", "hands/2"), "one": ("1",)}
        for name, images in names.items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "split.csv").write_text(splits.text([(image, "", "val", "0") for image in images]))
        evidence = types.SimpleNamespace(mirrored=False)
        return [known(tmp_path / name, None if name == "one" else domain, evidence, "") for name in names]

    assert averaged.with_evidence(networks("faces")).evidence
    assert "the runs have other pictures in val" in averaged.with_evidence(networks("hands")).lacks


def test_mistakes(runs, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="run is given twice; give each run once"):
        Predictor([runs[0], runs[0].parent / "." / "run"])
    with pytest.raises(UserError, match="no run: the list is empty"):
        Predictor([])
    with pytest.raises(UserError, match="--workdir=a,: nothing stands before or after a comma"):
        command.workdirs("a,")
    monkeypatch.setenv("HOME", "/home/anna")
    assert command.workdirs("a, ~/b") == [pathlib.Path("a"), pathlib.Path("/home/anna/b")]
