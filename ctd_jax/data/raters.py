"""What each of several people annotated, and what a training takes of it.

Each person has rows of their own in landmarks.csv, told apart by its column `rater`, or a file `landmarks_<rater>.csv`
beside it, which dataset.json names. The points of the table are their mean (or what landmarks.csv itself says, where
the raters have files); a training takes these, or draws one of the raters each time it sees a picture.
"""

import logging
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ctd_jax.data import annotation_checks, augment, columns, folder, picture_files, tables
from ctd_jax.data.about import Landmarks
from ctd_jax.data.cells import Cells
from ctd_jax.data.faults import Faults
from ctd_jax.typing import Batch

_log = logging.getLogger(__name__)
COLUMN = "rater"
LONGEST = 60  # characters of a name
COMPARED = 100  # columns among which a misspelt one is looked for
# what is the same in all rows of a picture: field -> in words
SHARED = {"subjects": "subject", "splits": "split", "spacing": "spacing", "boxes": "box"}


def file_of(rater: str) -> str:
    return f"landmarks_{rater}.csv"


def of_files(root: pathlib.Path, landmarks: Landmarks, images: Sequence[str], faults: Faults) -> np.ndarray:
    """`[N, R, K, 2]` points of N pictures by each of `landmarks.raters`, who have files, in pixels; NaN where one
    annotated none. A picture that `images` lacks is left out, and said.

    Args:
      root: the landmark folder.
      landmarks: of its dataset.json.
      images: names, as the folder's table has them.
      faults: takes columns that are missing, and what is wrong in a row, which becomes NaN.

    Raises:
      UserError: a file that is missing or no table.
    """
    known, place = picture_files.Known(images), {image: i for i, image in enumerate(images)}
    found = np.full((len(images), len(landmarks.raters), len(landmarks.names), 2), np.nan)
    for r, rater in enumerate(landmarks.raters):
        sheet = tables.read(root / file_of(rater))
        names = [f"{name}_{axis}" for name in landmarks.names for axis in "xy"]
        sheet = columns.match(sheet, names, faults, others=True)
        pairs = _columns_of_points(sheet, landmarks, faults)
        cells = Cells(sheet, faults)
        seen: dict[str, str] = {}
        others: list[str] = []
        for number, row in sheet.rows(faults):
            at, image = f"{sheet.path}, row {number}", known.find(row["image"])
            if image is None:
                others.append(row["image"])
                continue
            with faults.collecting("picture listed twice"):
                folder.check_once(image, row["image"], at, seen)
            for k, pair in pairs.items():
                found[place[image], r, k] = [cells.number(row[column], column, at) for column in pair]
            annotation_checks.check_points(found[place[image], r], landmarks.names, at, faults)
        cells.say()
        if others:
            _log.warning("%s: pictures that landmarks.csv lacks are left out: %s", sheet.path, tables.listed(others))
        where = [f"{sheet.path}, {image}" for image in images]
        found[:, r] = annotation_checks.without_marks(found[:, r], landmarks.names, where)
    return found


def _columns_of_points(sheet: tables.Sheet, landmarks: Landmarks, faults: Faults) -> dict[int, tuple[str, str]]:
    """Index of each landmark that a rater's file has -> its columns of x and y; warns of the landmarks that it lacks.

    It is a fault where one of two columns is there or misspelt, where there are none at all, and where an empty cell of
    the landmark would say that it is absent.
    """
    pairs = {name: (f"{name}_x", f"{name}_y") for name in landmarks.names}
    of_points = {column for pair in pairs.values() for column in pair}
    there, left_out = of_points.intersection(sheet.columns), list[str]()
    others = [column for column in sheet.columns if column not in of_points][:COMPARED]
    for name, pair in pairs.items():
        lacking = [column for column in pair if column not in there]
        near = {column: _misspelt(column, others) for column in lacking}
        asked = "which dataset.json asks for"
        if there and len(lacking) == 2 and not any(near.values()):
            if name not in landmarks.absent:
                left_out.append(name)
                continue
            asked = f"as if {name} were absent for this rater; add it, or take {name} out of `absent` in dataset.json"
        for column in lacking:
            hint = f"; the nearest is `{near[column]}`" if near[column] else ""
            faults.add("missing column", f"{sheet.path}: no column `{column}`, {asked}{hint}")
    if left_out:
        _log.warning("%s: no columns of %s: as if this rater had not looked for them; add the columns if that is wrong",
                     sheet.path, tables.listed(left_out))  # fmt: skip
    return {k: pair for k, pair in enumerate(pairs.values()) if there.issuperset(pair)}


