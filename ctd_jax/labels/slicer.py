"""3D Slicer's point lists, `.mrk.json`, one for each picture and called as it.

Positions are mm in the space of a patient. A picture without directions of its own lies in it as a plane: columns go to
the left (L), rows to the back (P), from the centre of the first pixel. So x and y of LPS are column and row times the
spacing, and those of RAS are the same negated. A list does not say the spacing; ours say it in the description of each
point, which Slicer keeps.
"""

import json
import logging
import pathlib
import re
from collections.abc import Callable

from ctd_jax.data import tables
from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point

_log = logging.getLogger(__name__)
ENDS = ".mrk.json"
SIGNS = {"LPS": 1, "1": 1, "RAS": -1, "0": -1}  # of x and y; older files have the numbers
UNKNOWN = (1.0, 1.0)  # mm of a pixel, of a picture that was opened without any
FLAT = 1e-3  # mm; a picture has no third dimension
SCHEMA = "https://raw.githubusercontent.com/Slicer/Slicer/main/Modules/Loadable/Markups/Resources/Schema/"
DEFINED = "defined"
SPACED = re.compile(r"(\S+) x (\S+) mm a pixel")  # in the description of a point of ours
# Name, position in mm of LPS (None: absent), and description of each point.
Placed = list[tuple[str, tuple[float, float, float] | None, str]]


def recognises(name: str, head: str) -> bool:
    return name.endswith(".json") and '"markups"' in head and '"controlPoints"' in head


def read(path: pathlib.Path, context: Context) -> Labels:
    """A file, or a folder of them; see `labels.Format`."""
    return read_lists(path, ENDS, context, _points)


def read_lists(path: pathlib.Path, ends: str, context: Context, points_of: Callable[[pathlib.Path], Placed]) -> Labels:
    """The points of files, each of the picture that is called as the file.

    Args:
      path: a file, or a folder of them.
      ends: of their names.
      context: the pictures and their spacing.
      points_of: gives the points of a file.

    Raises:
      UserError: there is no spacing, or a point does not lie in the plane of a picture.
    """
    found: list[str] = []
    pictures, unknown, others = [], False, 0
    for file in reading.files_of(path, [ends]):
        stem, placed = reading.stem(file, path, ends), points_of(file)
        image = context.pictures.of_stem(stem, str(file))
        said = _said(placed, str(file))
        if len(said) > 1 and context.spacing is None:
            several = tables.listed([f"{x:g} x {y:g}" for x, y in sorted(said)], 3)
            raise Fault(
                "spacing",
                f"{file}: expected one spacing in the descriptions of points, found {several} mm a pixel; give that "
                "which the picture had in Slicer, --spacing=MM",
            )
        spacing = context.spacing or next(iter(said), None)
        if placed and spacing is None:
            raise UserError(
                f"{file}: positions are in mm; give the mm of a pixel that the pictures had in Slicer, --spacing=MM (1 "
                "where a PNG or JPEG was opened without any)"
            )
        x_mm, y_mm = spacing or UNKNOWN
        unknown |= spacing == UNKNOWN
        others += bool(said - {spacing})
        points: dict[str, Point] = {}
        for called, position, _ in placed:
            name = called if said else _numbered(called, stem, context)
            found.append(name)
            if position is None:
                continue
            x, y, z = position
            if abs(z) > FLAT:
                at_point = f"{file}, {name[:100]}"
                raise Fault("three dimensions", f"{at_point}: expected a point in the plane z = 0, found {z:g}")
            reading.add_once(points, name, Point(x / x_mm, y / y_mm), str(file))
        size, own = context.pictures.size(image), None if spacing == UNKNOWN else spacing
        pictures.append(Labelled(image, points, size, spacing=own, where=str(file)))
    if unknown:
        _log.warning("%s: 1 mm a pixel is what Slicer takes where a picture has no spacing, so none is written; where "
                     "it is known, fill spacing_x_mm and spacing_y_mm of landmarks.csv", path)  # fmt: skip
    if others:
        _log.warning("%s: the points of %d pictures say another spacing than --spacing, which is taken; leave it out "
                     "to take theirs", path, others)  # fmt: skip
    return Labels(context.ordered(found, str(path)), tuple(pictures))


