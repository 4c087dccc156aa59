"""The doors of label files, one for each format: what `labels import` accepts is checked against readers of a few
lines, of json, csv, xml.etree and struct."""

import csv
import functools
import io
import json
import math
import pathlib
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from ctd_jax.labels import FORMATS, by_name, importing
from ctd_jax.labels.table import Labels
from tests import label_tables
from tests.fuzz.doors import Door, text_of

MM = 0.5  # of a pixel
HEIGHTS = {pathlib.PurePath(name).stem: height for name, (_, height) in label_tables.SIZES.items()}
Placed = tuple[str, str, float, float]  # picture, point, x, y in our pixels
ACCURACY = 1e-6


def stem(name: str) -> str:
    return pathlib.PurePosixPath(name.replace("\\", "/")).stem.casefold()


def cells_of(path: pathlib.Path) -> list[list[str]]:
    text = text_of(path)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]


def coco(path: pathlib.Path) -> Iterator[Placed]:
    content = json.loads(text_of(path))
    files = {image["id"]: image["file_name"] for image in content["images"]}
    (category,) = (one for one in content["categories"] if isinstance(one, dict) and one.get("keypoints"))
    for one in content["annotations"]:
        if one.get("category_id", category["id"]) == category["id"] and "keypoints" in one:
            for k, name in enumerate(category["keypoints"]):
                x, y, v = map(float, one["keypoints"][3 * k : 3 * k + 3])
                if v:
                    yield stem(files[one["image_id"]]), name, x, y


def labelme(path: pathlib.Path) -> Iterator[Placed]:
    content = json.loads(text_of(path))
    for shape in content["shapes"]:
        if shape["shape_type"] == "point":
            ((x, y),) = shape["points"]
            yield stem(content["imagePath"]), shape["label"], float(x) - 0.5, float(y) - 0.5


def label_studio(path: pathlib.Path) -> Iterator[Placed]:
    for task in json.loads(text_of(path)):
        (image,) = (value for value in task["data"].values() if str(value).lower().endswith(".png"))
        answers = [
            one for one in task.get("annotations") or task.get("predictions") or [] if not one.get("was_cancelled")
        ]
        for one in (result for answer in answers for result in answer["result"]):
            if one["type"] == "keypointlabels":
                x, y = (float(one["value"][axis]) / 100 for axis in "xy")
                width, height = float(one["original_width"]), float(one["original_height"])
                yield stem(image), one["value"]["keypointlabels"][0], x * width - 0.5, y * height - 0.5


def slicer(path: pathlib.Path) -> Iterator[Placed]:
    (markups,) = json.loads(text_of(path))["markups"]
    turn = {"RAS": -1, "0": -1}.get(str(markups.get("coordinateSystem", "LPS")), 1)
    for point in markups["controlPoints"]:
        if point.get("positionStatus", "defined") == "defined":
            x, y, _ = map(float, point["position"])
            yield path.name.partition(".")[0], point["label"], turn * x / MM, turn * y / MM


def fcsv(path: pathlib.Path) -> Iterator[Placed]:
    turn, columns = (
        1,
        ["id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc", "associatedNodeID"],
    )
    for line in text_of(path).splitlines():
        system = re.fullmatch(r"[# ]*CoordinateSystem *= *(\w+) *", line)
        turn = {"RAS": -1, "0": -1}.get(system[1], 1) if system else turn
        if columns_line := re.fullmatch(r"[# ]*columns *= *(.*)", line):
            columns = columns_line[1].split(",")
        elif line.strip() and not line.startswith("#"):
            cells = next(csv.reader([line]))
            cell = dict(zip(columns, cells, strict=False))
            if len(cells) == len(columns) or cells[len(columns)] == "2":
                yield path.stem, cell["label"], turn * float(cell["x"]) / MM, turn * float(cell["y"]) / MM


def pts(path: pathlib.Path) -> Iterator[Placed]:
    inside = text_of(path).partition("{")[2].partition("}")[0].split()
    for name, x, y in zip(label_tables.NAMES, inside[::2], inside[1::2], strict=True):
        yield path.stem, name, float(x) - 1, float(y) - 1


def tps(path: pathlib.Path) -> Iterator[Placed]:
    text = "\n".join(text_of(path).splitlines())
    for specimen in re.split(r"(?im)^\s*LM\s*=", text)[1:]:
        _, *lines = [line.strip() for line in specimen.splitlines() if line.strip()] or [""]
        points = [line.split() for line in lines if "=" not in line]
        (image,) = (line.partition("=")[2].strip() for line in lines if re.match(r"(?i)image\s*=", line))
        for name, (x, y) in zip(label_tables.NAMES, points, strict=True):
            if x.upper() != "NA":
                yield stem(image), name, float(x), HEIGHTS[stem(image)] - float(y)


def cvat(path: pathlib.Path) -> Iterator[Placed]:
    for image in ElementTree.fromstring(text_of(path)).iter("image"):
        for one in [*image.findall("points"), *image.findall("skeleton/*")]:
            if one.get("outside") != "1":
                x, y = map(float, one.get("points").split(","))
                yield stem(image.get("name")), one.get("label"), x - 0.5, y - 0.5


def dlib(path: pathlib.Path) -> Iterator[Placed]:
    for image in ElementTree.fromstring(text_of(path)).iter("image"):
        for part in image.findall("box/part"):
            yield stem(image.get("file")), part.get("name"), float(part.get("x")), float(part.get("y"))


