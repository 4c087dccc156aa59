"""What readers of label files share: checked values, files in a folder, XML that can't expand."""

import contextlib
import csv
import importlib
import io
import logging
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

from ctd_jax.data import tables, walk
from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)
PAGED = (".tif", ".tiff", ".gif", ".dcm")  # pictures that may have several pages


def number(value: object, at: str) -> float:
    """A finite number, which may be written as text; `at`: file and entry.

    Raises:
      Fault: it is none.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str) or "_" in f"{value}":
            raise ValueError
        found = float(value)
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise Fault("not a number", f"{at}: expected a number with a decimal point, found {str(value)[:50]!r}")
    return found


def member(content: object, key: str, kind: type | tuple[type, ...], at: str) -> Any:
    """The value of `key` in an object of JSON.

    Raises:
      Fault: `content` is no object, or has no such key with a value of that kind.
    """
    if not isinstance(content, dict):
        raise Fault("no object", f"{at}: expected an object with the key {key!r}, found {type(content).__name__}")
    value = content.get(key)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kinds):
        words = " or ".join(one.__name__ for one in kinds)
        found = type(value).__name__ if key in content else "none"
        raise Fault("key", f"{at}: expected the key {key!r} with a value of type {words}, found {found}")
    return value


def word(value: object) -> str:
    """A value of JSON as text; "" where there is none."""
    return "" if value is None else str(value)


def size(content: object, keys: tuple[str, str], at: str) -> tuple[int, int]:
    """Width and height that the file says a picture has."""
    width, height = (number(member(content, key, (int, float, str), at), f"{at}, {key}") for key in keys)
    if width < 1 or height < 1 or width % 1 or height % 1:
        raise Fault("size", f"{at}: expected a width and a height of whole pixels, found {width:g} x {height:g}")
    return int(width), int(height)


def files_of(path: pathlib.Path, suffixes: Sequence[str]) -> list[pathlib.Path]:
    """The file `path`, or those in the folder `path` and below it that end so.

    Raises:
      UserError: there is none.
    """
    if not path.is_dir():
        return [path]
    below = [one for one in walk.files_below([path])[path] if one.is_file()]
    found = [one for one in below if one.name.lower().endswith(tuple(suffixes))]
    if not found:
        raise UserError(f"{path}: expected files that end in {' or '.join(suffixes)}, found none")
    return found


def stem(file: pathlib.Path, path: pathlib.Path, ends: str) -> str:
    """What a file is called, without `ends`, or else its last ending: its name, or ./ and its path below the folder
    `path`, see `files_of`."""
    ends = ends if file.name.lower().endswith(ends.lower()) else file.suffix
    called = file.name if file == path else f"./{file.relative_to(path).as_posix()}"
    return called[: len(called) - len(ends)]


def only_file(path: pathlib.Path, suffixes: Sequence[str]) -> pathlib.Path:
    """The one file of a format that has all pictures in one: `path`, or the only one in the folder `path`.

    Raises:
      UserError: there is none, or there are several.
    """
    found = files_of(path, suffixes)
    if len(found) > 1:
        names = tables.listed([one.name for one in found], 3)
        raise UserError(f"{path}: expected one file that ends in {' or '.join(suffixes)}, found {names}; give the file")
    return found[0]


def warn_of_end(path: pathlib.Path) -> None:
    """Says that a file of rows ends within one: it may be cut short, and its last number another one."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 2))
        end = file.read()
    if not end.rstrip(b"\0").endswith((b"\n", b"\r")):  # UTF-16 has a zero after it
        _log.warning("%s: its last row has no end, as in a file that is cut short; see that it is whole", path)


def xml(path: pathlib.Path) -> ElementTree.Element:
    """The root of an XML file. One that declares a type of documents is refused: only such a one can have entities,
    which can grow without end or name other files.

    Raises:
      UserError: it is not XML, or declares a type.
    """
    return xml_of(tables.read_text(path), str(path))


def xml_of(text: str, at: str) -> ElementTree.Element:
    """The same of a text; `at`: the file, for messages."""
    if "<!DOCTYPE" in text:
        raise UserError(f"{at}: has a <!DOCTYPE>, which is not read; expected plain elements: take it out")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{at}: not XML ({error}); is the file cut short?") from error


@contextlib.contextmanager
def archive(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
    """A .zip file, opened.

    Raises:
      UserError: it, or what the block reads in it, is damaged.
    """
    try:
        with zipfile.ZipFile(path) as opened:
            yield opened
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise UserError(f"{path}: no .zip that can be read ({error}); is the file cut short?") from error


def xml_text(root: ElementTree.Element) -> bytes:
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def add_once(points: dict, name: str, point: object, at: str) -> None:
    """Puts a point among those of a picture.

    Raises:
      Fault: there is one of that name.
    """
    if name in points:
        raise Fault("point twice", f"{at}: expected one point {name[:100]!r}, found a second one; keep one of them")
    points[name] = point


def check_page(image: str, page: float, at: str) -> None:
    """Raises Fault if a point, in an entry `at`, lies on a later page of a file that may have several."""
    if page > 1 and image.lower().endswith(PAGED):
        raise Fault(
            "page",
            f"{at}: expected points on the first page of {image}, the only one that is read, found page {page:g}; save "
            "its pages as pictures of their own",
        )


def say_predicted(path: pathlib.Path, number: int, confirmed: bool) -> None:
    """Warns of `number` pictures that have predictions alone; `confirmed`: others have points by somebody."""
    if number and confirmed:
        _log.warning("%s: %d pictures have predictions alone, which are left out: others have points by somebody", path,
                     number)  # fmt: skip
    elif number:
        _log.warning("%s: %d pictures have predictions that nobody has confirmed", path, number)


def separate_files(contents: dict[str, tuple[str, bytes]]) -> dict[str, bytes]:
    """Checks that every picture has a file of its own; `contents`: picture -> name of its file, content."""
    of: dict[str, str] = {}
    for image, (name, _) in contents.items():
        if ".." in pathlib.PurePosixPath(name).parts or pathlib.PurePosixPath(name).is_absolute():
            raise UserError(f"{image}: its label file would lie outside of the folder; name pictures by paths inside")
        if name.casefold() in of:
            raise UserError(f"{image} and {of[name.casefold()]} would share the label file {name}; rename one of them")
        of[name.casefold()] = image
    return dict(contents.values())


def csv_rows(path: pathlib.Path) -> list[tuple[str, list[str]]]:
    """File and line, and the cells without blanks about them, of each row that isn't empty; commas, semicolons or tabs
    are between the cells.

    Raises:
      UserError: it is no such file.
    """
    text = tables.read_text(path)
    warn_of_end(path)
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(tables.DELIMITERS, key=first.count))
    rows = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((f"{path}, line {reader.line_num}", [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise UserError(f"{path}: not a table of cells with commas between ({error})") from error
    return rows


def library(name: str, what: str, install: str = "-e '.[labels]'") -> ModuleType:
    """The package `name`, which reads and writes `what`, and which `pip install` with `install` brings.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{what} needs the package {name.replace('_', '-')}, which is not installed; install it by `pip install "
            f"{install}`"
        ) from error
