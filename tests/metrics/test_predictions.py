"""The table of predictions, and its file."""

import dataclasses

import numpy as np
import pytest
from point_tables import table

from ctd_jax import metrics
from ctd_jax.errors import UserError
from ctd_jax.metrics import agreement, paired, segmentation

NAN = float("nan")


def test_errors_by_hand():
    """3-4-5 triangle in px; 0.5 and 2 mm per pixel make it (1.5, 8) mm."""
    points = metrics.Predictions.from_points(
        ["a"], ["s"], ["p", "q"], [[[3, 4], [0, 0]]], true_xy=[[[0, 0], [NAN, NAN]]], spacing=[[0.5, 2.0]]
    )
    np.testing.assert_allclose(points.error_px, [[5, NAN]])
    np.testing.assert_allclose(points.error_mm, [[np.hypot(1.5, 8), NAN]])


def test_points_that_do_not_fit():
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
    columns = "image,subject,landmark,x,y,true_x,true_y,error_px,error_mm,confidence,radius_px,radius_mm,unlike"
    assert lines[0] == columns
    assert lines[1] == '0.png,"s,1",p0,1.250,0.000,0.000,0.000,1.2500,0.625,0.5000,,,'
    assert lines[2] == '0.png,"s,1",p1,50.000,0.000,,,,,0.5000,,,'
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_small_things_keep_their_digits(tmp_path):
    """A pixel of 0.00139 mm."""
    points = dataclasses.replace(table([[1, 3], [3, 4000]], mm_per_px=0.00139), radius_px=np.full((2, 2), 5.0))
    metrics.write_predictions(tmp_path / "p.csv", points, np.full((2, 2), 0.00139))
    got = metrics.read_predictions(tmp_path / "p.csv")
    np.testing.assert_allclose(got.error_mm, [[0.00139, 0.00417], [0.00417, 5.56]], rtol=1e-6)
    header, row, *_ = (line.split(",") for line in (tmp_path / "p.csv").read_text().splitlines())
    cells = dict(zip(header, row, strict=True))
    assert (cells["x_mm"], cells["y_mm"], cells["radius_mm"]) == ("0.00139", "0.0000", "0.00695")


def test_a_table_of_several_networks_has_their_spread(tmp_path):
    spread = np.array([[0.5, 12.25], [0.0, 3.0]])
    points = dataclasses.replace(table([[1, 2], [3, 4]]), spread_px=spread)
    metrics.write_predictions(tmp_path / "p.csv", points)
    lines = (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()
    assert ",confidence,spread_px," in lines[0] and lines[2].endswith(",0.5000,12.250,,,")
    np.testing.assert_array_equal(metrics.read_predictions(tmp_path / "p.csv").spread_px, spread)
    np.testing.assert_array_equal(paired.aligned(points.rows(np.array([1, 0])), points).spread_px, spread)


ROWS = ["a,s,p,1,2,1,2,0,,", "a,s,q,1,2,,,,,0.5", "b,t,p,1,2,1,2,0,,", "b,t,q,1,2,,,,,0.5"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS[:3]], r"p.csv, line 4: .* landmark 'q' in 'b'; expected 2 pictures x 2 landmarks, found 3 rows"),
        ([*ROWS, ROWS[1]], r"line 6: expected one row of landmark 'q' in 'a', found a second"),
        ([ROWS[0], "a,s,q,1,two,,,,,"], r"line 3, column y: expected a number or an empty cell, found 'two'"),
        ([ROWS[0], "a,s,q,1,nan,,,,,"], r"line 3, column y: .* found 'nan'"),
        (
            [ROWS[0], "a,s,q,1,,,,,,"],
            r"line 3: expected x and y both filled or, of a landmark that is not predicted, both",
        ),
        ([ROWS[0], ",s,q,1,2,,,,,"], r"line 3, column image: expected a value, found an empty cell"),
        ([ROWS[0], "a,s,q,,,1,2,3,,"], r"line 3: expected true_x"),
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\u00e9".encode("latin-1"), "table in UTF-8"),
        ("image,x\n".encode("utf-16"), "table in UTF-8"),
        (",".join(metrics.COLUMNS).encode() + b"\n" + b"x" * 200_000, "field larger than field limit"),
        (
            ",".join(metrics.COLUMNS).encode() + b"\na\0,s,p,1,2,1,2,0,,\n",
            "p.csv, line 2: .* found a NUL byte|line contains NUL",
        ),
    ],
)
def test_what_is_no_table(tmp_path, content, message):
    (tmp_path / "p.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        metrics.read_predictions(tmp_path / "p.csv")
    with pytest.raises(UserError, match="p.csv"):
        agreement.read(tmp_path / "p.csv")
    with pytest.raises(UserError, match="p.csv"):
        segmentation.read(tmp_path / "p.csv")


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(UserError, match="expected a table"):
        metrics.read_predictions(tmp_path)


def test_a_landmark_that_is_not_predicted_has_empty_cells_and_no_error(tmp_path):
    points = table([[1, 2], [3, 4]], mm_per_px=0.5).masked(np.array([True, False]))
    metrics.write_predictions(tmp_path / "p.csv", points)
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[2] == "0.png,s0,p1,,,50.000,0.000,,,,,,"
    got = metrics.read_predictions(tmp_path / "p.csv")
    np.testing.assert_array_equal(got.error_px, [[1, NAN], [3, NAN]])
    summary = metrics.summarize(got, normalizer=None, thresholds={"px": 9, "mm": 9}, radii_mm=())
    assert (summary["me_px"], summary["n_points"], summary["per_landmark"]["p1"]) == (2, 2, {"n": 0, "ci95": {}})
