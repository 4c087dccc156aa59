"""Where it runs: a whole run without what Windows lacks."""

import csv
import os
import pathlib
import subprocess
import sys

import pytest
import tiny

pytestmark = pytest.mark.slow

REPO = pathlib.Path(__file__).parents[1]
ELSEWHERE = """
import os, platform, runpy, signal, sys, warnings
import psutil  # has a part of its own for each system

for name in ("array_record", "fcntl", "grp", "pwd", "resource", "termios", "uvloop"):
    sys.modules[name] = None
system, platform.system = platform.system, lambda: "Windows"
import grain  # does without array_record there
platform.system = system
for name in ("fork", "getpgid", "geteuid", "getuid", "killpg", "mkfifo", "O_DIRECTORY", "pwrite"):
    delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1"):
    delattr(signal, name)
# Text in UTF-8 wherever it is, and not as the machine has it.
warnings.filterwarnings("error", category=EncodingWarning, module=r"ctd_jax\\b|configs\\b")
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def elsewhere(*command):
    """A command in a process that lacks what Windows lacks: its standard output."""
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", ELSEWHERE, *map(str, command)],
        cwd=REPO,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},  # a terminal without ° and ²
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_without_what_windows_lacks_predicts_the_same_here(landmark_folder, teacher_file, tmp_path, cli):
    root, workdir = landmark_folder(), tmp_path / "run"
    small = tiny.arguments(teacher_file, data__root=root, train__steps=2)
    elsewhere("ctd_jax.main", f"--config={REPO / 'configs' / 'ctd_ed.py'}", f"--workdir={workdir}", *small)
    prepared = [path.name for path in (workdir / "tfds").rglob("*") if path.is_file()]
    assert sorted(prepared) == ["grey-1.json", "looks.npy", "pictures.zip"]
    assert not (workdir / ".lock").exists()
    table = tmp_path / "predicted.csv"
    code, _, error = cli("ctd_jax.predict", f"--workdir={workdir}", root / "images", f"--out={table}")
    assert code == 0, error
    with (workdir / "predictions.csv").open(newline="") as ours, table.open(newline="") as later:
        trained = {(row["image"], row["landmark"]): float(row["x"]) for row in csv.DictReader(ours)}
        again = {
            (f"images/{pathlib.Path(row['image']).name}", row["landmark"]): float(row["x"])
            for row in csv.DictReader(later)
        }
    assert trained and all(abs(again[key] - x) < 0.01 for key, x in trained.items())
