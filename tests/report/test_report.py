import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ctd_jax import metrics, report
from ctd_jax.metrics import agreement, measurements
from ctd_jax.report import curves, overlays, pairs, tables

LOG = """step,loss,heatmap,ed,images_per_s,encoder_lr,val_error
10,0.5,0.4,0.1,90,0.001,
20,0.4,0.3,0.1,91,0.001,6.5
30,0.3,0.2,0.1,92,0.001,7.5
"""


def picture(name):
    return np.full((60, 40, 3), 100, np.uint8)


MEASUREMENTS = {
    "width": ["left", "right"],
    "height": ["left", "chin"],
    "shape": {"ratio": ["width", "height"]},
    "at <chin>": ["left", "chin", "right"],
}


def make_run(workdir, *, n=12, mm=True, normalizer=("left", "right"), log=LOG, names=None, splits=(), measured=None):
    """The files of a finished run whose pictures show subjects s0, s1, ... with two pictures each."""
    rng = np.random.default_rng(0)
    true_xy = np.broadcast_to([[10.0, 20.0], [30.0, 20.0], [20.0, 40.0]], (n, 3, 2)).copy()
    true_xy[0, 2] = np.nan
    table = metrics.Predictions.from_points(
        names or [f"images/{i}.png" for i in range(n)],
        [f"s{i // 2}" for i in range(n)],
        ["left", "right", "chin"],
        np.nan_to_num(true_xy, nan=30) + rng.normal(0, 1, (n, 3, 2)),
        true_xy=true_xy,
        spacing=np.full((n, 2), 0.5) if mm else None,
    )
    metrics.write_predictions(workdir / "predictions.csv", table)
    table = metrics.read_predictions(workdir / "predictions.csv")
    thresholds = {"nme": 0.1, "mm": 4.0, "px": 10.0}
    summary = metrics.summarize(table, normalizer=normalizer, thresholds=thresholds, radii_mm=(2, 2.5))
    if measured:
        parsed = measurements.parse(measured, table.landmarks.tolist(), "here")
        spacing = np.full((n, 2), 0.5 if mm else np.nan)
        values = agreement.Measured.from_predictions(table, parsed, spacing)
        agreement.write(workdir / "measurements.csv", values)
        summary["measurements"] = agreement.summarize(values, parsed)
    summary |= {
        "split": "test",
        "normalizer": normalizer and list(normalizer),
        "n_params": 1234567,
        "n_train": 5,
        "seconds": 1.0,
    }
    (workdir / "metrics.json").write_text(json.dumps(summary, allow_nan=False))
    for split in splits:
        (workdir / f"metrics_{split}.json").write_text(json.dumps(summary | {"split": split}))
    (workdir / "config.json").write_text(json.dumps({"seed": 7, "data": {"root": "", "budget": 3}}))
    (workdir / "log.csv").write_text(log)
    with (workdir / "split.csv").open("w", newline="") as file:
        rows = [(f"t{i}.png", f"t{i // 2}", "train", "00") for i in range(6)]
        rows += [(image, subject, "test", "00") for image, subject in zip(table.images, table.subjects, strict=True)]
        csv.writer(file).writerows([("image", "subject", "split", "sha256"), *rows])
    return summary


