"""Landmark folders: `landmarks.csv`, `dataset.json` and pictures. What can be wrong with one is found here."""

import dataclasses
import functools
import hashlib
import logging
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ctd_jax import files
from ctd_jax.data import about, columns, label_checks, pictures, splits, tables
from ctd_jax.data.about import Landmarks
from ctd_jax.data.cells import Cells
from ctd_jax.data.faults import Fault, Faults
from ctd_jax.data.picture_files import PictureFiles
from ctd_jax.data.prefetch import ahead, progress
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)

# A landmark may lie outside its picture by this share of the picture's size: real annotations do that.
OUTSIDE = 0.1
BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
SPACING = ("spacing_x_mm", "spacing_y_mm")


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
    title: str  # the file, for messages about all rows


def read(root: pathlib.Path) -> Table:
    """Reads and checks all of a landmark folder but the inside of its pictures; these too where the rows have faults.

    Raises:
      UserError: all that is wrong, in which file and row, what was expected and what to do.
    """
    if not os.path.isdir(root):
        raise UserError(
            f"{root}: no such folder; `data.root` expects one with landmarks.csv, dataset.json and pictures"
        )
    faults = Faults(str(root))
    sheet = tables.read(root / "landmarks.csv")
    landmarks = about.read(root / "dataset.json", sheet.columns, faults)
    points = [(name, (f"{name}_x", f"{name}_y")) for name in landmarks.names]
    known = ["image", "subject", "split", *SPACING, *BOX, *(column for _, pair in points for column in pair)]
    sheet = columns.match(sheet, known, faults)
    _check_columns(sheet, points, faults)
    table = _rows(root, sheet, landmarks, faults)
    table = dataclasses.replace(table, xy=label_checks.without_marks(table.xy, landmarks.names, table.where))
    if faults:
        check = functools.partial(_check_file, table, root)
        list(check_all(table, check, "checking pictures", faults))
    faults.raise_if_any()
    digests = digest_all(root, [(image,) for image in table.images], table.where, faults)
    faults.raise_if_any()
    return dataclasses.replace(table, sha256=digests)


def _rows(root: pathlib.Path, sheet: tables.Sheet, landmarks: Landmarks, faults: Faults) -> Table:
    """The rows whose pictures exist; NaN for what is faulty in them."""
    cells, found, names = Cells(sheet, faults), PictureFiles(root), set(sheet.columns)
    own = [c if names.issuperset(c) else () for c in ((f"{n}_x", f"{n}_y") for n in landmarks.names)]
    seen: dict[str, str] = {}  # path -> file and row
    images, subjects, split_of, xy, spacing, boxes = [], [], [], [], [], []
    for number, row in sheet.rows(faults):
        at = f"{sheet.path}, row {number}"
        point = np.array([[cells.number(row[c], c, at) for c in pair] or [np.nan] * 2 for pair in own]).reshape(-1, 2)
        check_points(point, landmarks, at, faults)
        mm = read_spacing(row, cells, at, faults)
        box = np.array([cells.number(row.get(column, ""), column, at) for column in BOX])
        if any(column in row for column in BOX) and not np.isinf(box).any():
            with faults.collecting("box"):
                check_box(box, at)
        split = cells.word(row.get("split", ""))
        with faults.collecting("split"):
            splits.check_name(split, at)
        image = find_once(found, row["image"], at, seen, faults)
        if image is None:
            continue
        images.append(image)
        subjects.append(cells.word(row.get("subject", "")) or image)
        split_of.append(split)
        for values, value in ((xy, point), (spacing, mm), (boxes, box)):
            values.append(value)
    cells.say()
    found.say(sheet.path)
    warn_of_subjects(sheet, subjects, images)
    return Table(
        landmarks=landmarks,
        images=tuple(images),
        subjects=tuple(subjects),
        splits=tuple(split_of) if "split" in names else None,
        xy=np.reshape(xy, (len(images), len(landmarks.names), 2)),
        spacing=np.reshape(spacing, (len(images), 2)),
        boxes=np.reshape(boxes, (len(images), 4)),
        sha256=(),
        where=tuple(seen.values()),
        title=str(sheet.path),
    )