def imagej(path: pathlib.Path) -> Iterator[Placed]:
    """Whole numbers in a box, or floats after them; see ImageJ's RoiDecoder."""
    content = path.read_bytes()
    version, top, left = (struct.unpack(">h", content[i : i + 2])[0] for i in (4, 8, 10))
    count, options = (struct.unpack(">H", content[i : i + 2])[0] for i in (16, 50))
    xy = struct.unpack(f">{2 * count}h", content[64 : 64 + 4 * count])
    x, y = [left + value for value in xy[:count]], [top + value for value in xy[count:]]
    if options & 128 and version >= 222:
        floats = struct.unpack(f">{2 * count}f", content[64 + 4 * count : 64 + 12 * count])
        x, y = list(floats[:count]), list(floats[count:])
    yield from ((path.stem, *placed) for placed in zip(label_tables.NAMES, x, y, strict=True))


def imagej_results(path: pathlib.Path) -> Iterator[Placed]:
    header, *rows = cells_of(path)
    seen: dict[str, int] = {}
    for row in rows:
        cell = dict(zip(header, row, strict=True))
        image = stem(cell["Label"].partition(":")[0])
        seen[image] = seen.get(image, -1) + 1
        yield image, label_tables.NAMES[seen[image]], float(cell["X"]), float(cell["Y"])


def deeplabcut(path: pathlib.Path) -> Iterator[Placed]:
    _, parts, axes, *rows = cells_of(path)
    for row in rows:
        of: dict[str, dict[str, str]] = {}
        for part, axis, cell in zip(parts, axes, row, strict=True):
            of.setdefault(part, {})[axis] = cell
        for part, own in of.items():
            if own.get("x") and own["x"].lower() != "nan":
                yield stem(row[0]), part, float(own["x"]), float(own["y"])


def morphoj(path: pathlib.Path) -> Iterator[Placed]:
    for image, *numbers in cells_of(path)[1:]:
        for name, x, y in zip(label_tables.NAMES, numbers[::2], numbers[1::2], strict=True):
            image = stem(image)
            yield image, name, float(x), HEIGHTS[image] - float(y)


def long(path: pathlib.Path) -> Iterator[Placed]:
    header, *rows = cells_of(path)
    for row in rows:
        cell = dict(zip([name.casefold() for name in header], row, strict=False))
        if cell["x"] and not cell["x"].casefold().startswith("n"):
            x, y = (float(cell[axis].replace(",", ".")) for axis in "xy")
            yield stem(cell["image"]), cell["point"].removeprefix("'"), x, y


def same(path: pathlib.Path) -> Iterator[Placed]:
    """Checksums in the file leave it no other numbers."""
    for picture in label_tables.labels().pictures:
        yield from ((stem(picture.image), name, point.x, point.y) for name, point in picture.points.items())


def sleap(path: pathlib.Path) -> Iterator[Placed]:
    """By h5py, which comes with sleap-io."""
    import h5py

    with h5py.File(path) as file:
        points = file["points"][:]
    for k, point in enumerate(points):
        if point["visible"] and math.isfinite(point["x"]) and math.isfinite(point["y"]):
            image, name = list(label_tables.SIZES)[k // 3], label_tables.NAMES[k % 3]
            yield stem(image), name, float(point["x"]), float(point["y"])


OTHERS: dict[str, Callable[[pathlib.Path], Iterator[Placed]]] = {
    "coco": coco, "labelme": labelme, "label_studio": label_studio, "slicer": slicer, "fcsv": fcsv, "pts": pts,
    "tps": tps, "cvat": cvat, "cvat_skeleton": cvat, "dlib": dlib, "imagej": imagej, "imagej_results": imagej_results,
    "deeplabcut": deeplabcut, "morphoj": morphoj, "long": long, "xlsx": same, "sleap": sleap,
}  # fmt: skip


def bring_in(name: str, root: pathlib.Path) -> Labels:
    """What `labels import` does."""
    context = label_tables.context(root / "pictures", label_tables.NAMES if "names" in FORMATS[name].loses else ())
    found = by_name.read(root / "labels" if not FORMATS[name].suffix else root / f"labels{FORMATS[name].suffix}",
                         name, context)  # fmt: skip
    importing.write_folder(found, context, root / "out", title="labels", force=True)
    return found


def check(name: str, attacked: str, root: pathlib.Path, found: Labels) -> None:
    """The points of the attacked file are those that another reader finds in it."""
    expected = {(image, point): (x, y) for image, point, x, y in OTHERS[name](root / attacked)}
    images = {image for image, _ in expected} | ({stem(attacked)} if not FORMATS[name].suffix else set())
    placed = {
        (stem(picture.image), point): (place.x, place.y)
        for picture in found.pictures
        for point, place in picture.points.items()
        if FORMATS[name].suffix or stem(picture.image) in images
    }
    assert placed.keys() == expected.keys()
    for key, (x, y) in placed.items():
        assert math.dist((x, y), expected[key]) <= ACCURACY * max(1, abs(x), abs(y)), key


def doors() -> dict[str, Door]:
    """A door for each format: a file of all pictures, or that of the first one."""
    shown = {}
    for image, size in label_tables.SIZES.items():
        file = io.BytesIO()
        Image.new("L", size, 90).save(file, "PNG")
        shown[f"pictures/{image}"] = file.getvalue()
    found = {}
    for name in label_tables.HERE:
        contents = by_name.write(label_tables.labels(), name)
        files = {f"labels/{file}" if file else f"labels{FORMATS[name].suffix}": text for file, text in contents.items()}
        attacked = next(iter(files))
        read: Callable[[pathlib.Path], Any] = functools.partial(bring_in, name)
        found[f"labels, {name}"] = Door(files | shown, attacked, read, functools.partial(check, name, attacked))
    return found
