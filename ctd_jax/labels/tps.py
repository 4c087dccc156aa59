"""TPS of tpsDig and geomorph: one text file, points in order. x counts columns from 0, as ours; y counts from the
bottom: y of a row is the height of the picture less the row, as ml-morph and the other converters have it. SCALE is mm
of a pixel."""

import collections
import dataclasses
import logging
import pathlib

from ctd_jax.data import tables
from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labelled, Labels, Point

_log = logging.getLogger(__name__)
KNOWN = ("LM", "CURVES", "POINTS", "IMAGE", "ID", "SCALE")


def recognises(name: str, head: str) -> bool:
    return name.endswith(".tps")


@dataclasses.dataclass
class _Specimen:
    at: str
    values: dict[str, str] = dataclasses.field(default_factory=dict)
    xy: list[tuple[float, float] | None] = dataclasses.field(default_factory=list)  # None: absent


def read(path: pathlib.Path, context: Context) -> Labels:
    """A file of specimens with equally many points; see `labels.Format`."""
    path = reading.only_file(path, [".tps"])
    specimens = _specimens(path)
    names = context.names_of(len(specimens[0].xy), specimens[0].at)
    pictures = []
    for one in specimens:
        if len(one.xy) != len(names):
            message = f"{one.at}: expected {len(names)} points, as the first specimen has, found {len(one.xy)}"
            raise Fault("number of points", message)
        image = context.pictures.find(one.values.get("IMAGE", ""), one.at)
        width, height = context.pictures.size(image)
        points = {
            name: Point(xy[0], height - xy[1])
            for name, xy in zip(names, one.xy, strict=True)
            if xy is not None and not (context.negative_missing and min(xy) < 0)
        }
        negative = next((xy for xy in one.xy if xy is not None and min(xy) < 0), None)
        if negative and not context.negative_missing:
            message = f"{one.at}: expected coordinates of 0 or more, found {negative[0]:g} {negative[1]:g}; if "
            raise Fault("negative", f"{message}that means a missing point, add --negative_missing")
        subject, spacing = one.values.get("ID", ""), _spacing(one) or context.spacing
        pictures.append(Labelled(image, points, (width, height), subject, spacing, where=one.at))
    scaled = sum(bool(one.values.get("SCALE")) for one in specimens)
    if 0 < scaled < len(specimens):
        _log.warning("%s: SCALE is given for %d of %d specimens; the others have no spacing of their own", path, scaled,
                     len(specimens))  # fmt: skip
    return Labels(names, tuple(pictures))


def _spacing(one: _Specimen) -> tuple[float, float] | None:
    """mm of a pixel; None: SCALE is blank."""
    text = one.values.get("SCALE", "")
    if not text:
        return None
    scale = reading.number(text, f"{one.at}, SCALE")
    if scale <= 0:
        raise Fault("spacing", f"{one.at}: expected a SCALE above 0, mm of a pixel, found {text}")
    return scale, scale


def _specimens(path: pathlib.Path) -> list[_Specimen]:
    """The specimens of a file: LM with its points first, then those of its curves, in their order."""
    specimens: list[_Specimen] = []
    others: collections.Counter[str] = collections.Counter()
    left, curves = 0, 0
    last = ""
    text = tables.read_text(path)
    reading.warn_of_end(path)
    for number, line in enumerate(text.splitlines(), 1):
        line, at = line.strip(), f"{path}, line {number}"
        key, equals, value = (part.strip() for part in line.partition("="))
        key = key.upper()
        if not line:
            continue
        if left:
            if equals:
                raise Fault("number of points", f"{at}: expected {left} more points of {last}, found {line[:50]!r}")
            specimens[-1].xy.append(_xy(line, at))
            left -= 1
        elif not equals:
            raise Fault("line", f"{at}: expected KEY=VALUE, or fewer points, found {line[:50]!r}")
        elif key == "LM3":
            raise Fault("three dimensions", f"{at}: LM3 has points in space; expected LM=, points of a picture")
        elif key == "LM":
            if curves:
                raise Fault(
                    "curves", f"{at}: expected {curves} more curves before the next specimen, found {line[:50]!r}"
                )
            specimens.append(_Specimen(f"{path}, specimen {len(specimens) + 1} (line {number})"))
            left, last, curves = _count(value, at), f"LM={value}", 0
        elif not specimens:
            raise Fault("line", f"{at}: expected LM=NUMBER first, found {line[:50]!r}")
        elif key == "CURVES":
            curves = _count(value, at)
        elif key == "POINTS":
            if not curves:
                raise Fault("curves", f"{at}: expected CURVES=NUMBER before its POINTS, and as many, found another")
            left, last, curves = _count(value, at), f"POINTS={value}", curves - 1
        elif key not in KNOWN:
            others[key] += 1
        elif key in specimens[-1].values:
            raise Fault("key twice", f"{at}: expected one {key} for a specimen, found a second one")
        else:
            specimens[-1].values[key] = value
    if left or curves:
        what = f"{left} more points of {last}" if left else f"{curves} more curves"
        raise Fault("cut short", f"{path}: expected {what}, found the end of the file")
    if not specimens:
        raise UserError(f"{path}: expected specimens that begin with LM=NUMBER, found none")
    if others:
        _log.warning("%s: not read: %s", path, tables.listed([f"{key} ({n})" for key, n in others.items()]))
    return specimens


def _count(text: str, at: str) -> int:
    if not text.isdecimal() or len(text) > 6:
        raise Fault("number of points", f"{at}: expected a whole number, found {text[:50]!r}")
    return int(text)


def _xy(line: str, at: str) -> tuple[float, float] | None:
    cells = line.split()
    if [cell.upper() for cell in cells] == ["NA", "NA"]:
        return None
    if len(cells) != 2:
        raise Fault("line", f"{at}: expected x and y with a blank between, found {line[:50]!r}")
    x, y = (reading.number(cell, at) for cell in cells)
    return x, y


def write(labels: Labels) -> dict[str, bytes]:
    """One file, absent points as NA; see `labels.Format`."""
    lines = []
    for picture in labels.pictures:
        _, height = picture.known_size()
        lines.append(f"LM={len(labels.names)}")
        for name in labels.names:
            point = picture.points.get(name)
            lines.append("NA NA" if point is None else f"{point.x!r} {height - point.y!r}")
        lines.append(f"IMAGE={picture.image}")
        lines += [f"ID={picture.subject}"] * bool(picture.subject)
        if picture.spacing and picture.spacing[0] == picture.spacing[1]:
            lines.append(f"SCALE={picture.spacing[0]!r}")
    return {"": "\n".join([*lines, ""]).encode()}
