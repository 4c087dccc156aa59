"""The files that a table names: other spellings of a name that exactly one file fits, and what is no picture."""

import collections
import functools
import logging
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable

from ctd_jax.data import tables, walk
from ctd_jax.data.faults import Fault

_log = logging.getLogger(__name__)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
MAX_COMPARED = 20_000  # names of files among which the nearest is looked for


def is_url(name: str) -> bool:
    return bool(_URL.match(name))


def check_local(name: str, at: str, what: str = "picture") -> None:
    """Raises Fault if `name`, in a row `at`, is a URL."""
    if is_url(name):
        raise Fault("a URL", f"{at}: {what} {name} is a URL; download it first, and name the file")


def check_inside(name: str, at: str, what: str = "picture") -> None:
    """Raises Fault if `name`, in a row `at`, leads out of the folder, by the rules of Windows or of others."""
    path = name.replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:/", path) or os.path.normpath(path).split(os.sep)[0] == "..":
        raise Fault("path", f"{at}: {what} {name} lies outside of the folder; name a file inside it: a copy, or a link")


def key(name: str) -> str:
    """The same for names that differ in capitals, in how an umlaut is put together, in / and \\, or in ./ only."""
    return os.path.normpath(unicodedata.normalize("NFC", name).casefold().replace("\\", "/"))


class Known:
    """Pictures whose names are known, as other tables name them."""

    def __init__(self, images: Iterable[str]):
        self._images, self._other = set(images), collections.defaultdict[str, list[str]](list)
        for image in sorted(self._images):
            self._other[key(image)].append(image)

    def find(self, name: str) -> str | None:
        """The picture that `name` means: the one of this name, or the only one with its `key`; None: there is none."""
        if name in self._images:
            return name
        same = self._other.get(key(name), [])
        return same[0] if len(same) == 1 else None


class PictureFiles:
    """The files below `root`, as tables name them."""

    def __init__(self, root: pathlib.Path):
        self._root = root
        self._other: dict[str, str] = {}  # name in the table -> that of the file
        self._compared = False

    def find(self, name: str, at: str, what: str = "picture") -> str:
        """The name below the root of the file that `name`, in a row `at`, means.

        Raises:
          Fault: there is none, or several; a URL; a path out of the folder; a file that systems and programs leave
            behind.
        """
        check_local(name, at, what)
        check_inside(name, at, what)
        parts = name.replace("\\", "/").split("/")
        if parts[-1].startswith("._") or ".ipynb_checkpoints" in parts:
            raise Fault(
                "no picture", f"{at}: {name} is a file that macOS or Jupyter leaves behind, no {what}; take out the row"
            )
        if os.path.isfile(self._root / name):
            return pathlib.PurePath(os.path.normpath(name)).as_posix()
        fitting = self._files.get(key(name), [])
        if len(fitting) > 1:
            raise Fault(f"missing {what}", f"{at}: {what} {name} may be {' or '.join(fitting)}; write one of them")
        if fitting:
            self._other[name] = fitting[0]
            return fitting[0]
        hint = "" if self._compared else self._hint(name)  # takes a while where there are many files
        raise Fault(f"missing {what}", f"{at}: {what} {name} does not exist in {self._root}{hint}")

    def say(self, path: pathlib.Path) -> None:
        """Warns, once, of names that were not those of the files."""
        if self._other:
            first = "{!r} is {!r}".format(*next(iter(self._other.items())))
            _log.warning("%s: %d names are spelt otherwise than their files, which exactly one file fits each; first "
                         "%s", path, len(self._other), first)  # fmt: skip

    def _hint(self, name: str) -> str:
        self._compared = True
        files = [file for same in self._files.values() for file in same][:MAX_COMPARED]
        base = key(name).rpartition("/")[2]
        near = next((file for file in files if key(file).rpartition("/")[2] == base), None) or tables.nearest(
            name, files
        )
        return f"; the nearest there is {near}" if near else ""

    @functools.cached_property
    def _files(self) -> dict[str, list[str]]:
        """`key` of each visible file -> the names below the root that have it."""
        found = collections.defaultdict(list)
        for file in walk.files_below([self._root])[self._root]:
            name = file.relative_to(self._root).as_posix()
            found[key(name)].append(name)
        return found
