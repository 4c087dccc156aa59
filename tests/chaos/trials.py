"""What is done to a run, and that it ends as one that was left alone, to the bit, or says what to do.

A trial raises AssertionError where it does not, and returns how it went.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence

import jax
import numpy as np

from ctd_jax import lock
from ctd_jax.training import checkpoint
from tests import tiny
from tests.chaos.command import Ended, Place, Running, read_trace

REPO = pathlib.Path(__file__).parents[2]
TIMES = 2  # the last columns of log.csv
IN_A_ROW = 4  # kills of one run, at most
SECONDS = 6.0  # the latest of random moments
LEFT_OVER = r"\.partial|incomplete|-tmp"  # in the name of a file that was not finished


@dataclasses.dataclass(frozen=True)
class Whole:
    """A run that was left alone."""

    arguments: list[str]
    data: pathlib.Path
    run: pathlib.Path
    places: list[Place]  # that it came to, each time one by one
    result: dict[str, object]


def whole_run(folder: pathlib.Path) -> Whole:
    """Trains the tiniest network of a folder, with a checkpoint at each of four steps, of which one is removed."""
    data = tiny.write_folder(folder / "faces", people=8, shots=1, size=32)
    shutil.copy(data / "images" / "000.png", data / "images" / "007.png")  # so that there is a twins.csv
    teacher = tiny.write_teacher(folder / "teacher.safetensors")
    arguments = tiny.arguments(teacher, data__root=data, eval__every=1)
    arguments = [f"--config={REPO / 'configs' / 'ft.py'}", *arguments]
    ended = Running(arguments, folder / "run", trace=folder / "trace").end()
    assert ended.code == 0, ended.error
    return Whole(arguments, data, folder / "run", read_trace(folder / "trace"), result(folder / "run"))


def result(run: pathlib.Path) -> dict[str, object]:
    """All that must be equal: the names of files, the numbers in them but for times, and every array to the bit. A lock
    file that a dead process has left holds nobody."""
    found: dict[str, object] = {"names": sorted(path.name for path in run.iterdir() if path.name != lock.NAME)}
    found |= {path.name: path.read_text("utf-8") for path in [*run.glob("*.csv"), run / "config.json"]}
    found["log.csv"] = [line.rsplit(",", TIMES)[0] for line in (run / "log.csv").read_text("utf-8").splitlines()]
    found |= json.loads((run / "metrics.json").read_text("utf-8")) | {"seconds": 0}
    for folder in sorted((run / "checkpoints").iterdir()):
        leaves = jax.tree_util.tree_leaves_with_path(checkpoint.read(folder))
        found[folder.name] = [(jax.tree_util.keystr(path), np.asarray(leaf).tobytes()) for path, leaf in leaves]
    return found


def go_on(whole: Whole, run: pathlib.Path) -> None:
    """Starts the command once more; what it leaves must be the same as that of `whole`."""
    ended = Running(whole.arguments, run).end()
    assert ended.code == 0, ended.error
    assert_same(whole, run)


def assert_same(whole: Whole, run: pathlib.Path, but: str = "") -> None:
    found = result(run)
    assert found.keys() == whole.result.keys()
    differ = [key for key in found if found[key] != whole.result[key] and key != but]
    assert not differ, {key: (found[key], whole.result[key]) for key in differ if len(str(found[key])) < 2000} or differ
    left = [str(path) for path in run.rglob("*") if re.search(LEFT_OVER, str(path.relative_to(run)))]
    assert not left


def assert_refused(ended: Ended, *parts: str) -> None:
    """One message of which `parts` are parts, and nothing of Python's."""
    assert ended.code == 2, ended
    assert ended.error.count("error: ") == 1 and "Traceback" not in ended.error, ended.error
    for part in parts:
        assert part in ended.error, ended.error


def kill(whole: Whole, run: pathlib.Path, deaths: Sequence[Place | float]) -> int:
    """Kills a run, and each that continues it, until it has ended, and compares; returns how many of the deaths it
    died.

    Args:
      whole: the run that was left alone.
      run: folder for this one.
      deaths: one for each start: a place, or seconds after the start.
    """
    killed = 0
    for death in deaths:
        place = death if isinstance(death, Place) else None
        running = Running(whole.arguments, run, die_at=place)
        if place is None and running.wait(death) is None:
            running.process.kill()
        ended = running.end()
        assert ended.code in (0, -signal.SIGKILL), ended
        assert "Traceback" not in ended.error, ended.error
        if ended.code == 0:  # it did not come to that place again
            break
        killed += 1
    go_on(whole, run)
    shutil.rmtree(run)
    return killed


