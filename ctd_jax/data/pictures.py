"""Picture files to 8-bit RGB arrays, whatever the file holds."""

import contextlib
import dataclasses
import importlib
import io
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from ctd_jax.data import dicom, grey_range
from ctd_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".heif", dicom.SUFFIX)
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")  # no other is tried: some start other programs
HEIF = 4, b"ftyp"  # where a HEIC file says what it is
HEIF_READERS = ("pi_heif", "pillow_heif")  # the second brings an encoder under the GPL
MAX_PIXELS = 80_000_000  # in a picture; a larger one is more likely a trap, or needs gigabytes
MAX_PAGES = 64  # of a TIFF that are looked at
STRETCHED = {"L;2": 85, "L;4": 17}  # by what Pillow multiplies the values of a grey PNG of 2 or 4 bits
PHOTOMETRIC, PLANAR, BITS = 262, 284, 258  # TIFF tags
OTHER_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B"}

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is less


@dataclasses.dataclass(frozen=True)
class Stored:
    """What a file holds, upright.

    Attributes:
      values: `[H, W, 3]` uint8, or of more bits `[H, W]` or `[H, W, 3]`.
      white_is_least: the values are those of a negative.
      note: what else is in the file, for people; "": nothing.
    """

    values: np.ndarray
    white_is_least: bool = False
    note: str = ""


def decode(content: bytes, name: str, grey: grey_range.Grey | None = None) -> np.ndarray:
    """`[H, W, 3]` uint8 RGB picture: turned upright by its EXIF tag, grey repeated, transparency laid over black.

    Args:
      content: of the file.
      name: what messages call it.
      grey: the ranges of pictures of more than 8 bits; of a kind that is not in it, the picture's own.

    Raises:
      UserError: `content` is not a whole picture of one of `FORMATS`, has too many pixels, or nothing to be seen.
    """
    stored = read(content, name)
    picture = to_rgb(stored.values, grey)
    return 255 - picture if stored.white_is_least else picture


def to_rgb(values: np.ndarray, grey: grey_range.Grey | None = None) -> np.ndarray:
    """`[H, W, 3]` uint8 of values `[H, W]` or `[H, W, 3]`, those of uint8 as they are; `grey` as in `decode`."""
    if values.dtype != np.uint8:
        kind = grey_range.kind(values)
        known = (grey or {}).get(kind)
        values = grey_range.to_8_bits(values, known or grey_range.shared([grey_range.bounds(values)], kind))
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)


def check_array(values: object, name: str) -> np.ndarray:
    """`values`, if they are a picture; float32 where they are of another floating-point type.

    Raises:
      UserError: they are no array `[H, W]` or `[H, W, 3]` of whole numbers or fractions, or one that NumPy can't read.
    """
    if not isinstance(values, np.ndarray) and not hasattr(values, "__array__"):
        raise UserError(f"{name} is a {type(values).__name__}; expected a file, a folder or an array")
    try:
        array = np.asarray(values)
    except (TypeError, RuntimeError) as error:  # a tensor of PyTorch on a GPU, or in a graph of gradients
        raise UserError(f"{name} can't be read as an array ({error}); give one of NumPy") from error
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or not array.size:
        raise UserError(f"{name} has the shape {array.shape}; expected [H, W], grey, or [H, W, 3], RGB")
    if array.dtype.kind not in "iuf":
        raise UserError(f"{name} holds {array.dtype}; expected whole numbers or fractions")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise UserError(f"{name}: {_too_large('picture')} (it has {array.shape[1]} x {array.shape[0]})")
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def read(content: bytes, name: str) -> Stored:
    """The values that the file holds. Arguments and errors: see `decode`."""
    if dicom.is_dicom(content, name):
        return Stored(*dicom.read(content, name, MAX_PIXELS))
    with _readable(name, "picture"):
        opened, note = _open(content, FORMATS, name)
        negative = getattr(opened, "tag_v2", {}).get(PHOTOMETRIC) == 0  # Pillow turns 8 bits round, not more
        raw = _raw_mode(opened)
        if ";16" in raw and raw.split(";")[0] in ("RGB", "RGBA", "RGBX", "LA"):
            return Stored(_colour_of_16_bits(lambda: _open(content, FORMATS, name)[0], raw, name), note=note)
        picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith(("I", "F")):
            values = np.asarray(picture)
            return Stored(values.astype(values.dtype.newbyteorder("=")), negative, note)
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            if picture.getchannel("A").getextrema() == (0, 0):
                raise _invisible(name)
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
        return Stored(np.asarray(picture.convert("RGB")), note=note)


def is_deep(content: bytes | IO[bytes], name: str) -> tuple[bool, str]:
    """Whether a file has, or being DICOM may have, more than 8 bits in a channel, and `Stored.note`; only its head is
    read."""
    if dicom.is_dicom(_head(content), name):
        return True, ""
    with _readable(name, "picture"):
        picture, note = _open(content, FORMATS, name)
        return picture.mode.startswith(("I", "F")) or ";16" in _raw_mode(picture), note


def to_keep(path: pathlib.Path) -> bytes:
    """What is kept of a picture file: all of it, but the picture alone of DICOM."""
    content = path.read_bytes()
    return dicom.without_header(content, str(path)) if dicom.is_dicom(content, str(path)) else content


