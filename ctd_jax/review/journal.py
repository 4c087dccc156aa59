"""A rater's edits on disk: one line of JSON each, only ever appended, and on the disk before anybody is told so."""

import contextlib
import json
import logging
import os
import pathlib
import re
import threading
from collections.abc import Sequence
from typing import Any

from ctd_jax.errors import UserError
from ctd_jax.review import edits

_log = logging.getLogger(__name__)
FOLDER = "review"  # below the reviewed folder
AGAIN = "again:"  # before the name of a picture that comes again, see `blinding`


def path_of(root: pathlib.Path, rater: str) -> pathlib.Path:
    """The journal of a rater.

    Raises:
      UserError: `rater` can't be the name of a file.
    """
    if not re.fullmatch(r"\w[\w.-]{0,59}", rater):
        raise UserError(f"--rater: {rater[:80]!r} names a file; expected at most 60 letters, digits, _ - and .")
    return root / FOLDER / f"{rater}.jsonl"


def paths(root: pathlib.Path) -> list[pathlib.Path]:
    """The journals of a folder's raters; a Mac leaves files with a dot before their names beside them."""
    return sorted(path for path in (root / FOLDER).glob("*.jsonl") if not path.name.startswith("."))


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """The entries of a journal that another process may be writing; none where there is no file. Pictures are called
    `plain`, as the folder is read today.

    Raises:
      UserError: a line is damaged.
    """
    content = path.read_bytes() if path.exists() else b""
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    return [_entry(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def marked_done(root: pathlib.Path) -> set[str]:
    """The pictures of a folder that any of its raters has marked done.

    Raises:
      UserError: a journal is damaged.
    """
    reviews = [edits.Review(read(path)) for path in paths(root)]
    return {image for review in reviews for image, is_done in review.done.items() if is_done}


class Journal:
    """The journal of the only process that writes it; the file begins with the first entry.

    What was being written when a computer or the server stopped ends in the middle of a line: nobody was told that it
    is kept. It is cut off, with a warning.

    Raises:
      UserError: another line is damaged.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.entries = read(path)
        self._ids = {entry["id"] for entry in self.entries}
        self._lock = threading.Lock()
        content = path.read_bytes() if path.exists() else b""
        self._size = content.rfind(b"\n") + 1
        if torn := content[self._size :]:
            _log.warning("%s: the last line breaks off and is cut off: %s", path, torn[:200].decode("utf-8", "replace"))
            os.truncate(path, self._size)

    def append(self, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Writes those entries whose `id` is not there yet, and returns them, once they are on the disk.

        Raises:
          OSError: they are not, and the file is as it was.
        """
        with self._lock:
            new = {entry["id"]: entry for entry in entries if entry["id"] not in self._ids}
            if new:
                lines = "".join(f"{json.dumps(entry, ensure_ascii=False)}\n" for entry in new.values())
                self._write(lines.encode())
                for entry in new.values():
                    self._take(entry)
            return list(new.values())

    def _take(self, entry: dict[str, Any]) -> None:
        self.entries.append(entry)
        self._ids.add(entry["id"])

    def _write(self, lines: bytes) -> None:
        is_new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(self.path, "ab") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self.path, self._size)
            error.filename = error.filename or str(self.path)
            raise
        if is_new:
            _sync_folder(self.path.parent)
        self._size += len(lines)


def _entry(line: bytes, at: str) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(line)
        edits.readable(entry)
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, UserError) else f"expected an edit in JSON, found {line[:80]!r}"
        raise UserError(f"{at}: {what}; take out the line, or take the file from a backup") from error
    if entry["kind"] == "edit":
        entry["image"] = plain(entry["image"])
    if entry["kind"] == "order":
        entry |= {key: [plain(image) for image in entry[key]] for key in ("images", "random")}
    return entry


def plain(image: str) -> str:
    """The name of a picture, which may come again, as of a file: older journals have ./a.png, say, for a.png."""
    again = AGAIN if image.startswith(AGAIN) else ""
    return again + pathlib.PurePath(os.path.normpath(image.removeprefix(AGAIN))).as_posix()


def _sync_folder(folder: pathlib.Path) -> None:
    """A new file's name is on the disk, too, where the file system can promise that."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
