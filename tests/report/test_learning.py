"""Learning curves: what is computed from the predictions of their runs, the table and the picture."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from ctd_jax import metrics, report
from ctd_jax.errors import UserError


def write_run(folder, errors_px, unknown=""):
    """A run of two landmarks whose predictions are `errors_px` off, one picture of each subject; it does not predict
    `unknown`."""
    folder.mkdir(parents=True)
    n = len(errors_px)
    true_xy = np.broadcast_to([[10.0, 10.0], [30.0, 10.0]], (n, 2, 2))
    xy = true_xy + np.array(errors_px, float)[:, None, None] * [[0.6, 0.8], [0.0, -1.0]]
    xy[:, [name == unknown for name in "ab"]] = np.nan
    names, unknown = [f"{i}.png" for i in range(n)], np.full((n, 2), np.nan)
    subjects = [f"s{i}" for i in range(n)]
    table = metrics.Predictions.from_points(names, subjects, ("a", "b"), xy, true_xy=true_xy, spacing=unknown)
    metrics.write_predictions(folder / "predictions.csv", table)
    unseen = true_xy + [[6.0, 0.0], [0.0, 6.0]]
    placed = metrics.Predictions.from_points(names, subjects, ("a", "b"), unseen, true_xy=true_xy, spacing=unknown)
    metrics.write_predictions(folder / "mean_shape.csv", placed)
    facts = {"normalizer": None, "ced_measure": "me_px", "split": "test", "n_images": n}
    (folder / "metrics.json").write_text(json.dumps(facts))
    threshold = {"nme": 0.1, "mm": 4.0, "px": 10.0}
    (folder / "config.json").write_text(json.dumps({"eval": {"threshold": threshold}}))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The summary of three methods; each in two seeds, 0.5 px to either side of the error that is listed."""
    folder, lines = tmp_path_factory.mktemp("drawn"), []
    for method, curve in (
        ("ft", {5: 8.0, 20: 4.0, 80: 2.0}),
        ("other", {5: 3.0, 20: 5.0, 80: 1.0}),
        ("worse", {5: 9.0}),
    ):
        for labels, error in curve.items():
            for seed, off in enumerate((-0.5, 0.5)):
                run = f"{method}-{labels}-{seed}"
                write_run(folder / run, error + off + np.array([-1.0, 0.0, 1.0]) * (0.0 if method == "worse" else 0.25))
                line = {"method": method, "setting": "", "labels": labels, "seed": seed, "error": error + off}
                lines.append(line | {"run": run})
    return report.learning.summarize(lines, folder, reference="ft")


def test_a_damaged_run_is_named(tmp_path):
    write_run(tmp_path / "a", [1.0, 2.0])
    (tmp_path / "a" / "metrics.json").write_text("{")
    line = {"method": "ft", "setting": "", "labels": 5, "seed": 0, "error": 1.5, "run": "a"}
    with pytest.raises(UserError, match="remove its folder"):
        report.learning.summarize([line], tmp_path, reference="ft")


def lines_of(*runs):
    """Of curve.csv: the runs of ft with 5 labels and seeds 0, 1, ..., and a run with 20 labels."""
    return [
        {"method": "ft", "setting": "", "labels": labels, "seed": seed, "error": 1.5, "run": run}
        for seed, (run, labels) in enumerate(zip(runs, (*[5] * (len(runs) - 1), 20), strict=True))
    ]


def test_runs_of_other_pictures_than_the_newest_are_named(tmp_path):
    """The test set has grown between two commands: old and new are no one curve."""
    for at, (run, errors) in enumerate((("old", [1.0, 2.0]), ("new", [1.0, 2.0, 2.0]), ("newest", [1.0, 2.0, 3.0]))):
        write_run(tmp_path / run, errors)
        os.utime(tmp_path / run / "metrics.json", (at, at))
    for runs in (("old", "new", "newest"), ("new", "old"), ("old", "newest")):
        with pytest.raises(UserError, match=r"old and .*new.* have other pictures: 2 in common, .*anew: \S*/old$"):
            report.learning.summarize(lines_of(*runs), tmp_path, reference="ft")
    assert report.learning.summarize(lines_of("new", "newest"), tmp_path, reference="ft")["n_images"] == 3


def test_landmarks_that_some_runs_do_not_predict_are_named(tmp_path):
    """Landmark b is in none of the pictures that the first run learned from."""
    for run in ("without", "with", "more"):
        write_run(tmp_path / run, [1.0, 2.0], unknown="b" if run == "without" else "")
    found = report.learning.summarize(lines_of("without", "with", "more"), tmp_path, reference="ft")
    points = found["methods"]["ft"]["budgets"]
    assert points["5"]["not_predicted"] == {"b": 1} and "not_predicted" not in points["20"]
    assert "reference_labels" not in points["20"], "labels saved would be of other landmarks"
    other = [one | {"method": "cd"} for one in lines_of("without", "without", "more")]
    both = report.learning.summarize([*lines_of("without", "with", "more"), *other], tmp_path, reference="ft")
    assert "5 labels leave out b (in 2 of 2 seeds)" in report.learning.console(both)
    lines = report.learning.console(found).splitlines()
    assert lines[1].startswith("Columns with * are not of all landmarks: 5 labels leave out b (in 1 of 2 seeds). Diff")
    assert ["labels", "5", "*", "20"] in [line.split() for line in lines]
    axes = report.learning.plot(found).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["5 *", "20"] and "*: not of" in axes.get_xlabel()


