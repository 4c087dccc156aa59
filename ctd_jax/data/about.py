"""`dataset.json`: what a landmark folder says of its landmarks."""

import collections
import dataclasses
import json
import logging
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ctd_jax.data import tables
from ctd_jax.data.faults import Faults
from ctd_jax.errors import UserError
from ctd_jax.metrics import definitions
from ctd_jax.metrics.measurements import Measurement

_log = logging.getLogger(__name__)
_OF_MEASUREMENTS = ("derived_points", "measurements")
KEYS = (
    "name", "landmarks", "flip_pairs", "skeleton", "normalizer", "success_radii_mm", "absent", *_OF_MEASUREMENTS,
    "raters", "note",
)  # fmt: skip
LONGEST = 100  # characters of a landmark's name
_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}


@dataclasses.dataclass(frozen=True)
class Landmarks:
    """What `dataset.json` says of the landmarks."""

    names: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...] | None = None  # None: never mirror
    normalizer: tuple[str, str] | None = None
    success_radii_mm: tuple[float, ...] = (2.0, 2.5, 3.0, 4.0)
    measurements: tuple[Measurement, ...] = ()
    raters: tuple[str, ...] = ()  # whose own annotations are known, see `data.raters`
    absent: tuple[str, ...] = ()  # those whose empty cells say that they are not in the picture
    skeleton: tuple[tuple[str, str], ...] = ()  # between which lines are drawn

    @property
    def flip_order(self) -> tuple[int, ...] | None:
        """For each landmark, the index of the one that takes its place in a mirror image; None: never mirror."""
        if self.flip_pairs is None:
            return None
        partner = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
        return tuple(self.names.index(partner.get(name, name)) for name in self.names)


def read(path: pathlib.Path, columns: Sequence[str], faults: Faults) -> Landmarks:
    """Reads dataset.json of a folder whose table has these columns; without both, there are no landmarks.

    Raises:
      UserError: what makes the rows unreadable: no such file, not JSON, no list of landmarks. The other `faults` are
        added.
    """
    ends = {column.casefold(): column for column in columns}
    found = [c[:-2] for folded, c in ends.items() if folded.endswith("_x") and f"{folded[:-2]}_y" in ends]
    if not os.path.isfile(path) and not found:
        return Landmarks(())
    if not os.path.isfile(path):
        example = json.dumps({"name": path.parent.name, "landmarks": found, "flip_pairs": None, "normalizer": None})
        raise UserError(f"{path}: no such file; from the columns of landmarks.csv it could be\n{example}")
    content = tables.load_json(path)
    names = content.get("landmarks", None if found else []) if isinstance(content, dict) else None
    if not isinstance(names, list) or (found and not names) or not all(isinstance(n, str) for n in names):
        raise UserError(f"{path}: expected `landmarks`, a list of names, for instance {found}")
    _warn_of_keys(path, content)
    named = content.get("raters") or []
    if named and "rater" in ends:
        _log.warning("%s: `raters` is not read, since landmarks.csv has a column `rater`", path)
        named = []
    return dataclasses.replace(parse(content, str(path), faults), raters=_raters(path, named))


def parse(content: Mapping[str, Any], where: str, faults: Faults) -> Landmarks:
    """Checks what `content`, with the keys of dataset.json, says of the landmarks; messages begin with `where`.

    Raises:
      UserError: names that can't be those of landmarks. The other `faults` are added.
    """
    names = list(content.get("landmarks", ()))
    _check_names(where, names)
    flip_pairs, normalizer = None, content.get("normalizer")
    radii = Landmarks.success_radii_mm
    measured: tuple[Measurement, ...] = ()
    absent: tuple[str, ...] = ()
    skeleton: tuple[tuple[str, str], ...] = ()
    with faults.collecting("dataset.json"):
        flip_pairs = _flip_pairs(where, content.get("flip_pairs"), names)
        _warn_of_sides(where, names, flip_pairs)
    if normalizer is not None:
        with faults.collecting("dataset.json"):
            _check_pair(where, "normalizer", normalizer, names)
    with faults.collecting("dataset.json"):
        radii = _radii(where, content.get("success_radii_mm") or Landmarks.success_radii_mm)
    with faults.collecting("dataset.json"):
        measured = _measurements(where, content, names)
    with faults.collecting("dataset.json"):
        absent = _absent(where, content.get("absent"), names)
    with faults.collecting("dataset.json"):
        skeleton = _skeleton(where, content.get("skeleton"), names)
    if faults:
        return Landmarks(tuple(names))
    normalizer = tuple(normalizer) if normalizer else None
    return Landmarks(tuple(names), flip_pairs, normalizer, radii, measured, absent=absent, skeleton=skeleton)


def _measurements(where: str, content: Mapping[str, Any], names: list[str]) -> tuple[Measurement, ...]:
    given, derived = content.get("measurements"), content.get("derived_points")
    if not isinstance(given, str):
        return definitions.parse(given, names, where, derived)
    if not isinstance(derived, dict | None):
        raise UserError(f"{where}: derived_points is {derived}; expected an object, each name with a point")
    path = definitions.ready(given)
    known = tables.load_json(path)
    own = known | {"derived_points": known["derived_points"] | (derived or {})}
    return definitions.parse_file(own, names, f"{where}, {path.name}" if derived else path.name)


