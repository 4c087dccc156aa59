"""The language of measurements (docs/measurements.md): definitions that somebody wrote, checked and read."""

import contextlib
import dataclasses
import difflib
import logging
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ctd_jax.errors import UserError
from ctd_jax.metrics.measurements import (
    ANGLE,
    ANGLES,
    COMBINED,
    FORMS,
    NUMBER,
    POINTS,
    SIDES,
    SIGNED,
    Class,
    Derived,
    Form,
    Measurement,
    Point,
    words_of_point,
)

_log = logging.getLogger(__name__)
READY = pathlib.Path(__file__).parent / "ready"  # definitions that come along
FILE_KEYS = ("measurements", "derived_points", "note")
OTHER_KEYS = (*SIDES, "classes", "optional", "note")
EXPECTED = "two landmarks (a distance), three (the angle at the middle one), or an object with one of " + ", ".join(
    FORMS
)
_CLASSES = (
    'two names or more, each with where it begins and ends, null where it is open, such as {"low": [null, 3], "high": '
    "[3, null]}; each begins where the one before it ends"
)


class _MissingLandmarkError(UserError):
    """A definition names a landmark that there is not."""


def parse(content: Any, landmarks: Sequence[str], where: str, derived: Any = None) -> tuple[Measurement, ...]:
    """The measurements of `content`, each with its name; docs/measurements.md has the language:

        {"fissure": ["outer", "inner"],               distance of two landmarks
         "opening": ["top", "bottom"],
         "nasal_angle": ["nasion", "tip", "base"],    angle at the middle one, 0 to 180 degrees, without sign
         "openness": {"ratio": ["opening", "fissure"]}}    of two lengths, angles or areas: first / second

    Those with `"optional": true` are left out, with a warning, where a landmark that they name is not there.

    Args:
      content: value of the key `measurements`; None: there are none.
      landmarks: names of the landmarks.
      where: file, for messages.
      derived: value of the key `derived_points`: name -> the name of another point, or {form of `POINTS`: points}.

    Raises:
      UserError: what is no definition; a name that is unknown; a definition that needs itself.
    """
    if content is None:
        return ()
    if not isinstance(content, dict):
        raise UserError(f"{where}: measurements is {content}; expected an object, each name with {EXPECTED}")
    try:
        reader = _Reader(content, landmarks, derived, where)
        return tuple(one for one in map(reader.measurement, content) if one)
    except RecursionError:
        raise UserError(f"{where}: definitions too deep in each other; expected a few hundred at most") from None


def parse_file(content: Any, landmarks: Sequence[str], where: str) -> tuple[Measurement, ...]:
    """The measurements of a file of definitions: `measurements`, `derived_points` and `note`; see `parse`."""
    if not isinstance(content, dict) or not content.get("measurements"):
        raise UserError(
            f"{where}: found no `measurements`; expected an object with them, as docs/measurements.md has it"
        )
    for key in content:
        if key not in FILE_KEYS:
            raise UserError(f"{where}: {key!r} is no key here; expected {', '.join(FILE_KEYS)}{_hint(key, FILE_KEYS)}")
    found = parse(content["measurements"], landmarks, where, content.get("derived_points"))
    if not found:
        known = ", ".join(landmarks[:10])
        raise UserError(f"{where}: none of its measurements is of these landmarks; expected names such as {known}")
    return found


def ready(name: str) -> pathlib.Path:
    """The file of definitions of this name that comes along, with or without `.json`.

    Raises:
      UserError: there is none.
    """
    known = {path.stem: path for path in sorted(READY.glob("*.json"))}
    if name.removesuffix(".json") not in known:
        raise UserError(f"{name}: no such file of definitions; those that come along are {', '.join(known)}")
    return known[name.removesuffix(".json")]


