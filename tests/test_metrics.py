import dataclasses
import json

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from ctd_jax import metrics
from ctd_jax.errors import UserError

THRESHOLDS = {"nme": 0.1, "mm": 4.0, "px": 10.0}
NAN = float("nan")


def table(errors_px, *, subjects=None, mm_per_px=None):
    """Point k of each picture is at (50 k, 0) predicted `errors_px` [N, K] to the right of it; NaN: not annotated."""
    errors_px = np.asarray(errors_px, np.float64)
    n, k = errors_px.shape
    true_xy = np.stack([np.broadcast_to(50.0 * np.arange(k), (n, k)), np.zeros((n, k))], axis=-1)
    xy = true_xy + np.stack([np.nan_to_num(errors_px), np.zeros((n, k))], axis=-1)
    true_xy[np.isnan(errors_px)] = NAN
    return metrics.Predictions.from_points(
        [f"{i}.png" for i in range(n)],
        [f"s{i}" for i in range(n)] if subjects is None else subjects,
        [f"p{i}" for i in range(k)],
        xy,
        true_xy=true_xy,
        spacing=None if mm_per_px is None else np.full((n, 2), mm_per_px),
        confidence=np.full((n, k), 0.5),
    )


def summarize(predictions, *, normalizer=None, radii_mm=(2, 2.5, 3, 4), bootstrap=200, seed=0):
    return metrics.summarize(
        predictions, normalizer=normalizer, thresholds=THRESHOLDS, radii_mm=radii_mm, bootstrap=bootstrap, seed=seed
    )


def test_errors_by_hand():
    """3-4-5 triangle in px; 0.5 and 2 mm per pixel make it (1.5, 8) mm."""
    points = metrics.Predictions.from_points(
        ["a"], ["s"], ["p", "q"], [[[3, 4], [0, 0]]], true_xy=[[[0, 0], [NAN, NAN]]], spacing=[[0.5, 2.0]]
    )
    np.testing.assert_allclose(points.error_px, [[5, NAN]])
    np.testing.assert_allclose(points.error_mm, [[np.hypot(1.5, 8), NAN]])


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
    assert got["ci95"]["auc@0.1"] == [1, 1]


def test_interval_matches_scipy():
    """One picture per subject: the cluster bootstrap is the ordinary one."""
    errors = np.random.default_rng(1).gamma(2, 2, size=(60, 1))
    want = scipy.stats.bootstrap(
        (errors[:, 0],), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    got = summarize(table(errors), bootstrap=20_000)
    np.testing.assert_allclose(got["ci95"]["me_px"], want, rtol=0.01)
    np.testing.assert_allclose(got["per_landmark"]["p0"]["ci95"]["me_px"], want, rtol=0.01)


def test_interval_resamples_subjects_not_pictures():
    """30 equal pictures of each of 4 subjects tell no more than one of each."""
    level = np.array([1.0, 2.0, 4.0, 9.0])
    want = scipy.stats.bootstrap(
        (level,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    points = table(np.repeat(level, 30)[:, None], subjects=np.repeat(list("abcd"), 30))
    np.testing.assert_allclose(summarize(points, bootstrap=20_000)["ci95"]["me_px"], want, rtol=0.05)
    by_picture = summarize(dataclasses.replace(points, subjects=np.full(120, "")), bootstrap=2_000)["ci95"]["me_px"]
    assert np.ptp(by_picture) < 0.5 * np.ptp(want)


def test_interval_follows_the_seed_and_can_be_switched_off():
    points = table(np.random.default_rng(4).gamma(2, 2, size=(9, 2)))
    assert summarize(points, seed=1) == summarize(points, seed=1)
    assert summarize(points, seed=1)["ci95"] != summarize(points, seed=2)["ci95"]
    assert summarize(points, bootstrap=0)["ci95"] == {}


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
    with pytest.raises(ValueError, match=r"\(1, 2, 2\), found \(2, 2\)"):
        metrics.Predictions.from_points(["a"], ["s"], ["p", "q"], np.zeros((2, 2)))


def test_table_survives_the_file(tmp_path):
    points = table([[1.25, NAN], [3, 4]], subjects=["s,1", 'né "s2"'], mm_per_px=0.5)
    points.error_mm[1] = NAN
    metrics.write_predictions(tmp_path / "p.csv", points)
    got = metrics.read_predictions(tmp_path / "p.csv")
    for field in dataclasses.fields(points):
        np.testing.assert_array_equal(getattr(got, field.name), getattr(points, field.name), err_msg=field.name)
    lines = (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "image,subject,landmark,x,y,true_x,true_y,error_px,error_mm,confidence"
    assert lines[1] == '0.png,"s,1",p0,1.250,0.000,0.000,0.000,1.2500,0.6250,0.5000'
    assert lines[2] == '0.png,"s,1",p1,50.000,0.000,,,,,0.5000'
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


ROWS = ["a,s,p,1,2,1,2,0,,", "a,s,q,1,2,,,,,0.5", "b,t,p,1,2,1,2,0,,", "b,t,q,1,2,,,,,0.5"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS[:3]], r"p.csv, line 4: .* landmark 'q' in 'b'; expected 2 pictures x 2 landmarks, found 3 rows"),
        ([*ROWS, ROWS[1]], r"line 6: expected one row of landmark 'q' in 'a', found a second"),
        ([ROWS[0], "a,s,q,1,two,,,,,"], r"line 3, column y: expected a number or an empty cell, found 'two'"),
        ([ROWS[0], "a,s,q,1,nan,,,,,"], r"line 3, column y: .* found 'nan'"),
        ([ROWS[0], "a,s,q,1,,,,,,"], r"line 3, column y: expected a value, found an empty cell"),
        ([ROWS[0], "a,s,q,1,2"], r"line 3: expected 10 cells, found 5"),
        ([ROWS[0], "a,t,q,1,2,,,,,"], r"line 3: expected subject 's' of 'a' as above, found 't'"),
        (["a,s,p,1,2,3,,,,"], r"line 2: expected true_x, true_y and error_px all filled or"),
        (["a,s,p,1,2,,,,4,"], r"line 2: expected true_x"),
    ],
)
def test_bad_tables_are_refused(tmp_path, rows, message):
    path = tmp_path / "p.csv"
    path.write_text("\n".join([",".join(metrics.COLUMNS), *rows]))
    with pytest.raises(UserError, match=message):
        metrics.read_predictions(path)


def test_wrong_header_and_no_file(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("image,x,y\n")
    with pytest.raises(UserError, match="line 1: expected the columns image,subject,.*, found image,x,y"):
        metrics.read_predictions(path)
    with pytest.raises(UserError, match="none.csv: no such file"):
        metrics.read_predictions(tmp_path / "none.csv")
