"""One window at a time edits for a rater."""

import threading
import time

EXPIRES = 90.0  # seconds without a word; a window in the background says one a minute


class Lease:
    """Which window may edit."""

    def __init__(self) -> None:
        self._window = ""
        self._seen = 0.0
        self._lock = threading.Lock()

    def claim(self, window: str, *, take: bool = False) -> bool:
        """Whether `window` may edit: nobody else does, or it takes over."""
        with self._lock:
            now = time.monotonic()
            if take or self._window in ("", window) or now - self._seen > EXPIRES:
                self._window, self._seen = window, now
                return True
            return False

    def leave(self, window: str) -> None:
        with self._lock:
            if self._window == window:
                self._window = ""
