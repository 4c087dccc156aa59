"""One process at a time in a folder."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import platform
import subprocess
import sys
import threading
import time
import types

import pytest

from ctd_jax import lock
from ctd_jax.errors import UserError

REPO = pathlib.Path(__file__).parents[1]
HOLD = """
import pathlib, sys, time
from ctd_jax import lock
with lock.held(pathlib.Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def another(folder):
    """A process of its own that holds `folder`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], cwd=REPO, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "in\n"
        try:
            yield process
        finally:
            process.kill()


def left(folder, **changes):
    """What a killed owner leaves behind."""
    folder.mkdir(exist_ok=True)
    content = {"host": platform.node(), "process": 1, "since": "then", "beats": 3} | changes
    (folder / lock.NAME).write_text(json.dumps(content))


def test_the_second_is_told_who_is_there_and_a_dead_owner_holds_nothing(tmp_path):
    folder = tmp_path / "run"
    with another(folder) as process:
        before = (folder / lock.NAME).read_bytes()
        with pytest.raises(UserError) as told, lock.held(folder):
            pass
        for part in (str(folder), f"process {process.pid} on {platform.node()} (since 20", "another folder"):
            assert part in str(told.value)
        assert (folder / lock.NAME).read_bytes() == before
        process.kill()
        process.wait()
        assert (folder / lock.NAME).exists()
        with lock.held(folder):
            assert json.loads((folder / lock.NAME).read_text())["process"] == os.getpid()
    assert list(folder.iterdir()) == []


def test_a_folder_that_it_made_and_nobody_used_is_gone(tmp_path):
    with lock.held(tmp_path / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == []
    with lock.held(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "result").touch()
    assert (tmp_path / "a" / "b" / "result").exists()


def test_it_is_left_when_the_work_fails(tmp_path):
    with pytest.raises(KeyError), lock.held(tmp_path):
        raise KeyError
    with lock.held(tmp_path):
        pass


def test_waiting_for_the_other(tmp_path):
    entered = []

    def second():
        with lock.held(tmp_path, wait=True):
            entered.append(time.monotonic())

    with lock.held(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        assert not entered
    thread.join(5)
    assert entered


@pytest.mark.parametrize("locks", [True, False])
def test_a_host_without_a_pulse_is_dead(tmp_path, monkeypatch, caplog, locks):
    """A host is another one, or where the file system has no locks."""
    monkeypatch.setattr(lock, "WATCH", 0.2)
    if not locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    left(tmp_path, host="elsewhere" if locks else platform.node())
    with lock.held(tmp_path):
        pass
    assert "process 1 on" in caplog.text and "alive" in caplog.text


@pytest.mark.parametrize("locks", [True, False])
def test_a_host_with_a_pulse_is_not(tmp_path, monkeypatch, locks):
    monkeypatch.setattr(lock, "WATCH", 2.0)
    if not locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    left(tmp_path, host="elsewhere")
    timer = threading.Timer(0.3, lambda: left(tmp_path, host="elsewhere", beats=4))
    timer.start()
    with pytest.raises(UserError, match="in use by process 1 on elsewhere"), lock.held(tmp_path):
        pass
    timer.join()
    assert (tmp_path / lock.NAME).exists()


def test_the_owner_has_a_pulse(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "PULSE", 0.02)
    with lock.held(tmp_path):
        time.sleep(0.3)
        assert json.loads((tmp_path / lock.NAME).read_text())["beats"] > 1


@pytest.mark.parametrize("content", ["", "{", "[]", "\0" * 300, pytest.param("[" * 99999, id="nested too deep")])
def test_a_damaged_lock_file_holds_nobody(tmp_path, content):
    (tmp_path / lock.NAME).write_text(content)
    with lock.held(tmp_path):
        pass


@pytest.fixture
def windows(monkeypatch):
    """Locks as on Windows: a byte of an open file, and no open file can be taken away."""
    held, close, unlink = set(), os.close, pathlib.Path.unlink

    def locking(file, mode, number):
        assert (mode, number, os.lseek(file, 0, os.SEEK_CUR)) == ("LK_NBLCK", 1, lock.LOCKED)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error
        held.add(file)

    def closed(file):
        held.discard(file)
        close(file)

    def unlinked(path, **how):
        if held and path.name == lock.NAME:
            raise PermissionError(errno.EACCES, "used by another process")
        unlink(path, **how)

    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setattr(lock, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK="LK_NBLCK"))
    monkeypatch.setattr(os, "close", closed)
    monkeypatch.setattr(pathlib.Path, "unlink", unlinked)
    monkeypatch.delattr(os, "pwrite")


def test_on_windows_the_second_is_told_and_the_file_is_gone_afterwards(windows, tmp_path, caplog):
    with lock.held(tmp_path):
        owner = f"in use by process {os.getpid()}"
        with pytest.raises(UserError, match=owner), lock.held(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []
    left(tmp_path)
    with lock.held(tmp_path):  # of a dead owner here: the kernel has let go of its byte
        pass
    assert list(tmp_path.iterdir()) == [] and not caplog.text


def no_locks(*_):
    raise OSError(errno.ENOLCK, "no locks available")
