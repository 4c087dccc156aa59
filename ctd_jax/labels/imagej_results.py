"""ImageJ's table of results, csv: a row for each point, with X, Y and, where `Label` is measured, a picture. After its
name may stand that of a ROI, which is the name of the point, and the slice of a stack: `a.tif:tip:1`. Points without
names are known by their order.

Numbers are pixels, 0 the centre of the first one, as here; of a picture with a scale ImageJ writes its unit instead.
"""

import collections
import csv
import io
import itertools
import logging
import os
import pathlib
import re
from collections.abc import Sequence

from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import imagej, reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point

_log = logging.getLogger(__name__)
OF_ROI = re.compile(rf"{imagej.PLACE.pattern}$|[czt]:\d+/\d+")  # its place, or how the label of a slice begins
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
    return _labels(by_image, context, path)


def _parts(label: str, context: Context) -> tuple[str, str]:
    """The name of a picture, and what follows it."""
    if os.path.isfile(context.pictures.root / label):  # 12:30:05.png
        return label, ""
    image, _, rest = label.partition(":")
    return image, rest


def _words(found: Sequence[str]) -> set[str]:
    """What follows a picture in its rows, if it may be names of points: different words, or the numbers from 1. Else it
    is the place of a ROI, as ImageJ calls it, the slice, or the name that one ROI gives to all of its points."""
    numbers = {str(i + 1) for i in range(len(found))}
    words = not any(not name or name.isdecimal() or OF_ROI.match(name) for name in found)
    different = len(set(found)) == len(found)
    return set(found) if different and (words or set(found) == numbers) else set()


def _are_names(found: Sequence[set[str]], words: Sequence[set[str]], context: Context) -> bool:
    """Whether what follows the pictures names points: among --names, numbers, or words that pictures share; `found` and
    `words`: of each picture, all and see `_words`."""
    every, pictures_of = set().union(*found), collections.Counter(itertools.chain.from_iterable(found))
    if not every.isdisjoint(context.names) or (any(words) and all(name.isdecimal() for name in every)):
        return True
    if context.names:
        return len(words) > 1 and all(words) and all(one == words[0] for one in words)
    return any(pictures_of[word] > 1 or len(words) == 1 for word in set().union(*words))


def _labels(by_image: Rows, context: Context, path: pathlib.Path) -> Labels:
    found = {image: [name for name, *_ in rows] for image, rows in by_image.items()}
    words = {image: _words(names) for image, names in found.items()}
    are_names = _are_names([*map(set, found.values())], [*words.values()], context)
    if any(words.values()) and not are_names:
        _log.warning("%s: what follows a picture in its `Label`, first %s, is taken for no name of a point; points are "
                     "known by their order", path, min(next(filter(None, words.values()))))  # fmt: skip
    ordered: tuple[str, ...] = ()
    listed: list[str] = []
    pictures = []
    for image, rows in by_image.items():
        *_, first = rows[0]
        if are_names and (words[image] or not context.names or not {*found[image]}.isdisjoint(context.names)):
            names = tuple(_name(name, image, at, context) for name, _, at in rows)
        else:
            names = ordered = ordered or context.names_of(len(rows), first)
        if len(rows) != len(names):
            raise Fault("number of points", f"{first}: expected {len(names)} points of {image}, found {len(rows)}")
        points: dict[str, Point] = {}
        for name, (_, point, at) in zip(names, rows, strict=True):
            reading.add_once(points, name, point, at)
        listed += names
        pictures.append(Labelled(image, points, context.pictures.size(image), spacing=context.spacing, where=first))
    return Labels(context.ordered(listed, str(path)), tuple(pictures))


def _name(found: str, image: str, at: str, context: Context) -> str:
    """The name of a point, of --names where it is a number."""
    if not found or OF_ROI.match(found):
        raise Fault("name", f"{at}: expected {image}:NAME, as other points have names, found {found or 'none'}")
    return context.numbered(found) if found.isdecimal() and found not in context.names else found


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