def _check_names(where: str, names: list[str]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"{where}: {name!r} is no name of a landmark; expected text of 1 to {LONGEST} characters")
    twice = next((name for name, n in collections.Counter(names).items() if n > 1), None)
    if twice is not None:
        raise UserError(f"{where}: a landmark is named twice in `landmarks`, {twice!r}")
    for name in names:
        if not name.strip() or len(name) > LONGEST or not name.isprintable():
            raise UserError(
                f"{where}: {name[:LONGEST]!r} is no name of a landmark; expected 1 to {LONGEST} characters of one line"
            )


def _warn_of_keys(path: pathlib.Path, content: dict[str, Any]) -> None:
    for key in content:
        if key not in KEYS:
            near = tables.nearest(key, KEYS)
            _log.warning("%s: the key %r means nothing here%s", path, key, f"; is it {near!r}?" if near else "")


def _raters(path: pathlib.Path, named: Any) -> tuple[str, ...]:
    """Those of the `raters` whose file is there; warns of the others."""
    if not isinstance(named, list) or not all(isinstance(one, str) and re.fullmatch(r"[\w.-]+", one) for one in named):
        raise UserError(f"{path}: raters is {named}; expected a list of names, each of a file landmarks_NAME.csv")
    lacking = [one for one in named if not os.path.isfile(path.parent / f"landmarks_{one}.csv")]
    if lacking:
        _log.warning("%s: no landmarks_%s.csv, which `raters` names; nothing is compared with it", path, lacking[0])
    return tuple(dict.fromkeys(one for one in named if one not in lacking))


def _flip_pairs(where: str, pairs: Any, names: list[str]) -> tuple[tuple[str, str], ...] | None:
    if not isinstance(pairs, list | None):
        raise UserError(f"{where}: flip_pairs is {pairs}; expected a list of pairs of names, or null: never mirror")
    for pair in pairs or ():
        _check_pair(where, "flip_pairs", pair, names)
    flat = collections.Counter(name for pair in pairs or () for name in pair)
    twice = next((name for name, n in flat.items() if n > 1), None)
    if twice:
        raise UserError(f"{where}: {twice!r} stands in two flip_pairs; a landmark has one mirror image")
    return None if pairs is None else tuple((a, b) for a, b in pairs)


def _skeleton(where: str, pairs: Any, names: list[str]) -> tuple[tuple[str, str], ...]:
    if not isinstance(pairs, list | None):
        raise UserError(f"{where}: skeleton is {pairs}; expected a list of pairs of names, one of each line")
    for pair in pairs or ():
        _check_pair(where, "skeleton", pair, names)
    return tuple((a, b) for a, b in pairs or ())


def _check_pair(where: str, key: str, pair: Any, names: list[str]) -> None:
    if not isinstance(pair, list) or len(pair) != 2 or pair[0] == pair[1]:
        raise UserError(f"{where}: {key} has {pair}; expected two different names of landmarks")
    for name in pair:
        _check_name(where, key, name, names)


def _check_name(where: str, key: str, name: Any, names: list[str]) -> None:
    if name not in names:
        near = tables.nearest(str(name), names)
        hint = f"; the nearest is {near!r}" if near else ""
        raise UserError(f"{where}: {key} names {name!r}, which is not one of the landmarks{hint}")


def _radii(where: str, radii: Any) -> tuple[float, ...]:
    if not isinstance(radii, list | tuple) or not all(
        isinstance(r, int | float) and not isinstance(r, bool) and math.isfinite(r) and r > 0 for r in radii
    ):
        raise UserError(f"{where}: success_radii_mm is {radii}; expected a list of positive numbers, in mm")
    return tuple(float(r) for r in radii)


def _absent(where: str, given: Any, names: list[str]) -> tuple[str, ...]:
    """The landmarks whose empty cells mean that they are absent; `true`: all."""
    if given is None or isinstance(given, bool):
        return tuple(names) if given else ()
    if not isinstance(given, list):
        raise UserError(
            f"{where}: absent is {given!r}; expected a list of the landmarks whose empty cells mean that they are not "
            "in the picture, or true: all"
        )
    for name in given:
        _check_name(where, "absent", name, names)
    return tuple(name for name in names if name in given)


def _warn_of_sides(where: str, names: list[str], pairs: tuple[tuple[str, str], ...] | None) -> None:
    """Warns of landmarks left and right that are not paired, where pictures are mirrored."""
    if pairs is None:
        return
    paired = {name for pair in pairs for name in pair}
    alone = {name: other_side(name) for name in names if name not in paired}
    couples = [(a, b) for a, b in alone.items() if b in alone and a < b]
    if couples:
        _log.warning(
            "%s: pictures are mirrored in training, but flip_pairs does not have %s; add the pair%s, or set flip_pairs "
            "to null: never mirror",
            where,
            tables.listed([f"[{a}, {b}]" for a, b in couples]),
            "s" if len(couples) > 1 else "",
        )


def other_side(name: str) -> str | None:
    """The name with left for right, or right for left; None if it has neither."""
    words = re.split(r"([\W_\d]+)", name)
    other = [_SIDES.get(word.casefold(), word) for word in words]
    return "".join(other) if other != words else None
