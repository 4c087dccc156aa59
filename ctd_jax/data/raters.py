"""What each of several people annotated: `landmarks_<rater>.csv` beside `landmarks.csv`, with the same columns."""

import pathlib
from collections.abc import Sequence

import numpy as np

from ctd_jax.data import columns, tables
from ctd_jax.data.about import Landmarks
from ctd_jax.data.cells import Cells
from ctd_jax.data.faults import Faults


def points(root: pathlib.Path, landmarks: Landmarks, images: Sequence[str]) -> np.ndarray:
    """`[R, N, K, 2]` points of each of `landmarks.raters` in N pictures, in pixels; NaN where one annotated none.

    Args:
      root: the landmark folder.
      landmarks: of its dataset.json.
      images: names, as the folder's table has them.

    Raises:
      UserError: a file that is missing or no table, or what is no number.
    """
    found = np.full((len(landmarks.raters), len(images), len(landmarks.names), 2), np.nan)
    place = {image: i for i, image in enumerate(images)}
    for points_of, rater in zip(found, landmarks.raters, strict=True):
        faults = Faults(f"the annotations of {rater}")
        sheet = tables.read(root / f"landmarks_{rater}.csv")
        names = [f"{name}_{axis}" for name in landmarks.names for axis in "xy"]
        sheet = columns.match(sheet, names, faults, others=True)
        cells = Cells(sheet, faults)
        for number, row in sheet.rows(faults):
            if row["image"] in place:
                at = f"{sheet.path}, row {number}"
                values = [cells.number(row.get(name, ""), name, at) for name in names]
                points_of[place[row["image"]]] = np.reshape(values, (-1, 2))
        faults.raise_if_any()
    return found
