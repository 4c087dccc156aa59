"""Where the time goes between the command and the report.

    python -m benchmarks.waterfall [--json=waterfall.json --name=NAME] [--config=FILE] [--config.KEY=VALUE ...]

Trains, evaluates and reports in a new process and a new workdir: once with an empty compilation cache, then with the
one that this has left. Every moment of the main thread belongs to one part, the innermost that it is in: `PARTS` names
functions of ctd_jax, JAX itself says when it traces and compiles which program, and an import is one where a module is
loaded. Seconds are of the clock, and of the processor, in all threads: other programs that run beside lengthen the
first only. What no part explains is `the rest`. Last of all, how long `--help` takes.

Programs: `step`; `norms`, the gradients of the terms; `points_of`, which validates; `seen_by`, which looks at the test
pictures; `first`, the parameters before the first step; `features`, the teacher's for DELTA's weights.
"""

import argparse
import builtins
import collections
import contextlib
import functools
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.step import machine

DEMO = "configs/recipe.py"
PARTS = {  # part -> functions whose time it has
    "reading pictures": (
        "ctd_jax.data.load",
        *(f"ctd_jax.data.Dataset.{name}" for name in ("decode", "batch", "training_batches")),
    ),
    "building the network": (
        "ctd_jax.tasks.landmarks.LandmarkTask.__init__",
        "ctd_jax.tasks.landmarks.LandmarkTask.init",
        "ctd_jax.tasks.student.StudentTask._channel_weights",
    ),
    "training": ("ctd_jax.training_run._fit",),
    "gradient norms and validation": ("ctd_jax.training.log.TrainingLog.pause",),
    "checkpoints": (
        "ctd_jax.training.checkpoint.resume",
        "ctd_jax.training.checkpoint.save",
        "ctd_jax.training.checkpoint.Manager.wait_until_finished",
        "ctd_jax.training.checkpoint.Manager.close",
        "ctd_jax.training.checkpoint.best_of_training",
    ),
    "test pictures": ("ctd_jax.tasks.landmarks.evaluate.look_at",),
    "metrics": ("ctd_jax.tasks.landmarks.evaluate.evaluate",),
    "report": ("ctd_jax.report.landmarks.write",),
}
COMPILING = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "tracing",
    "/jax/core/compile/backend_compile_duration": "compiling",
}
SMALL = 0.1  # seconds of the processor
HELPS = 5  # calls of --help
BEFORE, REST = "starting Python", "the rest"
Seconds = dict[str, list[float]]  # part -> of the clock, and of the processor


class Clock:
    """Says how long the main thread was in each part."""

    def __init__(self, part: str):
        self.seconds: Seconds = collections.defaultdict(lambda: [0.0, 0.0])
        self._parts, self._since = [part], (time.perf_counter(), time.process_time())

    def enter(self, part: str) -> None:
        self._count()
        self._parts.append(part)

    def leave(self) -> None:
        self._count()
        self._parts.pop()

    @contextlib.contextmanager
    def within(self, part: str) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.enter(part)
        try:
            yield
        finally:
            self.leave()

    def _count(self) -> None:
        now = time.perf_counter(), time.process_time()
        total = self.seconds[self._parts[-1]]
        total[0] += now[0] - self._since[0]
        total[1] += now[1] - self._since[1]
        self._since = now


def count_imports(clock: Clock) -> None:
    load, depth = builtins.__import__, threading.local()

    def counted(name: str, *arguments: Any, **named: Any) -> Any:
        if name in sys.modules or getattr(depth, "inside", False):
            return load(name, *arguments, **named)
        depth.inside = True
        try:
            with clock.within("imports"):
                return load(name, *arguments, **named)
        finally:
            depth.inside = False

    builtins.__import__ = counted


def count_programs(clock: Clock) -> None:
    from jax import monitoring

    def enter(event: str, _: float, *, fun_name: str = "", **__: Any) -> None:
        if event in COMPILING and threading.current_thread() is threading.main_thread():
            name = fun_name.removeprefix("jit(").removesuffix(")").rpartition(".")[2]
            clock.enter(f"{COMPILING[event]} {name}")

    def leave(event: str, *_: Any, **__: Any) -> None:
        if event in COMPILING and threading.current_thread() is threading.main_thread():
            clock.leave()

    monitoring.register_scalar_listener(enter)
    monitoring.register_event_duration_secs_listener(leave)


def count_parts(clock: Clock) -> None:
    for part, places in PARTS.items():
        for place in places:
            owner, _, name = place.rpartition(".")
            found = _find(owner)
            setattr(found, name, _counted(clock, part, getattr(found, name)))


