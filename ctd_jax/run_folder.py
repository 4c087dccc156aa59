"""The folder of a run: whose it is, and that one process at a time works in it."""

import contextlib
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from ctd_jax import files, lock, versions
from ctd_jax.config import (
    PATH_KEYS,
    config_of_run,
    content_of,
    contents_of,
    differences,
    each_path,
    flatten,
    notes_of_run,
)
from ctd_jax.data import splits
from ctd_jax.errors import UserError

OF_RUNS = ("teacher.run", "model.start", "domains.start")  # path keys that name the folder of another run
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def held(workdir: pathlib.Path, config: ConfigDict) -> Iterator[None]:
    """While the block runs, no other process trains in `workdir`. Half-written files of a killed one are removed.

    Raises:
      UserError: another process is there, or it isn't a run of this configuration; see `claim`.
    """
    with lock.held(workdir):
        claim(workdir, config)
        for path in [*workdir.glob(f"*{files.PARTIAL}"), *workdir.glob(f"*/*{files.PARTIAL}")]:
            path.unlink(missing_ok=True)
        yield


def claim(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Makes sure that `workdir` is new, or a run of this configuration. Changes nothing on disk.

    Raises:
      UserError: it is a run of another configuration, or a folder of something else.
    """
    path = workdir / "config.json"
    if not path.exists():
        if workdir.exists() and not workdir.is_dir():
            raise UserError(f"{workdir} is a file; give a new folder with --workdir")
        strangers = [p.name for p in workdir.iterdir() if not _is_before_begin(p.name)] if workdir.is_dir() else []
        if strangers:
            raise UserError(
                f"{workdir} is not a run (it has no config.json, but {', '.join(sorted(strangers)[:3])}); give a new "
                "folder with --workdir"
            )
        return
    contents = notes_of_run(workdir)["contents"]
    differ = differences(config_of_run(workdir), config)
    differ = {key: (old, new) for key, (old, new) in differ.items() if not _is_same_path(key, old, new, contents)}
    if differ:
        shown = [f"{key} was {old!r}, is {new!r}{_of_path(key, new)}" for key, (old, new) in list(differ.items())[:5]]
        raise UserError(
            f"{workdir} holds a run of another configuration: {'; '.join(shown)}. Give another --workdir, or the old "
            "values to continue; nothing was changed"
        )


def _of_path(key: str, value: object) -> str:
    """What a message says of a value, if it is a path that means something else than before."""
    if key not in PATH_KEYS or not isinstance(value, str):
        return ""
    if all(map(os.path.exists, each_path(value))):
        return " (and what it holds differs)"
    return " (which is not there)" if os.sep in value else ""


def _is_before_begin(name: str) -> bool:
    """Whether a file or folder may lie in a workdir before config.json does."""
    return name in ("tfds", "split.csv", "augmented.html", lock.NAME) or name.endswith(files.PARTIAL)


def _is_same_path(key: str, before: object, now: object, contents: dict[str, str]) -> bool:
    """Whether two values of a path key mean the same, by where they lead or else by what was there and is here now."""
    if key not in PATH_KEYS or not (isinstance(before, str) and isinstance(now, str)):
        return False
    if [os.path.realpath(path) for path in each_path(before)] == [os.path.realpath(path) for path in each_path(now)]:
        return True
    return key in contents and contents[key] == content_of(now)


def changed(workdir: pathlib.Path, config: ConfigDict) -> list[str]:
    """The paths of data and weights in `config` that hold something else than when the run in `workdir` began. Folders
    of runs are not looked at: predictions and reports come into them."""
    then, keys = notes_of_run(workdir)["contents"], flatten(config)
    paths = {key: keys[key] for key in PATH_KEYS if key in then and keys[key] and key not in OF_RUNS}
    return [path for key, path in paths.items() if content_of(path) != then[key]]


def begin(workdir: pathlib.Path, config: ConfigDict, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Writes split.csv and config.json, or checks that a run that continues has the pictures it began with; says so
    where it goes on under other versions.

    Raises:
      UserError: it has others.
    """
    claim_split(workdir, rows)
    made, path = versions.describe(), workdir / "config.json"
    known = notes_of_run(workdir)["versions"] if path.exists() else []
    if known and known[-1] != made:
        _log.warning("%s goes on under other versions than before (%s): the last digits of its numbers may differ from "
                     "those of a run in one piece", workdir, "; ".join(versions.changes(known[-1], made)))  # fmt: skip
    if not known or known[-1] != made:
        known = [*known, made]
    content = config.to_dict() | {"versions": known}
    if not path.exists():  # from here on a run, whose files are none of its data, though they may lie among them
        files.write_text(path, json.dumps(content, indent=1))
    files.write_text(path, json.dumps(content | {"contents": contents_of(config)}, indent=1))


def claim_split(workdir: pathlib.Path, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Writes split.csv, or checks that a run that continues has the pictures it began with.

    Raises:
      UserError: it has others.
    """
    path = workdir / "split.csv"
    if not (path.exists() and (workdir / "config.json").exists()):  # of one that was killed before it began, too
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_text(path, splits.text(rows))
        return
    check_split(workdir, rows)


def check_split(workdir: pathlib.Path, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Raises UserError if a run began with other pictures, or its split.csv is missing or damaged."""
    path = workdir / "split.csv"
    old = splits.read(path)
    if old != rows:
        first = next((f"{o[0]} was {o[2]}" for o, n in zip(old, rows, strict=False) if o != n), "their number")
        raise UserError(
            f"{path}: the pictures, or their order, are not those that this run began with (first difference: "
            f"{first}); restore them, or start again in a new --workdir"
        )
