"""The command that compares two runs; its numbers are tested with `metrics.paired`."""

import dataclasses
import json

import numpy as np
import pytest
from point_tables import table

from configs import ft
from ctd_jax import metrics

THRESHOLDS = {"nme": 0.1, "mm": 1.6, "px": 10.0}
NAN = float("nan")


@pytest.fixture
def compare(cli, tmp_path, monkeypatch):
    """Runs the command on two tables, A.csv and B.csv, and what else is given."""
    monkeypatch.chdir(tmp_path)

    def call(a, b, *arguments):
        for name, one in (("A.csv", a), ("B.csv", b)):
            metrics.write_predictions(name, one)
        return cli("ctd_jax.compare", "A.csv", "B.csv", *arguments)

    return call


def test_command_shows_and_writes_the_differences(compare, tmp_path):
    a, b = (table(3 * e, mm_per_px=0.5) for e in ([[1, 3, 2], [2, 2, 5]], [[2, 4, 2], [2, 6, 1]]))
    code, out, error = compare(a, b, "--out=d.json", "--normalizer=p0,p1", "--radii=1,2", "--threshold=0.05")
    assert (code, error) == (0, "")
    assert "6 pictures, 6 subjects, 18 points" in out
    lines = {line.split("  ")[0]: line.split() for line in out.splitlines() if line}
    # Of 0 and -1, thrice: -0.5 -+ 2.571 sqrt(0.3 / 6), cut at -1; scipy.stats.ttest_1samp has p = 0.0756
    assert lines["Failure rate (FR), 5 %"][-7:] == ["50.00", "100.00", "-50.00", "-100.00", "to", "7.48", "0.0756"]
    order = [line.split()[0] for line in out.splitlines() if line.startswith(("p0 ", "p1 ", "p2 "))]
    assert order == ["p1", "p0", "p2"]  # A's best first
    assert lines["p1"][-1] == "A"
    written = json.loads((tmp_path / "d.json").read_text())
    assert (written["a"], written["b"]) == ("A.csv", "B.csv")
    assert set(written["differences"]) == {
        "me_px", "me_mm", "nme_p0_p1", "auc@0.05", "fr@0.05", "sdr_le_1mm", "sdr_le_2mm"
    }  # fmt: skip
    assert written["per_landmark"]["p2"]["me_px"]["difference"] == 2


def other(base, **changes):
    return dataclasses.replace(base, **{key: np.array(value) for key, value in changes.items()})


BASE = table([[1, 3], [2, 2], [3, 1]], mm_per_px=0.5)


@pytest.mark.parametrize(
    "b, message",
    [
        (
            other(BASE, images=["0.png", "1.png", "x.png"]),
            "other pictures: 2 in common, 1 only in A.csv (first: '2.png'), 1 only in B.csv (first: 'x.png')",
        ),
        (other(BASE, images=["x", "y", "z"]), "other pictures: none in common"),
        (table([[1, 3], [2, 2]], mm_per_px=0.5), "other pictures: 2 in common, 1 only in A.csv (first: '2.png')"),
        (
            other(BASE, landmarks=["p0", "nose"]),
            "other landmarks: 1 in common, 1 only in A.csv (first: 'p1'), 1 only in B.csv (first: 'nose')",
        ),
        (
            other(BASE, subjects=["s0", "s1", "s9"]),
            "another subject in 1 of 3 pictures (first: '2.png': 's2' and 's9')",
        ),
        (other(BASE, true_xy=BASE.true_xy + [[[0, 0.02]]] * 3), "other annotations: 6 of 6 true points differ"),
        (
            table([[1, 3], [2, NAN], [3, 1]], mm_per_px=0.5),
            "other annotations: 1 of 6 true points differ (first: 'p1' in '1.png': (50, 0) and none)",
        ),
        (table([[1, 3], [2, 2], [3, 1]]), "know the error in mm of other points (6 differ)"),
    ],
)
def test_tables_that_cannot_be_paired(compare, b, message):
    code, out, error = compare(BASE, b)
    assert (code, out) == (2, "")
    assert message in error
    assert len(error.splitlines()) == 1


def test_rounded_true_points_are_the_same(compare):
    assert compare(BASE, other(BASE, true_xy=BASE.true_xy + 0.005))[0] == 0


