"""A configuration: how it is loaded, changed, checked, frozen and hashed, and how that of an earlier run is read.

configs/default.py owns every key. Here are the ranges of their values, and what a key meant to runs that are older.
"""

import ast
import functools
import hashlib
import importlib.util
import json
import math
import os
import pathlib
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ml_collections import ConfigDict, FrozenConfigDict

from ctd_jax import files, nearest
from ctd_jax.errors import UserError

_HERE = pathlib.Path(__file__).parent
# The configurations lie in an installed package, and beside the package in a clone.
CONFIGS = next((f for f in (_HERE / "configs", _HERE.parent / "configs") if f.is_dir()), _HERE / "configs")
NOT_METHODS = ("__init__", "default")  # files of that folder that are no configuration to train

# These keys say how a run is carried out, not what it is: a run may continue with other values.
FREE_KEYS = ("grid", "parallel", "data.cache_mib", "data.on_device", "eval.batch_size", "train.remat")
# These name files and folders: a run may continue where they lie elsewhere, if they hold the same.
PATH_KEYS = ("data.root", "data.split", "data.unlabelled", "teacher.weights", "teacher.run", "domains.start")

SECTIONS = ("data", "model", "teacher", "train", "eval")  # that a config.json of any version has
NOTE_KEYS = ("versions", "contents")  # of config.json, beside those of the configuration: see `notes_of_run`
REMEDY = "restore the file, or start again in a new folder"
TYPES = {  # of a value, in words
    int: "a whole number below 2147483648",
    float: "a number",
    bool: "true or false",
    tuple: "brackets and commas",
    str: "text",
}


# ---------------------------------------------------------------- loading


