"""How large the pixels of DICOM files are.

A radiograph shows what lies between tube and detector enlarged. Its Imager Pixel Spacing is at the detector: lengths
in the patient are shorter, by a tenth or a third. Pixel Spacing is in the patient where it was calibrated, which the
file says by its Pixel Spacing Calibration Type, or by another value than the detector's (PS3.3 10.7.1.3).
"""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Sequence

import numpy as np

from ctd_jax.data import dicom, pictures
from ctd_jax.data.prefetch import map_in_threads
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)
TAGS = ("PixelSpacing", "ImagerPixelSpacing", "PixelSpacingCalibrationType", "Modality")
SECTIONS = ("CT", "IVUS", "MR", "NM", "PT", "US")  # modalities whose pictures are no enlarged shadows
SAME = 0.001  # of a spacing: two that differ by less are one
CONTRADICTION = 0.01  # of a spacing
FLAG = "--imager_spacing=detector"
UNKNOWN = np.full(2, np.nan)


@dataclasses.dataclass(frozen=True)
class PixelSize:
    """What a header says, `[2]` mm of a pixel along x and y each, NaN where it says nothing.

    Attributes:
      patient: in the patient.
      detector: at the detector.
      doubtful: nothing says whether `patient` was calibrated, and it may be at the detector.
    """

    patient: np.ndarray
    detector: np.ndarray
    doubtful: bool


def read(path: pathlib.Path) -> PixelSize | None:
    """What the header of a file says; None: it is no DICOM file, or can't be read.

    Raises:
      UserError: pydicom is not installed.
    """
    suffix = path.suffix.lower()
    if suffix in pictures.SUFFIXES and suffix != dicom.SUFFIX:
        return None
    with contextlib.suppress(OSError), path.open("rb") as file:
        if not dicom.is_dicom(file.read(dicom.PREAMBLE + len(dicom.MAGIC)), str(path)):
            return None
        dicom.check_installed(str(path))
        file.seek(0)
        with contextlib.suppress(UserError):  # it is named when its picture is read
            header = dicom.read_header(file, str(path), TAGS)
            pixel, detector = _mm(header.get("PixelSpacing")), _mm(header.get("ImagerPixelSpacing"))
            calibrated = bool(header.get("PixelSpacingCalibrationType"))
            if not calibrated and _differ(pixel, detector) <= SAME:
                pixel = UNKNOWN
            known = calibrated or not np.isnan(detector).any() or header.get("Modality") in SECTIONS
            return PixelSize(pixel, detector, not known and not np.isnan(pixel).any())
    return None


def _mm(value: object) -> np.ndarray:
    """`[2]` along x and y, of the distances between rows and between columns."""
    try:
        rows, columns = np.array(value, np.float64)
    except (TypeError, ValueError):
        return UNKNOWN
    found = np.array([columns, rows])
    return found if (found > 0).all() and np.isfinite(found).all() else UNKNOWN


def _differ(one: np.ndarray, other: np.ndarray) -> float:
    """By what share two spacings differ at most; infinite where one is unknown."""
    return float(np.nan_to_num(np.abs(one / other - 1).max(), nan=np.inf))


def of_files(paths: Sequence[pathlib.Path], *, detector: bool, advice: str) -> np.ndarray:
    """`[N, 2]` mm of a pixel along x and y, NaN where unknown, as of all that are no DICOM. Warns of what people should
    know.

    Args:
      paths: N files.
      detector: the spacing at the detector is taken, and no other.
      advice: what can be done about files that have no other.

    Raises:
      UserError: pydicom is not installed.
    """
    sizes = list(map_in_threads(read, paths))
    found = [(path, size) for path, size in zip(paths, sizes, strict=True) if size]
    at_detector = [path for path, size in found if np.isnan(size.patient).any() and not np.isnan(size.detector).any()]
    doubtful = [path for path, size in found if size.doubtful]
    calibrated = [path for path, size in found if not np.isnan(size.patient).any()]
    if not detector and at_detector:
        _log.warning(
            "%d of %d DICOM files say the size of a pixel at the detector only (Imager Pixel Spacing), where all is "
            "larger than in the patient: it is not used; %s (first %s)",
            len(at_detector), len(found), advice, at_detector[0],
        )  # fmt: skip
    if not detector and doubtful:
        _log.warning(
            "%d of %d DICOM files do not say whether their Pixel Spacing was calibrated: it is used, but mm may be "
            "those at the detector, where all is larger than in the patient; ask who made them (first %s)",
            len(doubtful), len(found), doubtful[0],
        )  # fmt: skip
    if detector and calibrated:
        _log.warning(
            "%d of %d DICOM files have a Pixel Spacing in the patient, which is not used: all mm are at the detector "
            "(first %s)", len(calibrated), len(found), calibrated[0],
        )  # fmt: skip
    mm = [UNKNOWN if size is None else size.detector if detector else size.patient for size in sizes]
    return np.array(mm, np.float64).reshape(-1, 2)


def combined(given: np.ndarray, of_header: np.ndarray, at: Sequence[str], title: str) -> np.ndarray:
    """`[N, 2]` mm: those that are given, else those of the header. Warns where they contradict each other.

    Args:
      given, of_header: `[N, 2]`, NaN where unknown.
      at: N files, or rows, for the warning.
      title: what gives them.
    """
    both = [i for i in range(len(at)) if not np.isnan([*given[i], *of_header[i]]).any()]
    other = [i for i in both if _differ(given[i], of_header[i]) > CONTRADICTION]
    if other:
        mm = "{:g} x {:g} mm against {:g} x {:g} mm".format(*given[other[0]], *of_header[other[0]])
        _log.warning(
            "%s: %d spacings are not those of the DICOM files, and are used (first %s: %s, x by y)",
            title, len(other), at[other[0]], mm,
        )  # fmt: skip
    return np.where(np.isnan(given), of_header, given)
