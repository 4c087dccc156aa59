"""Landmark folders: `landmarks.csv`, `dataset.json` and pictures. What can be wrong with one is found here."""

import dataclasses
import difflib
import hashlib
import json
import logging
import pathlib
from typing import Any

import numpy as np

from ctd_jax import measurements as measurements_
from ctd_jax.data import pictures, tables
from ctd_jax.data.ahead import ahead, progress
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)

# A landmark may lie outside its picture by this share of the picture's size: real annotations do that.
OUTSIDE = 0.1
BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
KEYS = ("name", "landmarks", "flip_pairs", "normalizer", "success_radii_mm", "measurements", "raters", "note")
SPACING = ("spacing_x_mm", "spacing_y_mm")


@dataclasses.dataclass(frozen=True)
class Landmarks:
    """What `dataset.json` says of the landmarks."""

    names: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...] | None = None  # None: never mirror
    normalizer: tuple[str, str] | None = None
    success_radii_mm: tuple[float, ...] = (2.0, 2.5, 3.0, 4.0)
    measurements: tuple[measurements_.Measurement, ...] = ()

    @property
    def flip_order(self) -> tuple[int, ...] | None:
        """For each landmark, the index of the one that takes its place in a mirror image; None: never mirror."""
        if self.flip_pairs is None:
            return None
        partner = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
        return tuple(self.names.index(partner.get(name, name)) for name in self.names)


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of `landmarks.csv`. N pictures, K landmarks; NaN where a cell is empty."""

    landmarks: Landmarks
    images: tuple[str, ...]
    subjects: tuple[str, ...]
    splits: tuple[str, ...] | None  # None: no such column
    xy: np.ndarray  # [N, K, 2] pixels of the picture
    spacing: np.ndarray  # [N, 2] mm per pixel
    boxes: np.ndarray  # [N, 4] x0, y0, x1, y1, pixels
    sha256: tuple[str, ...]  # of each picture file
    where: tuple[str, ...]  # file and row, for messages


def read(root: pathlib.Path) -> Table:
    """Reads and checks all of a landmark folder but the inside of its pictures.

    Raises:
      UserError: what is wrong, in which file and row, what was expected and what to do.
    """
    if not root.is_dir():
        raise UserError(
            f"{root}: no such folder; `data.root` expects one with landmarks.csv, dataset.json and pictures"
        )
    path = root / "landmarks.csv"
    names = tables.columns(path)
    landmarks = _read_json(root / "dataset.json", names)
    seen: dict[str, str] = {}  # image -> file and row
    subjects, splits, points, spacing, boxes = [], [], [], [], []
    for number, row in tables.rows(path):
        at, image = f"{path}, row {number}", row["image"]
        point, mm, box = (
            np.array([tables.number(row.get(column, ""), column, at) for column in columns])
            for columns in ([f"{name}_{axis}" for name in landmarks.names for axis in "xy"], SPACING, BOX)
        )
        if image in seen:
            raise UserError(f"{at}: {image} was already listed in {seen[image]}; keep one of the rows")
        if not (root / image).is_file():
            raise UserError(f"{at}: picture {image} does not exist in {root}")
        half = np.isnan(point.reshape(-1, 2)).sum(-1) == 1
        if half.any():
            name = landmarks.names[int(np.argmax(half))]
            raise UserError(f"{at}: {name} has only one of its two coordinates; fill both cells or empty both")
        if np.isnan(mm).any() != np.isnan(mm).all() or (mm <= 0).any():
            raise UserError(f"{at}: spacing is {mm} mm; expected two positive numbers, or two empty cells")
        if any(column in row for column in BOX):
            _check_box(box, at)
        seen[image] = at
        subjects.append(row.get("subject") or image)
        splits.append(row.get("split", ""))
        for values, value in ((points, point), (spacing, mm), (boxes, box)):
            values.append(value)
    if "subject" not in names:
        _log.warning("%s has no column `subject`: every picture counts as a person of its own", path)
    digests = ahead(lambda image: hashlib.sha256((root / image).read_bytes()).hexdigest(), seen)
    return Table(
        landmarks=landmarks,
        images=tuple(seen),
        subjects=tuple(subjects),
        splits=tuple(splits) if "split" in names else None,
        xy=np.reshape(points, (len(seen), len(landmarks.names), 2)),
        spacing=np.array(spacing),
        boxes=np.array(boxes),
        sha256=tuple(progress(digests, "reading pictures", len(seen))),
        where=tuple(seen.values()),
    )


def check_picture(table: Table, index: int, content: bytes, root: pathlib.Path) -> None:
    """Raises UserError if the picture can't be read, or its landmarks or box don't belong to it."""
    at = f"{table.where[index]}, {table.images[index]}"
    height, width = pictures.decode(content, f"{table.where[index]}, {root / table.images[index]}").shape[:2]
    size = np.array([width, height])
    outside = np.maximum(-0.5 - table.xy[index], table.xy[index] - (size - 0.5)) / size
    outside = np.nan_to_num(outside, nan=-1.0).max(-1)
    if (outside > 0).any():
        worst = int(np.argmax(outside))
        message = (
            f"{at}: {table.landmarks.names[worst]} lies at {tuple(table.xy[index, worst].tolist())}, "
            f"outside the picture of {width} x {height} pixels"
        )
        if outside[worst] > OUTSIDE:
            raise UserError(f"{message} by more than a tenth of it; correct the row, or empty its two cells")
        _log.warning(message)
    box = table.boxes[index]
    if not np.isnan(box).any() and (box[0] > width or box[1] > height or box[2] < 0 or box[3] < 0):
        raise UserError(f"{at}: the box {box} lies outside the picture of {width} x {height} pixels; correct the row")


def fingerprint(root: pathlib.Path, table: Table) -> str:
    """Changes when the content of the folder does."""
    digest = hashlib.sha256()
    files = [path.read_bytes() for path in (root / "landmarks.csv", root / "dataset.json") if path.is_file()]
    for part in (*files, *table.sha256):
        digest.update(hashlib.sha256(part if isinstance(part, bytes) else part.encode()).digest())
    return digest.hexdigest()[:16]


def read_split(path: pathlib.Path) -> dict[str, str]:
    """Image -> split, from a csv file with these two columns."""
    names = tables.columns(path)
    if "split" not in names:
        raise UserError(
            f"{path}: no column `split`, found {', '.join(names)}; a split file has columns image and split"
        )
    return {row["image"]: row["split"] for _, row in tables.rows(path)}


def read_boxes(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Image -> `[4]` x0, y0, x1, y1 in pixels, from a csv file with columns image and box_*."""
    names = tables.columns(path)
    if not set(BOX) <= set(names):
        raise UserError(f"{path}: expected the columns {', '.join(BOX)}, found {', '.join(names)}")
    boxes = {}
    for number, row in tables.rows(path):
        at = f"{path}, row {number}"
        boxes[row["image"]] = np.array([tables.number(row[column], column, at) for column in BOX])
        _check_box(boxes[row["image"]], at)
    return boxes