def load_config(name: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The configuration `FILE[:variant]`, or `NAME[:variant]` of a file that comes with the program, with its keys
    changed by `overrides`, each a KEY=VALUE.

    Raises:
      UserError: no such file, variant or key, or a value of another type.
    """
    config = _load(name)
    keys = list(flatten(config))
    for override in overrides:
        key, equals, text = override.partition("=")
        if key not in keys:
            near = " or ".join(nearest.keys(key, keys))
            raise UserError(
                f"--config.{key}: no such key; the nearest is {near}, all of them are in configs/default.py"
            )
        if not equals:
            raise UserError(f"--config.{key}: expected a value, --config.{key}=VALUE")
        if key in PATH_KEYS:
            text = ",".join(files.path_of(f"--config.{key}", path) for path in text.split(","))
        *parents, last = key.split(".")
        node = functools.reduce(lambda node, part: node[part], parents, config)
        node[last] = _value(key, text, node[last])
    return config


def _value(key: str, text: str, old: Any) -> Any:
    """`text` as a value of `old`'s type."""
    try:
        if isinstance(old, str):
            return text
        if isinstance(old, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(old, int | float):
            return _number(text, type(old))
        value = ast.literal_eval(text)
        if isinstance(value, str):
            raise ValueError("a single string")
        return tuple(value)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise UserError(f"--config.{key}={text}: expected {TYPES[type(old)]}, like {old!r}") from error


def _number(text: str, kind: type) -> int | float:
    number = kind(text)
    if not (math.isfinite(number) and (kind is float or abs(number) < 2**31)):
        raise ValueError(f"not finite, or too large: {text}")
    return number


def _load(name: str) -> ConfigDict:
    file, _, variant = name.partition(":")
    path = _file_of(file)
    try:
        return _module(path).get_config(*[variant] if variant else [])
    except ValueError as error:
        raise UserError(f"--config={name}: {error}") from error
    except Exception as error:  # it is the user's program
        raise UserError(
            f"--config={name}: its get_config can't be called ({type(error).__name__}: {error}); --debug shows where"
        ) from error


def _file_of(file: str) -> pathlib.Path:
    """The file that `file` means: a path, or the bare name of a configuration that comes with the program."""
    path = pathlib.Path(file)
    if path.suffix == ".py" and path.is_file():
        return path
    bundled = CONFIGS / f"{file}.py"
    if re.fullmatch(r"\w+", file) and bundled.is_file() and bundled.stem not in NOT_METHODS:
        return bundled
    known = sorted(p.stem for p in CONFIGS.glob("*.py") if p.stem not in NOT_METHODS)
    near = " or ".join(nearest.keys(path.stem, known))
    raise UserError(
        f"--config: there is no such {file}; expected a Python file, or one of {', '.join(known)}. The nearest is "
        f"{near}"
    )


def _module(path: pathlib.Path) -> types.ModuleType:
    """The module of a file, which may import its neighbours, `from . import default`."""
    folder = path.resolve().parent
    package = f"_configs_{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    if package not in sys.modules:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [str(folder)]
    spec = importlib.util.spec_from_file_location(f"{package}.{path.stem}", path)
    assert spec and spec.loader  # of a path that ends in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------- ranges


class Range(NamedTuple):
    """The values that a key may have, as a condition and in words."""

    condition: Callable[[Any], bool]
    words: str

    def has(self, value: Any) -> bool:
        try:
            return self.condition(value)
        except TypeError:  # a value of another type, from a configuration of the user
            return False


def one_of(*names: str) -> Range:
    """The range of a key that is one of these words."""
    return Range(lambda value: value in names, f"expected {', '.join(names[:-1])} or {names[-1]}")


POSITIVE = Range(lambda value: 0 < value < math.inf, "expected more than 0")
NOT_NEGATIVE = Range(lambda value: 0 <= value < math.inf, "expected 0 or more")
OPEN = Range(NOT_NEGATIVE.condition, "expected more than 0, or 0: chosen from the training pictures")
WEIGHT = Range(NOT_NEGATIVE.condition, "expected 0 (off) or more")
PROBABILITY = Range(lambda value: 0 <= value <= 1, "expected 0 .. 1, and for scale less than 1")
COUNTS = Range(
    lambda value: len(value) == 3 and all(isinstance(count, int) and count >= 0 for count in value),
    "expected three whole numbers: for train, val and test",
)
# Key, or pattern of keys -> the values it may have. What depends on the data or on the network is checked where these
# are; a word that names a row of a table (a task, an encoder, a form of deconvolution) where that table is; the keys of
# a constraint in its row, see `losses.terms`.
RANGES = {
    "seed": NOT_NEGATIVE,
    "data.seed": NOT_NEGATIVE,
    "data.budget": NOT_NEGATIVE,
    "data.share": Range(lambda value: 0 < value <= 1, "expected more than 0, and 1 at most"),
    "data.budget_seed": NOT_NEGATIVE,
    "data.image_size": OPEN,
    "data.margin": NOT_NEGATIVE,
    "data.cache_mib": NOT_NEGATIVE,
    "data.synthetic.*": COUNTS,
    "augment.flip": PROBABILITY,
    "augment.scale": Range(lambda value: 0 <= value < 1, PROBABILITY.words),
    "augment.shift": PROBABILITY,
    "model.decoder_channels": Range(
        lambda value: all(isinstance(channels, int) and channels > 0 for channels in value),
        "expected whole numbers above 0",
    ),
    "model.sigma": POSITIVE,
    "model.hourglass.*": POSITIVE,
    "domains.schedule": one_of("proportional", "balanced", "temperature"),
    "domains.temperature": POSITIVE,
    "coordinates.weight": WEIGHT,
    "recognition.loss": one_of("softmax", "arcface"),
    "recognition.margin": Range(lambda value: 0 <= value < math.pi, "expected 0 or more, and less than pi (radians)"),
    "recognition.scale": POSITIVE,
    "segmentation.dice": NOT_NEGATIVE,
    "train.steps": OPEN,
    "train.batch_norm": one_of("global", "device"),
    "train.accumulate_steps": POSITIVE,
    "train.encoder_layers": one_of("all", "last", "none"),
    "train.encoder_lr": POSITIVE,
    "train.decoder_lr": POSITIVE,
    "train.decay_power": POSITIVE,
    "train.average": Range(lambda value: 0 <= value < 1, "expected 0 (off) .. 1, and less than 1"),
    "eval.every": POSITIVE,
    "eval.batch_size": POSITIVE,
    "eval.threshold.*": POSITIVE,
}


def check_config(config: ConfigDict) -> FrozenConfigDict:
    """`config`, frozen.

    Raises:
      UserError: a value is out of its range, or two do not go together.
    """
    for key, value in _items(config.to_dict()):
        for pattern, allowed in RANGES.items():
            if fnmatchcase(key, pattern) and not allowed.has(value):
                raise UserError(f"{key} is {value!r}; {allowed.words}")
    if config.data.share < 1 and config.data.budget:
        raise UserError(f"data.share is {config.data.share} and data.budget {config.data.budget}; give one of them")
    return FrozenConfigDict(config)


# ---------------------------------------------------------------- as keys and values


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Dotted key -> value, as JSON gives them back."""
    return dict(_items(json.loads(json.dumps(config.to_dict()))))


def _items(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _items(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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


def contents_of(config: ConfigDict) -> dict[str, str]:
    """Path key that is not empty -> digest of what lies there."""
    flat = flatten(config)
    return {key: content_of(flat[key]) for key in PATH_KEYS if flat.get(key)}


def content_of(paths: str) -> str:
    """Digest of what lies at a path, or at several with commas between; where there is no such path, of the word.

    A file counts with its bytes; a folder with its csv and json files and with the names and sizes of its other files,
    but for those whose names begin with a dot. (A run compares its pictures byte for byte: `run_folder.claim_split`.)
    """
    digest = hashlib.sha256()
    for path in map(pathlib.Path, each_path(paths)):
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


# ---------------------------------------------------------------- of an earlier run

# The keys that configs/default.py has got since its first version, in the order in which they came, with their default
# at that time: what a run that lacks the key did. All of them are of version 0.1.0. Whoever adds a key adds it here; a
# whole term of the loss needs no row, because a term that a run lacks was off.
ADDED: dict[str, Any] = {
    # a configuration for each method
    "grid": (),
    "data.train_split": "train",
    "data.budget_seed": 0,
    "model.network": "encoder_decoder",
    "model.hourglass.stacks": 2,
    "model.hourglass.channels": 64,
    "model.hourglass.depth": 3,
    "teacher.start": True,
    "recognition.loss": "softmax",
    "recognition.margin": 0.2,
    "recognition.scale": 16.0,
    "constraints.ed.over": "map",
    "train.encoder_layers": "all",
    # memory of a step
    "train.batch_norm": "global",
    "train.accumulate_steps": 1,
    "train.remat": False,
    "data.on_device": "auto",
    # several domains
    "data.domains": (),
    "data.helping": (),
    "data.helped": False,
    "domains.schedule": "proportional",
    "domains.temperature": 2.0,
    "domains.norm": True,
    "domains.heads": True,
    "domains.start": "",
    # segmentation
    "data.share": 1.0,
    "segmentation.dice": 1.0,
    # a landmark network as teacher
    "model.decoder": "dense",
    "teacher.run": "",
    "coordinates.weight": 0.0,
    "constraints.hint.form": "plain",
    # pictures without labels
    "data.unlabelled": "",
    "train.unlabelled_batch_size": 16,
    # averages
    "train.average": 0.0,
}
# Keys that are gone. None of them says anything about a network: this one, how many resamples an interval had.
GONE = ("eval.bootstrap",)


def config_of_run(workdir: pathlib.Path) -> ConfigDict:
    """The configuration of a run, also of one that an older version made: a key that it lacks has the value that it
    stood for then.

    Raises:
      UserError: `workdir` is no run, or its config.json is damaged.
    """
    path = workdir / "config.json"
    content = _read(path)
    lacking = [section for section in SECTIONS if not isinstance(content.get(section), dict)]
    if lacking or not isinstance(content.get("task"), str):
        raise UserError(f"{path}: it has no {', '.join(lacking) or 'task'}, so it is damaged; {REMEDY}")
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in _items({key: value for key, value in content.items() if key not in NOTE_KEYS})
        if key not in GONE
    }
    _check_sections(values, path)
    values = _completed(values, path)
    _check_types(values, path)
    return ConfigDict(_nested(values))


def notes_of_run(workdir: pathlib.Path) -> dict[str, Any]:
    """What config.json of a run says beside the configuration: `versions` of the programs that made it, one for each
    time it went on under others; `contents` of its path keys (`contents_of`). They are empty in a run that is older.

    Raises:
      UserError: `workdir` is no run, or its config.json is damaged.
    """
    path = workdir / "config.json"
    content = _read(path)
    notes = {"versions": content.get("versions", []), "contents": content.get("contents", {})}
    whole = isinstance(notes["contents"], dict) and isinstance(notes["versions"], list)
    if not whole or not all(isinstance(version, dict) for version in notes["versions"]):
        raise UserError(f"{path}: its {' and '.join(NOTE_KEYS)} can't be read, so it is damaged; {REMEDY}")
    return notes


def _read(path: pathlib.Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path}: no such file; --workdir expects the folder of a run of `python -m ctd_jax.main`")
    return files.read_json(path, REMEDY)


@functools.cache
def _defaults() -> dict[str, Any]:
    """Every key of configs/default.py, and its value today."""
    return dict(_items(_module(CONFIGS / "default.py").get_config().to_dict()))


def _completed(values: dict[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """The values of an older run, as today's version writes them."""
    terms = {_weight_of(key) for key in values}
    lacking = [key for key in _defaults() if key not in values]
    lacking = [key for key in lacking if not key.startswith("constraints.") or _weight_of(key) in terms]
    unknown = [key for key in lacking if key not in ADDED]
    if unknown:
        more = f" and {len(unknown) - 3} more keys" if len(unknown) > 3 else ""
        raise UserError(f"{path}: it has no {', '.join(unknown[:3])}{more}, so it is damaged; {REMEDY}")
    values = values | {key: ADDED[key] for key in lacking}
    if "data.budget_seed" in lacking:
        values["data.budget_seed"] = values["data.seed"]  # one seed was for both
    if isinstance(shots := values["data.synthetic.shots"], int):
        values["data.synthetic.shots"] = (shots, shots, shots)  # one number was for all splits
    return values


def _check_sections(values: dict[str, Any], path: pathlib.Path) -> None:
    sections = {".".join(key.split(".")[:end]) for key in _defaults() for end in range(1, key.count(".") + 1)}
    for key in sorted(values.keys() & sections):
        raise UserError(f"{path}: {key} is {values[key]!r}; expected keys in braces; {REMEDY}")


def _check_types(values: dict[str, Any], path: pathlib.Path) -> None:
    for key, default in _defaults().items():
        if key not in values:
            continue
        value, wanted = values[key], type(default)
        fits = isinstance(value, int | float) if wanted is float else isinstance(value, wanted)
        if not fits or isinstance(value, bool) != (wanted is bool):
            raise UserError(f"{path}: {key} is {value!r}; expected {TYPES[wanted]}; {REMEDY}")


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        functools.reduce(lambda node, part: node.setdefault(part, {}), parents, out)[last] = value
    return out


def differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Key -> old and new value, of the keys that make another run; None: it lacks the key."""
    before, now = flatten(old), flatten(new)
    keys = sorted(before.keys() | now.keys())
    return {key: (before.get(key), now.get(key)) for key in keys if not _is_same(key, before, now)}


def _is_same(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if before.get(key) == now.get(key) or key in FREE_KEYS:
        return True
    weight = _weight_of(key)
    only_one_has_the_term = key.startswith("constraints.") and (weight in before) != (weight in now)
    return only_one_has_the_term and not before.get(weight) and not now.get(weight)


def _weight_of(key: str) -> str:
    """The weight of the term of the loss that a key is of: of constraints.cd.form, constraints.cd.weight."""
    return ".".join([*key.split(".")[:2], "weight"])
