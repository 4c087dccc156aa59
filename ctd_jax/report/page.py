"""The report of a run: `report.html`, one file that needs no other, and its figures, made from the run's files only."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ctd_jax import files, versions
from ctd_jax import metrics as metrics_
from ctd_jax.metrics import agreement
from ctd_jax.report import curves, overlays, pairs, parts, tables

PANEL_SIDE = 420  # pixels of the longer side of a picture in the report


def write(workdir: str | Path, pictures: Callable[[str], np.ndarray]) -> Path:
    """Writes `report.html`, `ced.png`, `overlays.png`, `curves.png` and, where there are measurements,
    `measurements.png` into the workdir.

    Args:
      workdir: holds `config.json`, `predictions.csv`, `metrics.json` (with "split" and "normalizer"); and, if there are
        any, `metrics_<split>.json`, `log.csv`, `split.csv` and `twins.csv`; `measurements.csv`, if `metrics.json` has
        measurements.
      pictures: gives the original picture of an image name, `[H, W, 3]` uint8; called for the few that are shown.

    Returns:
      Path of `report.html`.

    Raises:
      UserError: `predictions.csv` or `measurements.csv` is missing or not as written.
    """
    workdir = Path(workdir)
    metrics = parts.json_of(workdir / "metrics.json")
    table = metrics_.read_predictions(workdir / "predictions.csv")
    normalizer = tuple(metrics["normalizer"]) if metrics.get("normalizer") else None
    errors = metrics_.image_error(table, normalizer, metrics["ced_measure"])
    subjects = metrics_.subject_units(table)
    split = _split(workdir, table)

    panels = list(_panels(table, errors, metrics, pictures))
    sheet = overlays.montage(panels, PANEL_SIDE)
    files.write_bytes(workdir / "overlays.png", parts.png_bytes(sheet))
    parts.save(curves.ced(errors, subjects, metrics), workdir / "ced.png")
    parts.save(curves.training(parts.log(workdir / "log.csv")), workdir / "curves.png")
    figures = ["ced", "curves"]
    if "measurements" in metrics:
        measured = agreement.read(workdir / "measurements.csv")
        parts.save(curves.bland_altman(measured, metrics), workdir / "measurements.png")
        figures.append("measurements")

    page = parts.page(
        "page.html",
        name=workdir.resolve().name,
        metrics=metrics,
        tables=tables,
        splits=[parts.json_of(path) for path in sorted(workdir.glob("metrics_*.json"))],
        subjects=len(set(subjects[np.isfinite(table.error_px).any(axis=1)])),
        measured=int(np.isfinite(errors).sum()),
        cautions=tables.cautions(metrics),
        versions_line=versions.line(metrics.get("versions", {})),
        pairs=pairs.read(workdir, {row["image"] for row in split}, set(table.images.tolist()), pictures),
        shared=_shared_subjects(split, table),
        counts=parts.counts(split),
        figures={name: parts.png(workdir / f"{name}.png") for name in figures},
        panels=[
            (group, [(panel, parts.jpeg(panel.image)) for panel in members])
            for group, members in itertools.groupby(panels, key=lambda panel: panel.group)
        ],
        legend=parts.jpeg(overlays.legend(440)),
        config=dict(parts.flat(parts.json_of(workdir / "config.json"))),
    )
    path = workdir / "report.html"
    files.write_text(path, page)
    return path


def _panels(
    table: metrics_.Predictions, errors: np.ndarray, metrics: Mapping, pictures: Callable[[str], np.ndarray]
) -> Iterator[overlays.Panel]:
    words = tables.quantity(metrics["ced_measure"], metrics)
    for group, indices in overlays.choose(errors).items():
        for i in indices:
            name = str(table.images[i])
            image = overlays.draw(pictures(name), table.xy[i], table.true_xy[i], side=PANEL_SIDE)
            yield overlays.Panel(group, name, words.text(errors[i]), image)


def _split(workdir: Path, table: metrics_.Predictions) -> list[dict[str, str]]:
    """Rows of split.csv; where the other domains only help, those of the one that is judged, without its name."""
    rows = parts.rows(workdir / "split.csv")
    if not set(table.images.tolist()).isdisjoint(row["image"] for row in rows):
        return rows
    helping = parts.json_of(workdir / "config.json").get("data", {}).get("helping", ())
    judged = [row for row in rows if row["image"].split("/")[0] not in helping]
    return [row | {key: row[key].partition("/")[2] for key in ("image", "subject")} for row in judged]


def _shared_subjects(split: list[dict[str, str]], table: metrics_.Predictions) -> int | None:
    """Number of evaluated subjects who were also seen in training; None where split or subjects are unknown."""
    if not split or "" in table.subjects:
        return None
    seen = {row["subject"] for row in split if row["split"] in ("train", "val")} - {""}
    return len(seen & set(table.subjects.tolist()))