def find_once(found: PictureFiles, name: str, at: str, seen: dict[str, str], faults: Faults) -> str | None:
    """The file that a row names; None if there is none, or another row has it. `seen`: path -> file and row."""
    try:
        image = found.find(name, at)
        check_once(image, name, at, seen)
    except Fault as fault:
        faults.add(fault.kind, str(fault))
        return None
    return image


def check_once(image: str, name: str, at: str, seen: dict[str, str]) -> None:
    """Raises Fault if the file `image`, which a row at `at` calls `name`, is one of `seen`; else adds it."""
    path = os.path.normpath(image)
    if path in seen:
        raise Fault("picture listed twice", f"{at}: {name} was already listed in {seen[path]}; keep one of the rows")
    seen[path] = at


def read_spacing(row: dict[str, str], cells: Cells, at: str, faults: Faults) -> np.ndarray:
    """`[2]` mm per pixel of a row, NaN if unknown."""
    mm = np.array([cells.number(row.get(column, ""), column, at) for column in SPACING])
    if np.isinf(mm).any():
        return np.full(2, np.nan)
    check_spacing(mm, at, faults)
    return mm


def check_spacing(mm: np.ndarray, at: str, faults: Faults) -> None:
    """Adds a fault if `mm`, `[2]` mm per pixel, are not two positive numbers or two NaN."""
    if np.isnan(mm).any() != np.isnan(mm).all() or (mm <= 0).any():
        faults.add("spacing", f"{at}: spacing is {mm} mm; expected two positive numbers, or two empty cells")


def warn_of_subjects(sheet: tables.Sheet, subjects: Sequence[str], images: Sequence[str]) -> None:
    """Of pictures without a subject."""
    if "subject" not in sheet.columns:
        _log.warning("%s has no column `subject`: every picture counts as a person of its own", sheet.path)
        return
    alone = sum(subject == image for subject, image in zip(subjects, images, strict=True))
    if 0 < alone < len(images):
        _log.warning("%s: %d rows have no subject: each counts as a person of its own", sheet.path, alone)


def digest_all(
    root: pathlib.Path, names: Sequence[Sequence[str]], where: Sequence[str], faults: Faults
) -> tuple[str, ...]:
    """SHA-256 of each row's files, one after the other; "" where one can't be read."""

    def digest(row: tuple[Sequence[str], str]) -> str:
        parts, at = row
        try:
            return hashlib.sha256(b"".join((root / name).read_bytes() for name in parts)).hexdigest()
        except OSError as error:
            faults.add("unreadable picture", f"{at}: {error.filename} can't be read ({error.strerror})")
            return ""

    return tuple(progress(ahead(digest, zip(names, where, strict=True)), "reading pictures", len(where)))


def check_all(table: Any, check: Callable[[int], None], text: str, faults: Faults) -> Iterator[int]:
    """Each picture of `table`, in order, after `check`, in threads, has added what it finds in it to the faults; `text`
    says what takes time."""

    def checked(index: int) -> UserError | None:
        try:
            check(index)
        except UserError as error:
            return error
        except OSError as error:
            return UserError(f"{table.where[index]}: {error.filename} can't be read ({error.strerror})")

    n = len(table.images)
    for index, error in enumerate(progress(ahead(checked, range(n)), text, n)):
        faults.take("unreadable picture", error)
        yield index


def _check_columns(sheet: tables.Sheet, points: Sequence[tuple[str, Sequence[str]]], faults: Faults) -> None:
    names = set(sheet.columns)
    for column in (column for _, pair in points for column in pair):
        if column not in names:
            near = None if faults.count("missing column") else tables.nearest(column, sheet.columns)
            hint = f"; the nearest is `{near}`" if near else ""
            faults.add("missing column", f"{sheet.path}: no column `{column}`, which dataset.json asks for{hint}")


def check_points(point: np.ndarray, landmarks: Landmarks, at: str, faults: Faults) -> None:
    """Adds a fault for each of the points `[K, 2]` that has one coordinate; it becomes NaN, as do infinite ones."""
    half = np.isnan(point).sum(-1) == 1
    for i in np.flatnonzero(half):
        message = f"{at}: {landmarks.names[i]} has only one of its two coordinates; fill both cells or empty both"
        faults.add("half a point", message)
    point[half | np.isinf(point).any(-1)] = np.nan


def _check_file(table: Table, root: pathlib.Path, index: int) -> None:
    check_picture(table, index, (root / table.images[index]).read_bytes(), root)


