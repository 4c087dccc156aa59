"""Which pictures and landmarks are reviewed: a landmark folder, or a folder of pictures."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ctd_jax.data import about, dicom_spacing, folder, given, landmark_folder, picture_files, tables
from ctd_jax.data.about import Landmarks
from ctd_jax.data.faults import Faults
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.errors import UserError
from ctd_jax.labels.table import ABSENT, HIDDEN, PLACED

LABEL = "label"  # how a point of landmarks.csv came there
Point = dict[str, Any]  # as of `edits`


@dataclasses.dataclass(frozen=True)
class Reviewed:
    """A folder that is reviewed.

    Attributes:
      root: the folder.
      landmarks: with the lines between them and what is measured of them.
      images: below the folder; those of landmarks.csv first, in its order.
      labels: image -> name -> point of landmarks.csv, of the pictures that have at least one.
      table: the rows of landmarks.csv; None: there is no such file.
    """

    root: pathlib.Path
    landmarks: Landmarks
    images: tuple[str, ...]
    labels: Mapping[str, Mapping[str, Point]]
    table: LandmarkTable | None
    spacing: np.ndarray  # [N, 2] mm of a pixel along x and y, NaN where unknown

    @property
    def names(self) -> tuple[str, ...]:
        """Of the landmarks."""
        return self.landmarks.names


def read(
    root: pathlib.Path,
    names: Sequence[str] = (),
    opened: Sequence[Mapping[str, Any]] = (),
    proposed: Callable[[], Sequence[str]] = tuple,
) -> Reviewed:
    """Reads a folder; its pictures are not opened.

    Args:
      root: the folder.
      names: of the landmarks, where no file of the folder says them.
      opened: the entries of a journal, whose `open` says the names that a rater began with.
      proposed: the names of what proposes points, which are taken where nothing else says any.

    Raises:
      UserError: no folder, no pictures or no landmarks; what is wrong with landmarks.csv or dataset.json.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; expected one with pictures")
    faults = Faults(str(root))
    table = landmark_folder.read_rows(root, faults) if os.path.isfile(root / landmark_folder.FILE) else None
    declared = table.landmarks if table else _declared(root, faults)
    faults.raise_if_any()
    known = declared.names
    begun = tuple(next((entry["landmarks"] for entry in reversed(opened) if entry["kind"] == "open"), ()))
    if names and known and tuple(names) != known:
        raise UserError(f"--landmarks: {root} has its own, {tables.listed(known)}; leave out the flag")
    if names and begun and tuple(names) != begun:
        raise UserError(f"--landmarks: this review began with {tables.listed(begun)}; leave out the flag")
    chosen = known or tuple(names) or begun or tuple(proposed())
    if not chosen:
        raise UserError(
            f"{root}: nothing says which points are to be placed; give their names, --landmarks=a,b,c, or a run that "
            "finds them, --workdir=RUN"
        )
    landmarks = declared if known else about.parse({"landmarks": list(chosen)}, "--landmarks", faults)
    faults.raise_if_any()
    images = _images(root, table)
    return Reviewed(root, landmarks, images, _labels(table) if table else {}, table, _spacing(root, images, table))


def _spacing(root: pathlib.Path, images: Sequence[str], table: LandmarkTable | None) -> np.ndarray:
    """`[N, 2]`; of a picture that is not in the table, as its DICOM header says."""
    known = np.empty((0, 2)) if table is None else table.spacing
    others = [root / image for image in images[len(known) :]]
    advice = f"write that in the patient into the columns {' and '.join(folder.SPACING)} of {landmark_folder.FILE}"
    return np.concatenate([known, dicom_spacing.of_files(others, detector=False, advice=advice).reshape(-1, 2)])


def pictures(root: pathlib.Path) -> tuple[tuple[str, ...], Mapping[str, Mapping[str, Point]], LandmarkTable | None]:
    """`images`, `labels` and `table` of a folder whose landmarks need no names.

    Raises:
      UserError: see `read`.
    """
    faults = Faults(str(root))
    table = landmark_folder.read_rows(root, faults) if os.path.isfile(root / landmark_folder.FILE) else None
    faults.raise_if_any()
    return _images(root, table), _labels(table) if table else {}, table


def _declared(root: pathlib.Path, faults: Faults) -> Landmarks:
    """The landmarks of a dataset.json without a table."""
    path = root / landmark_folder.ABOUT
    if not os.path.isfile(path):
        return Landmarks(())
    content = tables.load_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("landmarks"), list):
        raise UserError(f"{path}: expected `landmarks`, a list of names")
    return about.parse(content, str(path), faults)


def _images(root: pathlib.Path, table: LandmarkTable | None) -> tuple[str, ...]:
    listed = list(table.images) if table else []
    try:
        there, _ = given.find([str(root)])
    except UserError:
        if not listed:
            raise
        there = []
    others = [path.relative_to(root).as_posix() for path in there]
    known = picture_files.Known(others)
    same = {known.find(image) for image in listed}
    places = {os.path.realpath(root / image) for image in listed}  # another link may lead to a picture
    new = (image for image in others if image not in same and os.path.realpath(root / image) not in places)
    return (*listed, *new)


def _labels(table: LandmarkTable) -> dict[str, dict[str, Point]]:
    found = {}
    hidden = np.zeros(table.xy.shape[:2], bool) if table.hidden is None else table.hidden
    for image, xy, is_hidden in zip(table.images, table.xy.tolist(), hidden.tolist(), strict=True):
        places = zip(table.landmarks.names, xy, is_hidden, strict=True)
        points = {name: _point(x, y, covered) for name, (x, y), covered in places}
        if any(point["state"] != ABSENT for point in points.values()):
            found[image] = points
    return found


def _point(x: float, y: float, is_hidden: bool) -> Point:
    if math.isnan(x):
        return {"x": None, "y": None, "state": ABSENT, "how": LABEL}
    return {"x": x, "y": y, "state": HIDDEN if is_hidden else PLACED, "how": LABEL}
