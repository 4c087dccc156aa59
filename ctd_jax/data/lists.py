"""Pictures and landmarks from Python lists and arrays, with the checks that a landmark folder gets."""

import functools
import hashlib
import io
import logging
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ctd_jax.data import (
    about,
    annotation_checks,
    coverage,
    domains,
    folder,
    given,
    picture_files,
    pictures,
    split_file,
    splits,
    survey,
    twins,
    unlabelled,
)
from ctd_jax.data.boxes import check_box
from ctd_jax.data.dataset import Dataset
from ctd_jax.data.faults import Fault, Faults
from ctd_jax.data.grey_range import Grey
from ctd_jax.data.kinds import Listed, Prepared
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.data.points import Points
from ctd_jax.data.split_pictures import SplitPictures, with_twins
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)
TITLE = "the lists"  # what messages about all pictures begin with
NOBODY = ("None", "nan", "NaT", "<NA>", "--")  # how Python, NumPy and pandas write a value that is missing or masked

Picture = str | os.PathLike[str] | np.ndarray


def from_lists(
    config: ConfigDict,
    pictures: Sequence[Picture] | np.ndarray,
    points: Any,
    names: Sequence[str],
    *,
    subjects: Sequence[Any] | None = None,
    splits: Sequence[str] | None = None,
    spacing: Any = None,
    boxes: Any = None,
    flip_pairs: Sequence[Sequence[str]] | None = None,
    normalizer: Sequence[str] | None = None,
    measurements: Mapping[str, Any] | None = None,
    success_radii_mm: Sequence[float] | None = None,
) -> SplitPictures[Points]:
    """Checks and splits N pictures with K landmarks, as `load` does with those of a folder.

    Pictures are called by their path, or `array 3`; messages call the fourth of them `picture 3`. Paths are read when
    their turn comes, so the files must stay where they are.

    Args:
      config: `data` of configs/default.py; `root` is not read, and there are no domains.
      pictures: N paths, or arrays `[H, W]` or `[H, W, 3]` of whole numbers or fractions, in any mix of sizes.
      points: `[N, K, 2]` x and y in pixels of each picture, (0, 0) the centre of its top-left pixel; NaN, None, or
        masked, of a landmark that is not annotated.
      names: of the K landmarks.
      subjects: who or what each picture is of; None: each is of another.
      splits: train, val, test or test1, test2, ... of each; other words or "": it takes no part. None: whole subjects
        are chosen at random, by `config.seed`.
      spacing: `[N, 2]` mm per pixel along x and y, NaN where unknown; `[2]`: of all pictures.
      boxes: `[N, 4]` x0, y0, x1, y1 in pixels of each picture, NaN: the whole picture.
      flip_pairs: pairs of names of landmarks that change places in a mirror image; None: pictures are never mirrored.
      normalizer: two names; errors are divided by the distance of these landmarks.
      measurements: name -> two or three names of landmarks, or {"ratio": two names of measurements}.
      success_radii_mm: mm; shares of the landmarks that are nearer are given. None: 2, 2.5, 3 and 4.

    Raises:
      UserError: all that is wrong with the pictures, in one message.
    """
    _check_config(config)
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise UserError(f"names is {names!r}; expected a list of names, one of each landmark")
    given_splits = split_file.read(pathlib.Path(config.split)) if config.split else None
    faults = Faults(TITLE)
    content = {
        "landmarks": list(names),
        "flip_pairs": flip_pairs,
        "normalizer": normalizer,
        "measurements": measurements,
        "success_radii_mm": success_radii_mm,
    }
    landmarks = about.parse({key: _plain(value) for key, value in content.items()}, TITLE, faults)
    listed = _listed(pictures)
    table = _table(
        listed, landmarks, faults, points=points, subjects=subjects, splits=splits, spacing=spacing, boxes=boxes
    )
    seen = _Seen(listed, table)
    list(folder.check_all(table, seen.check, "checking pictures", faults))
    faults.raise_if_any()
    annotated = coverage.annotated(table.xy)
    prepare = functools.partial(_prepare, seen, config)
    listed_pictures = Listed(table.images, table.subjects, table.splits, annotated, prepare)
    return with_twins(unlabelled.add(domains.split(listed_pictures, config, given_splits), config))


