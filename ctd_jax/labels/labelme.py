"""LabelMe: a JSON file for each picture. (0, 0) is the corner of the picture, so the centre of the first pixel is at
(0.5, 0.5)."""

import json
import logging
import os
import pathlib

from ctd_jax.data import tables
from ctd_jax.data.faults import Fault
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point

_log = logging.getLogger(__name__)


def recognises(name: str, head: str) -> bool:
    return name.endswith(".json") and '"shapes"' in head and '"imagePath"' in head


def read(path: pathlib.Path, context: Context) -> Labels:
    """A file, or a folder of them; see `labels.Format`."""
    found: list[str] = []
    pictures, others = [], 0
    for file in reading.files_of(path, [".json"]):
        content, at = tables.load_json(file), str(file)
        image = _find(reading.member(content, "imagePath", str, at), file, path, context)
        points: dict[str, Point] = {}
        groups = set()
        for i, shape in enumerate(reading.member(content, "shapes", list, at)):
            where = f"{at}, shapes[{i}]"
            if reading.member(shape, "shape_type", str, where) != "point":
                others += 1
                continue
            name = reading.member(shape, "label", str, where)
            groups.add(shape.get("group_id"))
            reading.add_once(points, name, _point(reading.member(shape, "points", list, where), where), where)
            found.append(name)
        if len(groups) > 1:
            raise Fault("two in a picture", f"{at}: expected one group_id, found {len(groups)}; cut the picture up")
        size = reading.size(content, ("imageWidth", "imageHeight"), at)
        subject = reading.word(content.get("subject"))
        pictures.append(Labelled(image, points, size, subject, context.spacing, where=at))
    if others:
        _log.warning("%s: %d shapes that are no points are left out", path, others)
    return Labels(context.ordered(found, str(path)), tuple(pictures))


def _find(name: str, file: pathlib.Path, root: pathlib.Path, context: Context) -> str:
    """The picture of a label file. imagePath is relative to the label file, which lies among the pictures, in a folder
    `root` that is as theirs, or elsewhere (../images/a.png)."""
    name, pictures = name.replace("\\", "/"), context.pictures.root
    root = root if root.is_dir() else root.parent
    for top in (pictures, root):
        beside = pathlib.PurePath(os.path.relpath(file.parent / name, top)).as_posix()
        part_of_theirs = top == root and os.path.isfile(pictures / root.resolve().name / beside)
        if not beside.startswith("../") and os.path.isfile(pictures / beside) and not part_of_theirs:
            return beside
    while name.startswith("../"):
        name = name.removeprefix("../")
    return context.pictures.find(name, str(file), cut=True)


def _point(values: list, at: str) -> Point:
    if len(values) != 1 or not isinstance(values[0], list) or len(values[0]) != 2:
        raise Fault("number of points", f"{at}: expected `points` with one point, [[x, y]], found {values!r:.80}")
    x, y = (reading.number(value, at) for value in values[0])
    return Point(x - 0.5, y - 0.5)


def write(labels: Labels) -> dict[str, bytes]:
    """A file beside each picture; see `labels.Format`."""
    contents = {}
    for picture in labels.pictures:
        width, height = picture.known_size()
        shapes: list[dict[str, object]] = [
            {
                "label": name,
                "points": [[picture.points[name].x + 0.5, picture.points[name].y + 0.5]],
                "group_id": None,
                "shape_type": "point",
                "flags": {},
            }
            for name in labels.names
            if name in picture.points
        ]
        content: dict[str, object] = {
            "version": "5.0.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": os.path.basename(picture.image),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        } | ({"subject": picture.subject} if picture.subject else {})
        name = os.path.splitext(picture.image)[0] + ".json"
        contents[picture.image] = (name, json.dumps(content, indent=1).encode())
    return reading.separate_files(contents)
