"""The mean of several runs of one method, by hand."""

import json

import numpy as np
import pytest

from ctd_jax import metrics
from ctd_jax.errors import UserError
from ctd_jax.metrics.repeated import Repeats


def write_run(folder, errors_px, radii=()):
    """A run of one landmark whose predictions are off by `errors_px`, one picture of each subject, 0.5 mm a pixel."""
    folder.mkdir()
    n = len(errors_px)
    true_xy = np.full((n, 1, 2), 20.0)
    xy = true_xy + np.array(errors_px, float)[:, None, None] * [0.6, 0.8]
    names, subjects = [f"{i}.png" for i in range(n)], [f"s{i}" for i in range(n)]
    spacing = np.full((n, 2), 0.5 if radii else np.nan)
    table = metrics.Predictions.from_points(names, subjects, ("a",), xy, true_xy=true_xy, spacing=spacing)
    metrics.write_predictions(folder / "predictions.csv", table)
    result = {"normalizer": None, "ced_measure": "me_mm" if radii else "me_px"}
    result |= {f"sdr_le_{radius:g}mm": 0.5 for radius in radii}
    (folder / "metrics.json").write_text(json.dumps(result))
    thresholds = {"nme": 0.1, "mm": 4.0, "px": 3.5}
    (folder / "config.json").write_text(json.dumps({"eval": {"threshold": thresholds}}))
    return folder


@pytest.fixture
def pair(tmp_path):
    """Two runs; the mean errors of the pictures are 2, 3 and 4 px."""
    return [write_run(tmp_path / "one", [1, 2, 3]), write_run(tmp_path / "two", [3, 4, 5])]


def test_levels_are_of_the_mean_over_the_runs(pair):
    repeated = Repeats.read(pair)
    levels = repeated.levels()
    assert repeated.measure == "me_px" and set(levels) == {"me_px", "auc@3.5", "fr@3.5"}
    assert levels["me_px"]["mean"] == pytest.approx(3.0, abs=1e-3)
    # standard error 1 / sqrt(3), Student's t of 2 degrees of freedom 4.302653: 3 exp(-+ 4.302653 / sqrt(3) / 3)
    assert levels["me_px"]["ci95"] == pytest.approx([1.3106, 6.8671], rel=2e-3)
    assert levels["fr@3.5"]["mean"] == pytest.approx(1 / 3)  # 4 and 5 px of six pictures
    # 1 - error / 3.5 where it is above 0: 5/7, 3/7 and 1/7 of the first run, 1/7 of the second
    assert levels["auc@3.5"]["mean"] == pytest.approx(10 / 42, abs=1e-3)


def test_radii_are_those_of_the_run(tmp_path):
    """0.5, 1 and 1.5 mm of one run, 1.5, 2 and 2.5 mm of the other."""
    runs = [write_run(tmp_path / "one", [1, 2, 3], (1.2, 2.2)), write_run(tmp_path / "two", [3, 4, 5], (1.2, 2.2))]
    levels = Repeats.read(runs).levels()
    assert levels["sdr_le_1.2mm"]["mean"] == pytest.approx(2 / 6)
    assert levels["sdr_le_2.2mm"]["mean"] == pytest.approx(5 / 6)
    assert levels["me_mm"]["mean"] == pytest.approx(1.5, abs=1e-3)


def test_the_difference_is_paired(pair, tmp_path):
    """2, 3 and 4 px against 1, 3 and 2: differences 1, 0 and 2, mean 1, standard error 1 / sqrt(3)."""
    difference = Repeats.read(pair).minus(Repeats.read([write_run(tmp_path / "other", [1, 3, 2])]))["me_px"]
    assert (difference["a"], difference["b"]) == pytest.approx((3.0, 2.0), abs=1e-3)
    assert difference["difference"] == pytest.approx(1.0, abs=1e-3)
    assert difference["ci95"] == pytest.approx([1 - 2.4841, 1 + 2.4841], abs=5e-3)


def test_one_subject_has_no_interval(tmp_path):
    level = Repeats.read([write_run(tmp_path / "one", [2])]).levels()["me_px"]
    assert level["mean"] == pytest.approx(2.0, abs=1e-3) and np.isnan(level["ci95"]).all()


def test_other_pictures_are_refused(pair, tmp_path):
    with pytest.raises(UserError, match="other pictures"):
        Repeats.read([*pair, write_run(tmp_path / "grown", [1, 2, 3, 4])])
    with pytest.raises(UserError, match="other pictures"):
        Repeats.read(pair).minus(Repeats.read([write_run(tmp_path / "other", [1, 3, 2, 2])]))


@pytest.mark.parametrize("name", ["metrics.json", "config.json"])
@pytest.mark.parametrize("content", ["{}", '{"eval": 3}', "[" * 99999, "\0"])
def test_a_damaged_run_is_named(pair, name, content):
    (pair[0] / name).write_text(content)
    with pytest.raises(UserError, match=r"one.*restore the file"):
        Repeats.read(pair)


def test_a_run_that_is_not_finished_is_refused(pair):
    (pair[0] / "metrics.json").unlink()
    with pytest.raises(UserError, match="metrics.json: no such file; is the run finished"):
        Repeats.read(pair)
