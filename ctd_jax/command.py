"""What all commands share: flags, messages and exit codes."""

import ast
import difflib
import functools
import importlib.util
import logging
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from ctd_jax import memory
from ctd_jax.errors import UserError

_DEBUG = flags.DEFINE_bool("debug", False, "Show Python's traceback of an error.")
_HELP = ("--help", "-h", "-help", "--helpshort")


def run(
    main: Callable[[], None],
    text: str,
    *,
    required: Sequence[str] = (),
    paths: list[str] | None = None,
    overrides: list[str] | None = None,
) -> None:
    """Parses the flags, calls `main`, exits: 0 done, 2 the user can mend it (one message on stderr), 1 anything else.

    Args:
      main: the command.
      text: what --help says above the flags.
      required: flags that must be given.
      paths: gets the arguments that are not flags; None: there must be none.
      overrides: gets what follows `--config.`, for `configured`; None: the flag `config` takes it.
    """
    if any(argument in _HELP for argument in sys.argv[1:]):
        print(f"{text.strip()}\n\nFlags:")
        for flag in (*flags.FLAGS.get_flags_for_module(main.__module__), flags.FLAGS["debug"]):
            print(f"  --{flag.name:<11} {flag.help}")
        sys.exit(0)
    try:
        rest = _parse(sys.argv, overrides)
        if rest and paths is None:
            raise UserError(f"unexpected argument {rest[0]!r}; flags begin with --, and --help lists them")
        if paths is not None:
            paths.extend(rest)
        for name in required:
            if flags.FLAGS[name].value is None:
                raise UserError(f"--{name} is missing: {flags.FLAGS[name].help}")
        _set_up()
        main()
    except UserError as error:
        _complain(f"{error}", 2)
    except KeyboardInterrupt:
        _complain("stopped; a training continues from its last checkpoint when the same command starts again", 1)
    except Exception as error:
        _complain(f"{type(error).__name__}: {error}\nThis should not happen; --debug shows where it did", 1)


def _complain(message: str, code: int) -> None:
    if "--debug" in sys.argv:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr, flush=True)
    if "ctd_jax.hosts" in sys.modules:  # else there is one process only
        from ctd_jax import hosts

        hosts.leave(code)
    sys.exit(code)


def configured(name: str, overrides: Sequence[str]) -> ConfigDict:
    """The configuration `FILE[:variant]` with its keys changed by `overrides`, each a KEY=VALUE.

    Raises:
      UserError: no such file, variant or key, or a value of another type.
    """
    config = _load(name)
    _check_keys(config, overrides)
    for override in overrides:
        key, _, text = override.partition("=")
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
        if not isinstance(old, tuple):
            return type(old)(text)
        value = ast.literal_eval(text)
        if isinstance(value, str):
            raise ValueError("a single string")
        return tuple(value)
    except (ValueError, SyntaxError, TypeError, KeyError) as error:
        raise UserError(f"--config.{key}: {text!r} can't be read as {type(old).__name__}, like {old!r}") from error


def _parse(argv: list[str], overrides: list[str] | None) -> list[str]:
    """Sets the flags; returns the arguments that are none."""
    arguments: list[str] = []
    for argument in argv[1:]:
        if arguments and arguments[-1] in ("-config", "--config"):
            arguments[-1] = f"--config={argument}"
        else:
            arguments.append(re.sub(r"^-(?=config[.=])", "--", argument))
    files = [a.removeprefix("--config=") for a in arguments if a.startswith("--config=")]
    keys = [a.removeprefix("--config.") for a in arguments if a.startswith("--config.")]
    if overrides is not None:
        overrides.extend(keys)
        arguments = [a for a in arguments if not a.startswith("--config.")]
    elif files:
        _check_keys(_load(files[-1]), keys)
    elif keys:
        raise UserError(f"--config.{keys[0]}: give the configuration too, --config=configs/ctd_ed.py")
    arguments.sort(key=lambda a: not a.startswith("--config="))  # before its keys, as ml_collections wants it
    try:
        return flags.FLAGS([argv[0], *arguments])[1:]
    except flags.Error as error:
        raise UserError(f"{error}; --help lists the flags") from error


def _load(name: str) -> ConfigDict:
    """What `FILE[:variant]` holds before any override: here a wrong one still gets a message of its own."""
    file, _, variant = name.partition(":")
    path = pathlib.Path(file)
    if not path.is_file() or path.suffix != ".py":
        known = ", ".join(str(p) for p in sorted(path.parent.glob("*.py")) if p.stem not in ("__init__", "default"))
        found = (
            f"found {known}"
            if known
            else f"start from the folder that holds configs/, this one is {pathlib.Path.cwd()}"
        )
        raise UserError(f"--config: expected a Python file, there is no such {file}; {found}")
    spec = importlib.util.spec_from_file_location("config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        return module.get_config(*[variant] if variant else [])
    except ValueError as error:
        raise UserError(f"--config={name}: {error}") from error


def _check_keys(config: ConfigDict, overrides: Sequence[str]) -> None:
    from ctd_jax.workdir import flatten

    keys = list(flatten(config))
    for override in overrides:
        key, equals, _ = override.partition("=")
        if key not in keys:
            near = difflib.get_close_matches(key, keys, 1, cutoff=0.0)[0]
            raise UserError(
                f"--config.{key}: no such key; the nearest is {near}, all of them are in configs/default.py"
            )
        if not equals:
            raise UserError(f"--config.{key}: expected a value, --config.{key}=VALUE")


def _set_up() -> None:
    """Compiled programs are kept for the next start, memory for the next step; warnings go to stderr as plain lines."""
    memory.keep()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("ctd_jax").addHandler(handler)
    logging.getLogger("ctd_jax").propagate = False
    logging.getLogger("absl").setLevel(logging.ERROR)
    import jax

    if not jax.config.jax_compilation_cache_dir:
        cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "ctd_jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