def check_picture(table: Table, index: int, content: bytes, root: pathlib.Path) -> np.ndarray:
    """The picture, `[H, W, 3]` uint8.

    Raises:
      UserError: it can't be read, or its landmarks or box don't belong to it.
    """
    picture = pictures.decode(content, f"{table.where[index]}, {root / table.images[index]}")
    check_belongs(table, index, picture)
    return picture


def check_belongs(table: Table, index: int, picture: np.ndarray) -> None:
    """Raises Fault if the landmarks or the box of a row don't belong to its picture, `[H, W, 3]`."""
    at = f"{table.where[index]}, {table.images[index]}"
    height, width = picture.shape[:2]
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
            raise Fault(
                "landmark outside its picture",
                f"{message} by more than a tenth of it; correct the row, or empty its two cells",
            )
        _log.warning(message)
    Box(table.boxes[index], at).check_inside(width, height)


def fingerprint(root: pathlib.Path, table: Table) -> str:
    """Changes when the content of the folder does."""
    digest = hashlib.sha256()
    files = [path.read_bytes() for path in (root / "landmarks.csv", root / "dataset.json") if os.path.isfile(path)]
    for part in (*files, *table.sha256):
        digest.update(hashlib.sha256(part if isinstance(part, bytes) else part.encode()).digest())
    return digest.hexdigest()[:16]


def read_split(path: pathlib.Path) -> dict[str, str]:
    """Image -> split, from a csv file with these two columns."""
    faults = Faults(str(path))
    sheet = columns.match(tables.read(path), ["image", "split"], faults, others=True)
    if "split" not in sheet.columns and not faults:
        raise UserError(
            f"{path}: no column `split`, found {tables.listed(sheet.columns)}; a split file has columns image and split"
        )
    faults.raise_if_any()
    cells, split_of = Cells(sheet, faults), {}
    for number, row in sheet.rows(faults):
        image, split = files.plain(row["image"]), cells.word(row["split"])
        with faults.collecting("split"):
            splits.check_name(split, f"{path}, row {number}")
        if split_of.setdefault(image, split) != split:
            message = f"{path}, row {number}: {image} is {split!r} here and {split_of[image]!r} above; keep one of them"
            faults.add("picture in two splits", message)
    faults.raise_if_any()
    return split_of


@dataclasses.dataclass(frozen=True)
class Box:
    """Where a picture's object is: `[4]` x0, y0, x1, y1 in pixels; and the file and row that say so."""

    box: np.ndarray
    where: str

    def check_inside(self, width: int, height: int) -> None:
        """Raises Fault if it lies outside the picture."""
        box = self.box
        if not np.isnan(box).any() and (box[0] > width or box[1] > height or box[2] < 0 or box[3] < 0):
            raise Fault(
                "box outside its picture",
                f"{self.where}: the box {box} lies outside the picture of {width} x {height} pixels; correct the row",
            )


def read_boxes(path: pathlib.Path) -> dict[str, Box]:
    """Image -> its box, from a csv file with columns image and box_*."""
    faults = Faults(str(path))
    sheet = columns.match(tables.read(path), ["image", *BOX], faults, others=True)
    if not set(BOX) <= set(sheet.columns):
        found = tables.listed(sheet.columns)
        raise UserError(f"{path}: expected the columns {', '.join(BOX)}, found {found}")
    cells, boxes = Cells(sheet, faults), {}
    for number, row in sheet.rows(faults):
        at, image = f"{path}, row {number}", os.path.normpath(files.plain(row["image"]))
        box = np.array([cells.number(row[column], column, at) for column in BOX])
        if not np.isinf(box).any():
            with faults.collecting("box"):
                check_box(box, at)
        if image in boxes:
            faults.add("two boxes of a picture", f"{at}: {image} has another box in {boxes[image].where}")
        boxes[image] = Box(box, at)
    cells.say()
    faults.raise_if_any()
    return boxes


def check_box(box: np.ndarray, at: str) -> None:
    """Raises UserError if `box`, `[4]` x0, y0, x1, y1 in pixels, has no inside."""
    if np.isnan(box).any() or box[0] >= box[2] or box[1] >= box[3]:
        raise UserError(
            f"{at}: box is {box}; expected x0 < x1 and y0 < y1 in pixels of the picture: two corners, not a width and "
            "a height"
        )
