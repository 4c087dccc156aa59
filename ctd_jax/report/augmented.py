"""A page of training pictures as augmentation gives them, to be looked at before a training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from ctd_jax.report import pages, parts

FILE = "augmented.html"
SIDE = 320  # pixels of a picture on the page


def write(
    workdir: Path,
    rows: Sequence[tuple[str, Sequence[Image.Image]]],
    *,
    of: int,
    marks: str,
    settings: Mapping[str, float],
) -> Path:
    """Writes `augmented.html` in the workdir; returns its path.

    Args:
      workdir: gives the page its name.
      rows: name of a picture, and how it is seen: without augmentation, then draw by draw.
      of: number of training pictures.
      marks: a sentence on what is painted over them.
      settings: `config.augment`.
    """
    shown = [(name, [parts.jpeg(image) for image in images]) for name, images in rows]
    draws = len(rows[0][1]) - 1
    return pages.write(workdir, "augmented.html", FILE, rows=shown, of=of, draws=draws, marks=marks, settings=settings)
