"""Pictures and labels for the tests of label files."""

import importlib.util
import pathlib

from PIL import Image

from ctd_jax.labels import FORMATS, by_name
from ctd_jax.labels.context import Context, Pictures
from ctd_jax.labels.table import Labelled, Labels, Point

HERE = [name for name in FORMATS if name != "sleap" or importlib.util.find_spec("sleap_io")]  # it brings 30 packages
SIZES = {"a.png": (40, 30), "sub/b.png": (20, 10)}
NAMES = ("tip", "base", "left hinge")


def draw(root: pathlib.Path) -> pathlib.Path:
    """A folder of two grey pictures of `SIZES`."""
    for name, size in SIZES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 90).save(root / name)
    return root


def labels(**changes) -> Labels:
    """Three points on each picture, with a spacing; `changes` of the first picture."""
    first = {"tip": Point(3.0, 4.0), "base": Point(20.25, 10.5), "left hinge": Point(39.0, 29.0)}
    second = {"tip": Point(1.0, 2.0), "base": Point(3.0, 4.0), "left hinge": Point(5.0, 9.0)}
    one = {"image": "a.png", "points": first, "size": SIZES["a.png"], "spacing": (0.5, 0.5)} | changes
    two = Labelled("sub/b.png", second, SIZES["sub/b.png"], spacing=(0.5, 0.5))
    return Labels(NAMES, (Labelled(**one), two))


def put(root: pathlib.Path, given: Labels, name: str) -> pathlib.Path:
    """The labels in the format `name`, as a file or a folder in `root`."""
    path = root / f"labels{FORMATS[name].suffix}"
    for file, content in by_name.write(given, name).items():
        target = path / file if file else path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return path


def context(pictures: pathlib.Path, names=NAMES, **more) -> Context:
    return Context(Pictures(pictures), names, (0.5, 0.5), **more)
