"""Pictures of the page that are larger than thumbnails."""

from collections.abc import Sequence

import numpy as np

from ctd_jax.data import pictures
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.data.segmentation_folder import ClassMapTable
from ctd_jax.inspection.reading import Folder
from ctd_jax.report import overlays, parts

SIDE, QUALITY = 320, 80  # pixels of the longer side, and of the JPEG


class Painter:
    """Paints the pictures of a folder, each as data of the page."""

    def __init__(self, folder: Folder):
        self._folder = folder

    def picture(self, index: int) -> str:
        """A picture as it is annotated."""
        table = self._folder.table
        if isinstance(table, LandmarkTable):
            return self.points(index, np.full_like(table.xy[index], np.nan))
        return self.outlines(index)

    def outlines(self, index: int, found: np.ndarray | None = None) -> str:
        """A picture with the outlines of its class map, if that belongs to it, and of another one, `[H, W]`."""
        folder, table = self._folder, self._folder.table
        picture, true = folder.picture(index), None
        found = np.zeros(picture.shape[:2], np.uint8) if found is None else found
        if isinstance(table, ClassMapTable) and folder.regions[index]:
            true = pictures.decode_classes((folder.root / table.masks[index]).read_bytes(), table.masks[index])
        return parts.jpeg(overlays.paint_outlines(picture, found, true, side=SIDE), QUALITY)

    def points(
        self, index: int, xy: np.ndarray, names: Sequence[str] | None = None, *, true_xy: np.ndarray | None = None
    ) -> str:
        """A picture with its annotated points (or `true_xy`) and others, `[K, 2]`; NaN: none."""
        table = self._folder.table
        if true_xy is None and isinstance(table, LandmarkTable):
            true_xy = table.xy[index]
        return parts.jpeg(overlays.paint_points(self._folder.picture(index), xy, true_xy, names, side=SIDE), QUALITY)
