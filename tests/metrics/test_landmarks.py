"""The metrics of landmarks: by hand, SciPy and NumPy."""

import csv
import dataclasses
import json
import pathlib

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from point_tables import table

from ctd_jax import metrics
from ctd_jax.errors import UserError

THRESHOLDS = {"nme": 0.1, "mm": 4.0, "px": 10.0}
NAN = float("nan")
CASES = pathlib.Path(__file__).parents[2] / ".." / "shared" / "cases"


def summarize(predictions, *, normalizer=None, radii_mm=(2, 2.5, 3, 4)):
    return metrics.summarize(predictions, normalizer=normalizer, thresholds=THRESHOLDS, radii_mm=radii_mm)


def test_summary_by_hand():
    """Picture 0 has errors 2, 4 and one point missing, picture 1 has 6, 0, 12; landmarks p0 and p1 are 50 px apart."""
    got = summarize(table([[2, 4, NAN], [6, 0, 12]], mm_per_px=0.5), normalizer=("p0", "p1"))
    assert (got["n_images"], got["n_points"]) == (2, 5)
    assert got["me_px"] == pytest.approx((3 + 6) / 2)  # the mean over points would be 4.8
    assert got["me_mm"] == pytest.approx((1.5 + 3) / 2)
    assert got["nme_p0_p1"] == pytest.approx((0.06 + 0.12) / 2)
    assert got["ced_measure"] == "nme_p0_p1"
    assert got["auc@0.1"] == pytest.approx(((1 - 0.6) + 0) / 2)
    assert got["fr@0.1"] == 0.5
    assert got["sdr_le_2mm"] == pytest.approx(
        3 / 5
    )  # mm: 1, 2, 3, 0, 6; the tie at 2 is a success, the missing no miss
    assert got["sdr_le_2.5mm"] == pytest.approx(3 / 5)
    assert got["sdr_le_3mm"] == got["sdr_le_4mm"] == pytest.approx(4 / 5)
    p2 = got["per_landmark"]["p2"]
    assert (p2["n"], p2["me_px"], p2["me_mm"], p2["sdr_le_4mm"]) == (1, 12, 6, 0)
    assert got["per_landmark"]["p0"]["me_px"] == 4
    assert "ci95" in p2 and "me_px" not in p2["ci95"]  # one subject only


def test_unknown_units_are_absent():
    got = summarize(table([[2, 4], [6, 10]]))
    assert got["ced_measure"] == "me_px" and "fr@10" in got
    assert not [key for key in (*got, *got["per_landmark"]["p0"]) if "mm" in key or "nme" in key]
    assert summarize(table([[2, 4]], mm_per_px=1.0))["ced_measure"] == "me_mm"


def test_partly_known_spacing_and_normalizer():
    points = table([[2, 4], [6, 10], [NAN, 7]], mm_per_px=1.0)
    points.error_mm[0] = NAN
    got = summarize(points, normalizer=("p0", "p1"))
    assert got["me_mm"] == pytest.approx((8 + 7) / 2)
    assert got["nme_p0_p1"] == pytest.approx((3 / 50 + 8 / 50) / 2)  # picture 2 lacks a normaliser point
    assert got["me_px"] == pytest.approx((3 + 8 + 7) / 3)
    assert got["fr@0.1"] == 0.5 and got["auc@0.1"] == pytest.approx(0.4 / 2)
    assert (got["n_images_mm"], got["n_points_mm"], got["n_images_nme"]) == (2, 3, 2)


def test_failure_is_strictly_above_the_threshold():
    assert summarize(table([[10.0], [10.001], [3.0]]))["fr@10"] == pytest.approx(1 / 3)


def test_auc_is_the_integral_of_the_ced():
    errors = np.random.default_rng(0).gamma(2, 4, size=(40, 1))
    x, y = metrics.ced(errors[:, 0])
    grid = np.linspace(0, 10, 200_001)
    share = y[np.searchsorted(x, grid, side="right") - 1]
    want = scipy.integrate.trapezoid(share, grid) / 10
    assert summarize(table(errors))["auc@10"] == pytest.approx(want, abs=1e-4)
    np.testing.assert_allclose(share[::1000], scipy.stats.ecdf(errors[:, 0]).cdf.evaluate(grid[::1000]))


def test_ced_leaves_out_what_it_cannot_tell():
    x, y = metrics.ced(np.array([3.0, NAN, 1.0]))
    np.testing.assert_allclose((x, y), ([0, 1, 3], [0, 0.5, 1]))


def test_perfect_model():
    got = summarize(table(np.zeros((3, 2)), mm_per_px=1.0), normalizer=("p0", "p1"))
    assert (got["me_px"], got["me_mm"], got["nme_p0_p1"], got["fr@0.1"]) == (0, 0, 0, 0)
    assert (got["auc@0.1"], got["sdr_le_2mm"]) == (1, 1)
    assert got["ci95"]["auc@0.1"] == pytest.approx([0.05 ** (1 / 3), 1])  # three subjects don't make it certain
    assert got["ci95"]["fr@0.1"] == pytest.approx([0, 1 - 0.05 ** (1 / 3)])
    assert got["ci95"]["me_px"] == [0, 0]


def log_t(values):
    """By hand: of n independent values, the interval of log(mean) after the delta method, n - 1 degrees of freedom."""
    mean, se = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    return np.exp(scipy.stats.t.interval(0.95, len(values) - 1, loc=np.log(mean), scale=se / mean))


