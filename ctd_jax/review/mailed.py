"""What a rater has placed on a portable page, from the csv file that the page saves."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

from ctd_jax import files
from ctd_jax.data import tables
from ctd_jax.data.cells import Cells
from ctd_jax.data.faults import Fault, Faults
from ctd_jax.errors import UserError
from ctd_jax.labels.table import ABSENT, HIDDEN, PLACED
from ctd_jax.review import folder, journal, portable
from ctd_jax.review.folder import Point, Reviewed

STATE, HOW, DONE = "_state", "_how", "done"  # the ends of two columns of each landmark; a column
STATES = {"placed": PLACED, "hidden": HIDDEN, "absent": ABSENT}


def read(path: pathlib.Path, key: pathlib.Path, root: pathlib.Path) -> tuple[Reviewed, list[dict[str, Any]]]:
    """The folder, and the entries of a journal that say the same as a csv file; of landmarks and pictures that the
    folder has got or lost since, they are as a journal of that time.

    Args:
      path: the csv file.
      key: which picture has which number, as `portable` wrote it.
      root: the folder that was reviewed.

    Raises:
      UserError: all that is wrong with the files, or they don't belong to each other or to the folder.
    """
    faults = Faults(str(path))
    image_of, is_blinded = _key(key)
    sheet = tables.read(path, "picture")
    names = [column.removesuffix(STATE) for column in sheet.columns if column.endswith(STATE)]
    lacking = [f"{name}_{axis}" for name in names for axis in "xy" if f"{name}_{axis}" not in sheet.columns]
    if not names or lacking or DONE not in sheet.columns:
        raise UserError(f"{path}: expected the columns picture, {DONE}, and NAME_x, NAME_y, NAME{STATE} of each point, "
                        f"found {tables.listed(sheet.columns)}; take the file that the page saves")  # fmt: skip
    begun = {"id": "open", "kind": "open", "landmarks": names, "current": True}
    entries: list[dict[str, Any]] = [begun if is_blinded is None else begun | {"blinded": is_blinded}]
    reviewed = folder.read(root, opened=entries)
    if others := [name for name in names if name not in reviewed.names]:
        raise UserError(f"{path}: expected points of {root}, {tables.listed(reviewed.names)}, found "
                        f"{tables.listed(others)}; if one was renamed, give it its old name")  # fmt: skip
    if not {*image_of.values()} & {*reviewed.images}:
        raise UserError(f"{key}: {tables.listed(list(image_of.values()), 3)}, of which none is in {root}; give "
                        "the folder that was sent, --images=FOLDER")  # fmt: skip
    cells, seen = Cells(sheet, faults), set[str]()
    for number, row in sheet.rows(faults):
        at, picture = f"{path}, row {number}", row["picture"]
        with faults.collecting("row"):
            if picture not in image_of:
                raise Fault("picture", f"{at}: {picture!r} is not in the key {key}; is it that of another page?")
            if picture in seen:
                raise Fault("picture", f"{at}: {picture} stands in the file twice; take out one of its rows")
            seen.add(picture)
            points = {name: _point(cells, row, name, at) for name in names}
            said = {name: point for name, point in points.items() if point}
            done = {"1": True, "0": False}.get(row[DONE])
            if done and (unsaid := [name for name in names if name not in said]):
                raise Fault("state", f"{at}: {DONE} is 1, but {unsaid[0]}{STATE} is empty; expected "
                            f"{', '.join(STATES)}, or 0 in {DONE}")  # fmt: skip
            if said or done is not None:
                entries.append({"id": f"csv {picture}", "kind": "edit", "image": image_of[picture], "points": said,
                                **({} if done is None else {"done": done})})  # fmt: skip
    faults.raise_if_any()
    return reviewed, entries


def _key(path: pathlib.Path) -> tuple[dict[str, str], bool | None]:
    """Number -> picture, and whether nothing was proposed of any; None: an older key, which does not say it."""
    faults = Faults(str(path))
    sheet = tables.read(path, "picture")
    if not {*portable.KEY} <= {*sheet.columns}:
        raise UserError(f"{path}: expected the columns {' and '.join(portable.KEY)}, found "
                        f"{tables.listed(sheet.columns)}; take the key that was written beside the page")  # fmt: skip
    rows = [row for _, row in sheet.rows(faults)]
    faults.raise_if_any()
    found = {row["picture"]: journal.plain(files.plain(row["image"])) for row in rows}
    is_known = portable.PROPOSED in sheet.columns
    return found, not any(row[portable.PROPOSED] for row in rows) if is_known else None


def _point(cells: Cells, row: Mapping[str, str], name: str, at: str) -> Point | None:
    """A point as the page says it; None: nothing was said of it."""
    state = row[f"{name}{STATE}"]
    if not state:
        return None
    if state not in STATES:
        raise Fault("state", f"{at}: {name}{STATE} is {state!r}; expected {', '.join(STATES)}, or nothing")
    x, y = (cells.number(row[f"{name}_{axis}"], f"{name}_{axis}", at) for axis in "xy")
    how = "accepted" if row.get(f"{name}{HOW}") == "accepted" else "hand"
    if STATES[state] == ABSENT:
        return {"x": None, "y": None, "state": ABSENT, "how": how}
    if not (math.isfinite(x) and math.isfinite(y)):
        raise Fault("state", f"{at}: {name} is {state}, but its x and y are no numbers")
    return {"x": x, "y": y, "state": STATES[state], "how": how}
