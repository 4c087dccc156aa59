"""Landmark folders and predictions as label files of other programs."""

import dataclasses
import logging
import math
import pathlib
import shlex
from collections.abc import Sequence

import numpy as np

from ctd_jax import files
from ctd_jax.data import landmark_folder
from ctd_jax.data.folder import check_once
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.errors import UserError
from ctd_jax.labels import FORMATS, by_name, placing
from ctd_jax.labels.context import Pictures
from ctd_jax.labels.table import Labelled, Labels, Point
from ctd_jax.metrics.predictions import read_predictions
from ctd_jax.metrics.presence import there_alone

_log = logging.getLogger(__name__)
WHO = "ctd_jax"  # placed the points of predictions
_LOST = {  # what a format can't hold -> how much of it there is, what is written instead
    "hidden": (lambda p: sum(point.hidden for point in p.points.values()), "points are hidden but placed: as placed"),
    "confidence": (
        lambda p: sum(not math.isnan(point.confidence) for point in p.points.values()),
        "points have a confidence: without it",
    ),
    "subject": (lambda p: bool(p.subject), "pictures have a subject: without it"),
    "spacing": (lambda p: bool(p.spacing), "pictures have a spacing, mm of a pixel: without it"),
    "unequal spacing": (
        lambda p: bool(p.spacing and p.spacing[0] != p.spacing[1]),
        "pictures have another spacing along x than along y: without it",
    ),
    "negative": (
        lambda p: sum(point.x < 0 or point.y > p.known_size()[1] for point in p.points.values()),
        "points lie beyond the left or the lower edge: negative, which means absent elsewhere",
    ),
    "who": (lambda p: p.who not in ("", WHO), "pictures say who placed their points: without it"),
    "fractions": (
        lambda p: sum(bool(point.x % 1 or point.y % 1) for point in p.points.values()),
        "points have fractions of pixels: rounded to whole ones",
    ),
    "digits": (
        lambda p: sum(any(float(np.float32(v)) != v for v in (point.x, point.y)) for point in p.points.values()),
        "points have more than the 7 digits of its numbers: rounded",
    ),
}


def read(
    source: pathlib.Path,
    images: pathlib.Path | None,
    spacing: tuple[float, float] | None = None,
    *,
    of_slicer: bool = False,
) -> Labels:
    """The labels of a landmark folder, or of a table as in a run's predictions.csv.

    Args:
      source: the folder or the table.
      images: folder of the pictures, whose sizes a table doesn't have.
      spacing: mm of a pixel along x and y, of pictures without one of their own.
      of_slicer: it is that which all pictures have in 3D Slicer, whatever their own is.

    Raises:
      UserError: what is wrong with it.
    """
    labels = _folder(source) if source.is_dir() else _predictions(source, images)
    pictures = tuple(_with_spacing(picture, spacing, of_slicer) for picture in labels.pictures)
    return Labels(labels.names, pictures)


def write_files(labels: Labels, name: str, out: pathlib.Path, *, force: bool = False) -> str:
    """Writes the labels in the format `name` to the file or folder `out`, and says what that format can't hold.

    Returns:
      A sentence that says what was written.

    Raises:
      UserError: something is lacking, or `out` is there already and `force` is not given.
    """
    contents = by_name.write(labels, name)
    placing.check_free(out, force, lambda: _check_replaced(out, name))
    for line in losses(labels, name):
        _log.warning("%s: %s", name, line)
    if FORMATS[name].suffix:
        files.write_bytes(out, contents[""])
    else:
        with placing.new_folder(out) as new:
            for file, content in contents.items():
                (new / file).parent.mkdir(parents=True, exist_ok=True)
                files.write_bytes(new / file, content)
    points = sum(len(picture.points) for picture in labels.pictures)
    return f"{out}: {len(labels.pictures)} pictures, {points} points of {len(labels.names)} landmarks"


