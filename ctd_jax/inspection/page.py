"""The page of an inspected folder, and its summary for the terminal."""

import pathlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.inspection import class_maps, counts
from ctd_jax.inspection.inspected import SHOWN, Inspected, points
from ctd_jax.inspection.reading import domains
from ctd_jax.report import pages, parts
from ctd_jax.text_table import text_table

MAX_THUMBNAILS = 2000  # pictures on the page; those that were named come first
LISTED = 200  # items of a finding that the page lists


def summary(found: Inspected) -> str:
    """The lines for the terminal: what was found, how often, and the first of each."""
    folder = found.folder
    head = f"{folder.root}: {len(folder)} pictures of {len(set(folder.subjects))} subjects"
    if not found.findings:
        return f"{head}; nothing found"
    rows = [("", "found", "number", "first")]
    for one in found.findings:
        first = " ".join(one.items[0].text.split())
        rows.append(("spoils" if one.spoils else "look at", one.title, str(one.number), first))
    return "\n".join([head, "", *text_table(rows, "<  <  >  <", rule=True)])


def write_page(path: pathlib.Path, found: Inspected) -> pathlib.Path:
    """Writes the page; returns its path."""
    folder = found.folder
    table, xy = folder.table, points(folder)
    landmarks = table.landmarks.names if isinstance(table, LandmarkTable) else ()
    known = ~np.isnan(xy).any(-1)
    named = defaultdict(list)
    for one in found.findings:
        for item in one.items:
            for row in item.rows:
                named[row].append(one.title)
    order = sorted(range(len(folder)), key=lambda row: row not in named)[:MAX_THUMBNAILS]
    return pages.write(
        path.parent,
        "check.html",
        path.name,
        name=folder.root.resolve().name,
        inspected=found,
        folder=folder,
        table=table,
        number=len(folder),
        subjects=counts.of_subjects(folder.subjects),
        splits=counts.by_split(folder.split_of, folder.subjects, xy),
        raters=_raters(found),
        missing=[(name, int((~known[:, k]).sum())) for k, name in enumerate(landmarks)],
        landmarks=landmarks,
        classes=_classes(found),
        drawing=_drawing(found, landmarks),
        listed=LISTED,
        shown=SHOWN,
        thumbnails=[_thumbnail(found, xy, row, named.get(row, [])) for row in sorted(order)],
        pictures={row: parts.jpeg_file(folder.looks[row].thumbnail) for row in _shown_rows(found)},
    )


def _raters(found: Inspected) -> list[counts.Rater]:
    """Those of the column `rater`, or whom dataset.json names, and those who have a file all the same."""
    table, xy = found.folder.table, points(found.folder)
    if not isinstance(table, LandmarkTable):
        return []
    declared = () if table.of_raters is None else counts.by_column(table.landmarks.raters, table.of_raters, xy)
    return [*declared, *counts.by_file(found.folder.root, table.images, table.landmarks, xy)]


def _classes(found: Inspected) -> dict[str, list[tuple[str, int, float, int]]]:
    """Domain -> `class_maps.counts`; none in a landmark folder."""
    folder = found.folder
    if isinstance(folder.table, LandmarkTable):
        return {}
    counted = {}
    for domain, rows in domains(folder.table).items():
        size = np.array([folder.looks[row].twin["size"] for row in rows])
        regions = [folder.regions[row] for row in rows]
        counted[domain] = class_maps.counts(folder.table.classes[domain], regions, size)
    return counted


def _drawing(found: Inspected, landmarks: Sequence[str]) -> dict[str, Any] | None:
    """The mean shape with its pairs of left and right, in a square from 0 to 100."""
    if found.pairs is None:
        return None
    shape = found.pairs.shape
    shape = shape - (np.nanmin(shape.real) + 1j * np.nanmin(shape.imag))
    shape = 5 + 90 * shape / max(np.nanmax(shape.real), np.nanmax(shape.imag), 1e-9) + 5j
    return {
        "dots": [(z.real, z.imag, name) for z, name in zip(shape, landmarks, strict=True) if not np.isnan(z)],
        "lines": [(shape[a], shape[b]) for a, b in found.pairs.pairs if not np.isnan(shape[a] + shape[b])],
        "height": float(np.nanmax(shape.imag)) + 5,
        "source": found.pairs.source,
    }


def _shown_rows(found: Inspected) -> set[int]:
    """The pictures whose thumbnails stand beside a finding."""
    items = [item for one in found.findings for item in one.items[:SHOWN] if not item.images]
    return {row for item in items for row in item.rows}


def _thumbnail(found: Inspected, xy: np.ndarray, row: int, named: list[str]) -> dict[str, Any]:
    folder = found.folder
    width, height = folder.looks[row].twin["size"].tolist()
    dots = [point for point in xy[row] if not np.isnan(point).any()]
    return {
        "row": row,
        "name": folder.table.images[row],
        "caption": f"{folder.table.subjects[row]}, {folder.split_of[row] or 'no split'}",
        "source": parts.jpeg_file(folder.looks[row].thumbnail),
        "width": width,
        "height": height,
        "dots": "".join(f"M{x + 0.5:.5g} {y + 0.5:.5g}h0" for x, y in dots),
        "named": list(dict.fromkeys(named)),
    }
