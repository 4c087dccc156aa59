"""Landmark folders: `landmarks.csv`, `dataset.json` and pictures."""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ctd_jax import files
from ctd_jax.data import about, annotation_checks, columns, folder, pictures, raters, tables
from ctd_jax.data.about import Landmarks
from ctd_jax.data.boxes import BOX, Box, check_box
from ctd_jax.data.faults import Fault, Faults
from ctd_jax.data.folder import Row, Table
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)

FILE, ABOUT = "landmarks.csv", "dataset.json"
HIDDEN = "_hidden"  # ends the optional column of a landmark
OUTSIDE = 0.1  # of the picture's size: so far outside its picture a landmark may lie; real annotations do


@dataclasses.dataclass(frozen=True, kw_only=True)
class LandmarkTable(Table):
    """The rows of `landmarks.csv`. N pictures, K landmarks; NaN where a cell is empty."""

    builder: ClassVar[str] = "landmark_folder"

    landmarks: Landmarks
    xy: np.ndarray  # [N, K, 2] pixels of the picture
    boxes: np.ndarray  # [N, 4] x0, y0, x1, y1, pixels
    hidden: np.ndarray | None = None  # [N, K] something lies before the landmark, so that its place was inferred; None:
    # none is
    of_raters: np.ndarray | None = None  # [N, R, K, 2] what each of `landmarks.raters` annotated; None: there are none

    def check_picture(self, index: int, root: pathlib.Path) -> np.ndarray:
        path = root / self.images[index]
        picture = pictures.decode(path.read_bytes(), f"{self.where[index]}, {path}")
        self.check_belongs(index, picture)
        return picture

    def check_belongs(self, index: int, picture: np.ndarray) -> None:
        """Raises Fault if the landmarks or the box of a row don't belong to its picture, `[H, W, 3]`."""
        at = f"{self.where[index]}, {self.images[index]}"
        height, width = picture.shape[:2]
        self._check_inside(self.xy[index], width, height, at)
        if self.of_raters is not None:
            for rater, points in zip(self.landmarks.raters, self.of_raters[index], strict=True):
                self._check_inside(points, width, height, f"{at}, rater {rater}")
        Box(self.boxes[index], at).check_inside(width, height)

    def _check_inside(self, xy: np.ndarray, width: int, height: int, at: str) -> None:
        size = np.array([width, height])
        outside = np.maximum(-0.5 - xy, xy - (size - 0.5)) / size
        outside = np.nan_to_num(outside, nan=-1.0).max(-1)
        if (outside > 0).any():
            worst = int(np.argmax(outside))
            message = (
                f"{at}: {self.landmarks.names[worst]} lies at {tuple(xy[worst].tolist())}, "
                f"outside the picture of {width} x {height} pixels"
            )
            if outside[worst] > OUTSIDE:
                raise Fault(
                    "landmark outside its picture",
                    f"{message} by more than a tenth of it; correct the row, or empty its two cells",
                )
            _log.warning(message)

    def features(self) -> dict[str, Any]:
        from tensorflow_datasets import features

        return {
            "image": features.Text(),
            "subject": features.Text(),
            "picture": features.Image(shape=(None, None, None)),
            "xy": features.Tensor(shape=(len(self.landmarks.names), 2), dtype=np.float32),
            "spacing": features.Tensor(shape=(2,), dtype=np.float32),
            "box": features.Tensor(shape=(4,), dtype=np.float32),
        }

    def example(self, index: int, root: pathlib.Path) -> dict[str, Any]:
        return {
            "image": self.images[index],
            "subject": self.subjects[index],
            "picture": pictures.to_keep(root / self.images[index]),
            "xy": self.xy[index].astype(np.float32),
            "spacing": self.spacing[index].astype(np.float32),
            "box": self.boxes[index].astype(np.float32),
        }


class _Annotation(NamedTuple):
    points: np.ndarray  # [K, 2]
    box: np.ndarray  # [4]
    hidden: np.ndarray  # [K]
    rater: str


def read(root: pathlib.Path) -> LandmarkTable:
    """Reads and checks all of a landmark folder but the inside of its pictures; these too where the rows have faults.

    Raises:
      UserError: all that is wrong, in which file and row, what was expected and what to do.
    """
    faults = Faults(str(root))
    return folder.with_digests(read_rows(root, faults), root, faults)


