"""A row for each picture and point, csv: our table as it is (`table.COLUMNS`), for R, pandas and spreadsheets. Of these
columns `image`, `point`, `x` and `y` are needed."""

import csv
import io
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from ctd_jax import files
from ctd_jax.data import columns, tables
from ctd_jax.data.cells import Cells
from ctd_jax.data.faults import Fault, Faults
from ctd_jax.errors import UserError
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import ABSENT, COLUMNS, HIDDEN, STATES, Labelled, Labels, Point

NEEDED = ("image", "point", "x", "y")


def recognises(name: str, head: str) -> bool:
    header = head.lstrip("\ufeff").partition("\n")[0].lower()
    cells = {cell.strip() for mark in tables.DELIMITERS for cell in header.split(mark)}
    return name.endswith(".csv") and set(NEEDED) <= cells


def read(path: pathlib.Path, context: Context) -> Labels:
    """One file; see `labels.Format`. Encodings, semicolons and decimal commas are read as in landmarks.csv."""
    path = reading.only_file(path, [".csv"])
    faults = Faults(str(path))
    sheet = columns.match(tables.read(path), COLUMNS, faults)
    reading.warn_of_end(path)
    check_columns(sheet.columns, path)
    cells = Cells(sheet, faults)
    rows = ((f"{path}, row {number}", row) for number, row in sheet.rows(faults))
    labels = of_rows(rows, context, str(path), cells.number, cells.word)
    cells.say()
    faults.raise_if_any()
    return labels


def check_columns(names: Sequence[str], path: pathlib.Path) -> None:
    """Raises UserError if a column is lacking."""
    lacking = [name for name in NEEDED if name not in names]
    if lacking:
        found = tables.listed(list(names)) or "none"
        raise UserError(f"{path}: expected the columns {', '.join(NEEDED)}, found {found}: no {', '.join(lacking)}")


def of_rows(
    rows: Iterable[tuple[str, Mapping[str, str]]],
    context: Context,
    at: str,
    number: Callable[[str, str, str], float],
    word: Callable[[str, str], str],
) -> Labels:
    """The labels of a table.

    Args:
      rows: file and row of each, and its cells by name.
      context: the pictures.
      at: the file, for messages.
      number: a cell as a number, NaN where it is empty; it gets the cell, its column, file and row.
      word: a cell as a subject, "" where it is empty; it gets the cell and its column.
    """
    points: dict[tuple[str, str], dict[str, Point]] = {}  # picture and who -> its points
    firsts: dict[tuple[str, str], tuple[str, Mapping[str, str]]] = {}
    found: list[str] = []
    for where, row in rows:
        cell = {name: files.plain(row.get(name, "")) for name in COLUMNS}
        cell["subject"] = files.plain(word(row.get("subject", ""), "subject"))
        key = (context.pictures.find(cell["image"], where), cell["who"])
        first_at, first = firsts.setdefault(key, (where, cell))
        for name in ("subject", "width", "height"):
            if cell[name] != first[name]:
                raise Fault(
                    name, f"{where}: expected {name} {first[name]!r:.50} as in {first_at}, found {cell[name]!r:.50}"
                )
        name = cell["point"]
        found.append(name)
        x, y, confidence = (number(cell[axis], axis, where) for axis in ("x", "y", "confidence"))
        if cell["state"] not in ("", *STATES):
            raise Fault("state", f"{where}: expected a state of {', '.join(STATES)}, found {cell['state']!r:.50}")
        absent = math.isnan(x) and math.isnan(y)
        if math.isnan(x) != math.isnan(y) or (cell["state"] == ABSENT) > absent:
            raise Fault("half a point", f"{where}: expected both x and y, or neither where {name!r:.100} is absent")
        own = points.setdefault(key, {})
        if not absent:
            reading.add_once(own, name, Point(x, y, cell["state"] == HIDDEN, confidence), where)
    pictures = []
    for (image, who), own in points.items():
        where, first = firsts[image, who]
        sized = first["width"] and first["height"]
        size = reading.size(dict(first), ("width", "height"), where) if sized else None
        pictures.append(Labelled(image, own, size, first["subject"], context.spacing, who, where))
    return Labels(context.ordered(found, at), tuple(pictures))


def write(labels: Labels) -> dict[str, bytes]:
    """One file; see `labels.Format`."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows(cells(row) for row in labels.rows())
    return {"": text.getvalue().encode()}


def cells(row: Sequence[str]) -> list[str]:
    """A row whose words no spreadsheet takes for formulas."""
    numbers = ("x", "y", "confidence")
    return [cell if name in numbers else files.cell(cell) for name, cell in zip(COLUMNS, row, strict=True)]
