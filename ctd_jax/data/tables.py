"""The csv and json files of data folders, read strictly: what is wrong with one is said with file and row."""

import contextlib
import csv
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ctd_jax.errors import UserError


def columns(path: pathlib.Path) -> list[str]:
    """The header of a csv file that has a column `image`.

    Raises:
      UserError: no such file, no such column, or one that stands twice.
    """
    with _open_csv(path) as reader:
        names = list(reader.fieldnames)
    if "image" not in names:
        hint = "; it seems to be separated by semicolons, save it with commas" if names and ";" in names[0] else ""
        raise UserError(f"{path}: no column `image`, found {', '.join(names) or 'an empty file'}{hint}")
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice:
        raise UserError(f"{path}: column `{twice}` stands twice in the header; keep one of them")
    return names


def rows(path: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row with its line number, read when its turn comes: as text a large table would fill the memory."""
    number = None
    with _open_csv(path) as reader:
        names = reader.fieldnames
        for row in reader:
            number = reader.line_num
            if None in row or None in row.values():
                found = len(names) + len(row.get(None, ())) - sum(v is None for v in row.values())
                raise UserError(f"{path}, row {number}: {found} cells, but the header has {len(names)} columns")
            if not row["image"].strip():
                raise UserError(f"{path}, row {number}: the cell `image` is empty; name a picture, or take out the row")
            yield number, {k: v.strip() for k, v in row.items()}
    if number is None:
        raise UserError(f"{path}: a header but no rows; expected one row per picture")


def number(text: str, column: str, where: str) -> float:
    """A cell as a number, NaN where it is empty; raises UserError where it is neither. `where`: file and row."""
    if text == "":
        return np.nan
    try:
        value = float(text)
    except ValueError:
        value = np.inf
    if not np.isfinite(value):
        raise UserError(f"{where}: {column} is {text!r}; expected a number (with a decimal point), or an empty cell")
    return value


def unique_keys(path: pathlib.Path) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Builds the objects of a JSON file; by itself `json` keeps the last of two equal keys and says nothing."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise UserError(f"{path}: the key {twice!r} stands twice in one object; keep one of them")
        return dict(pairs)

    return build


@contextlib.contextmanager
def _open_csv(path: pathlib.Path) -> Iterator[csv.DictReader]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            yield reader
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a text file of comma-separated values ({error})") from error
