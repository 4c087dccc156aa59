"""A configuration from a file of configs/, or of the user, and the keys that the command line changes."""

import ast
import functools
import hashlib
import importlib.util
import math
import os
import pathlib
import re
import sys
import types
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from ctd_jax import nearest
from ctd_jax.config.keys import expand_paths, flatten, items, weight_of
from ctd_jax.errors import UserError

_PACKAGE = pathlib.Path(__file__).parents[1]
# The configurations lie in an installed package, and beside the package in a clone.
CONFIGS = next((f for f in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if f.is_dir()), _PACKAGE / "configs")
NOT_METHODS = ("__init__", "default")  # files of that folder that are no configuration to train
TYPES = {  # of a value, in words
    int: "a whole number below 2147483648",
    float: "a number",
    bool: "true or false",
    tuple: "brackets and commas",
    str: "text",
}


def load_config(name: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The configuration `FILE[:variant]`, or `NAME[:variant]` of a file that comes with the program, with its keys
    changed by `overrides`, each a KEY=VALUE.

    Raises:
      UserError: no such file, variant or key, a key that the file lacks, or a value of another type.
    """
    config = _load(name)
    keys = list(flatten(config))
    for override in overrides:
        key, equals, text = override.partition("=")
        if key not in keys:
            raise UserError(f"--config.{key}: {_no_such(key, keys)}")
        if not equals:
            raise UserError(f"--config.{key}: expected a value, --config.{key}=VALUE")
        *parents, last = key.split(".")
        node = functools.reduce(lambda node, part: node[part], parents, config)
        node[last] = _value(key, text, node[last])
    expand_paths(config)
    return config


@functools.cache
def defaults() -> dict[str, Any]:
    """Every key of configs/default.py, and its value today."""
    return dict(items(module_of(CONFIGS / "default.py").get_config().to_dict()))


def check_keys(config: ConfigDict) -> None:
    """Raises UserError if a configuration has a key that configs/default.py has not, or lacks one that it has. Whole
    terms of the loss may come and go."""
    known, found = defaults(), dict(items(config.to_dict()))
    terms = set(map(weight_of, known)) & set(map(weight_of, found))
    for key in [*found, *known]:
        if key.startswith("constraints.") and weight_of(key) not in terms:
            continue
        if key not in known:
            raise UserError(f"{key}: {_no_such(key, list(known))}")
        if key not in found:
            raise UserError(
                f"{key} is missing from the configuration; begin with get_config of configs/default.py, which has "
                "every key, and change what is to be different"
            )


def _no_such(key: str, known: Sequence[str]) -> str:
    near = " or ".join(nearest.keys(key, known))
    return f"no such key; the nearest is {near}, all of them are in configs/default.py"


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
        config = module_of(path).get_config(*[variant] if variant else [])
        if not isinstance(config, ConfigDict):
            raise UserError(f"its get_config gives a {type(config).__name__}; expected a ConfigDict")
        check_keys(config)
        return ConfigDict(config)
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


def module_of(path: pathlib.Path) -> types.ModuleType:
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
