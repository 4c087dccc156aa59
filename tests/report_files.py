"""The files of a finished landmark run, as a report reads them, and its page as a person sees it."""

import csv
import json
from html.parser import HTMLParser

import numpy as np

from ctd_jax import metrics, report
from ctd_jax.metrics import agreement, definitions

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
        parsed = definitions.parse(measured, table.landmarks.tolist(), "here")
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


def written(workdir, spacing=(0.5, 0.5)):
    """The page of a run, written anew."""
    n = len(metrics.read_predictions(workdir / "predictions.csv").images)
    path = report.landmarks.write(workdir, picture, np.tile(spacing, (n, 1)))
    assert path == workdir / "report.html"
    return Page(path.read_text(encoding="utf-8"))
