"""Measurements of landmarks: what they can be (docs/measurements.md), their values, units and classes."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Union

import numpy as np

from ctd_jax.metrics import plane

DEGREES = "deg"  # the unit of an angle of -180 to 180 degrees, whose sign is the way it opens
UNSIGNED = "deg unsigned"  # the unit of an angle of 0 to 180 degrees, whichever way it opens
LENGTH, AREA, ANGLE, SIGNED, NUMBER = "length", "area", "angle", "signed angle", "number"
ANGLES = "sum of angles"  # or what is made of one: it may go beyond 180 degrees, and does not jump there


@dataclasses.dataclass(frozen=True)
class Form:
    """What a definition may ask for.

    Attributes:
      of: what it is made of, for messages.
      least: the number of names in it.
      most: the largest number; None: any.
      words: of its meaning, for people; `{0}` is its first name, `{all}` are all of them.
      compute: a function of `plane`; None of an arithmetical form.
      quantity: what comes out, one of `LENGTH` and so on; "" of a point, and where it depends on the parts.
      line: which two names, and the name from which a `positive_side` is told: the line, and the point that is on a
        side of it; None: there is no sign, or it is that of a direction.
    """

    of: str
    least: int
    most: int | None
    words: str
    compute: Callable[..., plane.Found] | None = None
    quantity: str = ""
    line: tuple[int, int] | None = None


_LINE = "and two that lie on the line"
POINTS = {
    "midpoint": Form("two points", 2, 2, "the midpoint of {0} and {1}", plane.midpoint),
    "projection": Form(f"a point, {_LINE}", 3, 3, "the foot of {0} on the line {1} to {2}", plane.projection),
    "intersection": Form(
        "four points, two of each line", 4, 4, "where the lines {0} to {1} and {2} to {3} meet", plane.intersection
    ),
    "circle_centre": Form("three points or more", 3, None, "the centre of the circle by {all}", plane.circle_centre),
}
MEASURED = {
    "distance": Form("two points", 2, 2, "distance from {0} to {1}", plane.distance, LENGTH),
    "angle": Form(
        "three points, the second is the corner", 3, 3, "angle at {1}, from {0} to {2}", plane.angle, ANGLE
    ),
    "signed_angle": Form(
        "three points, the second is the corner", 3, 3, "signed angle at {1}, from {0} to {2}", plane.signed_angle,
        SIGNED, (1, 0),
    ),
    "angle_of_lines": Form(
        "four points, two of each line", 4, 4, "angle of the directions {0} to {1} and {2} to {3}",
        plane.angle_of_lines, ANGLE,
    ),
    "distance_to_line": Form(
        f"a point, {_LINE}", 3, 3, "signed distance of {0} from the line {1} to {2}", plane.distance_to_line, LENGTH,
        (1, 2),
    ),
    "distance_along": Form(
        "two points, and two of the direction", 4, 4, "distance from {0} to {1} in the direction {2} to {3}",
        plane.distance_along, LENGTH,
    ),
    "distance_across": Form(
        f"two points, {_LINE}", 4, 4, "distance from {0} to {1} across the line {2} to {3}", plane.distance_across,
        LENGTH, (2, 3),
    ),
    "area": Form("three corners or more, in order", 3, None, "area of {all}", plane.area, AREA),
    "perimeter": Form("three corners or more, in order", 3, None, "perimeter of {all}", plane.perimeter, LENGTH),
    "circularity": Form(
        "three corners or more, in order", 3, None, "circularity of {all}", plane.circularity, NUMBER
    ),
}  # fmt: skip
COMBINED = {
    "ratio": Form("two measurements, the second divides the first", 2, 2, "{0} / {1}", quantity=NUMBER),
    "difference": Form("two measurements, the second is taken from the first", 2, 2, "{0} - {1}"),
    "sum": Form("two measurements or more", 2, None, "sum of {all}"),
    "mean": Form("two measurements or more, such as left and right", 2, None, "mean of {all}"),
}
FORMS = MEASURED | COMBINED
SIDES = {"positive_side": 1.0, "negative_side": -1.0}


@dataclasses.dataclass(frozen=True)
class Derived:
    """A point that is made of others."""

    kind: str  # of `POINTS`
    of: tuple[Union[str, "Derived"], ...]


Point = str | Derived  # the name of a landmark, or a point that is made of some


@dataclasses.dataclass(frozen=True)
class Class:
    """Values from `low` on, and below `high`."""

    name: str
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One entry of `measurements`."""

    name: str
    kind: str  # of `FORMS`
    of: tuple[Point, ...]  # points; where it is of `COMBINED`, names of other measurements
    quantity: str = ""
    side: tuple[str, Point] | None = None  # one of `SIDES`, and the point that tells the side
    classes: tuple[Class, ...] = ()

    @property
    def definition(self) -> list[Any] | dict[str, Any]:
        """`of` as dataset.json has it, with every point that is not a landmark written out."""
        of = [_json(one) for one in self.of]
        more: dict[str, Any] = {self.side[0]: _json(self.side[1])} if self.side else {}
        if self.classes:
            more["classes"] = {
                one.name: [None if math.isinf(end) else end for end in (one.low, one.high)] for one in self.classes
            }
        return of if self.kind in ("distance", "angle") and not more else {self.kind: of} | more

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the other measurements that it is made of."""
        return tuple(map(str, self.of)) if self.kind in COMBINED else ()


def _json(point: Point) -> str | dict[str, Any]:
    return point if isinstance(point, str) else {point.kind: [_json(one) for one in point.of]}


def words_of_point(point: Point) -> str:
    """What a point is, for people."""
    return (
        point
        if isinstance(point, str)
        else _filled(POINTS[point.kind].words, [words_of_point(one) for one in point.of])
    )


def words(definition: Any) -> str:
    """What a measurement is, for people, from its `definition`."""
    if not isinstance(definition, dict):
        definition = {"distance" if len(definition) == 2 else "angle": definition}
    kind = next(key for key in definition if key in FORMS)
    side = next((f", {sign.replace('_', ' ')}: {_words(definition[sign])}" for sign in SIDES if sign in definition), "")
    return _filled(FORMS[kind].words, [_words(one) for one in definition[kind]]) + side


def _words(point: Any) -> str:
    if isinstance(point, str):
        return point
    ((kind, of),) = point.items()
    return _filled(POINTS[kind].words, [_words(one) for one in of])


def _filled(text: str, names: Sequence[str]) -> str:
    return text.format(*names, all=", ".join(names))


@dataclasses.dataclass(frozen=True)
class Values:
    """M measurements of N pictures; where a value is NaN, `reason` says why, else it is ""."""

    value: np.ndarray  # [N, M]
    reason: np.ndarray  # [N, M] str


def evaluate(
    measurements: Sequence[Measurement], landmarks: Sequence[str], xy: np.ndarray, spacing: np.ndarray
) -> Values:
    """Every measurement of N pictures.

    Args:
      measurements: M definitions.
      landmarks: K names.
      xy: `[N, K, 2]` points (x, y), pixels of the original picture, NaN where unknown.
      spacing: `[N, 2]` mm per pixel along x and y; NaN where unknown: pixels are then taken to be square.

    Returns:
      Lengths in mm and areas in mm2, or in pixels where the spacing is unknown; angles in degrees; ratios.
    """
    pictures = _Pictures(landmarks, xy * np.where(np.isnan(spacing).any(axis=-1, keepdims=True), 1.0, spacing)[:, None])
    of_name = {one.name: one for one in measurements}
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def find(name: str) -> tuple[np.ndarray, np.ndarray]:
        if name not in found:
            one = of_name[name]
            found[name] = _combination(one, [find(part) for part in one.needs]) if one.needs else pictures.measure(one)
        return found[name]

    every = [find(one.name) for one in measurements]
    return Values(*(np.stack(part, axis=1) for part in zip(*every, strict=True)))


def _combination(one: Measurement, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    values = np.stack([value for value, _ in parts])
    if one.quantity == SIGNED:
        near = np.array([plane.middle(of_picture) for of_picture in values.T]) if one.kind == "mean" else values[0]
        values = plane.turned(values, near)
    reason = np.full(values.shape[1], "", object)
    for name, (_, why) in zip(one.needs, parts, strict=True):
        reason = _first(reason, np.array([f"{name}: {text}" if text else "" for text in why], object))
    if one.kind == "ratio":
        reason = _first(reason, np.where(values[1] == 0, f"{one.needs[1]} is 0", ""))
        value = values[0] / np.where(values[1] == 0, np.nan, values[1])
    elif one.kind == "difference":
        value = values[0] - values[1]
    else:
        value = values.sum(axis=0) if one.kind == "sum" else values.mean(axis=0)
    if one.quantity == SIGNED:
        value = plane.turned(value, 0)
    return np.where(reason == "", value, np.nan), reason


class _Pictures:
    """The points of N pictures, in mm or in square pixels."""

    def __init__(self, landmarks: Sequence[str], points: np.ndarray):
        self._points = {name: points[:, k] for k, name in enumerate(landmarks)}
        self._n = len(points)

    def measure(self, one: Measurement) -> tuple[np.ndarray, np.ndarray]:
        """`[N]` values and reasons of a measurement of points."""
        form = FORMS[one.kind]
        value, reason = self._found(form, one.of)
        if one.side:
            sign, point = one.side
            value, reason = self._on_the_side(form, one, value, reason, sign, point)
        unknown = (reason == "") & ~np.isfinite(value)
        reason = np.where(unknown, "the value is not a finite number", reason)
        return np.where(reason == "", value, np.nan), reason

    def ends(self, a: Point, b: Point) -> list[np.ndarray]:
        """`[2]` where two points of the first picture lie, NaN where that is unknown."""
        return [np.where(reason[0] == "", where[0], np.nan) for where, reason in (self._at(a), self._at(b))]

    def _on_the_side(
        self, form: Form, one: Measurement, value: np.ndarray, reason: np.ndarray, sign: str, point: Point
    ) -> tuple[np.ndarray, np.ndarray]:
        """The value with its sign told by a point: the line is turned round where the point lies on its other side."""
        a, b = (one.of[i] for i in form.line or ())
        (from_a, _), (to_b, _), (at, unknown) = self._at(a), self._at(b), self._at(point)
        right, on_it = plane.side(at, from_a, to_b)
        reason = _first(reason, unknown)
        line = (
            f"{words_of_point(point)} lies on the line {words_of_point(a)} to {words_of_point(b)}, so there is no sign"
        )
        return value * right * SIDES[sign], _first(reason, np.where(on_it, line, ""))

    def _at(self, point: Point) -> tuple[np.ndarray, np.ndarray]:
        """`[N, 2]` where a point lies, and `[N]` why that is unknown."""
        if isinstance(point, Derived):
            return self._found(POINTS[point.kind], point.of)
        where = self._points[point]
        return where, np.where(np.isfinite(where).all(axis=-1), "", f"{point} is missing").astype(object)

    def _found(self, form: Form, of: Sequence[Point]) -> tuple[np.ndarray, np.ndarray]:
        parts, names = [self._at(one) for one in of], [words_of_point(one) for one in of]
        reason = np.full(self._n, "", object)
        for _, why in parts:
            reason = _first(reason, why)
        known = [np.where((reason == "")[:, None], where, np.nan) for where, _ in parts]
        assert form.compute
        with np.errstate(invalid="ignore", over="ignore"):
            found, faults = form.compute(*known)
        for mask, text in faults:
            reason = _first(reason, np.where(mask, text.format(*names), ""))
        return found, reason


_SIDES_OF = {
    "distance": ((0, 1),),
    "angle": ((1, 0), (1, 2)),
    "signed_angle": ((1, 0), (1, 2)),
    "distance_to_line": ((1, 2),),
}
_TWO_LINES = ((0, 1), (2, 3))


def lines(
    measurements: Sequence[Measurement], landmarks: Sequence[str], xy: np.ndarray, spacing: np.ndarray
) -> np.ndarray:
    """`[L, 2, 2]` ends of the lines in one picture that show what is measured, in its pixels; those with an end that is
    unknown are left out.

    Args:
      measurements: definitions; those that are made of others have no lines of their own.
      landmarks: K names.
      xy: `[K, 2]` points in pixels.
      spacing: `[2]` mm per pixel, NaN where unknown.
    """
    scale = np.ones(2) if np.isnan(spacing).any() else spacing
    pictures = _Pictures(landmarks, (xy * scale)[None])
    ends = [pictures.ends(a, b) for one in measurements if not one.needs for a, b in _lines_of(one)]
    found = np.array(ends, np.float64).reshape(-1, 2, 2) / scale
    return np.unique(found[np.isfinite(found).all(axis=(1, 2))], axis=0)


def _lines_of(one: Measurement) -> list[tuple[Point, Point]]:
    if one.quantity in (AREA, NUMBER) or one.kind == "perimeter":
        return list(zip(one.of, (*one.of[1:], one.of[0]), strict=True))
    sides: list[tuple[Point, Point]] = [(one.of[i], one.of[j]) for i, j in _SIDES_OF.get(one.kind, _TWO_LINES)]
    if one.kind == "distance_to_line":
        sides.append((one.of[0], Derived("projection", one.of)))
    return sides


def _first(reason: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The first of two reasons."""
    return np.where(reason == "", other, reason).astype(object)


