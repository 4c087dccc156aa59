"""The folder of a run: whose it is, and how its files are written."""

import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from ctd_jax import files
from ctd_jax.data import splits
from ctd_jax.errors import UserError

# They say how a run is carried out, not what it is: a run may continue with others.
FREE_KEYS = ("grid", "parallel", "data.cache_mib", "data.on_device", "eval.batch_size", "train.remat")


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
    """Twelve hexadecimal digits that change with any key that changes the result."""
    content = {key: value for key, value in flatten(config).items() if key not in FREE_KEYS}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def claim(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Makes sure that `workdir` is new, or a run of this configuration. Changes nothing on disk.

    Raises:
      UserError: it is a run of another configuration, or a folder of something else.
    """
    path = workdir / "config.json"
    if not path.exists():
        if workdir.is_file():
            raise UserError(f"{workdir} is a file; give a new folder with --workdir")
        strangers = (
            [p.name for p in workdir.iterdir() if p.name not in ("tfds", "split.csv")] if workdir.is_dir() else []
        )
        if strangers:
            raise UserError(
                f"{workdir} is not a run (it has no config.json, but {', '.join(sorted(strangers)[:3])}); give a new "
                "folder with --workdir"
            )
        return
    old, new = flatten(read_config(workdir)), flatten(config)
    differ = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key) and key not in FREE_KEYS]
    if differ:
        shown = "; ".join(f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in differ[:5])
        raise UserError(
            f"{workdir} holds a run of another configuration: {shown}. Give another --workdir, or the old values to "
            "continue; nothing was changed"
        )


def read_config(workdir: pathlib.Path) -> ConfigDict:
    """The configuration of a run.

    Raises:
      UserError: `workdir` is no run.
    """
    path = workdir / "config.json"
    try:
        return ConfigDict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; --workdir expects the folder of a run of `python -m ctd_jax.main`"
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error}); restore the file, or start again in a new folder") from error


def claim_split(workdir: pathlib.Path, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Writes split.csv, or checks that a run that continues has the pictures it began with.

    Raises:
      UserError: it has others.
    """
    path = workdir / "split.csv"
    if not path.exists():
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
