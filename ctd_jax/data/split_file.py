"""The file of `data.split`: a csv file that says which split each picture is in."""

import pathlib

from ctd_jax import files
from ctd_jax.data import columns, splits, tables
from ctd_jax.data.cells import Cells
from ctd_jax.data.faults import Faults
from ctd_jax.errors import UserError


def read(path: pathlib.Path) -> dict[str, str]:
    """Image -> split, from a csv file with these two columns.

    Raises:
      UserError: all that is wrong with the file.
    """
    faults = Faults(str(path))
    sheet = columns.match(tables.read(path), ["image", "split"], faults, others=True)
    if "split" not in sheet.columns and not faults:
        raise UserError(
            f"{path}: no column `split`, found {tables.listed(sheet.columns)}; a split file has columns image and split"
        )
    faults.raise_if_any()
    cells = Cells(sheet, faults)
    split_of: dict[str, str] = {}
    for number, row in sheet.rows(faults):
        image, split = files.plain(row["image"]), cells.word(row["split"])
        with faults.collecting("split"):
            splits.check_name(split, f"{path}, row {number}")
        if split_of.setdefault(image, split) != split:
            message = f"{path}, row {number}: {image} is {split!r} here and {split_of[image]!r} above; keep one of them"
            faults.add("picture in two splits", message)
    cells.say()
    faults.raise_if_any()
    return split_of
