"""New files and folders: whole or not at all, and nothing that is there is lost without --force."""

import contextlib
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from ctd_jax import files
from ctd_jax.errors import UserError


def check_free(out: pathlib.Path, force: bool, check_replaced: Callable[[], None]) -> None:
    """Raises UserError if `out` is there already and may not be replaced; `check_replaced` raises too, where --force
    would destroy something else."""
    if not out.parent.is_dir():
        raise UserError(f"--out: {out.parent} is no folder; make it first, or give another place")
    if not out.exists() and not out.is_symlink():
        return
    if out.is_dir() and not out.is_symlink() and not any(out.iterdir()):
        return
    if not force:
        raise UserError(f"--out: {out} is there already; give another name, or --force to replace it")
    check_replaced()


@contextlib.contextmanager
def new_folder(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty folder that takes the place of `out` when the block ends without an error. Warnings and errors of the
    block that name it say `out`."""
    new = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=files.PARTIAL, dir=out.parent))
    old = new.with_name(new.name + ".old")
    try:
        new.chmod(0o777 & ~_mask())
        with _called(new, out):
            yield new
        if out.exists():
            os.replace(out, old)
        os.replace(new, out)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not out.exists():
            os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _called(new: pathlib.Path, out: pathlib.Path) -> Iterator[None]:
    made = logging.getLogRecordFactory()

    def record(*args: Any, **more: Any) -> logging.LogRecord:
        one = made(*args, **more)
        one.msg, one.args = one.getMessage().replace(str(new), str(out)), ()
        return one

    logging.setLogRecordFactory(record)
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(new), str(out))) from error
    finally:
        logging.setLogRecordFactory(made)


def _mask() -> int:
    """The mask of the rights of new files, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