def _check_box(box: np.ndarray, at: str) -> None:
    if np.isnan(box).any() or box[0] >= box[2] or box[1] >= box[3]:
        raise UserError(f"{at}: box is {box}; expected x0 < x1 and y0 < y1 in pixels of the picture")


def _read_json(path: pathlib.Path, columns: list[str]) -> Landmarks:
    found = [c[:-2] for c in columns if c.endswith("_x") and f"{c[:-2]}_y" in columns]
    if not path.is_file() and not found:
        return Landmarks(())
    if not path.is_file():
        example = json.dumps({"name": path.parent.name, "landmarks": found, "flip_pairs": None, "normalizer": None})
        raise UserError(f"{path}: no such file; from the columns of landmarks.csv it could be\n{example}")
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=tables.unique_keys(path))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    for key in content if isinstance(content, dict) else ():
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            _log.warning("%s: the key %r means nothing here%s", path, key, f"; is it {near[0]!r}?" if near else "")
    names = content.get("landmarks", None if found else []) if isinstance(content, dict) else None
    if not isinstance(names, list) or (found and not names) or not all(isinstance(n, str) for n in names):
        raise UserError(f"{path}: expected `landmarks`, a list of names, for instance {found}")
    if len(set(names)) < len(names):
        raise UserError(f"{path}: a landmark is named twice in `landmarks`")
    for column in (f"{name}_{axis}" for name in names for axis in "xy"):
        if column not in columns:
            near = difflib.get_close_matches(column, columns, 1)
            hint = f"; the nearest is `{near[0]}`" if near else ""
            raise UserError(f"{path.parent / 'landmarks.csv'}: no column `{column}`, which {path.name} asks for{hint}")
    pairs, normalizer = content.get("flip_pairs"), content.get("normalizer")
    if not isinstance(pairs, list | None):
        raise UserError(f"{path}: flip_pairs is {pairs}; expected a list of pairs of names, or null: never mirror")
    for key, pair in [("flip_pairs", p) for p in pairs or ()] + [("normalizer", normalizer)] * (normalizer is not None):
        if not isinstance(pair, list) or len(pair) != 2 or pair[0] == pair[1]:
            raise UserError(f"{path}: {key} has {pair}; expected two different names of landmarks")
        for name in pair:
            if name not in names:
                near = difflib.get_close_matches(str(name), names, 1)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                raise UserError(f"{path}: {key} names {name!r}, which is not one of the landmarks{hint}")
    flat = [name for pair in pairs or () for name in pair]
    twice = next((name for name in flat if flat.count(name) > 1), None)
    if twice:
        raise UserError(f"{path}: {twice!r} stands in two flip_pairs; a landmark has one mirror image")
    radii = content.get("success_radii_mm") or Landmarks.success_radii_mm
    if not isinstance(radii, list | tuple) or not all(isinstance(r, int | float) and r > 0 for r in radii):
        raise UserError(f"{path}: success_radii_mm is {radii}; expected a list of positive numbers, in mm")
    return Landmarks(
        names=tuple(names),
        flip_pairs=None if pairs is None else tuple((a, b) for a, b in pairs),
        normalizer=tuple(normalizer) if normalizer else None,
        success_radii_mm=tuple(float(r) for r in radii),
        measurements=measurements_.parse(content.get("measurements"), names, str(path)),
    )
