"""The report of a landmark run: `report.html`, one file, and its figures, from the files of the run."""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ctd_jax import files
from ctd_jax.metrics import (
    Predictions,
    agreement,
    definitions,
    image_error,
    measurements,
    presence,
    raters,
    read_predictions,
    subject_units,
)
from ctd_jax.report import curves, overlays, pages, pairs, parts, tables
from ctd_jax.report.tables import Metrics

PANEL_SIDE = 420  # pixels of the longer side of a picture in the report


def write(workdir: str | Path, pictures: Callable[[str], np.ndarray], spacing: np.ndarray) -> Path:
    """Writes `report.html`, `ced.png`, `overlays.png`, `curves.png` and, where there are measurements,
    `measurements.png`, and where there are radii, `reliability.png` into the workdir.

    Args:
      workdir: holds `config.json`, `predictions.csv`, `metrics.json` (with "split" and "normalizer"), and, if the
        latter has measurements and raters, `measurements.csv` and `raters.csv`; also, if there are any,
        `metrics_<split>.json`, `log.csv`, `split.csv` and `twins.csv`.
      pictures: gives the original picture of an image name, `[H, W, 3]` uint8; it is called for the few that are shown.
      spacing: `[N, 2]` mm per pixel of the pictures of `predictions.csv`, NaN where unknown.

    Returns:
      Path of `report.html`.

    Raises:
      UserError: `predictions.csv` or `measurements.csv` is missing or not as written.
    """
    workdir = Path(workdir)
    metrics = parts.json_of(workdir / "metrics.json")
    table = read_predictions(workdir / "predictions.csv")
    normalizer = tuple(metrics["normalizer"]) if metrics.get("normalizer") else None
    errors = image_error(table, normalizer, metrics["ced_measure"])
    subjects = subject_units(table)
    split = _split(workdir, table)

    panels = list(_panels(table, errors, metrics, pictures, spacing))
    legend = functools.partial(overlays.legend_of_points, measured="measurements" in metrics)
    sheet = overlays.montage(panels, PANEL_SIDE, legend)
    files.write_bytes(workdir / "overlays.png", parts.png_bytes(sheet))
    parts.save(curves.ced(errors, subjects, metrics, _people(workdir, table, metrics)), workdir / "ced.png")
    parts.save(curves.training(parts.log(workdir / "log.csv")), workdir / "curves.png")
    figures = ["ced", "curves"]
    if "measurements" in metrics:
        measured = agreement.read(workdir / "measurements.csv")
        parts.save(curves.bland_altman(measured, metrics), workdir / "measurements.png")
        figures.append("measurements")

    if metrics.get("radius", {}).get("reliability"):
        parts.save(curves.reliability(metrics["radius"]), workdir / "reliability.png")
        figures.append("reliability")

    known, evaluated = {row["image"] for row in split}, set(table.images.tolist())
    return pages.write(
        workdir,
        "landmarks.html",
        **parts.of_run(workdir, metrics, split),
        tables=tables,
        splits=[parts.json_of(path) for path in sorted(workdir.glob("metrics_*.json"))],
        subjects=len(set(subjects[np.isfinite(table.error_px).any(axis=1)])),
        measured=int(np.isfinite(errors).sum()),
        pairs=pairs.read(workdir, known, evaluated, pictures),
        shared=_shared_subjects(split, table),
        figures={name: parts.png(workdir / f"{name}.png") for name in figures},
        panels=[(panel, parts.jpeg(panel.image)) for panel in _side_by_side(panels)],
        legend=parts.jpeg(legend(overlays.WIDTH_OF_LEGEND)),
    )


def _panels(
    table: Predictions,
    errors: np.ndarray,
    metrics: Metrics,
    pictures: Callable[[str], np.ndarray],
    spacing: np.ndarray,
) -> Iterator[overlays.Panel]:
    words = tables.quantity(metrics["ced_measure"], metrics)
    of = {name: one["of"] for name, one in metrics.get("measurements", {}).items()}
    names = table.landmarks.tolist()
    measured = definitions.parse(of, names, "metrics.json")
    there = presence.there_alone(table)
    for group, indices in overlays.choose(errors).items():
        for i in indices:
            name = str(table.images[i])
            picture = pictures(name)
            image = overlays.paint_points(
                picture, there.xy[i], there.true_xy[i], radius=there.radius_px[i], side=PANEL_SIDE
            )
            overlays.paint_lines(image, picture, measurements.lines(measured, names, there.xy[i], spacing[i]))
            yield overlays.Panel(group, name, words.text(errors[i]), image)


def _side_by_side(panels: list[overlays.Panel]) -> list[overlays.Panel]:
    """The best, the median and the worst picture, then the next of each group."""
    groups = {group: list(members) for group, members in itertools.groupby(panels, key=lambda panel: panel.group)}
    groups["worst"] = groups.get("worst", [])[::-1]
    return [panel for row in itertools.zip_longest(*groups.values()) for panel in row if panel]


def _people(workdir: Path, table: Predictions, metrics: Metrics) -> dict[str, np.ndarray]:
    """Label -> `[N]` error of each picture, of people; empty where fewer than two annotated it."""
    if "people" not in metrics.get("raters", {}):
        return {}
    distances = raters.read(workdir / "raters.csv", table)
    normalizer = tuple(metrics["normalizer"]) if metrics.get("normalizer") else None
    pairs = {"an annotator from another": distances.of_people, "the network from an annotator": distances.of_network}
    return {label: distances.image_error(table, of, normalizer, metrics["ced_measure"]) for label, of in pairs.items()}


def _split(workdir: Path, table: Predictions) -> list[dict[str, str]]:
    """Rows of split.csv. Where the other domains only help, they are those of the evaluated one, without its name."""
    rows = parts.rows(workdir / "split.csv")
    if not set(table.images.tolist()).isdisjoint(row["image"] for row in rows):
        return rows
    helping = parts.json_of(workdir / "config.json").get("data", {}).get("helping", ())
    evaluated = [row for row in rows if row["image"].split("/")[0] not in helping]
    return [row | {key: row[key].partition("/")[2] for key in ("image", "subject")} for row in evaluated]


def _shared_subjects(split: list[dict[str, str]], table: Predictions) -> int | None:
    """Number of evaluated subjects with other pictures in train or val; None where split or subjects are unknown."""
    if not split or "" in table.subjects:
        return None
    evaluated = set(table.images.tolist())
    others = (row for row in split if row["image"] not in evaluated)
    seen = {row["subject"] for row in others if row["split"] in ("train", "val")} - {""}
    return len(seen & set(table.subjects.tolist()))
