"""What all commands share: flags, messages and exit codes."""

import atexit
import contextlib
import gc
import io
import logging
import os
import pathlib
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags

from ctd_jax import errors, files
from ctd_jax.config import each_path
from ctd_jax.errors import UserError
from ctd_jax.training import memory

_HELP = ("--help", "-h", "-help", "--helpshort")


def new_flags() -> flags.FlagValues:
    """The flags of one command, with those that all commands have."""
    found = flags.FlagValues()
    flags.DEFINE_bool("debug", False, "Show Python's traceback of an error.", flag_values=found)
    return found


def run(
    main: Callable[[], None],
    text: str,
    known: flags.FlagValues | None = None,
    *,
    required: Sequence[str] = (),
    paths: list[str] | None = None,
    overrides: list[str] | None = None,
) -> None:
    """Parses the flags, calls `main`, exits: 0 done, 2 the user can mend it (one message on stderr), 1 anything else.

    Args:
      main: the command.
      text: what --help says above the flags.
      known: the command's flags, of `new_flags`; None: it has none of its own.
      required: flags that must be given.
      paths: gets the arguments that are not flags; None: there must be none.
      overrides: gets what follows `--config.`, for `load_config`; None: there must be none.
    """
    known = known or new_flags()
    try:
        with _explained():
            if any(argument in _HELP for argument in sys.argv[1:]):
                _say_help(text, known)
                return
            parse(sys.argv[1:], known, paths, overrides)
            for name in required:
                if not known[name].present:
                    raise UserError(f"--{name} is missing: {known[name].help}")
            set_up()
            main()
    except Exception as error:
        _complain(f"{type(error).__name__}: {error}\nThis should not happen; --debug shows where it did", 1)


def run_study(main: Callable[[], None]) -> None:
    """Calls `main`, which parses its own flags, in a process as that of `run`. Exits as that does, but for errors that
    should not happen: those are raised."""
    with _explained():
        set_up()
        main()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Context that ends the process, as `run` says, at errors that somebody can mend, and where it is interrupted."""
    try:
        yield
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
        if message := errors.of_system(error) or _of_devices(error):
            _complain(message, 2)
        raise


def workdirs(text: str) -> list[pathlib.Path]:
    """The folders that --workdir names, with commas between. One that is there is one, with the commas of its name.

    Raises:
      UserError: nothing stands before or after a comma.
    """
    paths = each_path(text)
    if "" in paths:
        raise UserError(f"--workdir={text}: nothing stands before or after a comma; give the folders of runs")
    return [pathlib.Path(files.path_of("--workdir", path)) for path in paths]


def _say_help(text: str, known: flags.FlagValues) -> None:
    print(f"{text.strip()}\n\nFlags:")
    for name in sorted(known, key=lambda name: name == "debug"):  # in their order, the common one last
        print(f"  --{name:<11} {known[name].help}")


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


def parse(
    argv: Sequence[str], known: flags.FlagValues, paths: list[str] | None = None, overrides: list[str] | None = None
) -> None:
    """Sets the flags of a command; arguments as of `run`. Raises UserError."""
    arguments: list[str] = []
    for argument in argv:
        if arguments and arguments[-1] in ("-config", "--config"):
            arguments[-1] = f"--config={argument}"
        else:
            arguments.append(re.sub(r"^-(?=config[.=])", "--", argument))
    if overrides is not None:
        overrides[:] = [a.removeprefix("--config.") for a in arguments if a.startswith("--config.")]
        arguments = [a for a in arguments if not a.startswith("--config.")]
    for name in known:
        known[name].unparse()  # what an earlier call in this process was given
    try:
        rest = known(["", *arguments])[1:]
    except flags.Error as error:
        raise UserError(f"{error}; --help lists the flags") from error
    for name in known:
        if name != "cluster" and isinstance(value := known[name].value, str):  # that may be tcp://HOST:PORT
            known[name].value = files.path_of(f"--{name}", value)
    if rest and paths is None:
        raise UserError(f"unexpected argument {rest[0]!r}; flags begin with --, and --help lists them")
    if paths is not None:
        paths[:] = [files.path_of("the command", path) for path in rest]


def set_up() -> None:
    """What each process begins with: compiled programs are kept for the next start, memory for the next step; warnings,
    and what ends a thread, go to stderr as plain lines."""
    memory.keep()
    atexit.register(gc.freeze)  # else Python ends with a search for garbage in all that JAX has made: a second
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal of Windows may not have ° and ²
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("ctd_jax").addHandler(handler)
    logging.getLogger("ctd_jax").propagate = False
    logging.getLogger("absl").setLevel(logging.ERROR)
    if "--debug" not in sys.argv:
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs, with its traceback, what it raises as well
        threading.excepthook = _say_of_thread
        sys.unraisablehook = _say_unless_interrupted
    import jax

    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", cache())
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def cache() -> str:
    """The folder of compiled programs, where nobody has told JAX another."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ctd_jax")


def _say_of_thread(ended: threading.ExceptHookArgs) -> None:
    message = ended.exc_value and errors.of_system(ended.exc_value)
    message = message or f"{ended.exc_type.__name__}: {ended.exc_value}"
    logging.getLogger("ctd_jax").warning("a helping thread has ended: %s", message)


def _say_unless_interrupted(dropped: Any) -> None:
    """Prints an error that could not be raised where it happened, as in a callback of the garbage collection."""
    if not isinstance(dropped.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
