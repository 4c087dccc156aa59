"""Labels in the format of a name, or in the one that a file is recognised by."""

import importlib
import pathlib
from types import ModuleType

from ctd_jax.data import tables, walk
from ctd_jax.errors import UserError
from ctd_jax.labels import FORMATS, reading
from ctd_jax.labels.context import Context
from ctd_jax.labels.table import Labels

SNIFFED = 2**20  # bytes of a file that tell its format


def read(path: pathlib.Path, name: str, context: Context) -> Labels:
    """The labels of a file or folder in the format `name`.

    Raises:
      UserError: what can't be read, with file and entry.
    """
    _check_there(path)
    return _module(name).read(path, context)


def write(labels: Labels, name: str) -> dict[str, bytes]:
    """The files of the format `name`, each with its bytes; "" is the name of an only one.

    Raises:
      UserError: something is lacking.
    """
    return _module(name).write(labels)


def guess(path: pathlib.Path) -> str:
    """The only format that recognises a file, or one at least of those in a folder.

    Raises:
      UserError: there is none, or there are several.
    """
    _check_there(path)
    below = [path] if path.is_file() else [one for one in walk.files_below([path])[path] if one.is_file()]
    found: list[str] = []
    for file in below:
        head = _head(file)
        found += [name for name in FORMATS if name not in found and _module(name).recognises(file.name.lower(), head)]
    if len(found) != 1:
        what = f"may be {' or '.join(found)}" if found else "is in no format that is known here"
        raise UserError(f"{path}: {what}; say which, --from=FORMAT, one of {', '.join(FORMATS)}")
    return found[0]


def is_of(file: pathlib.Path, name: str) -> bool:
    """Whether the format `name` recognises a file, whose name may lack the suffix of the format."""
    called = file.name.lower().removesuffix(FORMATS[name].suffix) + FORMATS[name].suffix
    try:
        return _module(name).recognises(called, _head(file))
    except UserError:  # a .zip that is none
        return False


def _head(file: pathlib.Path) -> str:
    """The text that a file begins with; of a .zip the names in it, one a line."""
    if file.suffix.lower() == ".zip":
        with reading.archive(file) as archive:
            return "\n".join(archive.namelist())
    with file.open("rb") as opened:
        return opened.read(SNIFFED).decode("utf-8", "ignore").replace("\0", "")


def check_name(flag: str, name: str) -> None:
    """Raises UserError if there is no format `name`, which was given by `flag`."""
    if name not in FORMATS:
        near = tables.nearest(name, list(FORMATS))
        hint = f"; the nearest is {near}" if near else ""
        raise UserError(f"{flag}: there is no format {name!r}{hint}; expected one of {', '.join(FORMATS)}")


def _check_there(path: pathlib.Path) -> None:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give the labels")


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"ctd_jax.labels.{name}")
