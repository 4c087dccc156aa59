"""ImageJ's table of results, csv: a row for each point, in order, with X, Y and, where `Label` is measured, a picture.

Numbers are pixels, 0 the centre of the first one, as here; of a picture with a scale ImageJ writes its unit instead.
"""

import csv
import io
import pathlib

from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point


def recognises(name: str, head: str) -> bool:
    header = [cell.strip() for cell in head.partition("\n")[0].split(",")]
    return name.endswith(".csv") and {"X", "Y"} <= set(header) and "image" not in header


def read(path: pathlib.Path, context: Context) -> Labels:
    """A file of all pictures, or a folder with one for each, called as it; see `labels.Format`."""
    by_image: dict[str, tuple[list[Point], str]] = {}
    for file in reading.files_of(path, [".csv"]):
        (_, header), *rows = reading.csv_rows(file) or [("", [])]
        if not {"X", "Y"} <= set(header):
            raise UserError(f"{file}: expected a header with X and Y, found {', '.join(header)[:100] or 'nothing'}")
        if not rows:
            raise UserError(f"{file}: expected a row for each point, found none")
        for at, cells in rows:
            if len(cells) != len(header):
                raise Fault("row of another length", f"{at}: expected {len(header)} cells, found {len(cells)}")
            row = dict(zip(header, cells, strict=True))
            label = row.get("Label", "").partition(":")[0]  # a.tif:0001-0002 of a stack
            if label:
                image = context.pictures.find(label, at)
            else:
                image = context.pictures.of_stem(reading.stem(file, path, file.suffix), at)
            x, y = (reading.number(row[axis], f"{at}, {axis}") for axis in "XY")
            by_image.setdefault(image, ([], at))[0].append(Point(x, y))
    pictures = []
    names: tuple[str, ...] = ()
    for image, (points, at) in by_image.items():
        names = names or context.names_of(len(points), at)
        if len(points) != len(names):
            raise Fault("number of points", f"{at}: expected {len(names)} points of {image}, found {len(points)}")
        named, size = dict(zip(names, points, strict=True)), context.pictures.size(image)
        pictures.append(Labelled(image, named, size, spacing=context.spacing, where=at))
    return Labels(names, tuple(pictures))


def write(labels: Labels) -> dict[str, bytes]:
    """One file; see `labels.Format`."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([" ", "Label", "X", "Y"])
    number = 0
    for picture in labels.pictures:
        for point in picture.all_points(labels.names, "a table of results"):
            number += 1
            rows.writerow([number, picture.image, repr(point.x), repr(point.y)])
    return {"": text.getvalue().encode()}
