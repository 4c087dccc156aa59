"""Which features of a TFDS data set are the picture, the key points and the subject."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from ctd_jax.data import columns, tables
from ctd_jax.errors import UserError

SUBJECT = ("subject", *columns.SUBJECT)  # names of a feature that says who is on the picture, in small letters
DTYPES = (np.uint8, np.uint16)  # of pictures that are stored as they are

XY = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class KeyPoints:
    """A feature that has key points.

    Attributes:
      read: its value in an example -> name of each point -> x and y, or y and x, as they are stored.
      names: of the points; None: they have none, and are called `point_0`, ...
      whole: the coordinates are whole numbers, so that they are pixels.
    """

    read: Callable[[Any], Mapping[str, XY]]
    names: tuple[str, ...] | None
    whole: bool


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The features that are read, by their names, with / between the parts of one within another.

    Attributes:
      picture: has the encoded picture.
      key_points: their name; "": there are none.
      points: how they are read; None: there are none.
      subject: who is on the picture; "": unknown.
      read: gives these features of a record, pictures as they are stored.
    """

    picture: str
    key_points: str
    points: KeyPoints | None
    subject: str
    read: Callable[[bytes], Any]

    def example(self, record: bytes) -> tuple[bytes, Mapping[str, XY], str]:
        """The encoded picture, the points and the subject ("": unknown) in a record of the data set."""
        values = self.read(record)
        points = self.points.read(_value(values, self.key_points)) if self.points else {}
        subject = _value(values, self.subject) if self.subject else b""
        return _value(values, self.picture), points, subject.decode() if isinstance(subject, bytes) else str(subject)


def choose(features: Any, config: ConfigDict, root: str, needs_points: bool) -> Chosen:
    """Finds the features by their types, and the subject by its name.

    Args:
      features: of the data set.
      config: `data.tfds` of configs/default.py: names of those that are meant.
      root: `data.root`, for messages.
      needs_points: without key points there is nothing to do.

    Raises:
      UserError: there is none, or several may be meant.
    """
    every = dict(_walk(features))
    pictures = {name: name for name, feature in every.items() if _is_picture(feature)}
    points = {name: found for name, feature in every.items() if (found := _key_points(name, feature))}
    picture = _one("image", config.image, pictures, every, root)
    if not picture:
        raise UserError(
            f"data.root is {root}: none of its features is a picture of 8 or 16 bits; it has {_list(every)}"
        )
    key_points = _one("points", config.points, points, every, root)
    if not key_points and needs_points:
        raise UserError(
            f"data.root is {root}: none of its features has key points; expected numbers of the shape (K, 2), a "
            f"sequence of x and y, or pairs of NAME_x and NAME_y, and it has {_list(every)}"
        )
    words = {name: name for name, feature in every.items() if _is_word(feature)}
    people = {name: name for name in words if name.split("/")[-1].casefold() in SUBJECT}
    subject = _one("subject", config.subject, words if config.subject else people, every, root)
    read = _reader(features, [name for name in (picture, key_points, subject) if name])
    return Chosen(picture, key_points, points.get(key_points), subject, read)


def _one(key: str, asked: str, found: Mapping[str, Any], every: Mapping[str, Any], root: str) -> str:
    """The name of the feature that is meant; "": there is none."""
    if asked and asked not in found:
        near = tables.nearest(asked, list(found))
        hint = f"; is it {near!r}?" if near else ""
        raise UserError(
            f"data.tfds.{key} is {asked!r}, which is no such feature of {root}{hint}; it has {_list(every)}"
        )
    if asked or len(found) < 2:
        return asked or next(iter(found), "")
    words = ", ".join(sorted(found))
    raise UserError(
        f"data.root is {root}: {len(found)} of its features may be meant by data.tfds.{key}, {words}; give one of "
        f"them, --config.data.tfds.{key}={min(found)}"
    )


def _list(every: Mapping[str, Any]) -> str:
    words = [f"{name} ({type(one).__name__} {one.shape})" for name, one in sorted(every.items()) if name != "."]
    return ", ".join(words[:12]) + (f" and {len(words) - 12} more" if len(words) > 12 else "")


def _walk(features: Any, start: str = "") -> Iterator[tuple[str, Any]]:
    """Name and feature of all, also of those within others; "." is the whole."""
    if not start:
        yield ".", features
    for name in sorted(features):
        yield f"{start}{name}", features[name]
        if isinstance(features[name], tfds.features.FeaturesDict):
            yield from _walk(features[name], f"{start}{name}/")


def _outer(values: Mapping[str, Any], name: str) -> str:
    """The part of a feature's name that is one of `values`; names may have / within them, too."""
    return next(key for key in values if name == key or name.startswith(f"{key}/"))


