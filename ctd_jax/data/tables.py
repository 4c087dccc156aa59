"""The csv and json files of data folders as text: encoding, separator, header and rows. What is wrong with one is said
with file and row."""

import codecs
import collections
import contextlib
import csv
import dataclasses
import difflib
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from ctd_jax.data.faults import Faults
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)

# Limits, far above any table of landmarks: a file of another kind is refused at once.
MAX_MIB = 512
MAX_COLUMNS = 10_000
MAX_HEADER = 2**22  # characters of the first line
MAX_CELL = 10_000  # characters
MAX_JSON_MIB = 64

BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
SAVE_AS = "save it in UTF-8 (in Excel: `CSV UTF-8`)"
LISTED = 10  # names in a message
# What other programs call the column `image`.
IMAGES = ("id", "file", "filename", "file_name", "img", "picture", "image_name", "image_id", "path", "name", "photo")


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A csv file whose header is read."""

    path: pathlib.Path
    encoding: str
    delimiter: str
    names: tuple[str, ...]  # of the columns, as the file has them; "" where one has none
    meant: Mapping[str, str] = dataclasses.field(default_factory=dict)  # name in the file -> another to read it as
    key: str = "image"  # the column that every row fills

    @property
    def columns(self) -> list[str]:
        """Names of the columns, as they are read."""
        return [self.meant.get(name, name) for name in self.names]

    def rows(self, faults: Faults) -> Iterator[tuple[int, dict[str, str]]]:
        """Each row that is not empty, without blanks about its cells, and the number of its line. They are read when
        their turn comes: as text a large table would fill the memory. Rows with faults are left out."""
        columns, found = self.columns, False
        for number, cells in self._lines():
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            found, at = True, f"{self.path}, row {number}"
            n = len(columns)
            if len(cells) < n or any(cells[n:]):
                hint = "; is a quotation mark not closed?" if "\n" in "".join(cells) else ""
                faults.add("row of another length", f"{at}: {len(cells)} cells, but the header has {n} columns{hint}")
                continue
            row = dict(zip(columns, cells, strict=False))
            if max(map(len, cells)) > MAX_CELL:
                faults.add("long cell", f"{at}: a cell of {max(map(len, cells))} characters; at most {MAX_CELL} fit")
            elif not row[self.key]:
                what = "a picture" if self.key == "image" else "one"
                message = f"{at}: the cell `{self.key}` is empty; name {what}, or take out the row"
                faults.add("row without a picture", message)
            else:
                yield number, row
        if not found:
            raise UserError(f"{self.path}: a header but no rows; expected one row per picture")

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """The cells of each line but the first, and its number."""
        with _text(self.path, self.encoding) as file:
            reader = csv.reader(file, delimiter=self.delimiter)
            next(reader)
            for cells in reader:
                yield reader.line_num, cells


def read(path: pathlib.Path, key: str = "image") -> Sheet:
    """The header of a csv file that has the column `key`, with any capitals; its text may be in UTF-8, UTF-16 or
    Latin-1, its cells between commas, semicolons or tabs.

    Raises:
      UserError: no such file, no text, no such column, one that stands twice, or more than the limits above.
    """
    encoding = _encoding(path, MAX_MIB)
    with _text(path, encoding) as file:
        line = file.readline(MAX_HEADER)
        if len(line) == MAX_HEADER:
            raise UserError(f"{path}: the first line has {MAX_HEADER} characters or more; expected a header")
        headers = {delimiter: _cells(line, delimiter) for delimiter in DELIMITERS}
    fitting = [d for d, names in headers.items() if key in map(str.casefold, names)] or [","]
    names = headers[fitting[0]]
    if len(names) > MAX_COLUMNS:
        raise UserError(f"{path}: {len(names)} columns; at most {MAX_COLUMNS} are read")
    keys = [name for name in names if name.casefold() == key]
    if not keys:
        hint = _hint(names) if key == "image" else ""
        raise UserError(f"{path}: no column `{key}`, found {listed(names) or 'an empty file'}{hint}")
    twice = next((name for name, n in collections.Counter(filter(None, names)).items() if n > 1), None)
    if twice:
        raise UserError(f"{path}: column `{twice}` stands twice in the header; keep one of them")
    if fitting[0] != ",":
        _log.warning("%s is separated by %s and read so", path, DELIMITERS[fitting[0]])
    meant = {} if key in names else {keys[0]: key}
    return Sheet(path, encoding, fitting[0], tuple(names), meant, key)


def read_text(path: pathlib.Path) -> str:
    """The text of a file of at most `MAX_JSON_MIB`, in UTF-8, UTF-16 with its mark, or Latin-1, without a mark.

    Raises:
      UserError: no such file, too large, or no text.
    """
    encoding = _encoding(path, MAX_JSON_MIB)
    try:
        return path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no text ({error}); {SAVE_AS}") from error


def load_json(path: pathlib.Path) -> Any:
    """The content of a JSON file.

    Raises:
      UserError: it is none, too large or too deep, or has two equal keys in one object, of which `json` by itself
        keeps the last and says nothing.
    """

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = next((key for key, n in collections.Counter(key for key, _ in pairs).items() if n > 1), None)
        if twice is not None:
            raise UserError(f"{path}: the key {twice!r} stands twice in one object; keep one of them")
        return dict(pairs)

    def constant(text: str) -> None:
        raise ValueError(f"{text} is no number of JSON")

    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=build, parse_constant=constant)
    except UserError:
        raise
    except ValueError as error:  # no JSON, no text, or an integer of thousands of digits
        raise UserError(f"{path}: not JSON ({error})") from error
    except RecursionError as error:
        raise UserError(f"{path}: not JSON that can be read (objects or lists too deep in each other)") from error


def nearest(name: str, known: Sequence[str], cutoff: float = 0.6) -> str | None:
    """The one of `known` that is most like `name`, capitals or not; first of all one of the same letters."""
    folded = {other.casefold(): other for other in reversed(known)}
    same = next((other for other in known if sorted(other.casefold()) == sorted(name.casefold())), None)
    if same:
        return same
    near = difflib.get_close_matches(name.casefold(), folded, 1, cutoff)
    return folded[near[0]] if near else None


def listed(names: Sequence[str], number: int = LISTED) -> str:
    """The first of `names`, shortened, and how many more there are."""
    shown = ", ".join(name if len(name) <= 100 else f"{name[:100]}..." for name in names[:number])
    return f"{shown} and {len(names) - number} more" if len(names) > number else shown


def _hint(names: Sequence[str]) -> str:
    expected = "expected a header of image, subject, split and two columns of each landmark, NAME_x and NAME_y"
    if names and names[0].startswith("sep="):
        return "; the first line is for Excel alone: take it out"
    called = next((name for name in names if name.casefold() in IMAGES), None) or nearest("image", names)
    return f"; {expected}" + (f"; is it `{called}`? then rename it to image" if called else "") if any(names) else ""


def _cells(line: str, delimiter: str) -> list[str]:
    """The names in a header, without the empty ones at its end."""
    try:
        names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:  # one cell longer than any may be
        return [line[:100]]
    while names and not names[-1]:
        names.pop()
    return names


@contextlib.contextmanager
def _text(path: pathlib.Path, encoding: str) -> Iterator[TextIO]:
    try:
        with path.open(newline="", encoding=encoding) as file:
            yield file
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file of comma-separated values ({error}); {SAVE_AS}") from error
    except csv.Error as error:
        reason = f"{error}; is a quotation mark not closed?" if "limit" in str(error) else error
        raise UserError(f"{path}: not a text file of comma-separated values ({reason})") from error
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error


def _encoding(path: pathlib.Path, max_mib: int) -> str:
    """The encoding of a text file of at most `max_mib` MiB: that of its byte order mark, UTF-8, or Latin-1 where its
    bytes leave no other choice.

    Bytes from 0x80 to 0x9F are letters in the encodings of DOS and the old Macintosh, and marks in Windows-1252: a file
    that has them is refused. Without them, Latin-1 and Windows-1252 are the same.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file")
    try:
        size = path.stat().st_size
        if size > max_mib * 2**20:
            raise UserError(f"{path}: {size / 2**20:.0f} MiB; files of {max_mib} MiB or less are read")
        with path.open("rb") as file:
            begin = file.read(4)
            for bom, encoding in BOMS.items():
                if begin.startswith(bom):
                    return encoding
            file.seek(0)
            return _without_bom(path, file)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error


def _without_bom(path: pathlib.Path, lines: Iterator[bytes]) -> str:
    example = None
    for number, line in enumerate(lines, 1):
        if b"\0" in line:
            raise UserError(f"{path}: not a text file in UTF-8 (row {number} has a zero byte); {SAVE_AS}")
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            if any(0x80 <= byte <= 0x9F for byte in line):
                raise UserError(
                    f"{path}, row {number}: neither UTF-8 nor certainly Latin-1 ({error}); {SAVE_AS}"
                ) from error
            word = line.decode("latin-1")[max(0, error.start - 15) : error.start + 15].strip()
            example = example or f"row {number} has {word!r}"
    if example:
        _log.warning(
            "%s is not UTF-8 and read as Latin-1 (Windows-1252): %s; if that is wrong, %s", path, example, SAVE_AS
        )
    return "latin-1" if example else "utf-8"
