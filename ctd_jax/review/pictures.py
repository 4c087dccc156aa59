"""Pictures as the page shows them: a scaled copy of each, and the sharp parts (tiles) of those that are larger.

All are upright and of 8 bits, those of more in the grey range that a training of the folder has.
"""

import functools
import io
import pathlib
import threading
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ctd_jax.data import grey_range, pictures, survey
from ctd_jax.data.prefetch import map_in_threads, progress
from ctd_jax.errors import UserError

LONGEST = 2048  # pixels of a scaled copy's longer side; a picture that is smaller comes as it is
TILE = 1024  # pixels of the side of a tile
KEPT = 2  # decoded pictures that are kept: the one that is shown, and the next


class Pictures:
    """The pictures of a folder; several threads may ask.

    Args:
      root: the folder.
      images: the files below it. Those of more than 8 bits are read here, once, for their grey range.
    """

    def __init__(self, root: pathlib.Path, images: Sequence[str]):
        self._root = root
        self._grey = grey_of([root / image for image in images])
        self._lock = threading.Lock()
        self._kept = functools.lru_cache(KEPT)(self._decoded)

    def whole(self, image: str, longest: int = LONGEST) -> tuple[Image.Image, tuple[int, int]]:
        """A picture, scaled where its longer side has more than `longest` pixels, and its width and height before.

        Raises:
          UserError: it is no readable picture.
        """
        picture = self._of(image)
        size = picture.size
        if max(size) > longest:
            scaled = [max(1, round(side * longest / max(size))) for side in size]
            picture = picture.resize((scaled[0], scaled[1]), Image.Resampling.LANCZOS)
        return picture, size

    def tile(self, image: str, scale: int, column: int, row: int) -> Image.Image:
        """A part of a picture that is scaled by 1 / `scale`, from the pixel (`column`, `row`) * `TILE` on.

        Raises:
          UserError: it is no readable picture, or there is no such part.
        """
        picture = self._of(image)
        side = TILE * scale
        left, top = column * side, row * side
        if scale < 1 or left >= picture.width or top >= picture.height:
            raise UserError(f"{image} has no part {column}, {row} at 1 / {scale} of its size")
        part = picture.crop((left, top, min(left + side, picture.width), min(top + side, picture.height)))
        return part.reduce(scale) if scale > 1 else part

    def _of(self, image: str) -> Image.Image:
        changed = (self._root / image).stat().st_mtime_ns
        with self._lock:
            return self._kept(image, changed)

    def _decoded(self, image: str, changed: int) -> Image.Image:
        values = pictures.decode((self._root / image).read_bytes(), image, self._grey)
        is_grey = (values[..., :1] == values[..., 1:]).all()  # then one channel does, a third of the work
        return Image.fromarray(np.ascontiguousarray(values[..., 0]) if is_grey else values)


def grey_of(paths: Sequence[pathlib.Path]) -> grey_range.Grey:
    """The grey range of each kind of picture of more than 8 bits; files that can't be read have no part in it."""
    seen = progress(map_in_threads(_look, paths), "grey range", len(paths))
    return survey.ranges([one for one in seen if one])


def _look(path: pathlib.Path) -> survey.Seen | None:
    try:
        with path.open("rb") as file:
            return survey.look(file, str(path))
    except (UserError, OSError):
        return None  # the page says so when its turn comes


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()
