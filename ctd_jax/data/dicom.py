"""DICOM files to the values of their pictures. Of the header only `PICTURE` is read, so that nothing of who is on the
picture can get any further.

Values are made as PS3.3 C.11 of the standard has it: the modality's table or rescaling first, then the window (VOI).
"""

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ctd_jax.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIX = ".dcm"
INSTALL = "pip install 'ctd_jax[dicom]' (in a clone: pip install -e '.[dicom]')"
PREAMBLE, MAGIC = 128, b"DICM"  # bytes before what tells a DICOM file
EXPECTED = "expected them uncompressed, or coded by RLE, JPEG, JPEG-LS or JPEG 2000: export it anew"
COLOURS = ("Red", "Green", "Blue")
LUT = ("LUTDescriptor", "LUTData")
PICTURE = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "VOILUTSequence",
    *(f"{colour}PaletteColorLookupTable{part}" for colour in COLOURS for part in ("Descriptor", "Data")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in COLOURS),
)  # fmt: skip


def is_dicom(head: bytes, name: str) -> bool:
    """Whether a file that begins with `head` is DICOM, or is called so."""
    return head[PREAMBLE:].startswith(MAGIC) or name.lower().endswith(SUFFIX)


def check_installed(name: str) -> None:
    """Raises UserError if DICOM files, such as `name`, can't be read here."""
    try:
        _pydicom()
    except ImportError as error:
        raise UserError(f"{name}: DICOM files are read by pydicom, which is not installed; {INSTALL}") from error


@functools.cache
def _pydicom() -> Any:
    """The package, told not to repeat what is in a file."""
    import pydicom.pixels

    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    return pydicom


def read(content: bytes, name: str, max_pixels: int) -> tuple[np.ndarray, bool]:
    """The picture of a DICOM file: `[H, W]`, or `[H, W, 3]` RGB; and whether the values are those of a negative.

    uint8 where the file says what is black and white, by 8 bits or a window; else whole numbers, or fractions.

    Args:
      content: of the file.
      name: what messages call it.
      max_pixels: that a picture may have.

    Raises:
      UserError: pydicom is not installed; no DICOM file, or one that is damaged, without a picture, with several, of
        other than 8 to 16 bits, or coded in a way that nothing installed decodes.
    """
    head = read_header(content, name)
    _check(head, name, max_pixels)
    coded = (
        f"{name}: its pixels, coded by {_coding(head)}, can't be decoded: the file is damaged, or coded in a way "
        f"that nothing installed knows (JPEG of 12 bits, for instance); {EXPECTED}"
    )
    with _anything_as(coded):
        stored = _pydicom().pixels.pixel_array(head, index=0)
    if stored.shape[:2] != (head.Rows, head.Columns):
        raise _damaged(name, f"its picture has {stored.shape[1]} x {stored.shape[0]} pixels instead of what it says")
    kind = str(head.get("PhotometricInterpretation", "")).strip().upper()
    with _anything_as(str(_damaged(name, "its tables of grey or colour can't be used"))):
        if kind == "PALETTE COLOR":
            values = _of_palette(stored, head)
        elif stored.ndim == 3:  # pydicom has made RGB of YBR
            values = stored
        else:
            values = _windowed(_rescaled(stored, head, name), head, name)
    return values, kind == "MONOCHROME1"


@contextlib.contextmanager
def _anything_as(message: str) -> Iterator[None]:
    """What pydicom raises, as a UserError that does not repeat its text: it may hold some of the header."""
    try:
        yield
    except UserError:
        raise
    except Exception:
        raise UserError(message) from None


def without_header(content: bytes, name: str) -> bytes:
    """A DICOM file with the picture of `content`, and nothing else that it says. Arguments and errors: see `read`."""
    buffer = io.BytesIO()
    kept = read_header(content, name)
    with _anything_as(str(_damaged(name, "its header can't be read"))):
        kept.save_as(buffer, enforce_file_format=False)
    return buffer.getvalue()


def read_header(content: bytes | IO[bytes], name: str, tags: tuple[str, ...] = PICTURE) -> "Dataset":
    """Those of the `tags` that a file has. Arguments and errors: see `read`."""
    check_installed(name)
    pydicom = _pydicom()
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    if file.read(PREAMBLE + len(MAGIC))[PREAMBLE:] != MAGIC:
        raise UserError(
            f"{name}: not a DICOM file; expected DICM at byte {PREAMBLE}, found something else: the file is damaged, "
            "encrypted, or of another kind; export it anew"
        )
    file.seek(0)
    with _anything_as(str(_damaged(name, "its header can't be read"))):
        found = pydicom.dcmread(file, stop_before_pixels="PixelData" not in tags, specific_tags=list(tags))
        syntax = found.file_meta.get("TransferSyntaxUID")
        kept = pydicom.Dataset()
        for keyword in tags:
            if keyword in found:
                kept[keyword] = found[keyword]
        for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
            if kept.get(keyword):
                setattr(kept, keyword, [_only(item, LUT) for item in kept[keyword].value])
    if syntax is None:
        raise _damaged(name, "it does not say how its pixels are coded (Transfer Syntax UID)")
    kept.file_meta = pydicom.dataset.FileMetaDataset()
    kept.file_meta.TransferSyntaxUID = syntax
    kept.preamble = bytes(PREAMBLE)
    kept.set_original_encoding(*found.original_encoding, None)
    return kept


