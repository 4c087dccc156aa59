"""ImageJ's table of results, csv: a row for each point, with X, Y and, where `Label` is measured, a picture. After its
name may stand that of a ROI, which is the name of the point, and the slice of a stack: `a.tif:tip:1`. Points without
names are known by their order.

Numbers are pixels, 0 the centre of the first one, as here; of a picture with a scale ImageJ writes its unit instead.
"""

import csv
import io
import os
import pathlib
from collections.abc import Sequence

from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import imagej, reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point

PAGES = ("Slice", "Frame")  # columns, of a stack
Rows = dict[str, list[tuple[str, Point, str]]]  # picture -> name of each point or "", point, file and line


def recognises(name: str, head: str) -> bool:
    header = [cell.strip() for cell in head.partition("\n")[0].split(",")]
    return name.endswith(".csv") and {"X", "Y"} <= set(header) and "image" not in header


def read(path: pathlib.Path, context: Context) -> Labels:
    """A file of all pictures, or a folder with one for each, called as it; see `labels.Format`."""
    by_image: Rows = {}
    file_of: dict[str, pathlib.Path] = {}
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
            label, name = _parts(row.get("Label", ""), context)
            if label:
                image = context.pictures.find(label, at)
            else:
                image = context.pictures.of_stem(reading.stem(file, path, file.suffix), at)
            if file_of.setdefault(image, file) != file:
                raise Fault("picture twice", f"{at}: {image} has points in {file_of[image]}, too; give one of them")
            pages = [row[key] for key in PAGES if row.get(key)]
            before, _, last = name.rpartition(":")
            if last.isdecimal() and image.lower().endswith(reading.PAGED):
                name, pages = before, [*pages, last]
            for page in pages:
                reading.check_page(image, reading.number(page, at), at)
            x, y = (reading.number(row[axis], f"{at}, {axis}") for axis in "XY")
            by_image.setdefault(image, []).append((name, Point(x, y), at))
    if any(_are_names([name for name, *_ in rows], context) for rows in by_image.values()):
        return _by_name(by_image, context, path)
    return _by_order(by_image, context)


def _parts(label: str, context: Context) -> tuple[str, str]:
    """The name of a picture, and what follows it."""
    if os.path.isfile(context.pictures.root / label):  # 12:30:05.png
        return label, ""
    image, _, rest = label.partition(":")
    return image, rest


def _are_names(found: Sequence[str], context: Context) -> bool:
    """Whether what follows a picture in its rows are names of points: of --names, or different words. Else it is the
    place of a ROI, as ImageJ calls it, its number, or the name that one ROI gives to all of its points."""
    numbers = {str(i + 1) for i in range(len(found))}
    different = len(set(found)) == len(found) and "" not in found
    words = not any(name.isdecimal() or imagej.PLACE.fullmatch(name) for name in found)
    return bool(set(found) & set(context.names)) or (different and (words or set(found) == numbers))


def _by_name(by_image: Rows, context: Context, path: pathlib.Path) -> Labels:
    pictures, found = [], []
    for image, rows in by_image.items():
        points: dict[str, Point] = {}
        for name, point, at in rows:
            if not name:
                raise Fault("name", f"{at}: expected {image}:NAME, as other points have names, found none")
            reading.add_once(points, name, point, at)
            found.append(name)
        size, (*_, first) = context.pictures.size(image), rows[0]
        pictures.append(Labelled(image, points, size, spacing=context.spacing, where=first))
    return Labels(context.ordered(found, str(path)), tuple(pictures))


def _by_order(by_image: Rows, context: Context) -> Labels:
    pictures = []
    names: tuple[str, ...] = ()
    for image, rows in by_image.items():
        *_, at = rows[0]
        names = names or context.names_of(len(rows), at)
        if len(rows) != len(names):
            raise Fault("number of points", f"{at}: expected {len(names)} points of {image}, found {len(rows)}")
        named = {name: point for name, (_, point, _) in zip(names, rows, strict=True)}
        size = context.pictures.size(image)
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
