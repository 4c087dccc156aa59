"""dlib's XML, as imglab writes it. Whole numbers of pixels; 0 is the centre of the first one, as here."""

import pathlib
from xml.etree import ElementTree

from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point


def recognises(name: str, head: str) -> bool:
    return name.endswith(".xml") and "<dataset>" in head


def read(path: pathlib.Path, context: Context) -> Labels:
    """A file of pictures with one box of parts each; see `labels.Format`."""
    path = reading.only_file(path, [".xml"])
    root = reading.xml(path)
    if root.tag != "dataset":
        raise UserError(f"{path}: expected the element <dataset>, found <{root.tag[:50]}>")
    found: list[str] = []
    pictures = []
    for i, image in enumerate(root.iter("image")):
        at = f"{path}, image {i + 1}"
        file = context.pictures.find(image.get("file", ""), at)
        boxes = [box for box in image.findall("box") if box.find("part") is not None]
        if len(boxes) > 1:
            raise Fault("two in a picture", f"{at}: expected one box with parts, found {len(boxes)}; cut it up")
        points: dict[str, Point] = {}
        for part in (part for box in boxes for part in box.findall("part")):
            name = part.get("name", "")
            where = f"{at}, {name[:100]}"
            found.append(name)
            x, y = (reading.number(part.get(axis), where) for axis in "xy")
            reading.add_once(points, name, Point(x, y), at)
        size = reading.size(dict(image.attrib), ("width", "height"), at) if "width" in image.attrib else None
        pictures.append(Labelled(file, points, size, spacing=context.spacing, where=at))
    return Labels(context.ordered(found, str(path)), tuple(pictures))


def write(labels: Labels) -> dict[str, bytes]:
    """One file; the box of a picture is that of its points. See `labels.Format`."""
    root = ElementTree.Element("dataset")
    ElementTree.SubElement(root, "name").text = "landmarks"
    images = ElementTree.SubElement(root, "images")
    for picture in labels.pictures:
        size = dict(zip(("width", "height"), map(str, picture.size), strict=True)) if picture.size else {}
        image = ElementTree.SubElement(images, "image", {"file": picture.image} | size)
        if not picture.points:
            continue
        xy = {name: (round(point.x), round(point.y)) for name, point in picture.points.items()}
        (left, right), (top, bottom) = ((min(values), max(values)) for values in zip(*xy.values(), strict=True))
        corners = {"top": top, "left": left, "width": right - left + 1, "height": bottom - top + 1}
        box = ElementTree.SubElement(image, "box", {key: str(value) for key, value in corners.items()})
        for name in labels.names:
            if name in xy:
                x, y = xy[name]
                ElementTree.SubElement(box, "part", {"name": name, "x": str(x), "y": str(y)})
    return {"": reading.xml_text(root)}