def read_rows(root: pathlib.Path, faults: Faults) -> LandmarkTable:
    """Reads the rows of a landmark folder, not its pictures; `faults` takes what is wrong, which becomes NaN.

    Raises:
      UserError: what makes all rows unreadable.
    """
    if not os.path.isdir(root):
        raise UserError(
            f"{root}: no such folder; `data.root` expects one with landmarks.csv, dataset.json and pictures"
        )
    sheet = tables.read(root / FILE)
    landmarks = about.read(root / ABOUT, sheet.columns, faults)
    points = {name: (f"{name}_x", f"{name}_y") for name in landmarks.names}
    of_points = [column for pair in points.values() for column in pair]
    known = [*folder.COLUMNS, raters.COLUMN, *BOX, *of_points, *(f"{name}{HIDDEN}" for name in landmarks.names)]
    sheet = columns.match(sheet, known, faults)
    there = set(sheet.columns)
    is_of_files = bool(landmarks.raters) and there.isdisjoint(of_points)  # each rater has a file, and nobody has both
    if not is_of_files:
        _check_columns(sheet, points, faults)
    points = {name: pair for name, pair in points.items() if there.issuperset(pair)}
    fields, annotations = folder.read_rows(
        root, sheet, lambda row: _annotation(row, points, landmarks), faults, apart=raters.COLUMN
    )
    shape = len(annotations), len(landmarks.names)
    xy = np.array([one.points for one in annotations]).reshape(*shape, 2)
    xy = annotation_checks.without_marks(xy, landmarks.names, fields["where"])
    hidden = np.array([one.hidden for one in annotations], bool).reshape(shape)
    fields["boxes"] = np.array([one.box for one in annotations]).reshape(len(annotations), 4)
    of_raters, may_be_absent = None, np.isin(landmarks.names, landmarks.absent)
    if raters.COLUMN in there:
        fields, names, row_of = raters.by_picture(fields, [one.rater for one in annotations], faults)
        landmarks = dataclasses.replace(landmarks, raters=names)
        of_raters = np.where((row_of >= 0)[..., None, None], xy[row_of], np.nan)
        xy = raters.mean(of_raters, may_be_absent)
        hidden = raters.most(hidden[row_of], of_raters)
    elif landmarks.raters:
        of_raters = raters.of_files(root, landmarks, fields["images"], faults)
        xy = raters.mean(of_raters, may_be_absent) if is_of_files else xy
    files = () if raters.COLUMN in there else map(raters.file_of, landmarks.raters)
    return LandmarkTable(
        landmarks=landmarks, xy=xy, hidden=hidden, of_raters=of_raters, files=(FILE, ABOUT, *files), **fields
    )


def _check_columns(sheet: tables.Sheet, points: Mapping[str, Sequence[str]], faults: Faults) -> None:
    names = set(sheet.columns)
    for column in (column for pair in points.values() for column in pair):
        if column not in names:
            near = None if faults.count("missing column") else tables.nearest(column, sheet.columns)
            hint = f"; the nearest is `{near}`" if near else ""
            faults.add("missing column", f"{sheet.path}: no column `{column}`, which dataset.json asks for{hint}")


def _annotation(row: Row, columns_of: Mapping[str, tuple[str, str]], landmarks: Landmarks) -> _Annotation:
    """The points and the box of a row; NaN where a landmark has no columns."""
    points = np.full((len(landmarks.names), 2), np.nan)
    for k, name in enumerate(landmarks.names):
        if name in columns_of:
            points[k] = [row.number(column) for column in columns_of[name]]
    annotation_checks.check_points(points, landmarks.names, row.at, row.faults)
    box = np.array([row.number(column) for column in BOX])
    if any(column in row.values for column in BOX) and not np.isinf(box).any():
        with row.faults.collecting("box"):
            check_box(box, row.at)
    rater = files.plain(row.word(raters.COLUMN))
    if raters.COLUMN in row.values and not (rater and rater.isprintable() and len(rater) <= raters.LONGEST):
        expected = f"expected who annotated the row, in at most {raters.LONGEST} characters"
        row.faults.add("rater", f"{row.at}: {raters.COLUMN} is {rater[:80]!r}; {expected}")
    return _Annotation(points, box, _hidden(row, points, landmarks), rater)


def _hidden(row: Row, points: np.ndarray, landmarks: Landmarks) -> np.ndarray:
    """`[K]` which of the `points` are hidden but placed, by the cells of a row: 1, or 0 or empty."""
    hidden = np.zeros(len(points), bool)
    for k, name in enumerate(landmarks.names):
        word = row.word(f"{name}{HIDDEN}").removesuffix(".0") if f"{name}{HIDDEN}" in row.values else ""
        if word not in ("", "0", "1"):
            expected = "expected 1 where the landmark is hidden but placed, else 0 or an empty cell"
            row.faults.add("hidden", f"{row.at}: {name}{HIDDEN} is {word[:50]!r}; {expected}")
        elif word == "1" and np.isnan(points[k]).any():
            row.faults.add(
                "hidden", f"{row.at}: {name} is hidden but placed, and has no place; fill its cells, or empty this one"
            )
        hidden[k] = word == "1"
    return hidden
