"""Contestants: programs to be compared, each a process of its own, that take turns call by call, so that a busy machine
slows all of them."""

import contextlib
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np


def peak_memory(library: str) -> int:
    """Bytes: of the device where it counts them, else of the process.

    Args:
      library: "torch" or "jax", of this process.
    """
    if library == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
    else:
        import jax

        if jax.devices()[0].memory_stats():
            return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _serve(connection: Connection, make: Callable[..., Any], case: dict[str, Any]) -> None:
    """A contestant's process: builds, then runs what it is asked for and answers with its result, or how many
    seconds it took."""
    try:
        contestant = make(**case)
        connection.send("ready")
        while (message := connection.recv()) != "end":
            call, arguments = message
            if call == "memory":
                connection.send(peak_memory(getattr(contestant, "library", "jax")))
            elif call == "steps":
                connection.send(contestant.steps_per_call)
            else:
                start = time.perf_counter()
                answer = getattr(contestant, call)(*arguments)
                connection.send(time.perf_counter() - start if answer is None else answer)
    except Exception as error:
        connection.send(error)


class Contestant:
    """A process with one contestant in it; `wait` until it is built before the first call."""

    def __init__(self, make: Callable[..., Any], **case: Any):
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, make, case), daemon=True)
        self._process.start()

    def wait(self) -> None:
        self._answer()

    def __call__(self, what: str, *arguments: Any) -> Any:
        self._connection.send((what, arguments))
        return self._answer()

    def _answer(self) -> Any:
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> None:
        self._connection.send("end")
        self._process.join()


@contextlib.contextmanager
def contestants(makers: dict[str, tuple[Callable[..., Any], dict[str, Any]]]) -> Iterator[dict[str, Contestant]]:
    """Those that work on this machine, ready; why another does not is printed."""
    found = {name: Contestant(make, **case) for name, (make, case) in makers.items()}
    for name, contestant in list(found.items()):
        try:
            contestant.wait()
        except Exception as error:
            print(f"  {name} left out: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
            del found[name]
    try:
        yield found
    finally:
        for contestant in found.values():
            contestant.end()


def race(runners: dict[str, Contestant], call: str, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of a step: the median, and the first, with compilation, where a call has several: less the others. Who
    fails at the first call is left out."""
    first = {}
    for name, runner in list(runners.items()):
        try:
            first[name] = runner(call)
            runner(call)
        except Exception as error:
            print(f"  {name} left out: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
            del runners[name]
    seconds = {name: [] for name in runners}
    for _ in range(repeats):
        for name, runner in runners.items():
            seconds[name].append(runner(call))
    found = {}
    for name, of_calls in seconds.items():
        steps = runners[name]("steps") if call == "train" else 1
        each = float(np.median(of_calls)) / steps
        found[name] = {"seconds": each, "first": first[name] - (steps - 1) * each}
    return found
