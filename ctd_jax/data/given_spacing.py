"""Millimetres of a pixel of the pictures that somebody gives to predict on: a number, a table, a known distance, or
what DICOM files say."""

import dataclasses
import logging
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ctd_jax import files
from ctd_jax.data import columns, dicom_spacing, tables
from ctd_jax.data.cells import Cells
from ctd_jax.data.faults import Faults
from ctd_jax.data.folder import SPACING, check_spacing
from ctd_jax.data.picture_files import Known
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)
MAX_SHOWN = 5  # pictures that a message names


@dataclasses.dataclass(frozen=True)
class GivenSpacing:
    """How large the pixels of pictures are.

    Attributes:
      of_file: `[2]` mm along x and y, of the pictures of which it is known.
      scale: two landmarks, and the mm between them in every picture; None: there is no such distance.
      at_detector: they are mm at the detector, not in the patient.
    """

    of_file: Mapping[pathlib.Path, np.ndarray] = dataclasses.field(default_factory=dict)
    scale: tuple[str, str, float] | None = None
    at_detector: bool = False

    def __bool__(self) -> bool:
        return bool(self.of_file) or self.scale is not None

    def mm(self, pictures: Sequence[pathlib.Path], landmarks: Sequence[str], xy: np.ndarray) -> np.ndarray:
        """`[N, 2]` mm of a pixel along x and y, NaN where unknown.

        Args:
          pictures: N of them.
          landmarks: K names.
          xy: `[N, K, 2]` where they were found, pixels.
        """
        if self.scale:
            first, second, length = self.scale
            a, b = (xy[:, list(landmarks).index(name)] for name in (first, second))
            pixels = np.linalg.norm(a - b, axis=-1, keepdims=True)
            return np.repeat(length / np.where(pixels > 0, pixels, np.nan), 2, axis=1)
        unknown = np.full(2, np.nan)
        return np.array([self.of_file.get(picture, unknown) for picture in pictures], np.float64).reshape(-1, 2)


def read(
    spacing: str | None,
    scale: str | None,
    pictures: Sequence[pathlib.Path],
    names: Sequence[str],
    *,
    detector: bool = False,
) -> GivenSpacing:
    """What `--spacing` and `--scale` say, else DICOM files.

    Args:
      spacing: a number of mm, or the path of a table with the columns image, spacing_x_mm and spacing_y_mm.
      scale: `LANDMARK,LANDMARK,MM`.
      pictures: those that are given.
      names: of the landmarks of the run.
      detector: what DICOM files say of the detector is taken, and nothing else.

    Raises:
      UserError: two of them; a number that is none, or not above 0; all that is wrong with the table; an unknown
        landmark; DICOM, where pydicom is not installed.
    """
    if bool(spacing) + bool(scale) + detector > 1:
        raise UserError(f"--spacing, --scale and {dicom_spacing.FLAG} all say how large a pixel is; give one of them")
    if scale:
        return GivenSpacing(scale=check_scale(scale.split(","), names, f"--scale={scale}"))
    if not spacing:
        return _of_headers(pictures, detector)
    if not _is_number(spacing):
        return _completed(_of_table(pathlib.Path(spacing), pictures), pictures, spacing) if pictures else GivenSpacing()
    mm = _positive(spacing, f"--spacing={spacing}", "the mm of a pixel")
    return _completed({picture: np.full(2, mm) for picture in pictures}, pictures, f"--spacing={spacing}")


def of_objects(
    spacing: Any,
    scale: Sequence[Any] | None,
    pictures: Sequence[pathlib.Path],
    names: Sequence[str],
    *,
    detector: bool = False,
) -> GivenSpacing:
    """The same from Python.

    Args:
      spacing: mm of a pixel: a number, `[2]` along x and y, or `[N, 2]` with NaN where unknown; None: unknown.
      scale: two landmarks, and the mm between them.
      pictures: N that are given.
      names: of the landmarks of the run.
      detector: as of `read`.

    Raises:
      UserError: two of them; another shape; what is not above 0; an unknown landmark; DICOM, where pydicom is not
        installed.
    """
    if (spacing is not None) + (scale is not None) + detector > 1:
        raise UserError("spacing, scale and imager_spacing all say how large a pixel is; give one of them")
    if scale is not None:
        return GivenSpacing(scale=check_scale(list(scale), names, f"scale={scale}"))
    if spacing is None:
        return _of_headers(pictures, detector)
    try:
        mm = np.asarray(spacing, np.float64)
    except (TypeError, ValueError):
        mm = np.full((0, 0, 0), np.nan)
    if mm.shape not in ((), (2,), (len(pictures), 2)):
        raise UserError(f"spacing has the shape {mm.shape}; expected a number of mm, two, or {(len(pictures), 2)}")
    each = np.broadcast_to(mm, (len(pictures), 2))
    unknown = np.array([mm.ndim == 2 and bool(np.isnan(one).all()) for one in each], bool)
    wrong = ~unknown & np.array([not ((one > 0) & np.isfinite(one)).all() for one in each], bool)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise UserError(f"spacing of {pictures[i]} is {each[i]}; expected mm above 0 (or NaN in both: unknown)")
    return _completed({p: each[i] for i, p in enumerate(pictures) if not unknown[i]}, pictures, "spacing")


