"""Several processes, on one machine or on many hosts, that carry out one run together. One alone is no special case.

All of them run the same program on the same files. Only the first (process 0) prepares, writes and prints.
"""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from ctd_jax.errors import UserError

START_TIMEOUT = 300  # seconds for all processes to start
END_TIMEOUT = 20  # seconds for the others to come to the same error, before this process leaves them
MAX_MESSAGE = 2000  # bytes of an error that the others are sent
T = TypeVar("T")

_EXPECTED = (
    "expected a cluster that JAX knows (Slurm, Open MPI, GKE, TPU pods), or for each process JAX_COORDINATOR_ADDRESS="
    "HOST:PORT (of process 0, a free port), JAX_NUM_PROCESSES and JAX_PROCESS_ID (0, 1, ...)"
)


def join() -> None:
    """Connects this process with the others, before any other use of JAX; all but the first print errors only.

    The cluster is found by JAX, or given by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. Where not
    all processes come within `START_TIMEOUT` seconds, the program ends with exit code 2.

    Raises:
      UserError: the environment is incomplete or wrong.
    """
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if address and not address.rpartition(":")[2].isdecimal():
        raise UserError(f"--distributed: JAX_COORDINATOR_ADDRESS is {address!r}; expected HOST:PORT")
    count, process = _number("JAX_NUM_PROCESSES"), _number("JAX_PROCESS_ID")
    # JAX itself would abort the program, with C++ traces.
    message = f"error: --distributed: not all processes came within {START_TIMEOUT} s; {_EXPECTED}"
    waiting = leave_after(START_TIMEOUT, 2, message)
    try:
        jax.distributed.initialize(num_processes=count, process_id=process, initialization_timeout=2 * START_TIMEOUT)
    except Exception as error:  # whatever it is, it comes from the environment
        raise UserError(f"--distributed: {error}; {_EXPECTED}") from error
    finally:
        waiting.cancel()
    if not is_first():
        logging.getLogger("ctd_jax").setLevel(logging.ERROR)


def _number(name: str) -> int | None:
    text = os.environ.get(name)
    if text and not text.isdecimal():
        raise UserError(f"--distributed: {name} is {text!r}; expected a whole number")
    return int(text) if text else None


def leave_after(seconds: float, code: int, message: str = "") -> threading.Timer:
    """Ends the program after that time, unless it has ended by then or the timer is cancelled."""

    def leave() -> None:
        os.write(2, f"{message}\n".encode() if message else b"")
        os._exit(code)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
    return timer


def leave(code: int) -> None:
    """Call it before this process ends by an error: if the others don't end too, this one no longer waits for them, and
    JAX ends them."""
    if jax.distributed.is_initialized():
        leave_after(END_TIMEOUT, code)


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def together(work: Callable[[], T]) -> T:
    """`work()`, where all processes wait for each other at the end, and none goes on if any has failed.

    Raises:
      UserError: in all processes if one raises it, so that none waits for it in vain.
      RuntimeError: in the others if one raises another error.
    """
    if jax.process_count() == 1:
        return work()
    error: Exception | None = None
    message = ""
    try:
        result = work()
    except Exception as raised:
        error = raised
        message = f"u{raised}" if isinstance(raised, UserError) else f"r{type(raised).__name__}: {raised}"
    content = message.encode()[:MAX_MESSAGE].ljust(MAX_MESSAGE)
    lines = multihost_utils.process_allgather(np.frombuffer(content, np.uint8))
    if error:
        raise error
    for process, line in enumerate(lines):
        if line := line.tobytes().decode(errors="ignore").rstrip():
            kind = UserError if line[0] == "u" else RuntimeError
            raise kind(f"process {process} of {len(lines)}: {line[1:]}")
    return result


def by_first(work: Callable[[], None]) -> None:
    """`work()` in the first process; the others wait. Raises as `together`."""
    together(lambda: work() if is_first() else None)


def first_then_others(work: Callable[[], T]) -> T:
    """`work()` in all processes; the others find what the first has prepared. Raises as `together`."""
    done: list[T] = []
    by_first(lambda: done.append(work()))
    return together(lambda: done[0] if done else work())


def check_same(facts: dict[str, Any]) -> None:
    """Raises UserError, in all processes, unless each fact (name -> what JSON can hold) is the same in all of them."""
    if jax.process_count() == 1:
        return
    digests = [hashlib.sha256(json.dumps(fact, sort_keys=True).encode()).digest() for fact in facts.values()]
    found = multihost_utils.process_allgather(np.frombuffer(b"".join(digests), np.uint8).reshape(len(facts), -1))
    differ = [name for name, column in zip(facts, found.swapaxes(0, 1), strict=True) if (column != column[0]).any()]
    if differ:
        raise UserError(
            f"the processes differ in their {' and '.join(differ)}; start all with the same command line and files"
        )
