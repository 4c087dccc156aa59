"""Being asked to stop: SIGTERM of a cluster's scheduler, Ctrl-C of a person."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

import jax
import numpy as np
from jax.experimental import multihost_utils


class Stopped(KeyboardInterrupt):
    """A training that was asked to stop has stopped; its text says what is kept."""


class Signals:
    """Context of a run. Within `noted`, SIGTERM and the first Ctrl-C are noted, and the training looks for them between
    two steps; a second Ctrl-C, and both at other times, end the run where it is. Elsewhere than in the main thread it
    does nothing."""

    def __init__(self) -> None:
        self._noting = False
        self._asked = ""
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._note) for one in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Context in which the training calls `asked` now and then."""
        self._noting = True
        try:
            yield
        finally:
            self._noting = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        before, self._asked = self._asked, _name(number)  # in any case: Python drops what is raised in a callback
        if not self._noting or (before and number == signal.SIGINT):
            raise Stopped(f"stopped by {_name(number)}; the same command continues from the last checkpoint, if any")

    def asked(self, *, together: bool) -> str:
        """What this run was asked to stop by, "" if it wasn't. `together`: all processes are here, and hear of it if
        any of them was asked; else one of several says "", as it can't stop alone."""
        if jax.process_count() == 1:
            return self._asked
        if not together:
            return ""
        own = np.frombuffer(self._asked.encode().ljust(16), np.uint8)
        heard = [line.tobytes().decode().strip() for line in multihost_utils.process_allgather(own)]
        return next(filter(None, heard), "")


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
