"""The figures: their lines are the numbers they show."""

import io

import numpy as np
import pytest
from point_tables import NAN
from report_files import MEASUREMENTS, make_run

from ctd_jax.metrics import agreement
from ctd_jax.report import curves, parts


def test_bland_altman_figure(tmp_path):
    """Differences of predicted and annotated over their mean; lines at the bias, the limits and 0."""
    summary = make_run(tmp_path, measured=MEASUREMENTS)
    of = np.array
    table = agreement.Measured(
        images=of(["a", "b", "c"]),
        subjects=of(["", "", ""]),
        names=of(["width"] * 3),
        units=of(["mm"] * 3),
        value=of([10.0, 21, 33]),
        true_value=of([11.0, 20, np.nan]),
        **dict.fromkeys(("classes", "true_classes", "reasons"), of([""] * 3)),
    )
    figure = curves.bland_altman(table, summary)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["width", "height", "shape", "at <chin> (unsigned angle)"]
    axes, one = figure.axes[0], summary["measurements"]["width"]
    points = next(line for line in axes.lines if line.get_label() == "one picture")
    np.testing.assert_allclose(points.get_xydata(), [[10.5, -1], [20.5, 1]])
    levels = sorted(line.get_ydata()[0] for line in axes.lines if line is not points)
    assert levels == sorted([0, one["bias"], *one["loa"]])
    assert axes.get_ylabel() == "predicted - annotated, mm" and figure.axes[2].get_ylabel() == "predicted - annotated"


def test_training_curves_mark_the_best_step():
    log = {"step": [10, 20, 30], "loss": [3, 2, 1], "ed": [1, 1, 2], "val_error": [np.nan, 6.5, 7.5], "x_lr": [1, 1, 1]}
    terms, validation = curves.training(log).axes
    assert [line.get_label() for line in terms.lines] == ["loss", "ed"]
    assert terms.get_yscale() == "log"
    np.testing.assert_array_equal(validation.lines[0].get_xydata(), [[20, 6.5], [30, 7.5]])
    np.testing.assert_array_equal(validation.lines[1].get_xydata(), [[20, 6.5]])


def test_ced_figure_shows_the_curve_in_percent(tmp_path):
    summary = make_run(tmp_path)
    errors = np.array([0.02, 0.04, np.nan, 0.2])
    axes = curves.ced(errors, np.array(list("abcd")), summary).axes[0]
    curve = next(line for line in axes.lines if "CED of 3 pictures" in line.get_label())
    np.testing.assert_allclose(curve.get_xydata()[1:4], [[2, 100 / 3], [4, 200 / 3], [20, 100]])
    assert curve.get_drawstyle() == "steps-post"
    assert axes.get_xlabel() == "mean error of a picture, % of the distance left to right"


def test_people_have_curves_and_limits_beside_the_network(tmp_path):
    summary = make_run(tmp_path, measured=MEASUREMENTS)
    people = {"an annotator from another": np.array([0.1, 0.3]), "the network from an annotator": np.array([0.2, NAN])}
    axes = curves.ced(np.array([0.02, 0.04]), np.array(list("ab")), summary, people).axes[0]
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    np.testing.assert_allclose(lines["an annotator from another"][1:3], [[10, 50], [30, 100]])
    np.testing.assert_allclose(lines["the network from an annotator"][1], [20, 100])
    summary["measurements"]["width"]["raters"] = {"n": 3, "reproducibility": 7.5, "mae": 3.0}
    width, height = curves.bland_altman(agreement.read(tmp_path / "measurements.csv"), summary).axes[:2]
    levels = [
        [line.get_ydata()[0] for line in axes.lines if "annotators" in str(line.get_label())]
        for axes in (width, height)
    ]
    assert levels == [[-7.5, 7.5], []]


def test_reliability_figure():
    """What is promised and what is found, in %, with the interval of each."""
    rows = [[0.5, 0.55, 0.5, 0.6], [0.9, 0.88, 0.8, 0.93]]
    (axes,) = curves.reliability({"reliability": rows}).axes
    line = next(line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_color() == curves.BLUE)
    np.testing.assert_allclose(line.get_xydata(), [[50, 55], [90, 88]])
    (bars,) = [one for one in axes.collections if len(one.get_segments()) == 2]
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], [[50, 60], [80, 93]])


PLOTS = {
    "training": lambda summary, measured: curves.training({"step": [1, 2], "loss": [2, 1], "val_error": [9, 8]}),
    "ced": lambda summary, measured: curves.ced(np.array([0.02, 0.2]), np.array(["a", "b"]), summary),
    "bland_altman": lambda summary, measured: curves.bland_altman(measured, summary),  # its legend is outside
    "reliability": lambda summary, measured: curves.reliability({"reliability": [[0.5, 0.6, 0.5, 0.7]]}),
}


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
@pytest.mark.parametrize("plot", PLOTS)
def test_a_plot_is_laid_out_as_matplotlib_does_it(plot, tmp_path):
    summary = make_run(tmp_path, measured=MEASUREMENTS)
    figure, again = (PLOTS[plot](summary, agreement.read(tmp_path / "measurements.csv")) for _ in range(2))
    parts.save(figure, tmp_path / "plot.png")
    by_matplotlib = io.BytesIO()
    again.savefig(by_matplotlib, format="png")
    assert (tmp_path / "plot.png").read_bytes() == by_matplotlib.getvalue()