def decode_classes(content: bytes, name: str) -> np.ndarray:
    """`[H, W]` uint8 classes of a class map, turned upright as its picture is.

    Raises:
      UserError: `content` is no PNG of one channel of at most 8 bits; `name` is what the message calls it.
    """
    with _readable(name, "class map", "a class map is a PNG, since JPEG changes classes; save it as one"):
        opened = _open(content, ("PNG",), name)[0]
        factor = STRETCHED.get(_raw_mode(opened), 1)
        picture = ImageOps.exif_transpose(opened)
    if picture.mode not in ("L", "P", "1"):
        raise UserError(
            f"{name}: a class map has one channel of 8 bits, this file has mode {picture.mode}; save the index of each "
            "pixel's class as a grey or palette PNG"
        )
    return np.asarray(picture).astype(np.uint8) // factor


@contextlib.contextmanager
def _readable(name: str, what: str, mend: str = "replace the file, or take it out of the list") -> Iterator[None]:
    """What Pillow's decoders raise, nearly anything, as UserError."""
    try:
        yield
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{name}: {_too_large(what)}") from error
    except Exception as error:
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(f"{name}: not a readable {what} ({reason}); {mend}") from error


def _too_large(what: str) -> str:
    return f"the {what} has more than {MAX_PIXELS:,} pixels, which is the limit; scale it down"


def _open(content: bytes | IO[bytes], formats: tuple[str, ...], name: str) -> tuple[ImageFile, str]:
    """The picture of a file, nothing decoded yet: of several pages the first of the largest; and a note of them."""
    at, word = HEIF
    if formats == FORMATS and _head(content)[at:].startswith(word):
        formats = _heif(name)
    picture = Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=formats)
    note = ""
    if picture.format == "TIFF" and getattr(picture, "is_animated", False):
        sizes = _page_sizes(picture)
        page = max(range(len(sizes)), key=lambda i: sizes[i][0] * sizes[i][1])
        picture.seek(page)
        note = f"{len(sizes)} pages, of which page {page + 1} of {' x '.join(map(str, sizes[page]))} pixels is taken"
    elif picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:  # MPO: a telephone's JPEG with a preview
        note = f"{getattr(picture, 'n_frames', 1)} frames, of which the first is taken"
    if picture.width * picture.height > MAX_PIXELS:
        raise UserError(f"{name}: {_too_large('picture')} (it has {picture.width} x {picture.height})")
    return picture, note


def _heif(name: str) -> tuple[str, ...]:
    """The format of HEIC, once Pillow knows it."""
    for reader in HEIF_READERS:
        with contextlib.suppress(ImportError):
            importlib.import_module(reader).register_heif_opener()
            return ("HEIF",)
    raise UserError(
        f"{name}: HEIC pictures are read by pi-heif, which is not installed; pip install 'ctd_jax[heic]' (in a clone: "
        "pip install -e '.[heic]'), or save it as PNG or JPEG"
    )


def _page_sizes(picture: Image.Image) -> list[tuple[int, int]]:
    sizes = []
    for page in range(MAX_PAGES):
        try:
            picture.seek(page)
        except EOFError:
            break
        sizes.append(picture.size)
    return sizes


def _raw_mode(picture: Image.Image) -> str:
    """How the file lays out a pixel, in Pillow's words, such as "RGB;16B"; "": unknown."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    raw = raw if isinstance(raw, str) else ""
    tags = getattr(picture, "tag_v2", {})
    if raw.startswith("RGBa;16") or (tags.get(PLANAR) == 2 and tags.get(BITS, (8,)) > (8, 8)):
        raise ValueError("16-bit colour that lies channel after channel, or is multiplied by its transparency")
    return raw


def _colour_of_16_bits(reopen: Callable[[], ImageFile], raw: str, name: str) -> np.ndarray:
    """`[H, W, 3]` or, of grey with transparency, `[H, W]` uint16; laid over black.

    Pillow keeps the high byte of each channel. Told that the bytes are the other way round, it keeps the low one."""
    if raw == "LA;16B":  # four bytes of two channels, taken for four channels
        both = np.asarray(_upright_as(reopen(), "RGBA")).astype(np.uint16)
        values = both[..., ::2] << 8 | both[..., 1::2]
    else:
        layout, order = raw.split(";")
        high, low = (
            np.asarray(_upright_as(reopen(), f"{layout};{bytes_}")).astype(np.uint16)
            for bytes_ in (order, OTHER_BYTE[order])
        )
        values = high << 8 | low
    if raw.startswith(("RGBA", "LA")):
        alpha = values[..., -1:]
        if not alpha.any():
            raise _invisible(name)
        values = np.rint(values[..., :-1] * (alpha / 65535)).astype(np.uint16)
    return values if values.shape[2] == 3 else values[..., 0]


def _upright_as(picture: ImageFile, raw: str) -> Image.Image:
    """The picture, its bytes laid out as `raw` says."""

    def replaced(arguments: Any) -> Any:
        return (raw, *arguments[1:]) if isinstance(arguments, tuple) else raw

    tiles: Any = [tile[:3] + (replaced(tile[3]),) for tile in picture.tile]  # of another type in older versions
    picture.tile = tiles
    return ImageOps.exif_transpose(picture)


def _head(content: bytes | IO[bytes]) -> bytes:
    if isinstance(content, bytes):
        return content
    head = content.read(dicom.PREAMBLE + len(dicom.MAGIC))
    content.seek(0)
    return head


def _invisible(name: str) -> UserError:
    return UserError(
        f"{name}: every pixel is transparent (alpha is 0 everywhere), so there is nothing to be seen; save the picture "
        "without transparency"
    )