def _misspelt(column: str, others: Sequence[str]) -> str | None:
    """The one of the `others` that is nearly called so, with the same numbers in it and the same axis at its end."""
    like = [one for one in others if one.casefold().endswith(column[-1]) and _numbers(one) == _numbers(column)]
    return tables.nearest(column, like, columns.TYPO)


def _numbers(name: str) -> list[str]:
    return re.findall(r"\d+", name)


def by_picture(
    fields: dict[str, Any], rater_of: Sequence[str], faults: Faults
) -> tuple[dict[str, Any], tuple[str, ...], np.ndarray]:
    """Which rows of landmarks.csv are of which picture and rater.

    Args:
      fields: of a `LandmarkTable` of M rows, without its points.
      rater_of: who annotated each row.
      faults: takes rows of one picture that say different things of it.

    Returns:
      The fields of N pictures, from the first row of each; the names of R raters; `[N, R]` the row of each, -1 where
      there is none.
    """
    raters = tuple(dict.fromkeys(rater_of))
    images = tuple(dict.fromkeys(fields["images"]))
    place = {image: i for i, image in enumerate(images)}
    row_of = np.full((len(images), len(raters)), -1)
    for row, (image, rater) in enumerate(zip(fields["images"], rater_of, strict=True)):
        row_of[place[image], raters.index(rater)] = row
    for image, rows in zip(images, row_of, strict=True):
        _check_same(image, sorted(rows[rows >= 0].tolist()), fields, faults)
    first = np.array([rows[rows >= 0].min() for rows in row_of], int)
    taken = {name: _rows_of(values, first, len(rater_of)) for name, values in fields.items()}
    return taken, raters, row_of


def _check_same(image: str, rows: Sequence[int], fields: dict[str, Any], faults: Faults) -> None:
    first, where = rows[0], fields["where"]
    for name, word in SHARED.items():
        values = fields[name]
        for row in rows[1:] if values is not None else ():
            if not np.array_equal(values[row], values[first], equal_nan=isinstance(values, np.ndarray)):
                faults.add(
                    "rows of one picture",
                    f"{where[row]}: {image} has another {word} than in {where[first]}; write the same in all rows of "
                    "a picture",
                )


def _rows_of(values: Any, rows: np.ndarray, number: int) -> Any:
    """Those of a field that has one for each of `number` rows."""
    if isinstance(values, np.ndarray):
        return values[rows]
    return tuple(values[row] for row in rows) if isinstance(values, tuple) and len(values) == number else values


def mean(of_raters: np.ndarray, may_be_absent: np.ndarray) -> np.ndarray:
    """`[N, K, 2]` mean of those who placed a landmark. One that may be absent is so (NaN) where more than half of those
    who annotated anything in the picture left it out; an empty cell of any other says nothing.

    Args:
      of_raters: `[N, R, K, 2]`, NaN where one placed none.
      may_be_absent: `[K]`, see `absent` of dataset.json.
    """
    placed: np.ndarray = np.isfinite(of_raters).all(-1)
    number, annotators = placed.sum(1), placed.any(-1).sum(1)
    total = np.where(placed[..., None], of_raters, 0).sum(1)
    there = (number > 0) & (~may_be_absent | (2 * number >= annotators[:, None]))
    return np.where(there[..., None], total / np.maximum(number, 1)[..., None], np.nan)


def most(said: np.ndarray, of_raters: np.ndarray) -> np.ndarray:
    """`[N, K]` whether half or more of those who placed a landmark say so.

    Args:
      said: `[N, R, K]` who says it.
      of_raters: `[N, R, K, 2]`, NaN where one placed none.
    """
    placed: np.ndarray = np.isfinite(of_raters).all(-1)
    return placed.any(1) & (2 * (said & placed).sum(1) >= placed.sum(1))


def draw(keys: Array, batch: Batch) -> Batch:
    """The batch with the points of one rater for each picture, drawn from those who annotated it; without any, as it
    is.

    Args:
      keys: `[B]` of the pictures, those of `augment`.
      batch: with `xy` [B, K, 2], `mask` [B, K], and the same of R raters, `raters_xy` and `raters_mask` [B, R, K].
    """

    def one(key: Array, xy: Array, mask: Array, raters_xy: Array, raters_mask: Array) -> tuple[Array, Array]:
        there = raters_mask.any(-1)
        chosen = jax.random.categorical(jax.random.fold_in(key, augment.RATER), jnp.where(there, 0.0, -jnp.inf))
        return jnp.where(there.any(), raters_xy[chosen], xy), jnp.where(there.any(), raters_mask[chosen], mask)

    xy, mask = jax.vmap(one)(keys, *(batch[name] for name in ("xy", "mask", "raters_xy", "raters_mask")))
    return {**batch, "xy": xy, "mask": mask}
