"""Being asked to stop: SIGTERM of a cluster's scheduler, Ctrl-C of a person."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None  # of a signal


class Stopped(KeyboardInterrupt):
    """A training that was asked to stop has stopped; its text says what is kept."""


class Signals:
    """Context of a run. Within `noted`, SIGTERM and the first Ctrl-C are noted, and the training looks for them between
    two steps; a second Ctrl-C ends the run where it is, as either of them does outside of `noted`. In another thread
    than the main one it does nothing."""

    def __init__(self) -> None:
        self._noting = False
        self._asked = ""
        self._before: dict[int, Handler] = {}

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
        """The name of the signal that asked this run to stop, "" if there was none.

        Args:
          together: all processes call this now, and each gets the signal that any of them got. Otherwise a run of
            several processes gets "", because one of them can't stop alone.
        """
        if jax.process_count() == 1:
            return self._asked
        if not together:
            return ""
        name = np.frombuffer(self._asked.encode().ljust(16), np.uint8)
        names = [line.tobytes().decode().strip() for line in multihost_utils.process_allgather(name)]
        return next(filter(None, names), "")


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
