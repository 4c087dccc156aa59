"""COCO key points: one JSON file. Coordinates are ours: 0 is the centre of the first pixel, as detectron2 and the
evaluation of COCO read them; fractions are kept. v is 0 absent, 1 hidden but placed, 2 placed."""

import json
import logging
import pathlib

from ctd_jax.data import tables
from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point

_log = logging.getLogger(__name__)


def recognises(name: str, head: str) -> bool:
    others = ('"annotations"', '"categories"', '"file_name"')  # of many pictures, these alone may be in the head
    return name.endswith(".json") and '"images"' in head and any(other in head for other in others)


def read(path: pathlib.Path, context: Context) -> Labels:
    """The pictures of a file with one set of key points; see `labels.Format`."""
    path = reading.only_file(path, [".json"])
    content = tables.load_json(path)
    at = str(path)
    category, names = _category(reading.member(content, "categories", list, at), at)
    images: dict[object, dict] = {}
    for i, image in enumerate(reading.member(content, "images", list, at)):
        key = reading.member(image, "id", (int, str), f"{at}, images[{i}]")
        if key in images:
            raise Fault("picture twice", f"{at}, images[{i}]: expected an id of its own, found {key!r} again")
        images[key] = image
    placed: dict[object, dict[str, Point]] = {}
    without = 0
    for i, annotation in enumerate(reading.member(content, "annotations", list, at)):
        where = f"{at}, annotations[{i}]"
        key = reading.member(annotation, "image_id", (int, str), where)
        if key not in images:
            raise Fault("missing picture", f"{where}: expected the id of one of the images, found {key!r}")
        if annotation.get("category_id", category) != category or "keypoints" not in annotation:
            without += 1
            continue
        points = _points(reading.member(annotation, "keypoints", list, where), names, where)
        if not points:
            without += 1
            continue
        if key in placed:
            raise Fault(
                "two in a picture",
                f"{where}: expected one annotation of image {key!r}, found a second one; a landmark folder has one set "
                "of points for each picture: cut the picture up",
            )
        placed[key] = points
    if without:
        _log.warning("%s: %d annotations without key points, or of another category, are left out", path, without)
    pictures = []
    for i, (key, image) in enumerate(images.items()):
        where = f"{at}, images[{i}]"
        file = context.pictures.find(reading.member(image, "file_name", str, where), where)
        size = reading.size(image, ("width", "height"), where)
        subject = reading.word(image.get("subject"))
        pictures.append(Labelled(file, placed.get(key, {}), size, subject, context.spacing, where=where))
    return Labels(context.ordered(names, at), tuple(pictures))


def _category(categories: list, at: str) -> tuple[object, list[str]]:
    """The id and the names of the points of the one category that has some."""
    fitting = [one for one in categories if isinstance(one, dict) and one.get("keypoints")]
    if len(fitting) != 1:
        raise UserError(f"{at}: expected one category with `keypoints`, the names of points, found {len(fitting)}")
    names = reading.member(fitting[0], "keypoints", list, f"{at}, categories")
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise UserError(f"{at}, categories: expected names in `keypoints`, found {wrong!r}")
    return reading.member(fitting[0], "id", (int, str), f"{at}, categories"), names


def _points(values: list, names: list[str], at: str) -> dict[str, Point]:
    if len(values) != 3 * len(names):
        raise Fault("number of points", f"{at}: expected 3 x {len(names)} numbers, x, y and v, found {len(values)}")
    points: dict[str, Point] = {}
    for k, name in enumerate(names):
        x, y, v = (reading.number(value, f"{at}, {name}") for value in values[3 * k : 3 * k + 3])
        if v not in (0, 1, 2):
            raise Fault("visibility", f"{at}, {name}: expected 0, 1 or 2 as v, found {v:g}")
        if v:
            reading.add_once(points, name, Point(x, y, hidden=v == 1), at)
    return points


def write(labels: Labels) -> dict[str, bytes]:
    """One file; see `labels.Format`."""
    images, annotations = [], []
    for i, picture in enumerate(labels.pictures, 1):
        width, height = picture.known_size()
        image = {"id": i, "file_name": picture.image, "width": width, "height": height}
        images.append(image | ({"subject": picture.subject} if picture.subject else {}))
        if picture.points:
            annotations.append(_annotation(i, picture, labels.names))
    category = {"id": 1, "name": "landmarks", "supercategory": "", "keypoints": labels.names, "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    return {"": json.dumps(content, indent=1).encode()}


def _annotation(number: int, picture: Labelled, names: tuple[str, ...]) -> dict:
    values: list[float] = []
    for name in names:
        point = picture.points.get(name)
        values += [0, 0, 0] if point is None else [point.x, point.y, 1 if point.hidden else 2]
    xs, ys = ([getattr(point, axis) for point in picture.points.values()] for axis in "xy")
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "keypoints": values,
        "num_keypoints": len(picture.points),
        "bbox": [min(xs), min(ys), width, height],
        "area": width * height,
        "iscrowd": 0,
    }
