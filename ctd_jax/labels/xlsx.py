"""The table of `long.py` as the first sheet of an Excel workbook."""

import io
import math
import pathlib
import zipfile
from typing import Any

from ctd_jax.data.cells import NO_WORDS
from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels import long, reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import COLUMNS, Labels

MAX_MIB = 256  # of the sheets, unpacked: far above any table of points
NUMBERS = ("width", "height", "x", "y", "confidence")


def recognises(name: str, head: str) -> bool:
    return name.endswith(".xlsx")


def read(path: pathlib.Path, context: Context) -> Labels:
    """One file; see `labels.Format`."""
    path = reading.only_file(path, [".xlsx"])
    header, *rows = _rows(path) or [[]]
    names = [name.casefold() for name in header]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: column {twice!r:.50} stands twice in the header; keep one of them")
    long.check_columns(names, path)
    named = [(f"{path}, row {i}", dict(zip(names, row, strict=True))) for i, row in enumerate(rows, 2) if any(row)]
    return long.of_rows(named, context, str(path), _number, _word)


def _number(text: str, column: str, at: str) -> float:
    return reading.number(text, f"{at}, {column}") if text else math.nan


def _word(text: str, column: str) -> str:
    return "" if text.casefold() in NO_WORDS else text


def _rows(path: pathlib.Path) -> list[list[str]]:
    """The cells of the first sheet as text, rows of equal length.

    Raises:
      UserError: the file is damaged or too large, or has a formula without its value.
    """
    values = _cells(path, values=True)
    for number, (row, written) in enumerate(zip(values, _cells(path, values=False), strict=True), 1):
        formula = next((_text(one) for value, one in zip(row, written, strict=True) if value is None and one), "")
        if formula:
            raise UserError(
                f"{path}, row {number}: expected values, found the formula {formula[:50]!r} without one; in the "
                "spreadsheet, copy the column and paste it as values"
            )
    width = max(map(len, values), default=0)
    return [[_text(value) for value in row] + [""] * (width - len(row)) for row in values]


def _cells(path: pathlib.Path, *, values: bool) -> list[list[Any]]:
    """The rows of the first sheet: the `values` of formulas, or formulas as they are written."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(one.file_size for one in archive.infolist())
        if unpacked > MAX_MIB * 2**20:
            raise Fault("size", f"{path}: expected at most {MAX_MIB} MiB of cells, found {unpacked / 2**20:.0f}")
        book = _library().load_workbook(path, read_only=True, data_only=values)
        try:
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # which other programs may write wrongly
            return [[_value(cell) for cell in row] for row in sheet.iter_rows()]
        finally:
            book.close()
    except UserError:
        raise
    except Exception as error:  # whatever the library trips over in a damaged file
        raise UserError(f"{path}: no .xlsx workbook that can be read ({type(error).__name__}: {error})") from error


def _value(cell: Any) -> object:
    """None where there is none; a formula of the empty text has a value, which the library leaves out."""
    return "" if cell.value is None and cell.data_type == "str" else cell.value


def _text(value: object) -> str:
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return "" if value is None else str(value).strip()


def write(labels: Labels) -> dict[str, bytes]:
    """One file; see `labels.Format`."""
    book = _library().Workbook(write_only=True)
    sheet = book.create_sheet("points")
    sheet.append(list(COLUMNS))
    for row in labels.rows():
        named = zip(COLUMNS, long.cells(row), strict=True)
        sheet.append([float(cell) if cell and name in NUMBERS else cell or None for name, cell in named])
    content = io.BytesIO()
    book.save(content)
    return {"": content.getvalue()}


def _library() -> Any:
    return reading.library("openpyxl", "an .xlsx workbook")