def units(measurements: Sequence[Measurement], spacing: np.ndarray) -> np.ndarray:
    """`[N, M]` unit: "mm" or "px", with a 2 of an area; `UNSIGNED` or `DEGREES` of an angle; "" of a ratio. Arguments
    as in `evaluate`."""
    length = np.where(np.isnan(spacing).any(axis=-1), "px", "mm").astype("<U12")
    of = {LENGTH: length, AREA: np.char.add(length, "2")}
    others = {ANGLE: UNSIGNED, SIGNED: DEGREES, ANGLES: DEGREES, NUMBER: ""}
    of |= {key: np.full_like(length, text) for key, text in others.items()}
    return np.stack([of[one.quantity] for one in measurements], axis=1)


def are_turns(unit: np.ndarray | str, *degrees: np.ndarray | float) -> bool:
    """Whether numbers are angles that jump from 180 to -180 degrees. What is made of a sum of angles, whose unit is
    `DEGREES` too, may go beyond, and then does not."""
    within = all(np.nanmax(np.abs(one), initial=0.0) <= 180 for one in degrees)
    return bool(np.any(np.asarray(unit) == DEGREES)) and within


def classes(one: Measurement, value: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """`[N]` names of the classes that values lie in; "" where the value is unknown, or is not in mm but its classes
    are."""
    found = np.full(len(value), "", object)
    for each in one.classes:
        found[(value >= each.low) & (value < each.high)] = each.name
    return np.where(np.char.startswith(unit.astype(str), "px"), "", found).astype(str)
