"""The page of a landmark run: its numbers are those of the files, and it needs nothing else."""

import json
import re

import pytest
from PIL import Image
from report_files import LOG, MEASUREMENTS, make_run, written

from ctd_jax.report import overlays, tables

pytestmark = pytest.mark.usefixtures("drawn_plots")


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_headline_says_whether_the_mean_shape_is_beaten(tmp_path):
    summary = make_run(tmp_path)
    landmarks = {name: one | {"n_train": 5} for name, one in summary["per_landmark"].items()}
    shape = {"me_px": 9.0, "me_mm": 4.5, "beaten": False, "per_landmark": landmarks}
    content = summary | {"mean_shape": shape, "per_landmark": landmarks}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    page = written(tmp_path)
    sentence = "The network does not beat the mean shape of its training labels (4.50 mm)."
    assert 0 < page.text.index(sentence) < page.text.index("Best, median and worst pictures")


@pytest.mark.slow
def test_the_first_row_has_the_best_the_median_and_the_worst_picture(tmp_path):
    make_run(tmp_path)
    shown = re.findall(r"(Best|Median|Worst) ?: error ([\d.]+)", written(tmp_path).text)
    assert [group for group, _ in shown] == ["Best", "Median", "Worst"] * 3
    errors = [float(error) for _, error in shown]
    assert errors[0] == min(errors) and errors[2] == max(errors) and errors[0] < errors[1] < errors[2]


@pytest.mark.slow
def test_the_foot_of_a_perpendicular_is_drawn_in_millimetres(tmp_path, monkeypatch):
    """A pixel is five times as high as it is wide."""
    drawn = []
    monkeypatch.setattr(overlays, "paint_lines", lambda image, picture, lines: drawn.append(lines))
    make_run(tmp_path, measured={"depth": {"distance_to_line": ["chin", "left", "right"]}})
    written(tmp_path, spacing=(0.2, 1.0))
    assert len(drawn) == 9
    for one, other in drawn:
        u, v = ((end - start) * (0.2, 1.0) for start, end in (one, other))
        assert u @ v == pytest.approx(0, abs=1e-9) and min(abs(u).max(), abs(v).max()) > 1


@pytest.mark.slow
def test_measurements_of_the_page_are_those_of_metrics_json(tmp_path):
    summary = make_run(tmp_path, measured=MEASUREMENTS)
    found, page = summary["measurements"], written(tmp_path)
    of = {
        "width, mm": ("width", "distance from left to right"),
        "shape": ("shape", "width / height"),
        "at <chin>, \u00b0 unsigned": ("at <chin>", "angle at chin, from left to right"),
    }
    for label, (name, meaning) in of.items():
        one, ci95, in_unit = found[name], found[name]["ci95"], tables.measurement(name, summary).number

        def text(value, number=in_unit):
            return " to ".join(map(number, value if isinstance(value, list) else [value]))

        row = f"{label} {meaning} {one['n']} {text(one['true_mean'])} {text(one['bias'])} ({text(ci95['bias'])}) "
        row += f"{text(one['loa'])} ({text(ci95['loa'][0])}) ({text(ci95['loa'][1])}) {text(one['mae'])} "
        row += f"({text(ci95['mae'])}) "
        row += f"{one['slope']:.2f} {one['icc']:.2f}"  # the annotated values are all the same: no interval
        assert row in page.text
    assert found["width"]["n"] == 12 and found["height"]["n"] == 11  # one chin is not annotated
    assert len(page.addresses) == 4 + 9 + 1 and "and measurements.csv" in page.text  # one is #measurements
    best = max(found, key=lambda name: found[name]["icc"])
    said = f", {best} agrees best with what is annotated (ICC {found[best]['icc']:.2f})"
    assert 0 < page.text.index(said) < page.text.index("Best, median and worst pictures")
    with Image.open(tmp_path / "measurements.png") as image:
        assert min(image.size) > 150 and len(image.convert("L").getcolors()) > 20


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_names_are_escaped(tmp_path):
    make_run(tmp_path, n=1, names=["<script>alert(1)</script>.png"])
    shown = written(tmp_path)
    assert "script" not in shown.tags
    assert "<script>alert(1)</script>.png" in shown.text


@pytest.mark.slow
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


@pytest.mark.slow
def test_subjects_seen_in_training_are_told(tmp_path):
    """Those of val, of which one has another picture in train."""
    make_run(tmp_path)
    rows = (tmp_path / "split.csv").read_text().replace(",test,", ",val,")
    (tmp_path / "split.csv").write_text(f"{rows}more.png,s1,train,00\n")
    shown = written(tmp_path).text
    assert "1 of the 6 evaluated subjects also has pictures in the training" in shown
    assert "none of them seen" not in shown
