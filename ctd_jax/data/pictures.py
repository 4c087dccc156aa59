"""Picture files to 8-bit RGB arrays, whatever the file holds."""

import io

import numpy as np
from PIL import Image, ImageOps

from ctd_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def decode(content: bytes, name: str) -> np.ndarray:
    """`[H, W, 3]` uint8 RGB picture: turned upright by its EXIF tag, grey repeated, transparency laid over black.

    Grey pictures of more than 8 bits are divided by the largest value of their bit depth, taken from their brightest pixel:
    a radiograph with 12 of 16 bits in use keeps its contrast.

    Raises:
      UserError: `content` is not a whole picture; `name` is what the message calls it.
    """
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{name}: not a readable picture ({error}); replace the file, or take it out of the list"
        ) from error
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, np.float64)
        depth = max(8, int(np.ceil(np.log2(max(values.max(), 1.0) + 1))))
        values = np.clip(np.rint(values * 255 / (2**depth - 1)), 0, 255).astype(np.uint8)
        return np.repeat(values[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    return np.asarray(picture.convert("RGB"))
