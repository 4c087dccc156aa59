"""A configuration as dotted keys and values: its hash, what lies at its paths, and the difference of two."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from ctd_jax import files
from ctd_jax.errors import UserError

# These keys say how a run is carried out, not what it is: a run may continue with other values.
FREE_KEYS = ("grid", "parallel", "data.cache_mib", "data.on_device", "eval.batch_size", "train.remat")
# These name files and folders: a run may continue where they lie elsewhere, if they hold the same.
PATH_KEYS = (
    "data.root",
    "data.split",
    "data.unlabelled",
    "model.start",
    "teacher.weights",
    "teacher.run",
    "domains.start",
)
# model.network -> the keys that say which network of this kind it is, beside its encoder
NETWORK_KEYS = {
    "encoder_decoder": ("model.decoder", "model.decoder_channels"),
    "hourglass": ("model.hourglass.stacks", "model.hourglass.channels", "model.hourglass.depth"),
}


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Dotted key -> value, as JSON gives them back."""
    return dict(items(json.loads(json.dumps(config.to_dict()))))


def items(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of all that is in a nested dict; each begins with `prefix`."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from items(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def written(value: Any) -> str:
    """A value of `flatten`, as the command line has it."""
    if isinstance(value, list):
        return ",".join(map(str, value)) + "," * (len(value) == 1)
    return str(value)


def check_unread(config: ConfigDict, only: Mapping[str, Any], why: str) -> None:
    """Raises UserError if a key that is not read has another value than its `only` one; `why` says what does not read
    it."""
    keys = flatten(config)
    for key, value in only.items():
        if keys[key] != value:
            raise UserError(f"{key} is {written(keys[key])}, but {why}; give --config.{key}={written(value)}")


def config_hash(config: ConfigDict) -> str:
    """Twelve hexadecimal digits that change with any key that changes the result. The last name of a path counts, not
    where it lies."""
    content = {key: value for key, value in flatten(config).items() if key not in FREE_KEYS}
    for key in PATH_KEYS:
        if key in content:
            names = [os.path.basename(os.path.abspath(path)) if path else "" for path in each_path(content[key])]
            content[key] = ",".join(names)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def each_path(value: str) -> list[str]:
    """The paths that a path key names, with commas between."""
    return [value] if os.path.exists(value) else [path.strip() for path in value.split(",")]


def expand_paths(config: ConfigDict) -> None:
    """Writes the home folder in place of ~ in the path keys of a configuration.

    Raises:
      UserError: one of them is a URL.
    """
    for key in PATH_KEYS:
        section, name = key.split(".")
        paths = each_path(config[section][name] or "")
        config[section][name] = ",".join(files.path_of(f"--config.{key}", path) for path in paths)


def contents_of(config: ConfigDict) -> dict[str, str]:
    """Path key that is not empty -> digest of what lies there."""
    flat = flatten(config)
    return {key: content_of(flat[key]) for key in PATH_KEYS if flat.get(key)}


def content_of(paths: str) -> str:
    """Digest of what lies at a path, or at several with commas between; where there is no such path, of the word.

    A file counts with its bytes; a folder with its csv and json files and with the names and sizes of its other files,
    but for those whose names begin with a dot, and those of runs inside it. (A run compares its pictures byte for byte:
    `run_folder.claim_split`.)
    """
    digest = hashlib.sha256()
    for path in map(pathlib.Path, each_path(paths)):
        found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        results = _results_in(path)
        for file in found:
            name = file.relative_to(path)
            if any(part.startswith(".") for part in name.parts) or not results.isdisjoint(file.parents):
                continue
            digest.update(f"{name.as_posix() if path.is_dir() else ''}\n".encode(errors="surrogateescape"))
            if not file.is_file():
                digest.update(str(path).encode(errors="surrogateescape"))
            elif not path.is_dir() or file.suffix.lower() in (".csv", ".json"):
                digest.update(file.read_bytes())
            else:
                digest.update(f"{file.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]


def _results_in(folder: pathlib.Path) -> set[pathlib.Path]:
    """The folders below one that are a run, or a study of several; none where it is a run itself."""
    if files.is_run(folder):
        return set()
    places = {mark.parent for name in ("split.csv", "tfds") for mark in folder.rglob(name)}
    return set(filter(files.is_result, places - {folder}))


def differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Key -> old and new value, of the keys that make another run; None: it lacks the key."""
    before, now = flatten(old), flatten(new)
    keys = sorted(before.keys() | now.keys())
    return {key: (before.get(key), now.get(key)) for key in keys if not _is_same(key, before, now)}


def _is_same(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if before.get(key) == now.get(key) or key in FREE_KEYS:
        return True
    weight = weight_of(key)
    only_one_has_the_term = key.startswith("constraints.") and (weight in before) != (weight in now)
    return only_one_has_the_term and not before.get(weight) and not now.get(weight)


def weight_of(key: str) -> str:
    """The weight of the term of the loss that a key is of: of constraints.cd.form, constraints.cd.weight."""
    return ".".join([*key.split(".")[:2], "weight"])