def _only(item: "Dataset", tags: tuple[str, ...]) -> "Dataset":
    kept = type(item)()
    for keyword in tags:
        kept[keyword] = item[keyword]
    return kept


def _damaged(name: str, why: str) -> UserError:
    return UserError(f"{name}: a damaged DICOM file: {why}; expected a whole file, so export it anew")


def _check(header: "Dataset", name: str, max_pixels: int) -> None:
    """Raises UserError if this is no single picture that can be decoded here."""
    if "PixelData" not in header:
        raise UserError(
            f"{name}: a DICOM file without pixel data; expected one with a picture, not a report, a plan or a DICOMDIR"
        )
    with _anything_as(str(_damaged(name, "its size or its bits are missing or no numbers"))):
        frames = int(header.get("NumberOfFrames") or 1)
        rows, columns, bits = (int(header[keyword].value) for keyword in ("Rows", "Columns", "BitsStored"))
        allocated = int(header.BitsAllocated)
    if frames != 1:
        raise UserError(
            f"{name}: a DICOM file of {frames} frames; expected one picture: export the frame that is meant"
        )
    if not 0 < rows * columns <= max_pixels:
        raise UserError(
            f"{name}: the picture has {columns} x {rows} pixels; expected {max_pixels:,} at most, and one at least"
        )
    if not 8 <= bits <= 16 or allocated not in (8, 16) or bits > allocated:
        raise UserError(f"{name}: a DICOM file of {bits} bits (in {allocated}); expected 8 to 16 (in 8 or 16)")
    _check_coding(header, name)


def _check_coding(header: "Dataset", name: str) -> None:
    try:
        available = _pydicom().pixels.get_decoder(header.file_meta.TransferSyntaxUID).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise UserError(
            f"{name}: its pixels are coded by {_coding(header)}, which nothing installed decodes; {EXPECTED}, or "
            f"{INSTALL}"
        )


def _coding(header: "Dataset") -> str:
    syntax = header.file_meta.TransferSyntaxUID
    return syntax.name if syntax.is_transfer_syntax else "a transfer syntax that the standard does not list"


def _of_palette(values: np.ndarray, header: "Dataset") -> np.ndarray:
    colours = _pydicom().pixels.apply_color_lut(values, header)[..., :3]
    return colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)


def _rescaled(values: np.ndarray, header: "Dataset", name: str) -> np.ndarray:
    """What the modality's table or rescaling makes of stored values: whole numbers where it can be, else float32."""
    if header.get("ModalityLUTSequence"):
        return _looked_up(values, header, "ModalityLUTSequence")[0]
    slope, intercept = (header.get(keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope is None or intercept is None or (slope, intercept) == (1, 0):
        return values
    if not (np.isfinite(float(slope)) and np.isfinite(float(intercept)) and slope):
        raise UserError(
            f"{name}: Rescale Slope and Intercept are {slope} and {intercept}; expected numbers, the first not 0"
        )
    whole = float(slope).is_integer() and float(intercept).is_integer()
    return _pydicom().pixels.apply_modality_lut(values, header).astype(np.int32 if whole else np.float32)


def _windowed(values: np.ndarray, header: "Dataset", name: str) -> np.ndarray:
    """`[H, W]` uint8 by the file's first table or window (VOI); without any, the values as they are."""
    if header.get("VOILUTSequence"):
        seen, white = _looked_up(values, header, "VOILUTSequence")
        black = 0.0
    elif None not in (header.get("WindowCenter"), header.get("WindowWidth")):
        apply = _pydicom().pixels.apply_windowing
        try:
            seen = apply(values, header)
            black, white = apply(np.array([-np.inf, np.inf]), header)
        except ValueError:
            raise UserError(
                f"{name}: the window has the width {header.WindowWidth}; expected 1 or more, and a function of LINEAR, "
                "LINEAR_EXACT or SIGMOID: correct the window, or remove Window Center and Window Width"
            ) from None
    else:
        return values
    return np.clip(np.rint((seen - black) * (255 / (white - black))), 0, 255).astype(np.uint8)


def _looked_up(values: np.ndarray, header: "Dataset", keyword: str) -> tuple[np.ndarray, float]:
    """What the first table of a sequence makes of values, and the largest number of its bit depth. (pydicom 3.0's
    `apply_voi` counts entries in the bits of what they hold, so that the 257th of a table of 8 bits is its first.)"""
    item = header[keyword].value[0]
    entries, first, bits = item.LUTDescriptor
    if item["LUTData"].VR == "OW":
        order = "<" if header.original_encoding[1] else ">"
        numbers = np.frombuffer(item.LUTData, f"{order}u2" if len(item.LUTData) > (entries or 2**16) else np.uint8)
    else:
        numbers = np.asarray(item.LUTData)
    numbers = numbers[: entries or 2**16].astype(np.uint16)
    return numbers[np.clip(np.rint(values).astype(np.int64) - first, 0, len(numbers) - 1)], float(2**bits - 1)
