"""The exception that means that the user can mend something, and what the system's errors mean to a user."""

import errno
import os
import re
from collections.abc import Iterator

_SPACE = "make room there, then start the same command again: a training continues from its last checkpoint"
_RIGHTS = "give a place that you may read and write, or change its rights"
_GONE = "see that the disk or network folder is there and whole, then start the same command again"
REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "the file system, or `ulimit -f`, allows no larger files; raise the limit, then start again",
    errno.EROFS: "give a place that can be written to",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "its links lead in a circle; give the folder or file itself",
    errno.EMFILE: "raise `ulimit -n`, then start the same command again",
    errno.ENFILE: "close other programs, then start the same command again",
    errno.ENOENT: "see that it is still there, then start the same command again",
    errno.ENOTDIR: "a part of this path is a file; give a folder",
    errno.EISDIR: "this is a folder; give a file",
    errno.EIO: _GONE,
    errno.ESTALE: _GONE,
    errno.ENODEV: _GONE,
    errno.ENXIO: _GONE,
    errno.ETIMEDOUT: _GONE,
}
# Libraries in other languages pass on only the text of these, as a part of their own error.
_TEXTS = {
    os.strerror(getattr(errno, name)): getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "ENAMETOOLONG", "EMFILE", "ESTALE")
}


class UserError(ValueError):
    """A wrong input. The message, which commands print, says what was found, what was expected and what to do."""


def of_system(error: BaseException) -> str | None:
    """The message to the user about an error that the disk, a limit or a missing right has caused, directly or in the
    end; None: it is another kind of error."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in REMEDIES:
            where = f"{cause.filename}: " if cause.filename is not None else ""
            return f"{where}{os.strerror(cause.errno)}; {REMEDIES[cause.errno]}"
        if isinstance(cause, MemoryError):
            return "there is not enough memory; lower data.cache_mib or the batch size, or close other programs"
    for cause in _causes(error):
        for text, code in _TEXTS.items():
            if text.lower() in str(cause).lower():
                return f"{_path_in(str(cause))}{text}; {REMEDIES[code]}"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, what it was raised from or with, and the parts of a group."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop(0)
        if cause is not None and cause not in seen:
            seen.append(cause)
            yield cause
            waiting += [cause.__cause__, cause.__context__, *getattr(cause, "exceptions", ())]


def _path_in(text: str) -> str:
    found = re.search(r"(?<![\w.])/[^\s\"':;,\]]+", text)
    return f"{found[0]}: " if found else ""
