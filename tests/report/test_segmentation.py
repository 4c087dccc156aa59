"""The report of a segmentation run, from a table made by hand; tests/tasks/test_segmentation.py has that of a run."""

import json

import numpy as np
import pytest
from report_files import LOG, Page

from ctd_jax import report
from ctd_jax.metrics import segmentation

pytestmark = pytest.mark.usefixtures("drawn_plots")

CLASSES = {"hip": ["background", "bone", "soft tissue"], "knee": ["background", "bone"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two domains of four pictures, of two subjects each; the prediction is shifted by 0 to 3 pixels. The hip has a
    spacing of 0.5 mm."""
    workdir, rows, maps = tmp_path_factory.mktemp("run"), [], {}
    for domain, names in CLASSES.items():
        for i in range(4):
            true = np.zeros((24, 30), np.uint8)
            true[4:12, 4:12], true[14:20, 4:24] = 1, len(names) - 1
            found = np.roll(true, i, axis=1)
            image = f"{domain}/{i}.png"
            maps[image] = np.full((24, 30, 3), 80, np.uint8), true, found
            spacing = np.full(2, 0.5 if domain == "hip" else np.nan)
            for number, name in enumerate(names[1:], 1):
                row = {"image": image, "subject": f"{domain}{i // 2}", "domain": domain, "class": name}
                rows.append(row | segmentation.measure(true == number, found == number, spacing))
    segmentation.write(workdir / "segmentation_metrics.csv", rows)
    scores = segmentation.read(workdir / "segmentation_metrics.csv")
    result = {"split": "test", "classes": CLASSES} | segmentation.summarize(scores, CLASSES)
    result |= {"n_params": 5, "config_hash": "abc", "cautions": ["First."], "mean_map": {"dice_hip": 0.25}}
    (workdir / "metrics.json").write_text(json.dumps(result))
    (workdir / "config.json").write_text(json.dumps({"seed": 7}))
    (workdir / "log.csv").write_text(LOG)
    return workdir, result, maps


def test_the_table_for_the_terminal(run):
    _, result, _ = run
    lines = [" ".join(line.split()) for line in report.segmentation.console(result).splitlines()]
    assert lines[:2] == ["First.", ""]
    assert lines[2] == "test: 8 pictures Dice 95 % interval average distance maximum Dice of the mean map"
    assert [line.split()[0] for line in lines[4:]] == ["mean", "hip", "bone", "soft", "knee", "bone"]
    low, high = result["ci95"]["dice_hip"]
    dice = f"{100 * result['dice_hip']:.1f} % {100 * low:.1f} to {100 * high:.1f}"
    assert lines[5] == f"hip {dice} {result['assd_mm_hip']:.2f} mm {result['mssd_mm_hip']:.2f} mm 25.0 %"
    assert lines[8].endswith(f" {result['assd_px_knee']:.2f} px {result['mssd_px_knee']:.2f} px")


@pytest.mark.slow
def test_the_page_has_the_numbers_of_metrics_json(run):
    workdir, result, maps = run
    path = report.segmentation.write(workdir, maps.__getitem__, lambda image: maps[image][0])
    page = Page(path.read_text("utf-8"))
    assert f"in 2 domains, the mean Dice coefficient is {100 * result['dice']:.1f} %" in page.text
    assert "hip bone" in page.text and f"{100 * result['dice_hip_bone']:.1f} %" in page.text
    assert "First." in page.text and "not a medical device" in page.text and "5 parameters" in page.text
    assert len(page.addresses) == 2 + 2 * 3  # legend, training; best, median and worst of each domain
    assert {"overlays.png", "curves.png", "report.html"} <= {path.name for path in workdir.iterdir()}


@pytest.mark.slow
def test_a_picture_without_the_class_is_no_worst_one(run):
    """By mean Dice the pictures are in the order of their shift."""
    workdir, _, maps = run
    report.segmentation.write(workdir, maps.__getitem__, lambda image: maps[image][0])
    text = Page((workdir / "report.html").read_text("utf-8")).text
    assert text.index("hip/0.png") < text.index("hip/3.png") and "Dice 100.0 % hip/0.png" in text


def test_the_verdict_names_the_mean_map(run):
    verdict = report.segmentation.verdict
    assert verdict({"mean_map": {"beaten": {"hip": True, "knee": True}}}).startswith("The network beats the mean map")
    some = verdict({"mean_map": {"beaten": {"hip": True, "knee": False}}})
    assert some == "The network does not beat the mean map of its training labels in knee."
    one = verdict({"mean_map": {"beaten": {"hip": False}}})
    assert one == "The network does not beat the mean map of its training labels."
    assert verdict(run[1]) == ""  # a run of an older version
