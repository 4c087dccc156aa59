"""CVAT for images with a skeleton in each picture, for a project whose label is a skeleton called "landmarks": a point
that is absent is there as `outside`. See `cvat.py`, which reads both."""

from xml.etree import ElementTree

from ctd_jax.labels import cvat, reading
from ctd_jax.labels.table import Labels

LABEL = "landmarks"
read = cvat.read


def recognises(name: str, head: str) -> bool:
    return cvat.is_cvat(name, head) and "<skeleton" in head


def write(labels: Labels) -> dict[str, bytes]:
    """One file; see `labels.Format`."""
    root = cvat.annotations()
    for i, picture in enumerate(labels.pictures):
        image = cvat.image_of(root, i, picture)
        skeleton = ElementTree.SubElement(image, "skeleton", {"label": LABEL, "source": "manual", "z_order": "0"})
        for name in labels.names:
            attributes = cvat.attributes_of(name, picture.points.get(name))
            absent = "0" if name in picture.points else "1"
            ElementTree.SubElement(skeleton, "points", attributes | {"outside": absent})
    return {"": reading.xml_text(root)}