def _check_config(config: ConfigDict) -> None:
    for key in ("domains", "helping"):
        if config[key]:
            raise UserError(
                f"data.{key} names {config[key][0]!r}, but pictures in lists have no domains; leave it empty"
            )


def _plain(value: Any) -> Any:
    """`value` with lists in place of tuples and arrays, as a JSON file would have it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _listed(pictures: Sequence[Picture] | np.ndarray) -> list[Picture]:
    if isinstance(pictures, str | os.PathLike):
        raise UserError(f"pictures is one path, {os.fspath(pictures)}; expected a list of paths or arrays")
    listed = list(pictures)
    if not listed:
        raise UserError("no pictures: the list is empty; give paths or arrays")
    return listed


def _each(values: Any) -> Any:
    """`values` as a list, but for one word, and None."""
    return values if values is None or isinstance(values, str) else list(values)


def _not_one_of_each(values: Any, n: int) -> str:
    """What is wrong with values of n pictures; "": nothing."""
    if isinstance(values, str):
        return "one word"
    if len(values) != n:
        return f"{len(values)}"
    return "several of a picture" if any(getattr(value, "ndim", 0) for value in values) else ""


def _table(
    listed: Sequence[Picture],
    landmarks: about.Landmarks,
    faults: Faults,
    *,
    points: Any,
    subjects: Sequence[Any] | None,
    splits: Sequence[str] | None,
    spacing: Any,
    boxes: Any,
) -> LandmarkTable:
    """The N pictures as rows of a table; what is wrong with one is added to the faults. Arguments: see `from_lists`."""
    n, where = len(listed), tuple(f"picture {i}" for i in range(len(listed)))
    subjects, splits = _each(subjects), _each(splits)
    for name, values in (("subjects", subjects), ("splits", splits)):
        if values is not None and (fault := _not_one_of_each(values, n)):
            raise UserError(f"{name} has {fault}; expected one of each of the {n} pictures")
    xy = _numbers(points, "points", (n, len(landmarks.names), 2), where, faults)
    boxes = _numbers(boxes, "boxes", (n, 4), where, faults)
    if spacing is not None and np.shape(spacing) == (2,):
        spacing = [spacing] * n
    spacing = _numbers(spacing, "spacing", (n, 2), where, faults)
    images = tuple(
        given.shown(os.fspath(picture)) if isinstance(picture, str | os.PathLike) else f"array {i}"
        for i, picture in enumerate(listed)
    )
    places: dict[str, str] = {}  # file -> the first picture that is of it
    for i, at in enumerate(where):
        if isinstance(listed[i], str | os.PathLike):
            with faults.collecting("picture listed twice"):
                folder.check_once(images[i], images[i], at, places)
        annotation_checks.check_points(xy[i], landmarks.names, at, faults)
        if np.isfinite(spacing[i]).any():
            folder.check_spacing(spacing[i], at, faults)
        if np.isfinite(boxes[i]).any():
            with faults.collecting("box"):
                check_box(boxes[i], at)
    if subjects is None:
        _log.warning("%s have no subjects: every picture counts as a person of its own", TITLE)
    return LandmarkTable(
        landmarks=landmarks,
        images=images,
        subjects=images if subjects is None else _subjects(subjects, images),
        splits=None if splits is None else _words(splits, where, faults),
        xy=annotation_checks.without_marks(xy, landmarks.names, where),
        spacing=spacing,
        boxes=boxes,
        where=where,
        title=TITLE,
    )


def _numbers(values: Any, name: str, shape: tuple[int, ...], where: Sequence[str], faults: Faults) -> np.ndarray:
    """`values` as float64 of that shape, whose first axis is the pictures; all NaN for None, NaN where they are masked.
    Infinite ones are added to the faults."""
    if values is None:
        return np.full(shape, np.nan)
    try:
        numbers = np.array(_unmasked(values), np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: not numbers of the shape {list(shape)} ({error})") from error
    if numbers.shape != shape:
        raise UserError(f"{name} has the shape {list(numbers.shape)}; expected {list(shape)}")
    for i in np.unique(np.nonzero(np.isinf(numbers))[0]):
        faults.add("not a number", f"{where[i]}: {name} has an infinite number; expected a number, or NaN: unknown")
    return numbers


def _unmasked(values: Any) -> Any:
    """Numbers, in lists of any depth or arrays, with NaN for those that are masked."""
    if isinstance(values, list | tuple):
        return [_unmasked(one) for one in values]
    return np.ma.filled(values.astype(np.float64), np.nan) if isinstance(values, np.ma.MaskedArray) else values


def _subjects(subjects: Sequence[Any], images: Sequence[str]) -> tuple[str, ...]:
    """The subjects as text; a picture of nobody counts as one of its own."""
    nobody = [subject == "" if isinstance(subject, str) else str(subject) in NOBODY for subject in subjects]
    if any(nobody):
        _log.warning("%s: %d pictures have no subject: each counts as a person of its own", TITLE, sum(nobody))
    pairs = zip(subjects, nobody, images, strict=True)
    return tuple(image if alone else str(subject) for subject, alone, image in pairs)


def _words(names: Sequence[Any], where: Sequence[str], faults: Faults) -> tuple[str, ...]:
    """The splits as text, "" for None."""
    words = tuple("" if name is None else str(name) for name in names)
    for word, at in zip(words, where, strict=True):
        with faults.collecting("split"):
            splits.check_name(word, at)
    return words


class _Seen:
    """What is learned from the pictures while each is checked.

    Attributes:
      table: their rows.
      looks: `[N]` of `twins.LOOK`.
      sha256: of each file, or of type, shape and values of an array.
      surveyed: what `survey` says of each.
    """

    def __init__(self, listed: Sequence[Picture], table: LandmarkTable):
        n = len(listed)
        self.table = table
        self._listed = [os.path.abspath(one) if isinstance(one, str | os.PathLike) else one for one in listed]
        self.looks = np.zeros(n, twins.LOOK)
        self.sha256 = [""] * n
        self.surveyed: list[survey.Seen | None] = [None] * n

    def check(self, index: int) -> None:
        """Raises UserError if a picture can't be read, or its landmarks or box don't belong to it."""
        at, name, picture = self.table.where[index], self.table.images[index], self._listed[index]
        if isinstance(picture, str):
            _check_file(picture, name, at)
            content = pathlib.Path(picture).read_bytes()
            found = pictures.decode(content, f"{at}, {name}")
            self.sha256[index] = hashlib.sha256(content).hexdigest()
            self.surveyed[index] = survey.look(io.BytesIO(content), name)
        else:
            array = pictures.check_array(picture, at)
            found = pictures.to_rgb(array)
            kind = f"{array.dtype.str} {array.shape}".encode()
            self.sha256[index] = hashlib.sha256(kind + array.tobytes()).hexdigest()
            self.surveyed[index] = survey.of_values(array, name)
        self.table.check_belongs(index, found)
        self.looks[index] = twins.look(found)

    def read(self, index: int, grey: Grey) -> np.ndarray:
        """`[H, W, 3]` uint8, the picture as it is; `grey` as in `pictures.decode`."""
        picture = self._listed[index]
        if isinstance(picture, str):
            return pictures.decode(pathlib.Path(picture).read_bytes(), self.table.images[index], grey)
        return pictures.to_rgb(pictures.check_array(picture, self.table.images[index]), grey)


def _check_file(path: str, name: str, at: str) -> None:
    """Raises Fault if there is no file that can be a picture; `name` as it was given."""
    picture_files.check_local(name, at)
    if not os.path.lexists(path):
        raise Fault("missing picture", f"{at}: picture {name} does not exist")
    reason = "a folder" if os.path.isdir(path) else given.unreadable(pathlib.Path(path))
    if reason:
        raise Fault("unreadable picture", f"{at}: {name} can't be read ({reason})")


def _prepare(seen: _Seen, config: ConfigDict, split_of: Sequence[str]) -> Prepared[Points]:
    """The pictures as a data set; warns of what is strange in their annotations."""
    table = seen.table
    annotation_checks.check(table, split_of, seen.looks)
    coverage.warn(TITLE, table.landmarks, table.xy, split_of)
    surveyed = [one for one in seen.surveyed if one is not None]
    grey = survey.ranges(surveyed)
    for line in survey.remarks(surveyed, grey):
        _log.warning("%s: %s", TITLE, line)
    dataset = Dataset.of(
        config,
        Points(table.landmarks, table.xy),
        images=table.images,
        subjects=table.subjects,
        original=lambda i: seen.read(i, grey),
        spacing=table.spacing,
        boxes=table.boxes,
    )
    return Prepared(dataset, tuple(seen.sha256), seen.looks, grey)