class Page(HTMLParser):
    """Text and addresses of a page."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.addresses, self.parts = [], [], []
        self.feed(source)
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data):
        self.parts.append(data)


def written(workdir):
    path = report.write(workdir, picture)
    assert path == workdir / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_numbers_of_the_page_are_those_of_metrics_json(tmp_path):
    summary = make_run(tmp_path, splits=("test1", "test2"))
    shown = written(tmp_path).text
    low, high = summary["ci95"]["me_mm"]
    assert (
        f"on average {summary['me_mm']:.2f} mm from the annotated ones (95 % interval {low:.2f} to {high:.2f} mm)"
        in shown
    )
    assert f"{100 * summary['nme_left_right']:.2f} % of the distance from left to right" in shown
    for key in ("fr@0.1", "sdr_le_2mm", "sdr_le_2.5mm"):
        low, high = summary["ci95"][key]
        assert f"{100 * summary[key]:.2f} % {100 * low:.2f} to {100 * high:.2f}" in shown, key
    for name, one in summary["per_landmark"].items():
        assert f"{name} {one['n']} {one['me_mm']:.2f}" in shown
    assert "12, of 6 subjects, none of them seen in training" in shown
    assert "Labelled pictures trained on 5" in shown
    assert "train 6 3 test 12 6" in shown
    assert "1,234,567" in shown and "data.budget 3" in shown and "test1 test2" in shown
    assert "not a medical device" in shown


def test_measurements_of_the_page_are_those_of_metrics_json(tmp_path):
    found = make_run(tmp_path, measured=MEASUREMENTS)["measurements"]
    page = written(tmp_path)
    of = {
        "width, mm": ("width", "distance from left to right", 2),
        "shape": ("shape", "width / height", 3),
        "at <chin>, \u00b0 unsigned": ("at <chin>", "angle at chin, from left to right", 2),
    }
    for label, (name, meaning, decimals) in of.items():
        one, ci95 = found[name], found[name]["ci95"]

        def text(value, decimals=decimals):
            ends = value if isinstance(value, list) else [value]
            return " to ".join(f"{end:.{decimals}f}" for end in ends)

        row = f"{label} {meaning} {one['n']} {text(one['true_mean'])} {text(one['bias'])} ({text(ci95['bias'])}) "
        row += f"{text(one['loa'])} ({text(ci95['loa'][0])}) ({text(ci95['loa'][1])}) {text(one['mae'])} "
        row += f"({text(ci95['mae'])}) {text(one['slope'], 2)} ({text(ci95['slope'], 2)}) "
        row += f"{text(one['icc'], 2)} ({text(ci95['icc'], 2)})"
        assert row in page.text
    assert found["width"]["n"] == 12 and found["height"]["n"] == 11  # one chin is not annotated
    assert len(page.addresses) == 4 + 9 and "and measurements.csv" in page.text
    with Image.open(tmp_path / "measurements.png") as image:
        assert min(image.size) > 150 and len(image.convert("L").getcolors()) > 20


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"n": 1}, "shape width / height 0 \u2013 \u2013 \u2013 \u2013 \u2013 \u2013 at"),
        ({"n": 2}, "shape width / height 1 "),
        ({"mm": False}, "width, px distance from left to right 12"),
    ],
)
def test_few_measurements_have_a_page(tmp_path, run, expected):
    make_run(tmp_path, measured=MEASUREMENTS, **run)
    assert expected in written(tmp_path).text


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


def test_page_needs_nothing_else(tmp_path):
    make_run(tmp_path)
    shown = written(tmp_path)
    assert len(shown.addresses) == 3 + 9  # CED, legend, training; three pictures of each group
    assert all(address.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for address in shown.addresses)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", source)
    assert "script" not in shown.tags and "link" not in shown.tags
    for name in ("ced.png", "overlays.png", "curves.png"):
        with Image.open(tmp_path / name) as image:
            image.load()
            assert min(image.size) > 150 and len(image.convert("L").getcolors()) > 20  # something is drawn


def test_names_are_escaped(tmp_path):
    make_run(tmp_path, n=1, names=["<script>alert(1)</script>.png"])
    shown = written(tmp_path)
    assert "script" not in shown.tags
    assert "<script>alert(1)</script>.png" in shown.text


@pytest.mark.parametrize(
    ("run", "found", "not_found"),
    [
        ({"mm": False}, "lie on average 1.", " mm"),
        ({"normalizer": None}, "Failure rate (FR), 4 mm", "Normalised"),
        ({"mm": False, "normalizer": None}, "Failure rate (FR), 10 px", " mm"),
        ({"n": 1}, "All pictures show one subject", "(95 % interval"),
        ({"n": 2}, "On 2 pictures of 1 subject,", "rough"),
        ({"n": 4}, "only 2 subjects the intervals are rough", "show one subject"),
        ({"log": LOG.splitlines()[0] + "\n"}, "Training", "best:"),
        ({"log": ""}, "Training", "best:"),
    ],
)
def test_runs_of_all_kinds_have_a_page(tmp_path, run, found, not_found):
    make_run(tmp_path, **run)
    shown = written(tmp_path).text
    assert found in shown
    assert not_found not in shown


def test_subjects_seen_in_training_are_told(tmp_path):
    make_run(tmp_path)
    with (tmp_path / "split.csv").open("a") as file:
        file.write("more.png,s1,train,00\n")
    shown = written(tmp_path).text
    assert "1 of the 6 evaluated subjects also has pictures in the training" in shown
    assert "none of them seen" not in shown


TWINS = "image_a,split_a,subject_a,image_b,split_b,subject_b,correlation\n"


def test_twins_are_shown_side_by_side(tmp_path):
    """Those between training and evaluation first; one with a picture that is not in the split is left out."""
    make_run(tmp_path)
    rows = ["t0.png,train,t0,t1.png,train,t0,1.0", "t2.png,train,t1,images/3.png,test,s1,0.9912"]
    (tmp_path / "twins.csv").write_text(TWINS + "\n".join([*rows, "x.png,train,t0,images/3.png,test,s1,0.99"]))
    shown = written(tmp_path)
    assert "1 of the 12 evaluated pictures is nearly identical with pictures of the training" in shown.text
    assert "2 pairs of pictures look like the same one" in shown.text
    assert "none of them seen in training" not in shown.text
    assert shown.text.index("train and test, correlation 0.9912 t2.png, images/3.png") < shown.text.index(
        "t0.png, t1.png"
    )
    assert len(shown.addresses) == 3 + 9 + 4
    (tmp_path / "twins.csv").write_text(TWINS + rows[0])
    text = "1 pair of pictures is nearly identical, none of them between training and evaluation"
    assert text in written(tmp_path).text


def test_twins_of_a_domain_that_is_helped_have_its_own_names(tmp_path):
    make_run(tmp_path)
    (tmp_path / "twins.csv").write_text(TWINS + "few/t2.png,train,t1,few/images/3.png,test,s1,0.99")
    assert "1 of the 12 evaluated pictures is nearly identical" in written(tmp_path).text


@pytest.mark.parametrize("size", [(50, 80), (900, 300)])
def test_marks_lie_at_their_points(size):
    """The cross is symmetric about its point: the mean of the changed pixels is the point; x runs to the right."""
    width, height = size
    black = np.zeros((height, width, 3), np.uint8)
    point = np.array([0.75 * width, 0.25 * height])
    for arguments in ((point[None], None), (np.full((1, 2), np.nan), point[None])):
        image = np.asarray(overlays.draw(black, *arguments)).astype(int)
        assert image.shape[1] / image.shape[0] == pytest.approx(width / height, rel=0.01)
        y, x = np.nonzero(image.sum(axis=-1) > 100)
        factor = image.shape[1] / width
        np.testing.assert_allclose([x.mean(), y.mean()], (point + 0.5) * factor - 0.5, atol=0.6)


def test_truth_and_prediction_differ_in_grey():
    """The centre of the prediction's cross is bright, that of the truth's circle is the picture."""
    black, point = np.zeros((640, 640, 3), np.uint8), np.array([[320.0, 320.0]])
    centre = [
        np.asarray(overlays.draw(black, *arguments).convert("L"))[320, 320]
        for arguments in ((point, None), (point + np.nan, point))
    ]
    assert centre[0] > 100 and centre[1] == 0


def test_draw_keeps_large_pictures_and_enlarges_small_ones():
    xy = np.array([[5.0, 5.0], [np.nan, np.nan]])
    assert overlays.draw(np.zeros((700, 900, 3), np.uint8), xy, names=["a", "b"]).size == (900, 700)
    assert overlays.draw(np.zeros((20, 10, 3), np.uint8), xy).size == (320, 640)


def test_chosen_pictures():
    errors = np.array([5.0, np.nan, 1, 9, 3, 7, 2, 8, 4, 6])
    assert overlays.choose(errors, each=2) == {"best": [2, 6], "median": [8, 0], "worst": [7, 3]}
    assert overlays.choose(np.array([2.0, 1.0])) == {"best": [1], "median": [], "worst": [0]}
    assert overlays.choose(np.array([2.0])) == {"best": [0], "median": [], "worst": []}


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


def test_console_table():
    summary = {
        "split": "test", "n_images": 3, "n_points": 8, "me_px": 2.347, "nme_a_b": 0.0456, "ced_measure": "nme_a_b",
        "auc@0.1": 0.5432, "fr@0.1": 1 / 3, "normalizer": ["a", "b"], "ci95": {"me_px": [1.2, 3.45]},
        "per_landmark": {k: {"n": 3, "me_px": v, "ci95": {}} for k, v in {"p": 1, "q": 3, "r": 2, "s": 4}.items()}
        | {"t": {"n": 0, "ci95": {}}},
    }  # fmt: skip
    lines = tables.console(summary).splitlines()
    assert [" ".join(line.split()) for line in lines if line.strip("-")] == [
        "test: 3 pictures, 8 points 95 % interval",
        "Mean error (ME) 2.35 px 1.20 to 3.45",
        "Normalised mean error (NME) 4.56 %",
        "Area under the curve (AUC), to 10 % 0.543",
        "Failure rate (FR), 10 % 33.33 %",
        "largest mean errors: s 4.00 px, q 3.00 px, r 2.00 px",
    ]
    assert lines[0].index("95 %") + len("95 % interval") == lines[2].index("3.45") + len("3.45") == len(lines[1])


def test_a_helping_domains_picture_is_not_taken_for_a_judged_one_of_the_same_name(tmp_path):
    header = "image_a,split_a,subject_a,image_b,split_b,subject_b,correlation\n"
    rows = "helper/1.png,train,a,own/2.png,test,b,0.99\nown/1.png,train,a,own/2.png,test,b,0.98\n"
    (tmp_path / "twins.csv").write_text(header + rows)
    (tmp_path / "config.json").write_text(json.dumps({"data": {"helping": ["helper"]}}))
    picture = np.zeros((8, 8, 3), np.uint8)
    found = pairs.read(tmp_path, {"1.png", "2.png"}, {"2.png"}, lambda _: picture)
    assert [(row["image_a"], row["correlation"]) for row, *_ in found.shown] == [("1.png", "0.98")]