def test_interval_of_one_picture_a_subject_by_hand():
    errors = np.random.default_rng(1).gamma(2, 2, size=(6, 1))
    got = summarize(table(errors))
    np.testing.assert_allclose(got["ci95"]["me_px"], log_t(errors[:, 0]))
    np.testing.assert_allclose(got["per_landmark"]["p0"]["ci95"]["me_px"], log_t(errors[:, 0]))


def test_interval_is_over_subjects_not_pictures():
    """30 equal pictures of each of 4 subjects tell no more than one of each."""
    level = np.array([1.0, 2.0, 4.0, 9.0])
    points = table(np.repeat(level, 30)[:, None], subjects=np.repeat(list("abcd"), 30))
    np.testing.assert_allclose(summarize(points)["ci95"]["me_px"], log_t(level))
    by_picture = summarize(dataclasses.replace(points, subjects=np.full(120, "")))["ci95"]["me_px"]
    np.testing.assert_allclose(by_picture, log_t(np.repeat(level, 30)))


def test_pictures_count_alike_however_many_points_they_have():
    """Errors 2 and 6 in one picture, 1 in another with a point missing: 2.5, where the mean of the points is 3. With
    30 % of the points missing at random both are within 1 % of each other, as the definition of `me_px` says."""
    assert summarize(table([[2, 6], [1, NAN]]))["me_px"] == (4 + 1) / 2
    random = np.random.default_rng(0)
    errors = random.gamma(4, 1, (150, 19)) * np.exp(0.3 * random.normal(size=(150, 1)))
    errors[random.random(errors.shape) < 0.3] = NAN
    assert abs(summarize(table(errors))["me_px"] / np.nanmean(errors) - 1) < 0.01


def test_mm_of_some_pictures_are_said_to_be_so():
    """One of four pictures has a spacing: its error in mm is not that of the test."""
    points = table([[2, 4], [6, 10], [8, 8], [1, NAN]], mm_per_px=0.5)
    points.error_mm[1:] = NAN
    got = summarize(points)
    assert (got["n_images"], got["n_images_mm"], got["n_points"], got["n_points_mm"]) == (4, 1, 7, 2)
    assert got["me_mm"] == 1.5 and got["ced_measure"] == "me_px" and "fr@10" in got
    assert [(one["n"], one["n_mm"]) for one in got["per_landmark"].values()] == [(4, 1), (3, 1)]
    everywhere = summarize(table([[2, 4], [6, NAN], [NAN, NAN]], mm_per_px=0.5))  # of what is annotated
    assert everywhere["ced_measure"] == "me_mm" and not [key for key in everywhere if key.startswith("n_images_")]


def test_the_nme_of_most_pictures_is_what_the_ced_measures():
    points = table([[2, 4], [6, 10], [NAN, 7]])
    assert summarize(points, normalizer=("p0", "p1"))["ced_measure"] == "nme_p0_p1"
    few = table([[2, 4], [NAN, 10], [NAN, 7]])
    got = summarize(few, normalizer=("p0", "p1"))
    assert got["ced_measure"] == "me_px" and got["n_images_nme"] == 1 and got["nme_p0_p1"] == pytest.approx(0.06)


@pytest.mark.skipif(not CASES.exists(), reason="shared/cases is not here")
def test_case_of_a_spacing_in_one_test_picture():
    with (CASES / "spacing_in_one_test_picture_only" / "landmarks.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    names = [key[:-2] for key in rows[0] if key.endswith("_x")]
    true = np.array([[[float(row[f"{name}_{axis}"]) for axis in "xy"] for name in names] for row in rows])
    spacing = [[float(row[f"spacing_{axis}_mm"] or "nan") for axis in "xy"] for row in rows]
    images = [row["image"] for row in rows]
    points = metrics.Predictions.from_points(images, images, names, true + (3, 4), true_xy=true, spacing=spacing)
    got = summarize(points)
    assert (got["me_px"], got["me_mm"]) == pytest.approx((5, 2.5))
    assert (got["n_images"], got["n_images_mm"], got["ced_measure"]) == (4, 1, "me_px")


@pytest.mark.parametrize("subjects", [["s"] * 3, ["", "s", "s"]])
def test_one_subject_has_no_interval(subjects):
    points = table([[1, 2], [3, 4], [5, 6]], subjects=subjects)
    assert bool(summarize(points)["ci95"]) == (len(set(subjects)) > 1)


def test_single_picture_is_ready_for_json():
    got = summarize(table([[1, NAN]], mm_per_px=0.5), normalizer=("p0", "p1"))
    json.dumps(got, allow_nan=False)
    assert got["me_px"] == 1 and got["ced_measure"] == "me_mm" and got["ci95"] == {}
    assert got["per_landmark"]["p1"] == {"n": 0, "ci95": {}}


def test_what_cannot_be_summarized():
    with pytest.raises(UserError, match="'chin' is no landmark; expected two of p0, p1"):
        summarize(table([[1, 2]]), normalizer=("p0", "chin"))
    with pytest.raises(UserError, match="found none in 2 pictures"):
        summarize(table([[NAN], [NAN]]))
    with pytest.raises(ValueError, match="nme_a_b"):
        metrics.image_error(table([[1, 2]]), ("p0", "p1"), "nme_a_b")
