"""DeepLabCut's CollectedData csv of one animal: three rows of header, a row for each picture. 0 is the centre of the
first pixel, as here: the labels are placed on a picture that matplotlib or napari shows."""

import csv
import io
import math
import pathlib

from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point

AXES = ("x", "y", "likelihood")


def recognises(name: str, head: str) -> bool:
    return name.endswith(".csv") and head.lstrip("\ufeff").startswith("scorer")


def read(path: pathlib.Path, context: Context) -> Labels:
    """One file; see `labels.Format`."""
    path = reading.only_file(path, [".csv"])
    rows = reading.csv_rows(path)
    words = [cells[0] for _, cells in rows[:4]]
    if "individuals" in words:
        raise UserError(
            f"{path}: has several animals (a row `individuals`); expected one, as in single-animal projects"
        )
    if words[:3] != ["scorer", "bodyparts", "coords"] or len(rows) < 4:
        raise UserError(f"{path}: expected rows of scorer, bodyparts, coords, and of pictures, found {words!s:.200}")
    (_, scorers), (_, parts), (_, axes), *pictures = rows
    first = next((i for i, axis in enumerate(axes) if axis in AXES), len(axes))
    columns = [(i, parts[i], axes[i]) for i in range(first, min(len(axes), len(parts)))]
    wrong = next((axis for _, _, axis in columns if axis not in AXES), None)
    if not columns or wrong is not None or len(parts) != len(axes):
        raise UserError(f"{path}, line 3: expected x, y or likelihood of each bodypart, found {wrong!r:.50}")
    places: dict[str, dict[str, int]] = {}
    for i, part, axis in columns:
        if axis in places.setdefault(part, {}):
            raise UserError(f"{path}, line 3: expected one {axis} of {part!r:.100}, found a second one")
        places[part][axis] = i
    lacking = next((part for part, own in places.items() if not {"x", "y"} <= set(own)), None)
    if lacking is not None:
        raise UserError(f"{path}, line 3: expected x and y of {lacking!r:.100}, found {', '.join(places[lacking])}")
    named = []
    for at, cells in pictures:
        if len(cells) != len(axes):
            raise Fault("row of another length", f"{at}: expected {len(axes)} cells, found {len(cells)}")
        image = context.pictures.find("/".join(filter(None, cells[:first])), at)
        points = {part: point for part, own in places.items() if (point := _point(cells, own, f"{at}, {part[:100]}"))}
        named.append(Labelled(image, points, spacing=context.spacing, who=scorers[first], where=at))
    return Labels(context.ordered(list(places), str(path)), tuple(named))


def _point(cells: list[str], own: dict[str, int], at: str) -> Point | None:
    """None: absent."""
    found = {axis: cells[i] for axis, i in own.items()}
    empty = [axis for axis in "xy" if found[axis] in ("", "NaN", "nan")]
    if len(empty) == 1:
        raise Fault("half a point", f"{at}: expected both x and y, or neither, found no {empty[0]}")
    if empty:
        return None
    likelihood = found.get("likelihood")
    confidence = reading.number(likelihood, at) if likelihood else math.nan
    return Point(reading.number(found["x"], at), reading.number(found["y"], at), confidence=confidence)


def write(labels: Labels) -> dict[str, bytes]:
    """One file; see `labels.Format`."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    who = next((picture.who for picture in labels.pictures if picture.who), "ctd_jax")
    rows.writerow(["scorer", *[who] * 2 * len(labels.names)])
    rows.writerow(["bodyparts", *(name for name in labels.names for _ in "xy")])
    rows.writerow(["coords", *("x", "y") * len(labels.names)])
    for picture in labels.pictures:
        points = [picture.points.get(name) for name in labels.names]
        cells = [("", "") if point is None else (repr(point.x), repr(point.y)) for point in points]
        rows.writerow([picture.image, *(cell for pair in cells for cell in pair)])
    return {"": text.getvalue().encode()}
