"""What all commands share: flags, messages and exit codes."""

import ast
import functools
import hashlib
import importlib.util
import logging
import math
import os
import pathlib
import re
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from ctd_jax import errors, nearest
from ctd_jax.errors import UserError
from ctd_jax.training import memory

_DEBUG = flags.DEFINE_bool("debug", False, "Show Python's traceback of an error.")
# What the value of a key is, in words.
KINDS = {int: "a whole number below 2147483648", float: "a number", bool: "true or false", tuple: "brackets and commas"}
_HERE = pathlib.Path(__file__).parent
# In an installed package they lie in it, in a clone beside it.
CONFIGS = next((f for f in (_HERE / "configs", _HERE.parent / "configs") if f.is_dir()), _HERE / "configs")
NO_METHODS = ("__init__", "default")
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
      overrides: gets what follows `--config.`, for `configured`; None: there must be none.
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
        _settle_paths(main.__module__)
        if paths is not None:
            paths.extend(path_of("the command", path) for path in rest)
        for name in required:
            if flags.FLAGS[name].value is None:
                raise UserError(f"--{name} is missing: {flags.FLAGS[name].help}")
        _set_up()
        main()
    except UserError as error:
        _complain(f"{error}", 2)
    except KeyboardInterrupt as error:
        signal.signal(signal.SIGINT, lambda *_: os._exit(1))  # a second one doesn't wait for what is left
        again = "stopped; a training continues from its last checkpoint when the same command starts again"
        _complain(str(error) or again, 1)
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if told := errors.of_system(error) or _of_devices(error):
            _complain(told, 2)
        _complain(f"{type(error).__name__}: {error}\nThis should not happen; --debug shows where it did", 1)


def _of_devices(error: BaseException) -> str | None:
    from ctd_jax.training import devices

    return devices.explain(error)


def _complain(message: str, code: int) -> None:
    if "--debug" in sys.argv:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr, flush=True)
    if "ctd_jax.training.hosts" in sys.modules:  # else there is one process only
        from ctd_jax.training import hosts

        hosts.leave(code)
    sys.exit(code)


def path_of(flag: str, text: str) -> str:
    """`text`, a path that was given by `flag`, with ~ as the home folder.

    Raises:
      UserError: it is a URL.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        raise UserError(f"{flag}: {text} is a URL; fetch it first, and give the file or folder on this machine")
    return os.path.expanduser(text)


def _settle_paths(module: str) -> None:
    for flag in flags.FLAGS.get_flags_for_module(module):
        if isinstance(flag.value, str):
            flag.value = path_of(f"--{flag.name}", flag.value)


def configured(name: str, overrides: Sequence[str]) -> ConfigDict:
    """The configuration `FILE[:variant]` with its keys changed by `overrides`, each a KEY=VALUE.

    Raises:
      UserError: no such file, variant or key, or a value of another type.
    """
    from ctd_jax import run_folder

    config = _load(name)
    keys = list(run_folder.flatten(config))
    for override in overrides:
        key, equals, text = override.partition("=")
        if key not in keys:
            near = " or ".join(nearest.keys(key, keys))
            raise UserError(
                f"--config.{key}: no such key; the nearest is {near}, all of them are in configs/default.py"
            )
        if not equals:
            raise UserError(f"--config.{key}: expected a value, --config.{key}=VALUE")
        *parents, last = key.split(".")
        node = functools.reduce(lambda node, part: node[part], parents, config)
        if key in run_folder.PATH_KEYS:
            text = ",".join(path_of(f"--config.{key}", one) for one in text.split(","))
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
        raise UserError(f"--config.{key}={text}: expected {KINDS[type(old)]}, like {old!r}") from error


def _number(text: str, kind: type) -> int | float:
    number = kind(text)
    if not (math.isfinite(number) and (kind is float or abs(number) < 2**31)):
        raise ValueError(f"not finite, or too large: {text}")
    return number


def _parse(argv: list[str], overrides: list[str] | None) -> list[str]:
    """Sets the flags; returns the arguments that are none."""
    arguments: list[str] = []
    for argument in argv[1:]:
        if arguments and arguments[-1] in ("-config", "--config"):
            arguments[-1] = f"--config={argument}"
        else:
            arguments.append(re.sub(r"^-(?=config[.=])", "--", argument))
    if overrides is not None:
        overrides.extend(a.removeprefix("--config.") for a in arguments if a.startswith("--config."))
        arguments = [a for a in arguments if not a.startswith("--config.")]
    try:
        return flags.FLAGS([argv[0], *arguments])[1:]
    except flags.Error as error:
        raise UserError(f"{error}; --help lists the flags") from error


def _load(name: str) -> ConfigDict:
    """What `FILE[:variant]`, or `NAME[:variant]` of a file that comes with the program, holds before any override."""
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
    """The configuration that `file` names: a path, or the bare name of one that comes with the program."""
    path = pathlib.Path(file)
    if path.suffix == ".py" and path.is_file():
        return path
    own = CONFIGS / f"{file}.py"
    if re.fullmatch(r"\w+", file) and own.is_file() and own.stem not in NO_METHODS:
        return own
    known = sorted(p.stem for p in CONFIGS.glob("*.py") if p.stem not in NO_METHODS)
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
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _set_up() -> None:
    """Compiled programs are kept for the next start, memory for the next step; warnings, and what ends a thread, go to
    stderr as plain lines."""
    memory.keep()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("ctd_jax").addHandler(handler)
    logging.getLogger("ctd_jax").propagate = False
    logging.getLogger("absl").setLevel(logging.ERROR)
    if "--debug" not in sys.argv:
        threading.excepthook = _say_of_thread
        sys.unraisablehook = _say_unless_interrupted
    import jax

    if not jax.config.jax_compilation_cache_dir:
        cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "ctd_jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _say_of_thread(ended: threading.ExceptHookArgs) -> None:
    told = errors.of_system(ended.exc_value) or f"{ended.exc_type.__name__}: {ended.exc_value}"
    logging.getLogger("ctd_jax").warning("a helping thread has ended: %s", told)


def _say_unless_interrupted(dropped: Any) -> None:
    """Of an error where none can be raised, such as a callback of the garbage collection."""
    if not isinstance(dropped.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
