"""Where in a picture its object is: boxes of landmark folders, and of the pictures of `predict`."""

import dataclasses
import os
import pathlib

import numpy as np

from ctd_jax import files
from ctd_jax.data import columns, tables
from ctd_jax.data.cells import Cells
from ctd_jax.data.faults import Fault, Faults
from ctd_jax.errors import UserError

BOX = ("box_x0", "box_y0", "box_x1", "box_y1")


@dataclasses.dataclass(frozen=True)
class Box:
    """Where a picture's object is: `[4]` x0, y0, x1, y1 in pixels; and the file and row that say so."""

    box: np.ndarray
    where: str

    def check_inside(self, width: int, height: int) -> None:
        """Raises Fault if it lies outside the picture."""
        box = self.box
        if not np.isnan(box).any() and (box[0] > width or box[1] > height or box[2] < 0 or box[3] < 0):
            raise Fault(
                "box outside its picture",
                f"{self.where}: the box {box} lies outside the picture of {width} x {height} pixels; correct the row",
            )


def check_box(box: np.ndarray, at: str) -> None:
    """Raises UserError if `box`, `[4]` x0, y0, x1, y1 in pixels, has no inside. `at`: file and row."""
    if np.isnan(box).any() or box[0] >= box[2] or box[1] >= box[3]:
        raise UserError(
            f"{at}: box is {box}; expected x0 < x1 and y0 < y1 in pixels of the picture: two corners, not a width and "
            "a height"
        )


def read_boxes(path: pathlib.Path) -> dict[str, Box]:
    """Image -> its box, from a csv file with columns image and box_*; NaN where all four cells are empty: the whole
    picture.

    Raises:
      UserError: all that is wrong with the file.
    """
    faults = Faults(str(path))
    sheet = columns.match(tables.read(path), ["image", *BOX], faults, others=True)
    if not set(BOX) <= set(sheet.columns):
        found = tables.listed(sheet.columns)
        raise UserError(f"{path}: expected the columns {', '.join(BOX)}, found {found}")
    cells = Cells(sheet, faults)
    boxes: dict[str, Box] = {}
    for number, row in sheet.rows(faults):
        at, image = f"{path}, row {number}", os.path.normpath(files.plain(row["image"]))
        box = np.array([cells.number(row[column], column, at) for column in BOX])
        if not np.isinf(box).any():
            with faults.collecting("box"):
                if not np.isnan(box).all():
                    check_box(box, at)
        if image in boxes:
            faults.add("two boxes of a picture", f"{at}: {image} has another box in {boxes[image].where}")
        boxes[image] = Box(box, at)
    cells.say()
    faults.raise_if_any()
    return boxes
