"""How every file is written: whole or not at all, in UTF-8, and without formulas for a spreadsheet to run."""

import contextlib
import csv
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

PARTIAL = ".partial"  # ends the name of a file that is being written
_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # how a spreadsheet knows a formula, and how `cell` has marked one


@contextlib.contextmanager
def writing(path: str | os.PathLike, *, binary: bool = False) -> Iterator[IO]:
    """An open file that takes the place of `path` when the block ends without an error, also when the machine stops: a
    reader sees the old content or the new one, never a part. A pipe or a device is written to and never replaced."""
    path = pathlib.Path(path)
    mode, text = ("wb", {}) if binary else ("w", {"encoding": "utf-8", "newline": ""})
    if path.exists() and not path.is_file():
        with path.open(mode, **text) as file:
            yield file
        return
    path = path.resolve()  # of a link, what it leads to
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open(mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # a file system that can't do this for folders has the file all the same
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(path: str | os.PathLike, text: str) -> None:
    with writing(path) as file:
        file.write(text)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    with writing(path, binary=True) as file:
        file.write(content)


def write_csv(path: str | os.PathLike, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes cells as they are: what comes from a user goes through `cell` first."""
    with writing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def cell(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula: one that begins with = + - @, a tab or a carriage
    return gets a ' before it. `plain` gives back the text."""
    return f"'{text}" if _FORMULA.match(text) else text


def plain(text: str) -> str:
    """The text that `cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
