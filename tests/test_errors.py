"""What the system's errors mean to a user."""

import errno

import pytest

from ctd_jax import errors


def raised(error, cause=None):
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (OSError(errno.ENOSPC, "x", "/runs/a"), ["/runs/a: No space left on device", "make room"]),
        (PermissionError(errno.EACCES, "x", "/runs/a"), ["/runs/a: Permission denied", "rights"]),
        (OSError(errno.EROFS, "x", "/runs/a"), ["/runs/a: Read-only file system"]),
        (OSError(errno.ENAMETOOLONG, "x", "n" * 300), ["nnn: File name too long", "shorter"]),
        (OSError(errno.EMFILE, "x", "a"), ["Too many open files", "ulimit -n"]),
        (MemoryError(), ["not enough memory"]),
        # As tensorstore and array_record say it.
        (ValueError("RESOURCE_EXHAUSTED: Error writing '/runs/a/d/1': No space left on device [OS error 28]"),
         ["/runs/a/d/1: No space left on device", "make room"]),
        (raised(RuntimeError("saving failed"), OSError(errno.EDQUOT, "x", "b")), ["b: Disk quota exceeded"]),
        (ExceptionGroup("several", [KeyError("a"), OSError(errno.EIO, "x", "c")]), ["c: Input/output error"]),
    ],
)  # fmt: skip
def test_it_is_said_what_to_do(error, parts):
    told = errors.of_system(error)
    for part in parts:
        assert part in told


@pytest.mark.parametrize("error", [ValueError("a mistake of ours"), KeyError("x"), OSError("no number"), IndexError()])
def test_other_errors_are_ours(error):
    assert errors.of_system(error) is None