def kill_often(whole: Whole, run: pathlib.Path, number: int, draw: random.Random) -> int:
    """Kills runs, each several times, until there have been so many kills; returns the number of runs.

    The places are all where a run comes to first, or, if that is more than the number, as many spread over its life;
    then places at any time in it. Of half of the runs the last kill comes at a random moment.
    """
    first = [place for place in whole.places if place.time == 1]
    spread = [first[i * len(first) // number] for i in range(number)] if number < len(first) else first
    waiting, killed, runs = draw.sample(spread, len(spread)), 0, 0
    while killed < number:
        some = waiting[:IN_A_ROW] or draw.sample(whole.places, IN_A_ROW)
        deaths: list[Place | float] = sorted(some[: number - killed], key=whole.places.index)
        if draw.random() < 0.5:
            deaths[-1] = draw.uniform(0, SECONDS)
        died = kill(whole, run, deaths)
        assert died or not isinstance(deaths[0], Place), f"no run comes to {deaths[0]} any more"
        waiting = [place for place in waiting if place not in deaths[:died]]
        killed, runs = killed + died, runs + 1
        print(f"{killed} kills of {runs} runs, {len(waiting)} places to come", flush=True)
    return runs


def midway(whole: Whole, run: pathlib.Path) -> pathlib.Path:
    """A run that was killed while it wrote its third checkpoint: two are whole."""
    third = next(place for place in whole.places if place.name == "checkpoints/" and place.time == 3)
    assert Running(whole.arguments, run, die_at=third).end().code == -signal.SIGKILL
    return run


def stop(whole: Whole, run: pathlib.Path, when: Place | float) -> str:
    """Asks a run to stop with SIGTERM, at a place or after so many seconds, and continues it; returns "stopped", or
    "late" or "early" where it had ended already, or Python had not begun."""
    place = when if isinstance(when, Place) else None
    running = Running(whole.arguments, run, die_at=place, by=signal.SIGTERM)
    if place is None and running.wait(when) is None:
        running.process.terminate()
    ended = running.end()
    kinds = {0: "late", 1: "stopped", -signal.SIGTERM: "early"}
    assert ended.code in kinds and "Traceback" not in ended.error, ended
    assert ("stopped by SIGTERM" in ended.error) == (ended.code == 1), ended.error
    go_on(whole, run)
    shutil.rmtree(run)
    return kinds[ended.code]


def start_twice(whole: Whole, run: pathlib.Path) -> None:
    """While one process works the next is refused, and changes nothing of what becomes of the first."""
    first = Running(whole.arguments, run)
    while not (run / lock.NAME).exists():
        assert first.wait(0.01) is None
    second = Running(whole.arguments, run).end()
    assert_refused(second, f"is in use by process {first.process.pid} on ")
    assert first.end().code == 0
    assert_same(whole, run)
    shutil.rmtree(run)


def change_data(whole: Whole, before: pathlib.Path, run: pathlib.Path) -> None:
    """A picture, then an annotation, of a run that was killed has changed meanwhile; then they are as they were."""
    shutil.copytree(before, run)
    was, table = contents(run), (whole.data / "landmarks.csv").read_bytes()
    changes = {
        "images/001.png": ((whole.data / "images" / "002.png").read_bytes(), "pictures, or their order, are not those"),
        "landmarks.csv": (re.sub(rb"[.]\d", b".5", table), "have changed since it began"),
    }
    for name, (content, message) in changes.items():
        kept = (whole.data / name).read_bytes()
        (whole.data / name).write_bytes(content)
        ended = Running(whole.arguments, run).end()
        (whole.data / name).write_bytes(kept)
        assert_refused(ended, message, "start again in a new --workdir")
        assert {name for name, content in was.items() if contents(run)[name] != content} == set()
    go_on(whole, run)
    shutil.rmtree(run)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name != lock.NAME}


# ---------------------------------------------------------------- a disk that is full


@contextlib.contextmanager
def small_disk(place: pathlib.Path, kib: int):
    """A file system of its own at `place`, with room for so many KiB;
    gives a function that makes it large."""

    def size(kib, *remount):
        options = ",".join([*remount, f"size={kib}k"])
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True, capture_output=True)

    place.mkdir()
    size(kib)
    try:
        yield lambda: size(2**18, "remount")
    finally:
        subprocess.run(["umount", place], check=True)


def can_mount(place: pathlib.Path) -> bool:
    try:
        with small_disk(place, 4):
            return os.geteuid() == 0
    except (OSError, subprocess.CalledProcessError):
        return False


def size_kib(folder: pathlib.Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*")) / 1024


def fill_disk(whole: Whole, place: pathlib.Path, kib: int) -> None:
    """A run finds the disk full; with more room it continues."""
    with small_disk(place, kib) as resize:
        ended = Running(whole.arguments, place / "run").end()
        assert_refused(ended, "No space left on device", "make room")
        resize()
        go_on(whole, place / "run")


# ---------------------------------------------------------------- files that are damaged


def cut(path: pathlib.Path, random: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: random.randrange(len(content) or 1)])


def flip(path: pathlib.Path, random: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def delete(path: pathlib.Path, random: random.Random) -> None:
    path.unlink()


DAMAGES = {"torn": cut, "flipped": flip, "deleted": delete}


def damage(whole: Whole, before: pathlib.Path, run: pathlib.Path, name: str, how: str, seed: int) -> str:
    """Damages a file of a run that was killed, and continues it; returns "same" or "refused". The rows that log.csv has
    lost don't come back, which is said; a digit of it that has changed is not noticed."""
    shutil.copytree(before, run)
    DAMAGES[how](run / name, random.Random(seed))
    ended = Running(whole.arguments, run).end()
    if ended.code == 0:
        assert_same(whole, run, but=name if name == "log.csv" else "")
        assert how == "flipped" or name != "log.csv" or "log.csv is damaged" in ended.error
    else:
        assert_refused(ended)
    shutil.rmtree(run)
    return "same" if ended.code == 0 else "refused"
