"""The page that compares raters."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ctd_jax.report import overlays, pages, parts

SIDE = 420  # pixels of the longer side of a picture


@dataclasses.dataclass(frozen=True)
class Compared:
    """Two sets of points of the same pictures; `found` is what `two_raters.compare` says of them."""

    title: str
    one: np.ndarray
    other: np.ndarray
    found: dict[str, Any]


def write(
    path: pathlib.Path,
    name: str,
    compared: Sequence[Compared],
    picture: Callable[[int], np.ndarray],
    images: Sequence[str],
    worst: int,
) -> pathlib.Path:
    """Writes the page.

    Args:
      path: of it.
      name: of the folder.
      compared: each two raters, and each rater the first and the second time.
      picture: index -> `[H, W, 3]` uint8.
      images: names of the pictures.
      worst: pictures that are shown of each, those that lie furthest apart.
    """

    def shown(one: Compared) -> list[tuple[str, str]]:
        of_image = one.found["of_image"]
        order = [i for i in np.argsort(-np.nan_to_num(of_image, nan=-1.0)).tolist() if np.isfinite(of_image[i])]
        return [
            (
                parts.jpeg(overlays.paint_points(picture(i), one.other[i], one.one[i], side=SIDE)),
                f"{of_image[i]:.2f} {one.found['unit']}, {images[i]}",
            )
            for i in order[:worst]
        ]

    return pages.write(
        path.parent, "raters.html", path.name, name=name, compared=[(one, shown(one)) for one in compared]
    )
