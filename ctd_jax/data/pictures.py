"""Picture files to 8-bit RGB arrays, whatever the file holds."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ctd_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def decode(content: bytes, name: str) -> np.ndarray:
    """`[H, W, 3]` uint8 RGB picture: turned upright by its EXIF tag, grey repeated, transparency laid over black.

    Grey pictures of more than 8 bits are divided by the largest value of their bit depth, which their brightest pixel
    tells: a radiograph with 12 of 16 bits in use keeps its contrast. Fractional ones may also go from 0 to 1.

    Raises:
      UserError: `content` is not a whole picture; `name` is what the message calls it.
    """
    try:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    except Exception as error:  # Pillow's decoders raise nearly anything
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(
            f"{name}: not a readable picture ({reason}); replace the file, or take it out of the list"
        ) from error
    if picture.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(picture, np.float64), posinf=0, neginf=0)
        depth = max(1 if picture.mode == "F" else 8, int(np.ceil(np.log2(max(values.max(), 1.0) + 1))))
        values = np.clip(np.rint(values * 255 / (2**depth - 1)), 0, 255).astype(np.uint8)
        return np.repeat(values[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    return np.asarray(picture.convert("RGB"))
