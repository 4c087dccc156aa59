"""3D Slicer's older point lists, `.fcsv`, one for each picture; `slicer.py` says where a picture lies in its space."""

import csv
import io
import pathlib

from ctd_jax.data import tables
from ctd_jax.data.faults import Fault
from ctd_jax.labels import reading, slicer
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labels

ENDS = ".fcsv"
COLUMNS = ("id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc", "associatedNodeID")
# Slicer 5 adds two cells that no column names; the first one is the status of the point.
PLACED, STATES = "2", ("0", "1", "2", "3")


def recognises(name: str, head: str) -> bool:
    return name.endswith(ENDS)


def read(path: pathlib.Path, context: Context) -> Labels:
    """A file, or a folder of them; see `labels.Format`."""
    return slicer.read_lists(path, ENDS, context, _points)


def _points(file: pathlib.Path) -> slicer.Placed:
    turn, columns = 0, list(COLUMNS)
    points: slicer.Placed = []
    text = tables.read_text(file)
    reading.warn_of_end(file)
    for number, line in enumerate(text.splitlines(), 1):
        at = f"{file}, line {number}"
        key, _, value = (part.strip() for part in line.lstrip("# ").partition("="))
        if line.startswith("#"):
            turn = slicer.sign(value, at) if key == "CoordinateSystem" else turn
            columns = value.split(",") if key == "columns" else columns
        elif line.strip():
            cells = _cells(line, at)
            own = len(columns)
            if len(cells) not in (own, own + 2) or not {"x", "y", "z", "label"} <= set(columns):
                raise Fault(
                    "line", f"{at}: expected {own} cells with x, y, z and label, or {own + 2}, found {len(cells)}"
                )
            row = dict(zip(columns, cells, strict=False))
            x, y, z = (reading.number(row[axis], at) for axis in "xyz")
            if not turn:
                raise Fault("coordinates", f"{at}: expected a line `# CoordinateSystem = LPS` above it, found none")
            status = cells[own] if len(cells) > own else PLACED
            if status not in STATES:
                message = f"{at}: expected 0, 1, 2 or 3 as the status of the point, found {status[:50]!r}"
                raise Fault("line", message)
            position = (turn * x, turn * y, z) if status == PLACED else None
            points.append((row["label"], position, row.get("desc", "")))
    if not points:
        raise Fault("cut short", f"{file}: expected lines of points, found none; is the file cut short?")
    return points


def _cells(line: str, at: str) -> list[str]:
    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise Fault("line", f"{at}: expected cells with commas between ({error})") from error


def write(labels: Labels) -> dict[str, bytes]:
    """A file for each picture, in LPS; see `labels.Format`."""
    contents = {}
    for picture in labels.pictures:
        if not picture.points:
            continue  # such a file would look cut short
        text = io.StringIO()
        text.write("# Markups fiducial file version = 4.13\n# CoordinateSystem = LPS\n")
        text.write(f"# columns = {','.join(COLUMNS)}\n")
        rows = csv.writer(text, lineterminator="\n")
        for i, (name, position, description) in enumerate(slicer.positions(labels, picture)):
            rows.writerow([i, *map(repr, position), 0, 0, 0, 1, 1, 1, 0, name, description, ""])
        name = str(pathlib.PurePosixPath(picture.image).with_suffix(ENDS))
        contents[picture.image] = (name, text.getvalue().encode())
    return reading.separate_files(contents)