def test_one_subject(compare):
    one = [table(e, subjects=["s", "s"]) for e in ([[1, 3], [2, 2]], [[2, 4], [2, 6]])]
    code, out, error = compare(*one, "--out=d.json")
    assert code == 0
    assert "WARNING: there is only one subject" in error
    with open("d.json") as file:
        assert set(json.load(file)["differences"]["me_px"]) == {"a", "b", "difference"}
    assert "-1.50" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "expected two runs or tables, A and B, found 0"),
        (("A.csv",), "found 1"),
        (("A.csv", "run/../A.csv"), "A and B are the same file, A.csv"),
        (("A.csv", "none.csv"), "none.csv: no such file"),
        (("A.csv", "B.csv", "--normalizer=p0"), "--normalizer: expected two landmarks, a,b, found p0"),
        (("A.csv", "B.csv", "--normalizer=p0,p0"), "--normalizer: expected two landmarks, a,b, found p0,p0"),
        (("A.csv", "B.csv", "--normalizer=p0,eye"), "'eye' is no landmark; expected two of p0, p1"),
        (("A.csv", "B.csv", "--radii=2,x"), "--radii: expected numbers above 0, found 2,x"),
        (("A.csv", "B.csv", "--threshold=0"), "--threshold: expected numbers above 0, found 0.0"),
        (("A.csv", "B.csv", "--out=none/d.json"), "--out: the result can't be written"),
        (("run", "A.csv"), "run/predictions.csv: no such file"),
        (("A.csv", "B.csv", "--truth=t.json"), "--truth goes with --metrics"),
        (("A.csv", "--metrics=payer,coco"), "--metrics: expected one or several of landmarker, payer, "),
        (("A.csv", "B.csv", "--metrics=payer"), "--metrics: expected one run or table, found 2"),
        (("A.csv", "--metrics=payer", "--pcutoff=0.6"), "--pcutoff: payer would not use it"),
        (("A.csv", "--metrics=payer,sleap", "--threshold=1"), "--threshold: payer,sleap would not use it"),
        (("A.csv", "--metrics=gu2net", "--grid=512", "--size=9x9"), "--grid: expected WIDTHxHEIGHT in pixels"),
        (("A.csv", "--metrics=payer", "--normalizer=p0,p1", "--normalizer_mm=-1"), "--normalizer_mm: expected numbers"),
        (("A.csv", "--metrics=payer,gu2net", "--normalizer=p0,p1"), "--normalizer: payer,gu2net would use it only"),
        (("A.csv", "--metrics=payer", "--spacing=0.1"), "--spacing: A.csv is a table of a run"),
        (("A.csv", "--metrics=mmpose", "--normalizer=p0,eye"), "'eye' is no landmark"),
    ],
)
def test_arguments_that_cannot_be_used(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for name in ("A.csv", "B.csv"):
        metrics.write_predictions(name, BASE)
    code, out, error = cli("ctd_jax.compare", *arguments)
    assert (code, out) == (2, "")
    assert message in error


@pytest.mark.parametrize("arguments", [("run", "A.csv"), ("A.csv", "run"), ("run", "--metrics=payer")])
def test_runs_that_are_not_of_one_kind_of_landmarks(cli, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    metrics.write_predictions("A.csv", BASE)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.json").write_text(json.dumps({"domains": {"faces": {}, "hips": {}}}))
    code, out, error = cli("ctd_jax.compare", *arguments)
    assert (code, out) == (2, "")
    assert "run: expected a run of one domain, found 2; give one of run/faces, run/hips" in error
    (tmp_path / "run/segmentation_metrics.csv").write_text("")
    code, out, error = cli("ctd_jax.compare", *arguments)
    assert (code, out) == (2, "") and "run: expected a landmark run, found one of segmentation" in error


def test_a_run_knows_normaliser_radii_and_threshold(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    metrics.write_predictions(run / "predictions.csv", BASE)
    metrics.write_predictions("B.csv", table([[2, 3], [2, 1], [4, 1]], mm_per_px=0.5))
    config = ft.get_config()
    config.eval.threshold.update(THRESHOLDS | {"nme": 0.07})
    (run / "config.json").write_text(json.dumps(config.to_dict()))
    summary = metrics.summarize(BASE, normalizer=("p0", "p1"), thresholds=THRESHOLDS, radii_mm=(1.5,))
    (run / "metrics.json").write_text(json.dumps(summary | {"normalizer": ["p0", "p1"]}))
    for pair in (("run", "B.csv"), ("B.csv", "run")):
        code, _, error = cli("ctd_jax.compare", *pair, "--out=d.json")
        assert (code, error) == (0, "")
        got = json.loads((tmp_path / "d.json").read_text())["differences"]
        assert set(got) == {"me_px", "me_mm", "nme_p0_p1", "auc@0.07", "fr@0.07", "sdr_le_1.5mm"}
    metrics.write_predictions(run / "mean_shape.csv", table([[1, 2], [2, 1], [2, 2]], mm_per_px=0.5))
    code, out, error = cli("ctd_jax.compare", "B.csv", "run")
    assert (code, error) == (0, "") and out.startswith("B is no better than the mean shape of its training labels.\nA ")
    assert "mean shape" in out and next(line for line in out.splitlines() if " px " in line).endswith("  1.67")
    code, out, error = cli("ctd_jax.compare", "B.csv", "run", "--threshold=0.035", "--radii=0.75", "--out=d.json")
    shape = json.loads((tmp_path / "d.json").read_text())["mean_shape"]  # 3, 3 and 4 % of the distance of p0 and p1
    assert shape["fr@0.035"] == pytest.approx(1 / 3) and shape["sdr_le_0.75mm"] == pytest.approx(2 / 6)
    metrics.write_predictions("B.csv", BASE.masked(BASE.images[:, None] != "1.png"))
    code, out, error = cli("ctd_jax.compare", "B.csv", "run", "--out=d.json")
    assert code == 0 and "2 annotated points are not predicted" in error and "RUN/mean_shape.csv" in error
    assert "mean shape  " not in out and json.loads((tmp_path / "d.json").read_text())["mean_shape"] == {}
    metrics.write_predictions(run / "mean_shape.csv", table([[1, 2], [2, 1]], mm_per_px=0.5))
    code, out, error = cli("ctd_jax.compare", "run", "B.csv")
    assert code == 0 and "mean_shape.csv does not fit beside" in error and "mean shape  " not in out
    (run / "metrics.json").unlink()
    code, _, error = cli("ctd_jax.compare", "run", "B.csv")
    assert code == 2 and "is the run finished?" in error


def test_numbers_of_other_tools(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metrics.write_predictions("A.csv", table([[2, 4, NAN], [6, 0, 12]], mm_per_px=0.5))
    code, out, error = cli("ctd_jax.compare", "A.csv", "--metrics=landmarker,payer", "--radii=2", "--out=d.json")
    assert (code, error) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "PE mean 2.400 mm 2.250 me_mm" in lines and "sdr, 2 mm 50.00 % 60.00 sdr_le_2mm" in lines
    written = json.loads((tmp_path / "d.json").read_text())["metrics"]
    assert written["payer"]["numbers"][-1] == {"name": "#outliers >= 2 mm", "unit": "%", "value": 60}


def test_numbers_of_other_tools_from_their_files(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.csv").write_text("0,2,0,54\n0,6,0,50\n")  # y, x
    (tmp_path / "t.csv").write_text("0,0,0,50\n0,0,0,50\n")
    code, out, error = cli("ctd_jax.compare", "p.csv", "--metrics=landmarker", "--truth=t.csv", "--spacing=0.5")
    assert (code, error) == (0, "")
    assert "point_error, nanmean 1.500 mm 1.500 me_mm" in [" ".join(line.split()) for line in out.splitlines()]
    assert out.startswith("read as landmarker's arrays, 2 rows (pictures) x 2 landmarks; columns are taken as y, x")


def test_the_normaliser_of_a_run_is_that_of_the_tool(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    metrics.write_predictions("run/predictions.csv", BASE)
    (tmp_path / "run/metrics.json").write_text(json.dumps({"normalizer": ["p0", "p1"]}))
    code, out, error = cli("ctd_jax.compare", "run", "--metrics=mmpose")
    assert (code, error) == (0, "")
    assert "nme 0.0400 0.0400 nme_p0_p1" in [" ".join(line.split()) for line in out.splitlines()]


def test_help_shows_examples(cli):
    code, out, _ = cli("ctd_jax.compare", "--help")
    assert code == 0
    assert "python -m ctd_jax.compare runs/ctd_ed-demo runs/ft-demo" in out
    assert "--normalizer" in out
