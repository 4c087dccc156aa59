"""`.pts` of 300-W: a text file for each picture, with points in order. The centre of the first pixel is (1, 1), as in
MATLAB."""

import os
import pathlib

from ctd_jax.data import tables
from ctd_jax.data.faults import Fault
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point


def recognises(name: str, head: str) -> bool:
    return name.endswith(".pts")


def read(path: pathlib.Path, context: Context) -> Labels:
    """A file, or a folder of them, each called as its picture; see `labels.Format`."""
    names: tuple[str, ...] = ()
    first, pictures = "", []
    for file in reading.files_of(path, [".pts"]):
        found = _points(file)
        if not names:
            names, first = context.names_of(len(found), str(file)), str(file)
        if len(found) != len(names):
            message = f"{file}: expected {len(names)} points, as {first} has, found {len(found)}"
            raise Fault("number of points", message)
        image = context.pictures.of_stem(reading.stem(file, path, file.suffix), str(file))
        points = dict(zip(names, found, strict=True))
        pictures.append(Labelled(image, points, context.pictures.size(image), spacing=context.spacing, where=str(file)))
    return Labels(names, tuple(pictures))


def _points(file: pathlib.Path) -> list[Point]:
    text = tables.read_text(file)
    head, opened, rest = text.partition("{")
    body, closed, _ = rest.partition("}")
    if not opened or not closed:
        raise Fault("cut short", f"{file}: expected points between {{ and }}, found no {'}' if opened else '{'}")
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in head.splitlines())}
    points = []
    for number, line in enumerate(body.split("\n"), head.count("\n") + 1):
        if not line.strip():
            continue
        at, cells = f"{file}, line {number}", line.split()
        if len(cells) != 2:
            raise Fault("line", f"{at}: expected x and y with a blank between, found {line.strip()[:50]!r}")
        x, y = (reading.number(cell, at) for cell in cells)
        points.append(Point(x - 1, y - 1))
    if said.get("n_points") != str(len(points)):
        expected = said.get("n_points", "a line n_points: NUMBER")[:50]
        raise Fault("number of points", f"{file}: n_points says {expected}, found {len(points)} points")
    return points


def write(labels: Labels) -> dict[str, bytes]:
    """A file for each picture; see `labels.Format`."""
    contents = {}
    for picture in labels.pictures:
        points = picture.all_points(labels.names, "a .pts file")
        lines = [f"{point.x + 1!r} {point.y + 1!r}" for point in points]
        text = "\n".join(["version: 1", f"n_points: {len(points)}", "{", *lines, "}", ""])
        contents[picture.image] = (os.path.splitext(picture.image)[0] + ".pts", text.encode())
    return reading.separate_files(contents)