class _Reader:
    """Reads definitions, each after those that it needs."""

    def __init__(self, content: dict[str, Any], landmarks: Sequence[str], derived: Any, where: str):
        self._content, self._landmarks, self._where = content, tuple(landmarks), where
        self._derived = self._checked(derived)
        self._done: dict[str, Measurement | None] = {}
        self._open: list[str] = []
        for name in self._derived:
            with contextlib.suppress(_MissingLandmarkError):  # a measurement that needs it says so
                self._point(name, f"derived point {name!r}")

    def _checked(self, derived: Any) -> dict[str, Any]:
        if not isinstance(derived, dict | None):
            raise UserError(f"{self._where}: derived_points is {derived}; expected an object, each name with a point")
        for name in derived or {}:
            if not name.strip() or name in self._landmarks:
                found = "is the name of a landmark" if name.strip() else "is no name"
                raise UserError(
                    f"{self._where}: derived point {name!r} {found}; expected another name, or leave it out"
                )
        return derived or {}

    def measurement(self, name: str) -> Measurement | None:
        """The measurement of this name; None: it is left out."""
        if name not in self._done:
            value = self._content[name]
            optional = isinstance(value, dict) and value.get("optional", False)
            if not isinstance(optional, bool):
                raise UserError(f"{self._of(name)} has optional {optional}; expected true or false")
            self._enter(f"measurement {name!r}")
            try:
                self._done[name] = self._parsed(name, value)
            except _MissingLandmarkError as error:
                if not optional:
                    raise
                _log.warning("%s; measurement %r is optional and left out", error, name)
                self._done[name] = None
            finally:
                self._open.pop()
        return self._done[name]

    def _parsed(self, name: str, value: Any) -> Measurement:
        what = f"measurement {name!r}"
        if isinstance(value, list | tuple):
            value = {{2: "distance", 3: "angle"}.get(len(value), ""): value}
        kind, of = self._form(what, self._content[name], value, FORMS, OTHER_KEYS)
        if not name.strip():
            raise UserError(f"{self._where}: {what} has {self._content[name]}; expected a name with {EXPECTED}")
        if kind in COMBINED:
            parts = [self._part(name, one) for one in of]
            one = Measurement(name, kind, tuple(of), self._combined(what, kind, parts))
        else:
            points = tuple(self._point(point, what) for point in of)
            self._check_apart(what, kind, points)
            one = Measurement(name, kind, points, FORMS[kind].quantity)
        return dataclasses.replace(one, side=self._side(what, kind, value), classes=self._classes(what, value))

    def _form(
        self, what: str, written: Any, value: Any, forms: Mapping[str, Form], others: Sequence[str] = ()
    ) -> tuple[str, Sequence[Any]]:
        """Which of the forms an object is of, and its names."""
        kinds = [key for key in value if key not in others] if isinstance(value, dict) else []
        if len(kinds) != 1 or kinds[0] not in forms:
            near = _hint(kinds[0], tuple(forms)) if len(kinds) == 1 and kinds[0] else ""
            expected = (
                f"a name with {EXPECTED}" if forms is FORMS else f"the name of a point, or one of {', '.join(forms)}"
            )
            raise UserError(f"{self._where}: {what} has {written}; expected {expected}{near}")
        kind, of = kinds[0], value[kinds[0]]
        form = forms[kind]
        fits = isinstance(of, list | tuple) and form.least <= len(of) <= (form.most or len(of))
        if not fits or (kind in COMBINED and not all(isinstance(one, str) for one in of)):
            raise UserError(f"{self._where}: {what} has {written}; expected {kind} of {form.of}")
        if kind in COMBINED and len(set(of)) < len(of):
            raise UserError(f"{self._where}: {what} has {written}; expected {kind} of {form.of}, all different")
        return kind, of

    def _point(self, written: Any, what: str) -> Point:
        if isinstance(written, str) and written in self._landmarks:
            return written
        if isinstance(written, str) and written in self._derived:
            self._enter(f"derived point {written!r}")
            try:
                return self._point(self._derived[written], f"derived point {written!r}")
            finally:
                self._open.pop()
        if isinstance(written, str):
            hint = _hint(written, (*self._landmarks, *(name for name in self._derived if not self._is_open(name))))
            raise _MissingLandmarkError(
                f"{self._where}: {what} names {written!r}, which is not one of the landmarks{hint}"
            )
        kind, of = self._form(what, written, written, POINTS, ("note",))
        points = tuple(self._point(one, what) for one in of)
        self._check_apart(what, kind, points)
        return Derived(kind, points)

    def _check_apart(self, what: str, kind: str, points: tuple[Point, ...]) -> None:
        """Points that make one line, or one polygon, must not be the same; two lines may share one."""
        two_pairs = kind in ("intersection", "angle_of_lines", "distance_along", "distance_across")
        groups = [points[:2], points[2:]] if two_pairs else [points]
        if any(len(set(group)) < len(group) for group in groups) or (two_pairs and set(groups[0]) == set(groups[1])):
            found = ", ".join(map(words_of_point, points))
            raise UserError(f"{self._where}: {what} has {kind} of {found}; expected points that are all different")

    def _part(self, name: str, of: str) -> Measurement:
        if of not in self._content:
            known = [one for one in self._content if one != name]
            raise UserError(f"{self._of(name)} names {of!r}, which is not one of the measurements{_hint(of, known)}")
        part = self.measurement(of)
        if part is None:
            raise _MissingLandmarkError(f"{self._of(name)} names {of!r}, which is left out")
        return part

    def _combined(self, what: str, kind: str, parts: Sequence[Measurement]) -> str:
        """The quantity that is made of the parts."""
        of_parts = {part.quantity for part in parts}
        quantities = {ANGLE if one in (SIGNED, ANGLES) else one for one in of_parts}
        if len(quantities) > 1 or (kind == "ratio" and quantities == {NUMBER}):
            found = " and ".join(f"{part.name!r} ({part.quantity})" for part in parts)
            number = "" if kind == "ratio" else ", or numbers"
            expected = f"lengths alone, or angles, or areas{number}"
            raise UserError(f"{self._where}: {what} is the {kind} of {found}; expected {expected}")
        if kind == "ratio":
            return NUMBER
        if quantities != {ANGLE}:
            return quantities.pop()
        if kind == "sum" or ANGLES in of_parts:
            return ANGLES
        return ANGLE if kind == "mean" and of_parts == {ANGLE} else SIGNED

    def _side(self, what: str, kind: str, value: dict[str, Any]) -> tuple[str, Point] | None:
        given = [key for key in SIDES if key in value]
        if not given:
            return None
        if len(given) > 1 or not FORMS[kind].line:
            able = ", ".join(key for key, form in FORMS.items() if form.line)
            raise UserError(
                f"{self._where}: {what} has {' and '.join(given)}; expected one of them, and only of {able}"
            )
        return given[0], self._point(value[given[0]], what)

    def _classes(self, what: str, value: dict[str, Any]) -> tuple[Class, ...]:
        given = value.get("classes")
        if given is None:
            return ()
        fault = UserError(f"{self._where}: {what} has classes {given}; expected {_CLASSES}")
        if not isinstance(given, dict) or len(given) < 2 or not all(name.strip() for name in given):
            raise fault
        for ends in given.values():
            if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(map(_is_end, ends)):
                raise fault
        ranges = [
            (-math.inf if low is None else low, math.inf if high is None else high) for low, high in given.values()
        ]
        met = all(before[1] == after[0] for before, after in zip(ranges, ranges[1:], strict=False))
        if not met or not all(low < high for low, high in ranges):
            raise fault
        return tuple(Class(name, float(low), float(high)) for name, (low, high) in zip(given, ranges, strict=True))

    def _is_open(self, name: str) -> bool:
        return f"derived point {name!r}" in self._open

    def _enter(self, what: str) -> None:
        if what in self._open:
            raise UserError(f"{self._where}: {what} is made of itself; expected landmarks and others in the end")
        self._open.append(what)

    def _of(self, name: str) -> str:
        return f"{self._where}: measurement {name!r}"


def _is_end(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (is_number and abs(value) < 1e300)


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; the nearest is {near[0]!r}" if near else ""
