"""Two runs side by side, for the terminal; the numbers are tested with `metrics.paired`."""

from ctd_jax import report


def row(a, b, ci95=None, p=None):
    return {"a": a, "b": b, "difference": a - b} | ({"ci95": ci95, "p": p} if ci95 else {})


def result(landmarks):
    differences = {"me_px": row(2.0, 3.5, [-2.0, -1.0], 0.01), "auc@10": row(0.75, 0.5, [0.125, 0.375], 0.02)}
    differences["fr@10"] = row(0.25, 0.125, [-0.125, 0.375], 0.5)
    return {
        "n_images": 4, "n_subjects": 2, "n_points": 8, "normalizer": None, "ced_measure": "me_px",
        "differences": differences, "per_landmark": {name: {"me_px": one} for name, one in landmarks.items()},
    }  # fmt: skip


def lines_of(text):
    """Each line with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_better_one_is_named_where_the_interval_leaves_out_0():
    """Less is better of an error, more of an area; of a failure rate that may differ either way nothing is said."""
    lines = lines_of(report.comparison(result({"chin": row(1.0, 4.0, [1.0, 5.0], 0.03), "nose": row(1.0, 1.0)})))
    assert lines[0] == "4 pictures, 2 subjects, 8 points A B A - B 95 % interval p better"
    assert lines[2] == "Mean error (ME) px 2.00 3.50 -1.50 -2.00 to -1.00 0.0100 A"
    assert lines[3] == "Area under the curve (AUC), to 10 px 0.750 0.500 0.250 0.125 to 0.375 0.0200 A"
    assert lines[4] == "Failure rate (FR), 10 px % 25.00 12.50 12.50 -12.50 to 37.50 0.5000"
    assert lines[6] == "Mean error (ME) by landmark A B A - B 95 % interval p better"
    assert lines[8:10] == ["chin px 1.00 4.00 -3.00 1.00 to 5.00 0.0300 B", "nose px 1.00 1.00 0.00"]
    assert "of 2, chance alone marks 0.1." in report.comparison(result({"chin": row(1, 2), "nose": row(1, 1)}))


def test_of_many_landmarks_the_five_best_and_the_five_worst_are_shown():
    text = report.comparison(result({f"p{i:02}": row(float(i), 6.0) for i in range(12)}))
    assert "by landmark, 10 of 12" in text
    shown = [line.split()[0] for line in text.splitlines() if line.startswith("p") and not line.startswith("p:")]
    assert shown == [f"p{i:02}" for i in (0, 1, 2, 3, 4, 7, 8, 9, 10, 11)]


def test_the_mean_shape_has_its_column():
    text = report.comparison(result({"chin": row(1.0, 2.0)}) | {"mean_shape": {"me_px": 7.5}})
    lines = lines_of(text)
    assert lines[0].endswith(" mean shape") and lines[2].endswith(" A 7.50") and lines[3].endswith(" A")