def _value(values: Any, name: str) -> Any:
    if name == ".":
        return values
    outer = _outer(values, name)
    return values[outer] if name == outer else _value(values[outer], name[len(outer) + 1 :])


def _reader(features: Any, names: list[str]) -> Callable[[bytes], Any]:
    """Function that gives the features of these names, or within them, of a record; no others are read."""
    outer = set(features) if "." in names else {_outer(features, name) for name in names}
    tree = tfds.features.FeaturesDict({name: features[name] for name in outer})
    decoders = _undecoded(tree)
    return lambda record: tree.deserialize_example_np(record, decoders=decoders)


def _undecoded(features: Any) -> dict[str, Any]:
    """What TFDS is told to give the pictures, also of features within others, as they are stored."""
    found: dict[str, Any] = {}
    for name, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            found[name] = _undecoded(feature)
        elif isinstance(feature, tfds.features.Image):
            found[name] = tfds.decode.SkipDecoding()
    return found


def _is_picture(feature: Any) -> bool:
    return isinstance(feature, tfds.features.Image) and np.dtype(feature.np_dtype) in DTYPES


def _is_word(feature: Any) -> bool:
    """Whether it has one text or one whole number."""
    return feature.shape == () and np.dtype(feature.np_dtype).kind in "iuOSU"


def _is_numbers(feature: Any, *shape: int | None) -> bool:
    """Whether it has numbers of this shape; None: any number of them."""
    found = feature.shape
    return (
        isinstance(found, tuple)
        and len(found) == len(shape)
        and all(wanted in (None, number) for wanted, number in zip(shape, found, strict=True))
        and np.dtype(feature.np_dtype).kind in "iuf"
    )


def _is_whole(*features: Any) -> bool:
    return all(np.dtype(one.np_dtype).kind in "iu" for one in features)


def _key_points(name: str, feature: Any) -> KeyPoints | None:
    """How a feature's key points are read; None: it has none."""
    if isinstance(feature, tfds.features.FeaturesDict):
        return _pairs(feature) or (_points_by_name(feature) if name != "." else None)
    inner = getattr(feature, "feature", None)
    if isinstance(inner, tfds.features.FeaturesDict):
        return _sequence(inner)
    if _is_numbers(feature, None, 2):
        return KeyPoints(lambda value: _numbered(np.reshape(value, (-1, 2))), None, _is_whole(feature))
    return None


def _numbered(points: Any) -> dict[str, XY]:
    return {f"point_{i}": (float(a), float(b)) for i, (a, b) in enumerate(points)}


def _pairs(feature: Any) -> KeyPoints | None:
    """Numbers NAME_x and NAME_y. TFDS does not keep an order of names, so theirs is that of the alphabet."""
    numbers = [name for name in feature if _is_numbers(feature[name])]
    names = tuple(sorted(name[:-2] for name in numbers if name.endswith("_x") and f"{name[:-2]}_y" in numbers))
    if not names:
        return None
    whole = _is_whole(*(feature[f"{name}_{axis}"] for name in names for axis in "xy"))
    return KeyPoints(
        lambda value: {name: (float(value[f"{name}_x"]), float(value[f"{name}_y"])) for name in names}, names, whole
    )


def _points_by_name(feature: Any) -> KeyPoints | None:
    """NAME: two numbers."""
    names = tuple(sorted(feature))
    if not names or not all(_is_numbers(feature[name], 2) for name in names):
        return None
    whole = _is_whole(*feature.values())
    return KeyPoints(lambda value: {n: (float(value[n][0]), float(value[n][1])) for n in names}, names, whole)


def _sequence(inner: Any) -> KeyPoints | None:
    """A sequence of x and y, and of a label if there is one with names."""
    if not {"x", "y"} <= set(inner) or not all(_is_numbers(inner[axis]) for axis in "xy"):
        return None
    labels = [name for name in sorted(inner) if isinstance(inner[name], tfds.features.ClassLabel) and inner[name].names]
    whole = _is_whole(inner["x"], inner["y"])
    if len(labels) != 1:
        return KeyPoints(lambda value: _numbered(zip(value["x"], value["y"], strict=True)), None, whole)
    label, names = labels[0], tuple(inner[labels[0]].names)

    def read(value: Any) -> dict[str, XY]:
        found: dict[str, XY] = {}
        for index, x, y in zip(value[label], value["x"], value["y"], strict=True):
            if names[index] in found:
                raise UserError(f"two points are called {names[index]!r}; expected one of each")
            found[names[index]] = (float(x), float(y))
        return found

    return KeyPoints(read, names, whole)
