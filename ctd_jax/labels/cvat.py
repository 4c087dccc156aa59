"""CVAT for images, XML 1.1, also as the `annotations.xml` in CVAT's .zip. (0, 0) is the corner of the picture, so the
centre of the first pixel is at (0.5, 0.5). `occluded` is hidden but placed, `outside` is absent."""

import logging
import pathlib
from xml.etree import ElementTree

from ctd_jax.data import tables
from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point

_log = logging.getLogger(__name__)


INSIDE = "annotations.xml"  # of a .zip


def recognises(name: str, head: str) -> bool:
    return is_cvat(name, head) and "<skeleton" not in head or name.endswith(".zip") and INSIDE in head.split("\n")


def is_cvat(name: str, head: str) -> bool:
    return name.endswith(".xml") and "<annotations>" in head


def read(path: pathlib.Path, context: Context) -> Labels:
    """A file of pictures, each with points or one skeleton; see `labels.Format`."""
    path = reading.only_file(path, [".xml", ".zip"])
    root = reading.xml_of(_unpacked(path), str(path)) if path.suffix.lower() == ".zip" else reading.xml(path)
    if root.tag != "annotations":
        raise UserError(f"{path}: expected the element <annotations>, found <{root.tag[:50]}>")
    if root.find("track") is not None:
        raise UserError(f"{path}: has a <track>, of a video; expected <image>: export it as `CVAT for images 1.1`")
    found: list[str] = []
    pictures, others = [], 0
    for i, image in enumerate(root.iter("image")):
        at = f"{path}, image {i + 1}"
        file = context.pictures.find(image.get("name", ""), at)
        skeletons = image.findall("skeleton")
        if len(skeletons) > 1:
            raise Fault("two in a picture", f"{at}: expected one skeleton, found {len(skeletons)}; cut the picture up")
        points: dict[str, Point] = {}
        for element in [
            *image.findall("points"),
            *(one for skeleton in skeletons for one in skeleton.findall("points")),
        ]:
            name = element.get("label", "")
            found.append(name)
            if element.get("outside") != "1":
                reading.add_once(points, name, _point(element, f"{at}, {name[:100]}"), at)
        others += sum(element.tag not in ("points", "skeleton") for element in image)
        size = reading.size(dict(image.attrib), ("width", "height"), at)
        pictures.append(Labelled(file, points, size, spacing=context.spacing, where=at))
    if others:
        _log.warning("%s: %d elements that are no points are left out", path, others)
    return Labels(context.ordered(found, str(path)), tuple(pictures))


def _unpacked(path: pathlib.Path) -> str:
    """The text of the annotations in a .zip."""
    with reading.archive(path) as archive:
        if INSIDE not in archive.namelist():
            raise UserError(f"{path}: expected {INSIDE} in it, found {tables.listed(archive.namelist(), 3)}")
        size = archive.getinfo(INSIDE).file_size
        if size > tables.MAX_JSON_MIB * 2**20:
            raise UserError(f"{path}, {INSIDE}: {size / 2**20:.0f} MiB; {tables.MAX_JSON_MIB} MiB or less are read")
        try:
            return archive.read(INSIDE).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, {INSIDE}: expected UTF-8, as CVAT writes it ({error})") from error


def _point(element: ElementTree.Element, at: str) -> Point:
    text = element.get("points", "")
    cells = text.split(",")
    if ";" in text or len(cells) != 2:
        raise Fault("number of points", f"{at}: expected one point, X,Y, found {text[:50]!r}")
    x, y = (reading.number(cell, at) for cell in cells)
    return Point(x - 0.5, y - 0.5, hidden=element.get("occluded") == "1")


def write(labels: Labels) -> dict[str, bytes]:
    """One file, each point an element of its own; see `labels.Format`."""
    root = annotations()
    for i, picture in enumerate(labels.pictures):
        image = image_of(root, i, picture)
        for name in labels.names:
            if name in picture.points:
                ElementTree.SubElement(image, "points", attributes_of(name, picture.points[name]) | {"z_order": "0"})
    return {"": reading.xml_text(root)}


def annotations() -> ElementTree.Element:
    """The root of a file without pictures."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    return root


def image_of(root: ElementTree.Element, number: int, picture: Labelled) -> ElementTree.Element:
    """The element of a picture, which is added to the `root`."""
    width, height = picture.known_size()
    attributes = {"id": f"{number}", "name": picture.image, "width": f"{width}", "height": f"{height}"}
    return ElementTree.SubElement(root, "image", attributes)


def attributes_of(name: str, point: Point | None) -> dict[str, str]:
    """What an element says of a point; None: absent, and the corner takes its place."""
    x, y = (point.x + 0.5, point.y + 0.5) if point else (0.0, 0.0)
    hidden = point is not None and point.hidden
    return {"label": name, "source": "manual", "occluded": f"{int(hidden)}", "points": f"{x!r},{y!r}"}
