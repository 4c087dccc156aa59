"""The training command as a process that is forked from one which has imported everything but touched no device, so
that it starts at once. It can write down where it changes its workdir, and die at such a place."""

import dataclasses
import multiprocessing
import os
import pathlib
import re
import runpy
import signal
import sys
import threading

import array_record.python.array_record_module  # noqa: F401  # what a run imports late
import jax
import matplotlib.figure  # noqa: F401
import scipy.ndimage  # noqa: F401
import scipy.optimize  # noqa: F401
import scipy.stats  # noqa: F401
import tensorboardX.event_file_writer  # noqa: F401
import tensorflow_datasets  # noqa: F401

import ctd_jax.main  # noqa: F401
import ctd_jax.training_run  # noqa: F401
from ctd_jax.report import parts
from tests import plots

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.chaos.command"])
SECONDS = 600  # no process may take longer
CHANGES = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.truncate")  # and "open", for writing
# In names, from run to run.
_CHANGING = r"[0-9a-f]{16,}|[0-9]{3,}|(?<=checkpoints/)[0-9]+|(?<=incomplete.)\w{6}|[.]orbax-checkpoint-tmp"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a process changes its workdir: what it does, to which file (without the numbers in its name), and for which
    time in its life. Before it is killed at "open", the file gets half a line."""

    event: str
    name: str
    time: int = 1


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended: minus the signal, or its exit code; and what it wrote to stderr."""

    code: int
    error: str


class Running:
    """A command that was started.

    Args:
      arguments: of the command, without --workdir.
      workdir: of the run.
      die_at: where it sends itself a signal; None: nowhere.
      by: the signal.
      trace: file that gets all places, in their order; None: none does.
    """

    def __init__(
        self,
        arguments: list[str],
        workdir: pathlib.Path,
        die_at: Place | None = None,
        by: signal.Signals = signal.SIGKILL,
        trace: pathlib.Path | None = None,
    ):
        self._error = workdir.with_name(f"{workdir.name}.error{os.urandom(4).hex()}")
        self.process = PROCESSES.Process(target=_run, args=(arguments, workdir, self._error, die_at, by, trace))
        self.process.start()

    def wait(self, seconds: float = SECONDS) -> Ended | None:
        """How it ended; None: it has not, after so many seconds."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            return None
        return Ended(self.process.exitcode, self._error.read_text("utf-8") if self._error.exists() else "")

    def end(self) -> Ended:
        ended = self.wait()
        if ended is None:
            self.process.kill()
        assert ended, f"it did not end within {SECONDS} s"
        return ended


def read_trace(path: pathlib.Path) -> list[Place]:
    """The places of a trace, each event with its number in `time`."""
    counts: dict[tuple[str, str], int] = {}
    found = []
    for line in path.read_text("utf-8").splitlines():
        event, name = line.split("\t")
        counts[event, name] = counts.get((event, name), 0) + 1
        found.append(Place(event, name, counts[event, name]))
    return found


def _run(arguments, workdir, error, die_at, by, trace):
    """The child's part."""
    for stream in (1, 2):
        os.dup2(os.open(error, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), stream)
    one_device = "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {one_device}"  # the last one holds
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    parts.save = plots.blank
    if die_at or trace:
        sys.addaudithook(_Watch(workdir, die_at, by, trace))
    sys.argv = ["ctd_jax.main", *arguments, f"--workdir={workdir}"]
    del sys.modules["ctd_jax.main"]  # runpy warns of it
    runpy.run_module("ctd_jax.main", run_name="__main__", alter_sys=True)


class _Watch:
    """Audit hook of a process that works in `workdir`."""

    def __init__(self, workdir, die_at, by, trace):
        self._workdir, self._die_at, self._by, self._times = str(workdir), die_at, by, 0
        self._trace = trace and os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = threading.Lock()

    def __call__(self, event, args):
        if event == "open":
            if not isinstance(args[2], int) or not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in CHANGES:
            return
        if not isinstance(args[0], (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(args[0])
        if event in ("os.rmdir", "os.remove") and args[1] >= 0:  # relative to an open folder
            path = os.path.join(os.readlink(f"/proc/self/fd/{args[1]}"), path)
        path = os.path.abspath(path)
        if not path.startswith(self._workdir + os.sep):
            return
        name = re.sub(_CHANGING, "", path.removeprefix(self._workdir + os.sep))
        with self._lock:
            if self._trace:
                os.write(self._trace, f"{event}\t{name}\n".encode())
            if self._die_at and (event, name) == (self._die_at.event, self._die_at.name):
                self._times += 1
                if self._times == self._die_at.time:
                    self._die(event, path)

    def _die(self, event, path):
        self._workdir = "\0"  # what follows is not watched
        if event == "open" and self._by == signal.SIGKILL:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.write(file, b'3,{"half')
        os.kill(os.getpid(), self._by)