def _find(place: str) -> Any:
    """The module or class of this name."""
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError:
        owner, _, name = place.rpartition(".")
        return getattr(_find(owner), name)


def _counted(clock: Clock, part: str, function: Callable) -> Callable:
    @functools.wraps(function)
    def counted(*arguments: Any, **named: Any) -> Any:
        if hasattr(function, "__wrapped__"):  # a context manager
            return _inside(clock, part, function(*arguments, **named))
        with clock.within(part):
            return function(*arguments, **named)

    return counted


@contextlib.contextmanager
def _inside(clock: Clock, part: str, context: Any) -> Iterator[Any]:
    with clock.within(part), context as found:
        yield found


def inside(out: Path, began: float, arguments: list[str]) -> None:
    """Runs the command in this process, which was started at `began`, and writes what the clock says to `out`."""
    clock = Clock(BEFORE)
    clock.seconds[BEFORE] = [time.time() - began, time.process_time()]
    count_imports(clock)
    with clock.within(REST):
        count_parts(clock)
        count_programs(clock)
        sys.argv = ["ctd_jax.main", *arguments]
        sys.modules.pop("ctd_jax.main", None)
        runpy.run_module("ctd_jax.main", run_name="__main__")
    out.write_text(json.dumps(clock.seconds), encoding="utf-8")


def measured(arguments: list[str], cache: Path) -> Seconds:
    """The parts of a run with this compilation cache; and of the whole, as it is from outside."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "seconds.json"
        command = [sys.executable, "-m", "benchmarks.waterfall", f"--inside={out}", f"--workdir={folder}/run"]
        settings = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
        began, used = time.perf_counter(), os.times()
        subprocess.run(
            [*command, f"--began={time.time()}", *arguments],
            env=os.environ | settings, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        took, now = time.perf_counter() - began, os.times()
        whole = [took, now.children_user + now.children_system - used.children_user - used.children_system]
        seconds: Seconds = json.loads(out.read_text("utf-8"))
    parts = np.sum(list(seconds.values()), axis=0)
    return seconds | {"ending": [max(0.0, a - b) for a, b in zip(whole, parts, strict=True)], "whole": whole}


def told(seconds: Seconds) -> Seconds:
    """The parts, the longest first, with all programs that took less than `SMALL` seconds in one."""
    found: Seconds = collections.defaultdict(lambda: [0.0, 0.0])
    for part, (clock, processor) in seconds.items():
        kind, _, program = part.partition(" ")
        if program and kind in COMPILING.values() and processor < SMALL:
            part = f"{kind} small programs"
        found[part][0] += clock
        found[part][1] += processor
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def say(title: str, of_runs: dict[str, Seconds]) -> None:
    print(f"\n{title}: seconds of the clock, and of the processor")
    print(f"{'':<34}" + "".join(f"{name:>20}" for name in of_runs))
    parts = dict.fromkeys(part for seconds in of_runs.values() for part in seconds)
    for part in parts:
        cells = (seconds.get(part, [0.0, 0.0]) for seconds in of_runs.values())
        print(f"{part:<34}" + "".join(f"{clock:12.2f}{processor:8.2f}" for clock, processor in cells))


def help_seconds() -> list[float]:
    """Of the clock, and of the processor, for one `--help`."""
    began, used = time.perf_counter(), os.times()
    for _ in range(HELPS):
        command = [sys.executable, "-m", "ctd_jax.main", "--help"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    took, now = time.perf_counter() - began, os.times()
    processor = now.children_user + now.children_system - used.children_user - used.children_system
    return [took / HELPS, processor / HELPS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=DEMO, help=f"configuration ({DEMO})")
    parser.add_argument("--json", type=Path, help="also write the figures there, beside those of other names")
    parser.add_argument("--name", default="demo", help="of these figures (demo)")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    args, overrides = parser.parse_known_args()
    arguments = [f"--config={args.config}", *overrides]
    if args.inside:
        inside(args.inside, args.began, arguments)
        return
    with tempfile.TemporaryDirectory() as cache:
        found = {name: told(measured(arguments, Path(cache))) for name in ("empty cache", "second start")}
    say(args.name, found)
    helped = help_seconds()
    print(f"--help{helped[0]:40.2f}{helped[1]:8.2f}")
    if args.json:
        known = json.loads(args.json.read_text("utf-8")) if args.json.exists() else {}
        of_machine = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "help_s": helped}
        known |= {args.name: of_machine | found}
        args.json.write_text(json.dumps(rounded(known), indent=1) + "\n", encoding="utf-8")


def rounded(content: Any) -> Any:
    """The same with two digits of seconds."""
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [round(value, 2) for value in content]
    return content


if __name__ == "__main__":
    main()
