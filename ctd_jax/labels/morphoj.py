"""MorphoJ's table: `ID`, then x1, y1, x2, y2, ... of points in order, a row for each specimen; tabs between the cells.

MorphoJ knows no pictures. The ID is the name of one, and numbers are those of TPS: y counts from the bottom, because
MorphoJ draws it upwards.
"""

import csv
import io
import os
import pathlib

from ctd_jax import files
from ctd_jax.data import pictures, tables
from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point

ENDS = (".txt", ".csv")


def recognises(name: str, head: str) -> bool:
    header = head.lstrip("\ufeff").partition("\n")[0].lower()
    rows = ([cell.strip() for cell in header.split(mark)] for mark in tables.DELIMITERS)
    return name.endswith(ENDS) and any(cells[:3] == ["id", "x1", "y1"] for cells in rows)


def read(path: pathlib.Path, context: Context) -> Labels:
    """One file; see `labels.Format`."""
    path = reading.only_file(path, ENDS)
    (_, header), *rows = reading.csv_rows(path) or [("", [])]
    number = (len(header) - 1) // 2
    expected = ["id", *(f"{axis}{i + 1}" for i in range(number) for axis in "xy")]
    if number < 1 or [cell.lower() for cell in header] != expected:
        found = ", ".join(header)[:100] or "nothing"
        raise UserError(f"{path}: expected a header of ID, x1, y1, x2, y2 and so on, found {found}")
    if not rows:
        raise UserError(f"{path}: expected a row for each specimen, found none")
    names = context.names_of(number, f"{path}, line 1")
    found_pictures = []
    for at, cells in rows:
        if len(cells) != len(header):
            raise Fault("row of another length", f"{at}: expected {len(header)} cells, found {len(cells)}")
        image = _find(files.plain(cells[0]), at, context)
        width, height = context.pictures.size(image)
        points = {}
        for k, name in enumerate(names):
            x, y = (reading.number(cell, f"{at}, {name}") for cell in cells[1 + 2 * k : 3 + 2 * k])
            points[name] = Point(x, height - y)
        found_pictures.append(Labelled(image, points, (width, height), spacing=context.spacing, where=at))
    return Labels(names, tuple(found_pictures))


def _find(name: str, at: str, context: Context) -> str:
    """The picture of an ID, which has its ending or not."""
    whole = name.lower().endswith((*pictures.SUFFIXES, ".gif")) or os.path.isfile(context.pictures.root / name)
    return context.pictures.find(name, at) if whole else context.pictures.of_stem(name, at)


def write(labels: Labels) -> dict[str, bytes]:
    """One file; see `labels.Format`."""
    text = io.StringIO()
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    rows.writerow(["ID", *(f"{axis}{i + 1}" for i in range(len(labels.names)) for axis in "xy")])
    for picture in labels.pictures:
        _, height = picture.known_size()
        points = picture.all_points(labels.names, "MorphoJ")
        rows.writerow(
            [files.cell(picture.image), *(repr(value) for one in points for value in (one.x, height - one.y))]
        )
    return {"": text.getvalue().encode()}