def _of_headers(pictures: Sequence[pathlib.Path], detector: bool) -> GivenSpacing:
    """What DICOM files say; nothing where there are none."""
    advice = f"{dicom_spacing.FLAG} takes it, for mm at the detector"
    mm = dicom_spacing.of_files(pictures, detector=detector, advice=advice)
    if detector and np.isnan(mm).all():
        raise UserError(f"{dicom_spacing.FLAG}: no picture has an Imager Pixel Spacing; leave it out")
    known = {picture: one for picture, one in zip(pictures, mm, strict=True) if not np.isnan(one).any()}
    if known:
        _warn_of_lacking(pictures, known, "DICOM")
    return GivenSpacing(known, at_detector=detector)


def _completed(given: Mapping[pathlib.Path, np.ndarray], pictures: Sequence[pathlib.Path], where: str) -> GivenSpacing:
    """What is given and, of other pictures, what DICOM files say."""
    mm = np.array([given.get(picture, dicom_spacing.UNKNOWN) for picture in pictures]).reshape(-1, 2)
    of_header = dicom_spacing.of_files(pictures, detector=False, advice=f"{where} can say it")
    both = dicom_spacing.combined(mm, of_header, [str(picture) for picture in pictures], where)
    known = {picture: one for picture, one in zip(pictures, both, strict=True) if not np.isnan(one).any()}
    _warn_of_lacking(pictures, known, where)
    return GivenSpacing(known)


def _warn_of_lacking(pictures: Sequence[pathlib.Path], known: Mapping[pathlib.Path, np.ndarray], where: str) -> None:
    lacking = [str(picture) for picture in pictures if picture not in known]
    if lacking:
        _log.warning(
            "%s: %d of %d pictures have no spacing, and nothing in mm: %s",
            where, len(lacking), len(pictures), tables.listed(lacking, MAX_SHOWN),
        )  # fmt: skip


def check_scale(words: Sequence[Any], names: Sequence[str], where: str) -> tuple[str, str, float]:
    """Two landmarks, and the mm between them; raises UserError where `words` are no such thing."""
    if len(words) != 3 or words[0] == words[1]:
        raise UserError(f"{where}: expected two landmarks and the mm between them, LANDMARK,LANDMARK,MM")
    first, second, length = words
    for name in (first, second):
        if name not in names:
            near = tables.nearest(str(name), names)
            hint = f"; the nearest is {near!r}" if near else ""
            raise UserError(f"{where} names {name!r}, which is not one of the landmarks{hint}")
    return str(first), str(second), _positive(length, where, "the mm between two landmarks")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return "_" not in str(value)  # 1_0 is a number of Python's alone


def _positive(number: Any, where: str, what: str) -> float:
    if not _is_number(number) or not 0 < float(number) < math.inf:
        raise UserError(f"{where}: expected {what}, a number above 0")
    return float(number)


def _of_table(path: pathlib.Path, pictures: Sequence[pathlib.Path]) -> dict[pathlib.Path, np.ndarray]:
    faults = Faults(str(path))
    sheet = columns.match(tables.read(path), ["image", *SPACING], faults, others=True)
    if not set(SPACING) <= set(sheet.columns):
        raise UserError(f"{path}: expected the columns {', '.join(SPACING)}, found {tables.listed(sheet.columns)}")
    cells = Cells(sheet, faults)
    known_pictures = Known(os.path.normpath(picture) for picture in pictures)
    rows = [(number, row, os.path.normpath(files.plain(row["image"]))) for number, row in sheet.rows(faults)]
    named = {image for *_, image in rows}
    found: dict[str, tuple[np.ndarray, str]] = {}
    for number, row, image in rows:
        at, meant = f"{path}, row {number}", known_pictures.find(image)
        image = meant if meant and meant not in named and not os.path.exists(image) else image
        mm = np.array([cells.number(row[column], column, at) for column in SPACING])
        if not np.isinf(mm).any():
            check_spacing(mm, at, faults)
        if image in found:
            faults.add("two spacings of a picture", f"{at}: {image} has another spacing in {found[image][1]}")
        found[image] = mm, at
    cells.say()
    faults.raise_if_any()
    of_file = {p: found[os.path.normpath(p)][0] for p in pictures if os.path.normpath(p) in found}
    known = {picture: mm for picture, mm in of_file.items() if not np.isnan(mm).any()}
    if not known:
        raise UserError(f"{path}: no row with the spacing of a picture that is given, such as {pictures[0]}")
    return known