def test_one_subject_has_no_interval(tmp_path):
    """The summary is JSON, and the picture is drawn without a band."""
    write_run(tmp_path / "a", [1.5])
    line = {"method": "ft", "setting": "", "labels": 5, "seed": 0, "error": 1.5, "run": "a"}
    found = report.learning.summarize([line], tmp_path, reference="ft")
    assert "ci95" not in found["methods"]["ft"]["budgets"]["5"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert report.learning.plot(found).axes


@pytest.mark.parametrize(
    ("method", "labels", "reference", "saved"),
    [
        ("ft", "5", 5.0, 0.0),
        ("ft", "80", 80.0, 0.0),
        # From 4 to 2 pixels while the labels go from 20 to 80: 3 is half way, in log(labels) that is 40.
        ("other", "5", 40.0, 35.0),
        # From 8 to 4 between 5 and 20; 5 is at three quarters: 5 * 4^(3/4)
        ("other", "20", 14.142136, -5.857864),
        ("other", "80", None, None),  # ft never gets there
        ("worse", "5", None, None),  # nor was it ever so bad
    ],
)
def test_labels_saved(drawn, method, labels, reference, saved):
    point = drawn["methods"][method]["budgets"][labels]
    assert point["reference_labels"] == (reference and pytest.approx(reference, rel=1e-6))
    assert point.get("labels_saved") == (pytest.approx(saved, rel=1e-6, abs=1e-9) if saved is not None else None)


def test_differences_from_the_reference(drawn):
    point = drawn["methods"]["other"]["budgets"]["20"]
    assert point["error"] == pytest.approx(5.0) and point["seeds"] == {"0": 4.5, "1": 5.5}
    against = point["minus_reference"]
    # Every picture is 1 px worse in the mean over the seeds, but for the rounding of the file.
    assert against["difference"] == pytest.approx(1.0, abs=1e-3)
    assert against["ci95"] == pytest.approx([1.0, 1.0], abs=2e-3)
    assert against["p"] < 1e-3
    # The means over the seeds are 4.75, 5 and 5.25 px: 5 exp(-+ 4.303 * 0.25 / sqrt(3) / 5)
    assert point["ci95"] == pytest.approx([4.4159, 5.6614], abs=2e-3)
    assert "minus_reference" not in drawn["methods"]["ft"]["budgets"]["20"]


def test_the_mean_shape_is_in_the_table_and_the_picture(drawn):
    """It is 6 px off; ft is 8 px off with 5 labels, and worse 9 px."""
    for method, lost in (("ft", ["5"]), ("other", []), ("worse", ["5"])):
        points = drawn["methods"][method]["budgets"]
        assert [labels for labels, point in points.items() if not point["beats_mean_shape"]] == lost
        assert all(point["mean_shape"] == pytest.approx(6.0, abs=1e-3) for point in points.values())
    lines = report.learning.console(drawn).splitlines()
    assert lines[0] == "No better than the mean shape of the training labels: ft with 5 labels; worse with 5 labels."
    assert ["mean", "shape", "6.00", "6.00", "6.00"] in [line.split() for line in lines]
    line = next(line for line in report.learning.plot(drawn).axes[0].lines if line.get_label() == "mean shape")
    np.testing.assert_allclose(line.get_xydata(), [[5, 6], [20, 6], [80, 6]], atol=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_the_picture_as_a_file(drawn, tmp_path):
    """As matplotlib lays it out."""
    report.parts.save(report.learning.plot(drawn), tmp_path / "curve.png")
    report.learning.plot(drawn).savefig(tmp_path / "by_matplotlib.png")
    assert (tmp_path / "curve.png").read_bytes() == (tmp_path / "by_matplotlib.png").read_bytes()
    with Image.open(tmp_path / "curve.png") as image:
        assert image.size == (1152, 736) and len(image.convert("L").getcolors()) > 20


def test_console_leaves_unknown_cells_empty(drawn):
    lines = report.learning.console(drawn).splitlines()
    worse = lines.index(next(line for line in lines if line.startswith("worse")))
    assert lines[worse].split() == ["worse", "9.00"]
    assert lines[worse + 1].split() == ["minus", "ft", "+1.00"]
    saved = [line.split()[2:] for line in lines if line.strip().startswith("labels saved")]
    assert saved == [["+35", "-6"], []]
