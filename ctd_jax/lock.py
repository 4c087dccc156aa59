"""One process at a time in a folder, and a message that says which one is there.

The kernel holds the lock (`flock`, also over NFS; on Windows a locked byte) and lets go of it when its owner dies,
however it dies. Where a file system doesn't know locks, or knows them on each host for itself, the owner's pulse
decides: it rewrites the lock file every `PULSE` seconds, and a newcomer watches whether it does. No clock of another
host is ever read.
"""

import contextlib
import errno
import importlib
import json
import logging
import os
import pathlib
import platform
import threading
import time
from collections.abc import Iterator
from typing import Any

from ctd_jax.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module that may be missing has no other type
try:
    msvcrt: Any = importlib.import_module("msvcrt")
except ImportError:  # not Windows
    msvcrt = None

NAME = ".lock"  # of the file, in the folder
PULSE = 10.0  # seconds
WATCH = 45.0  # seconds without a pulse: the owner is dead
LOCKED = 2**20  # the byte that Windows locks, which nobody can read then: far behind the content
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_log = logging.getLogger(__name__)


class InUse(UserError):
    """Another process holds the lock."""


@contextlib.contextmanager
def held(folder: pathlib.Path, *, wait: bool = False) -> Iterator[None]:
    """While the block runs, no other process is in a block of the same folder, which is made if there is none (and
    taken away again if nothing has been written there).

    Args:
      folder: what is locked.
      wait: for the other process to leave, instead of an error.

    Raises:
      InUse: another process holds it; the message says which, on which host and since when.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = _wait(folder) if wait else _enter(folder)
        if file is None:
            raise InUse(f"{folder} is in use by {_named(_read(folder))}; let it end, or give another folder")
        left = threading.Event()
        pulse = threading.Thread(target=_beat, args=(file, left), daemon=True)
        pulse.start()
        try:
            yield
        finally:
            left.set()
            pulse.join()
            _leave(folder, file)
    finally:
        for one in made:
            with contextlib.suppress(OSError):  # it is not empty
                one.rmdir()


def _wait(folder: pathlib.Path) -> int:
    file = _enter(folder)
    if file is None:
        _log.warning("waiting for %s, which is in use by %s", folder, _named(_read(folder)))
    while file is None:
        time.sleep(0.5)
        file = _enter(folder)
    return file


def _enter(folder: pathlib.Path) -> int | None:
    """The open lock file, ours now; None: another process holds it."""
    file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if _is_free(folder, file):
            _write(file, 0)
            return file
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None


def _is_free(folder: pathlib.Path, file: int) -> bool:
    locked = _lock(file)
    if locked is None or os.fstat(file).st_ino != _inode(folder):  # its last owner has just taken the file away
        return False
    before = _read(folder)
    here = locked and before.get("host") == platform.node()  # then the kernel has said that its owner is dead
    return not before or here or not _has_pulse(folder, before)


def _leave(folder: pathlib.Path, file: int) -> None:
    if msvcrt:  # Windows takes no file away that anybody has open: not this one before, and not a newcomer's after
        os.close(file)
    with contextlib.suppress(OSError):
        if _read(folder).get("process") == os.getpid():
            (folder / NAME).unlink()
    if not msvcrt:
        os.close(file)


def _inode(folder: pathlib.Path) -> int | None:
    try:
        return (folder / NAME).stat().st_ino
    except FileNotFoundError:
        return None


def _lock(file: int) -> bool | None:
    """Whether the lock is ours; False: this file system has none; None: it is another's."""
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt:
            os.lseek(file, LOCKED, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            return False
    except (BlockingIOError, PermissionError):  # of flock, of Windows
        return None
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return False
        raise
    return True


def _has_pulse(folder: pathlib.Path, before: dict[str, Any]) -> bool:
    _log.warning("%s was not left by %s; seeing for %.0f s whether it is alive", folder, _named(before), WATCH)
    until = time.monotonic() + WATCH
    while (same := _read(folder) == before) and time.monotonic() < until:
        time.sleep(min(1.0, WATCH / 10))
    return not same


def _beat(file: int, left: threading.Event) -> None:
    beats = 0
    while not left.wait(PULSE):
        beats += 1
        with contextlib.suppress(OSError):  # a full disk is for the work itself to find
            _write(file, beats)


def _write(file: int, beats: int) -> None:
    """In place, and always as long: a lock that is moved or cut off is no lock."""
    content = {"host": platform.node(), "process": os.getpid(), "since": _SINCE, "beats": beats}
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, json.dumps(content).encode().ljust(300))
    os.fsync(file)  # other hosts see it now


def _read(folder: pathlib.Path) -> dict[str, Any]:
    """What its owner wrote; opened anew each time, as NFS then asks the server. Empty: nothing, or not yet all."""
    try:
        found = json.loads((folder / NAME).read_text("utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _named(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    return f"process {owner.get('process')} on {owner.get('host')} (since {owner.get('since')})"


_SINCE = time.strftime("%Y-%m-%d %H:%M:%S %Z")
