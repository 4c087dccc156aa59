"""A run that is killed wherever it writes continues, and ends as one that was left alone.

What is on the disk at each place is taken from one run: Python's audit events name every file and folder that it opens
for writing, makes, renames or removes, and at the first event of each name the workdir is copied, with half a file
where one is about to be written.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import tiny

from configs import ft
from ctd_jax import training_run

REPO = pathlib.Path(__file__).parents[1]
PARTS = 2  # of the places, for as many workers

TRACED = """
import os, pathlib, re, runpy, shutil, sys, threading

run, copies = map(pathlib.Path, sys.argv[1:3])
del sys.argv[1:3]
seen, busy, lock = set(), threading.local(), threading.Lock()

def copy(source, target):
    try:
        shutil.copy2(source, target)
    except FileNotFoundError:  # removed meanwhile
        pass

def watch(event, args):
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    changes = event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.truncate")
    if not (writes or changes) or getattr(busy, "now", False) or not isinstance(args[0], (str, bytes, os.PathLike)):
        return
    path = pathlib.Path(os.path.abspath(os.fsdecode(args[0])))
    if run not in path.parents:
        return
    path = path.relative_to(run)
    name = re.sub(r"[0-9a-f]{16,}|[0-9]{3,}|(?<=checkpoints/)[0-9]+|[.]orbax-checkpoint-tmp", "", str(path))
    with lock:
        if name in seen:
            return
        seen.add(name)
        busy.now = True
        target = copies / f"{len(seen):03d}"
        shutil.copytree(run, target / "run", copy_function=copy)
        (target / "name").write_text(name)
        if writes:
            (target / "run" / path).parent.mkdir(parents=True, exist_ok=True)
            with open(target / "run" / path, "ab") as file:
                file.write(b'3,{"half')
        busy.now = False

sys.addaudithook(watch)
sys.argv[0] = "ctd_jax.main"
runpy.run_module("ctd_jax.main", run_name="__main__")
"""


@pytest.fixture(scope="module")
def traced(landmark_folder, teacher_file, tmp_path_factory):
    """The configuration, the workdir of a run that was left alone, and copies of it at each place."""
    folder, root = tmp_path_factory.mktemp("traced"), landmark_folder(size=32, shots=1)
    changes = {"data__root": str(root)}
    arguments = [f"--config={REPO / 'configs' / 'ft.py'}", *tiny.arguments(teacher_file, **changes)]
    arguments.append(f"--workdir={folder / 'run'}")
    command = [sys.executable, "-c", TRACED, str(folder / "run"), str(folder / "copies"), *arguments]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tiny.config(teacher_file, ft, **changes), folder / "run", sorted((folder / "copies").iterdir())


def result(run):
    """All that must be equal: every file but the log's speed, the times and the pictures of the report."""
    found = {p.name: p.read_text() for p in run.glob("*.csv") if p.name != "log.csv"}
    found["log.csv"] = [line.rsplit(",", 2)[0] for line in (run / "log.csv").read_text().splitlines()]
    return found | json.loads((run / "metrics.json").read_text()) | {"seconds": 0}


def left_over(run):
    return [str(p) for p in run.rglob("*") if re.search(r"\.partial|incomplete|-tmp", str(p.relative_to(run)))]


def test_every_file_that_a_run_leaves_is_among_the_places(traced):
    """All but what TensorStore and ArrayRecord write, inside of folders that take their name when they are whole."""
    _, run, copies = traced
    names = [re.sub("[.]partial", "", (copy / "name").read_text()) for copy in copies]
    written = {str(p.relative_to(run)) for p in run.glob("*") if p.is_file()}
    assert written <= set(names)
    assert {"checkpoints/", "checkpoints//state", "checkpoints//meta/metadata", "tfds"} <= set(names), names
    assert not left_over(run)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_run_killed_at_any_place_ends_as_one_that_was_left_alone(traced, part):
    config, whole, copies = traced
    for copy in copies[part::PARTS]:
        name, run = (copy / "name").read_text(), copy / "run"
        training_run.train_and_evaluate(config, run)
        found, want = result(run), result(whole)
        assert found.keys() == want.keys(), name
        assert {key: (found[key], want[key]) for key in found if found[key] != want[key]} == {}, name
        assert {p.name for p in run.iterdir()} == {p.name for p in whole.iterdir()}, name
        assert not left_over(run), name
        shutil.rmtree(run)
