"""What is measured of each picture while it is read, and the thumbnail that the page shows."""

import dataclasses
import io

import numpy as np
import scipy
from PIL import Image

from ctd_jax.data import twins
from ctd_jax.report import overlays

MEASURED = 256  # pixels of the longer side at which sharpness is measured, about what a network sees
THUMBNAIL, QUALITY = 150, 72  # pixels of the longer side of a thumbnail, and of its JPEG


@dataclasses.dataclass(frozen=True)
class Look:
    """What is known of one picture.

    Attributes:
      twin: a scalar of `twins.LOOK`, which has its width and height.
      brightness: mean grey value, 0 to 255.
      sharpness: see `sharpness`.
      thumbnail: a JPEG file.
    """

    twin: np.ndarray
    brightness: float
    sharpness: float
    thumbnail: bytes


def look(picture: np.ndarray) -> Look:
    """What is known of a picture `[H, W, 3]` uint8."""
    image = Image.fromarray(picture)
    small = image.copy()
    small.thumbnail((MEASURED, MEASURED), Image.Resampling.BOX, reducing_gap=2.0)
    grey = np.asarray(small.convert("L"), np.float32)
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    return Look(twins.look(picture), float(grey.mean()), sharpness(grey), buffer.getvalue())


def outlined(picture: np.ndarray, classes: np.ndarray) -> bytes:
    """A JPEG file of a thumbnail with the outlines of the picture's class map, `[H, W]` uint8."""
    side = max(picture.shape[:2]) / THUMBNAIL
    size = [max(round(length / side), 1) for length in picture.shape[1::-1]]
    small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX, reducing_gap=2.0))
    classes = np.asarray(Image.fromarray(classes).resize(size, Image.Resampling.NEAREST))
    buffer = io.BytesIO()
    overlays.paint_outlines(small, np.zeros_like(classes), classes, side=THUMBNAIL).save(
        buffer, "JPEG", quality=QUALITY
    )
    return buffer.getvalue()


def sharpness(grey: np.ndarray) -> float:
    """The standard deviation of the Laplacian of a grey picture `[H, W]` as a share of its own, whatever its contrast
    (variance of the Laplacian: Pech-Pacheco et al. 2000); 0 where all is of one grey."""
    spread = float(grey.std())
    return float(scipy.ndimage.laplace(grey).std() / spread) if spread > 0 else 0.0
