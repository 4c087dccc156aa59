"""How long a command takes to start.

    python -m benchmarks.start [--repeats=3] [--json=start.json]

`--help` of every command, and the demo from the start of the process to the end of its first step, which is when
log.csv has it: with an empty compilation cache, and with the one that the run before has left.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.step import machine

COMMANDS = (
    *(f"ctd_jax.{name}" for name in ("main", "predict", "compare", "learning_curve")),
    *(f"convert.{name}" for name in ("mobilefacenet", "torchvision", "vggface2")),
)


def help_seconds(command: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", command, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def first_step_seconds(workdir: Path, cache: Path) -> float:
    command = [sys.executable, "-m", "ctd_jax.main", "--config=configs/ctd_ed.py", f"--workdir={workdir}"]
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--config.train.steps=1"],
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5"},
        stdout=subprocess.DEVNULL,
    )
    log, took = workdir / "log.csv", None
    while process.poll() is None:
        if took is None and log.exists() and "\n1," in log.read_text(encoding="utf-8"):
            took = time.perf_counter() - began
        time.sleep(0.01)
    if process.returncode or took is None:
        sys.exit(f"the demo ended with exit code {process.returncode}")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repeats", type=int, default=3, help="warm starts, and calls of --help; the median counts (3)"
    )
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    helps = {command: float(np.median([help_seconds(command) for _ in range(args.repeats)])) for command in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        first = [first_step_seconds(Path(folder) / f"run{i}", Path(folder) / "cache") for i in range(args.repeats + 1)]
    steps = {"empty cache": first[0], "second start": float(np.median(first[1:]))}
    for title, seconds in (("--help", helps), ("demo to its first step", steps)):
        print(f"\n{title}, seconds")
        for name, value in seconds.items():
            print(f"  {name:<24}{value:6.2f}")
    if args.json:
        known = {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
        args.json.write_text(
            json.dumps(known | {"help_s": helps, "first_step_s": steps}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
