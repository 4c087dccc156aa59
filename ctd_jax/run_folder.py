"""The folder of a run: whose it is, and how its files are written."""

import contextlib
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from ctd_jax import files, lock, versions
from ctd_jax.data import splits
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)

# They say how a run is carried out, not what it is: a run may continue with others.
FREE_KEYS = ("grid", "parallel", "data.cache_mib", "data.on_device", "eval.batch_size", "train.remat")
FREE_KEYS += ("eval.bootstrap",)  # a key of earlier versions, of how intervals were made
# They name files and folders; a run may continue where these lie elsewhere, if they hold the same.
PATH_KEYS = ("data.root", "data.split", "teacher.weights", "teacher.run", "domains.start")
NOTES = ("versions", "contents")  # of config.json, beside the configuration: what made the run, what its paths held
PARTS = ("data", "model", "teacher", "train", "eval")  # of every configuration
RESTORE = "restore the file, or start again in a new folder"


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Dotted key -> value, as JSON gives them back."""

    def walk(node, prefix):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    return dict(walk(json.loads(json.dumps(config.to_dict())), ""))


def config_hash(config: ConfigDict) -> str:
    """Twelve hexadecimal digits that change with any key that changes the result. Of a path the last name counts, not
    where it lies."""
    content = {key: value for key, value in flatten(config).items() if key not in FREE_KEYS}
    content |= {key: ",".join(os.path.basename(os.path.abspath(one)) if one else "" for one in _each(content[key]))
                for key in PATH_KEYS if key in content}  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _each(paths: str) -> list[str]:
    """The paths of a value, which may have several with commas between."""
    return [paths] if os.path.exists(paths) else [one.strip() for one in paths.split(",")]


@contextlib.contextmanager
def held(workdir: pathlib.Path, config: ConfigDict) -> Iterator[None]:
    """While the block runs, no other process trains in `workdir`; what one that was killed has left half is taken away.

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
    held, noted = _read(workdir)
    old, new = flatten(held), flatten(config)
    differ = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key) and key not in FREE_KEYS]
    differ = [key for key in differ if not (key in PATH_KEYS and _same(key, old, new, noted.get("contents", {})))]
    if differ:
        shown = "; ".join(f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in differ[:5])
        other = " (and what it holds differs)" if any(key in PATH_KEYS for key in differ) else ""
        raise UserError(
            f"{workdir} holds a run of another configuration: {shown}{other}. Give another --workdir, or the old "
            "values to continue; nothing was changed"
        )


def _is_before_begin(name: str) -> bool:
    """Whether a file or folder may lie in a workdir before config.json does."""
    return name in ("tfds", "split.csv", lock.NAME) or name.endswith(files.PARTIAL)


def _same(key: str, old: dict[str, Any], new: dict[str, Any], contents: dict[str, str]) -> bool:
    """Whether two values of a path key mean the same, by where they lead or else by what was there and is here now."""
    before, now = old.get(key), new.get(key)
    if not (isinstance(before, str) and isinstance(now, str)):
        return False
    if [os.path.realpath(one) for one in _each(before)] == [os.path.realpath(one) for one in _each(now)]:
        return True
    return key in contents and contents[key] == content_of(now)


def content_of(paths: str) -> str:
    """Digest of what lies at a path, or at several with commas between; of what is no path, of the word.

    Of a file its bytes count; of a folder its csv and json files, and the names and sizes of the others, but for those
    whose names begin with a dot. (A run compares its pictures byte for byte, see `claim_split`.)
    """
    digest = hashlib.sha256()
    for path in map(pathlib.Path, _each(paths)):
        found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in found:
            name = file.relative_to(path)
            if any(part.startswith(".") for part in name.parts):
                continue
            digest.update(f"{name.as_posix() if path.is_dir() else ''}\n".encode(errors="surrogateescape"))
            if not file.is_file():
                digest.update(str(path).encode(errors="surrogateescape"))
            elif not path.is_dir() or file.suffix.lower() in (".csv", ".json"):
                digest.update(file.read_bytes())
            else:
                digest.update(f"{file.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]


def begin(workdir: pathlib.Path, config: ConfigDict, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Writes split.csv and config.json, or checks that a run that continues has the pictures it began with; says so
    where it goes on under other versions.

    Raises:
      UserError: it has others.
    """
    claim_split(workdir, rows)
    made, known = versions.describe(), []
    if (workdir / "config.json").exists():
        _, noted = _read(workdir)
        known = noted.get("versions", [])
    if known and known[-1] != made:
        _log.warning("%s goes on under other versions than before (%s): the last digits of its numbers may differ from "
                     "those of a run in one piece", workdir, "; ".join(versions.changes(known[-1], made)))  # fmt: skip
    if not known or known[-1] != made:
        known = [*known, made]
    flat = flatten(config)
    contents = {key: content_of(flat[key]) for key in PATH_KEYS if flat.get(key)}
    files.write_text(
        workdir / "config.json", json.dumps(config.to_dict() | {"versions": known, "contents": contents}, indent=1)
    )


def read_config(workdir: pathlib.Path) -> ConfigDict:
    """The configuration of a run.

    Raises:
      UserError: `workdir` is no run, or its config.json is damaged.
    """
    return _read(workdir)[0]


def _read(workdir: pathlib.Path) -> tuple[ConfigDict, dict[str, Any]]:
    """The configuration of a run, and what else its config.json notes."""
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"{path}: no such file; --workdir expects the folder of a run of `python -m ctd_jax.main`")
    content = files.read_json(path, RESTORE)
    noted = {key: content.pop(key) for key in NOTES if key in content}
    missing = [part for part in PARTS if not isinstance(content.get(part), dict)]
    if missing or not isinstance(content.get("task"), str):
        raise UserError(f"{path}: it has no {', '.join(missing) or 'task'}, so it is damaged; {RESTORE}")
    return ConfigDict(content), noted


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
    old = splits.read(path)
    if old != rows:
        first = next((f"{o[0]} was {o[2]}" for o, n in zip(old, rows, strict=False) if o != n), "their number")
        raise UserError(
            f"{path}: the pictures are not those that this run began with (first difference: {first}); restore them, "
            "or start again in a new --workdir"
        )