def _said(placed: Placed, at: str) -> set[tuple[float, float]]:
    """mm of a pixel along x and y, as the descriptions of points have it.

    Raises:
      Fault: it is not above 0.
    """
    matches = [match for *_, description in placed if (match := SPACED.fullmatch(description))]
    said = {(reading.number(match[1], at), reading.number(match[2], at)) for match in matches}
    for x, y in said:
        if min(x, y) <= 0:
            raise Fault(
                "spacing", f"{at}: expected mm of a pixel above 0 in the descriptions of points, found {x:g} x {y:g}"
            )
    return said


def _numbered(name: str, stem: str, context: Context) -> str:
    """The name of a point that Slicer has called as its list, `stem`, and by its number; any other stays."""
    called, _, number = name.rpartition("-")
    if called != stem.rpartition("/")[2] or not re.fullmatch("[1-9][0-9]{0,3}", number):
        return name
    return context.numbered(number)


def sign(system: object, at: str) -> int:
    """1 for LPS, -1 for RAS: of x and y."""
    if str(system) not in SIGNS:
        raise Fault("coordinates", f"{at}: expected the coordinate system LPS or RAS, found {str(system)[:50]!r}")
    return SIGNS[str(system)]


def _points(file: pathlib.Path) -> Placed:
    at = str(file)
    lists = reading.member(tables.load_json(file), "markups", list, at)
    if len(lists) != 1:
        raise Fault("number of lists", f"{at}: expected one list of points in `markups`, found {len(lists)}")
    if reading.member(lists[0], "type", str, at) != "Fiducial":
        raise Fault("kind", f"{at}: expected markups of the type Fiducial, points, found {lists[0]['type'][:50]!r}")
    turn = sign(lists[0].get("coordinateSystem", "LPS"), at)
    if lists[0].get("coordinateUnits", "mm") != "mm":
        raise Fault("unit", f"{at}: expected coordinateUnits mm, found {lists[0]['coordinateUnits']!r:.50}")
    points: Placed = []
    for i, one in enumerate(reading.member(lists[0], "controlPoints", list, at)):
        where = f"{at}, controlPoints[{i}]"
        name = reading.member(one, "label", str, where)
        if one.get("positionStatus", DEFINED) != DEFINED:
            points.append((name, None, ""))
            continue
        position = reading.member(one, "position", list, where)
        if len(position) != 3:
            raise Fault("position", f"{where}: expected a position of three numbers, found {len(position)}")
        x, y, z = (reading.number(value, f"{where}, {name[:100]}") for value in position)
        points.append((name, (turn * x, turn * y, z), str(one.get("description", ""))))
    return points


def write(labels: Labels) -> dict[str, bytes]:
    """A file for each picture, in LPS; see `labels.Format`."""
    contents = {}
    for picture in labels.pictures:
        points = [
            {
                "id": f"{i}",
                "label": name,
                "description": description,
                "position": list(position),
                "positionStatus": DEFINED,
            }
            for i, (name, position, description) in enumerate(positions(labels, picture), 1)
        ]
        markups = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": points}
        content = {"@schema": f"{SCHEMA}markups-schema-v1.0.3.json#", "markups": [markups]}
        name = str(pathlib.PurePosixPath(picture.image).with_suffix(ENDS))
        contents[picture.image] = (name, json.dumps(content, indent=1).encode())
    return reading.separate_files(contents)


def positions(labels: Labels, picture: Labelled) -> list[tuple[str, tuple[float, float, float], str]]:
    """Name, position in mm of LPS, and description of each point.

    Raises:
      UserError: the picture has no spacing.
    """
    if picture.spacing is None:
        raise UserError(
            f"{picture.image}: Slicer's positions are in mm, but its spacing is unknown; give --spacing=MM, or its row "
            "where that is a table"
        )
    named = [(name, picture.points[name]) for name in labels.names if name in picture.points]
    x, y = picture.spacing
    return [(name, (one.x * x, one.y * y, 0.0), f"{x!r} x {y!r} mm a pixel") for name, one in named]
