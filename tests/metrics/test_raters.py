"""A network and several raters: by hand, and of a run."""

import csv
import json

import numpy as np
import pytest
from point_tables import NAN, table
from scipy import stats

from ctd_jax import metrics
from ctd_jax.metrics import raters

NAMES = ("ann", "bob")


def two_raters(predictions, apart):
    """The first has annotated what the table has; the second, to the right of it by `apart` [N, K] px."""
    first = predictions.true_xy.copy()
    second = first + np.stack([np.asarray(apart, float), np.zeros_like(apart, float)], axis=-1)
    return np.stack([first, second])


def test_distances_are_means_over_raters_points_and_pictures():
    # network 1, 3 px from the first rater, who is 4 px left of the second: 3, 1 px from that one; mean 2, 2
    # second picture, one point: 6 px, and 6 - 4 = 2 px; mean 4. Together (2 + 4) / 2 = 3; the raters are 4 apart
    predictions = table([[1, 3], [6, NAN]])
    found = raters.summarize(predictions, two_raters(predictions, [[4, 4], [4, 4]]), NAMES, np.full((2, 2), NAN))
    assert (found["unit"], found["n_points"], found["names"]) == ("px", 3, ["ann", "bob"])
    assert (found["network"], found["between"], found["difference"]) == pytest.approx((3, 4, -1))


def test_the_interval_is_that_of_a_paired_test_over_subjects():
    differences = np.array([-1.0, -2.0, -1.5, -0.5])
    predictions = table(np.zeros((4, 1)))  # the network is where the first rater is, half as far as the raters apart
    apart = -2 * differences[:, None]
    found = raters.summarize(predictions, two_raters(predictions, apart), NAMES, np.full((4, 2), [0.5, 9]))
    low, high = stats.ttest_1samp(differences / 2, 0).confidence_interval()
    assert found["unit"] == "mm" and found["ci95"] == pytest.approx([low, high])
    assert found["p"] == pytest.approx(stats.ttest_1samp(differences / 2, 0).pvalue)
    assert found["beaten"]


def test_who_is_not_beaten():
    worse = table([[5], [6], [7]])
    assert not raters.summarize(worse, two_raters(worse, np.ones((3, 1))), NAMES, np.ones((3, 2)))["beaten"]
    unsure = table([[0], [0], [14]])  # differences of -4, -4 and 2 px: nearer on average, not in every subject
    found = raters.summarize(unsure, two_raters(unsure, np.full((3, 1), 8)), NAMES, np.ones((3, 2)))
    assert found["difference"] < 0 and found["ci95"][1] > 0 and not found["beaten"]


def test_one_subject_has_no_interval_and_one_rater_no_comparison():
    one = table([[1, 3]])
    found = raters.summarize(one, two_raters(one, [[4, 4]]), NAMES, np.ones((1, 2)))
    assert found["beaten"] and "ci95" not in found
    assert raters.summarize(one, two_raters(one, [[4, 4]])[:1], NAMES[:1], np.ones((1, 2))) == {}
    assert raters.summarize(one, two_raters(one, [[NAN, NAN]]), NAMES, np.ones((1, 2))) == {}


def test_a_run_on_a_folder_with_raters(finished_run):
    workdir, *_ = finished_run
    predictions = metrics.read_predictions(workdir / "predictions.csv")
    root = json.loads((workdir / "config.json").read_text())["data"]["root"]
    with open(f"{root}/landmarks_one.csv", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    true = [[[float(rows[i][f"{k}_{a}"]) for a in "xy"] for k in predictions.landmarks] for i in predictions.images]
    mm = np.array([0.5, 0.25])
    apart = [np.linalg.norm((predictions.xy - true - [shift, 0]) * mm, axis=-1).mean() for shift in (0, 2)]
    found = json.loads((workdir / "metrics.json").read_text())["raters"]
    assert found["network"] == pytest.approx(np.mean(apart), rel=1e-4)
    assert found["between"] == pytest.approx(2 * 0.5)
    assert found["n_points"] == predictions.xy[..., 0].size  # also the chin that landmarks.csv lacks
    assert found["shape"]["between"] == pytest.approx(
        {"procrustes_distance": 0, "centroid_size_difference": 0}, abs=1e-6
    )  # one rater's points are the other's, shifted
    assert found["shape"]["network"]["procrustes_distance"] > 0.01
    assert {"raters"} <= set(json.loads((workdir / "metrics_test1.json").read_text()))
    assert "than another annotator is (1.00 mm)" in (workdir / "report.html").read_text("utf-8")
