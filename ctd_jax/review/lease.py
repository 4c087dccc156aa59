"""One window at a time edits for a rater, and knows all that the others have done before."""

import threading
import time

EXPIRES = 90.0  # seconds without a word; a window in the background says one a minute


class Lease:
    """Which window may edit."""

    def __init__(self) -> None:
        self._window: str | None = None  # None: this server has seen none; "": the last one has left
        self._seen = 0.0
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def claim(self, window: str, *, take: bool = False) -> bool:
        """Whether a window that is being opened may edit: no other does, or it takes over."""
        with self._lock:
            self._known.add(window)
            is_free = self._window in (None, "", window) or time.monotonic() - self._seen > EXPIRES
            return (take or is_free) and self._hold(window)

    def holds(self, window: str) -> bool:
        """Whether a window that this server has opened may still edit: no other has been opened since."""
        with self._lock:
            return self._window == window and self._hold(window)

    def knows(self, window: str) -> bool:
        """Whether a window has asked to be opened here, and is not of a server before this one."""
        return window in self._known

    def leave(self, window: str) -> None:
        with self._lock:
            if self._window == window:
                self._window = ""

    def _hold(self, window: str) -> bool:
        self._window, self._seen = window, time.monotonic()
        return True