def losses(labels: Labels, name: str) -> list[str]:
    """What is in the labels that the format `name` can't hold, one sentence for each kind."""
    lost = []
    for kind in FORMATS[name].loses:
        if kind in _LOST:
            count, words = _LOST[kind]
            number = sum(count(picture) for picture in labels.pictures)
            lost += [f"{number} {words}"] * bool(number)
        elif kind == "names":
            names = shlex.quote(",".join(labels.names))
            lost.append(f"points are known by their order; to read them again: --names={names}")
    return lost


def _check_replaced(out: pathlib.Path, name: str) -> None:
    """Raises UserError if --force would take away what isn't such an export."""
    if FORMATS[name].suffix and out.is_dir():
        raise UserError(f"--out: {out} is a folder; {name} is one file, so give its name")
    if not FORMATS[name].suffix and not out.is_dir():
        raise UserError(f"--out: {out} is a file; {name} is a folder, so give the name of one")
    inside = [out] if out.is_file() else [path for path in sorted(out.rglob("*")) if path.is_file()]
    others = [path for path in inside if path.stat().st_size and not by_name.is_of(path, name)]
    if others:
        what = f"it has {others[0].name}, which" if out.is_dir() else "it"
        raise UserError(f"--out: {out} is not replaced: {what} is no label file of {name}; give another name")


def _folder(root: pathlib.Path) -> Labels:
    table = landmark_folder.read(root)
    hidden = np.zeros(table.xy.shape[:2], bool) if table.hidden is None else table.hidden
    pictures, found = [], Pictures(root)
    for i, (image, subject) in enumerate(zip(table.images, table.subjects, strict=True)):
        points = {
            name: Point(float(x), float(y), bool(covered))
            for name, (x, y), covered in zip(table.landmarks.names, table.xy[i], hidden[i], strict=True)
            if not math.isnan(x)
        }
        mm = None if math.isnan(table.spacing[i][0]) else (float(table.spacing[i][0]), float(table.spacing[i][1]))
        subject = "" if subject == image else subject
        pictures.append(Labelled(image, points, found.size(image), subject, mm, where=table.where[i]))
    found.say()
    _say_left_behind(root, table)
    return Labels(table.landmarks.names, tuple(pictures))


def _say_left_behind(root: pathlib.Path, table: LandmarkTable) -> None:
    """Says what a landmark folder has and a label file doesn't."""
    again = f"a training on the folder that comes back has them by --config.data.split={root / landmark_folder.FILE}"
    for there, what in (
        (any(table.splits or ()), f"splits; {again}"),
        (np.isfinite(table.boxes).any(), "boxes"),
        (table.of_raters is not None, "points of each rater; their mean, or what landmarks.csv itself says, goes out"),
    ):
        if there:
            _log.warning("%s: label files do not have its %s", root, what)


def points_of(names: Sequence[str], xy: np.ndarray, confidence: np.ndarray) -> dict[str, Point]:
    """The predicted points of a picture, without those that are not: `xy` is `[K, 2]` pixels, `confidence` `[K]`."""
    each = zip(names, xy.tolist(), confidence.tolist(), strict=True)
    return {name: Point(x, y, confidence=sure) for name, (x, y), sure in each if not math.isnan(x)}


def _predictions(path: pathlib.Path, images: pathlib.Path | None) -> Labels:
    table = there_alone(read_predictions(path))
    names = tuple(map(str, table.landmarks))
    found = Pictures(images) if images else None
    pictures, seen = [], dict[str, str]()
    for i, image in enumerate(map(str, table.images)):
        points = points_of(names, table.xy[i], table.confidence[i])
        at = f"{path}, {image}"
        file = found.find(image, at) if found else image
        check_once(file, image, at, seen)
        size = found.size(file) if found else None
        subject = "" if table.subjects[i] == image else str(table.subjects[i])
        pictures.append(Labelled(file, points, size, subject, who=WHO, where=at))
    if found:
        found.say()
    return Labels(names, tuple(pictures))


def _with_spacing(picture: Labelled, spacing: tuple[float, float] | None, of_slicer: bool) -> Labelled:
    if spacing is None or (picture.spacing is not None and not of_slicer):
        return picture
    return dataclasses.replace(picture, spacing=spacing)
