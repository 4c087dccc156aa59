"""How fast are many pictures predicted, and does memory stay flat?

    python -m benchmarks.bulk [--pictures=2000] [--workdir=RUN] [--json=bulk.json]

Draws JPEG files of mixed sizes into a temporary folder, with a fixed seed, predicts them by the command and removes
them. Without --workdir the network is the demo's after one step, which is as fast as a good one. Prints pictures/s of
the network alone (on pictures of its own size in memory), and of the command from 10 to 90 % of the pictures; how many
processors it has used or waited for meanwhile, on average (as many as there are, or more: no faster with these); and
its resident memory at 10 %, 50 %, 90 % and 100 %.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import psutil
from PIL import Image

from benchmarks.step import machine
from ctd_jax.data.prefetch import map_in_threads

SIDES = 200, 1400  # pixels, of the smallest and the largest
LARGE = 4  # drawn pictures, which the files are cut from
SECONDS = 10  # of the network alone
POLL = 0.05  # seconds
MARKS = (0.1, 0.5, 0.9, 1.0)  # shares of the pictures, where memory is read; speed is from the first to the third


def draw(folder: pathlib.Path, number: int) -> float:
    """Writes the pictures; returns their MiB."""
    rng = np.random.default_rng(0)
    side = SIDES[1]

    def large() -> np.ndarray:
        shades = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        return np.clip(np.asarray(shades) + rng.normal(0, 4, (side, side, 1)), 0, 255).astype(np.uint8)

    sheets = [large() for _ in range(LARGE)]
    sizes = rng.integers(*SIDES, (number, 2))

    def write(i: int) -> int:
        width, height = sizes[i]
        path = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(sheets[i % LARGE][:height, :width]).save(path, quality=85)
        return path.stat().st_size

    return sum(map_in_threads(write, range(number))) / 2**20


def train(workdir: pathlib.Path) -> None:
    """The demo's network, after one step."""
    command = [sys.executable, "-m", "ctd_jax.main", "--config=configs/ctd_ed.py", f"--workdir={workdir}"]
    subprocess.run([*command, "--config.train.steps=1"], check=True, stdout=subprocess.DEVNULL)


def alone(workdir: pathlib.Path) -> float:
    """Pictures/s of the network, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_alone, (workdir,))


def _alone(workdir: pathlib.Path) -> float:
    from ctd_jax import Predictor
    from ctd_jax.training import memory

    memory.keep()
    predictor = Predictor(workdir)
    size, number = predictor.trained.config.data.image_size, predictor.batch_size
    pictures = np.random.default_rng(0).integers(0, 256, (number, size, size, 3), np.uint8)
    batch = {pathlib.Path(str(i)): picture for i, picture in enumerate(pictures)}
    predictor.see(batch, {})
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        predictor.see(batch, {})
        calls += 1
    return number * calls / (time.perf_counter() - began)


def predict(workdir: pathlib.Path, pictures: pathlib.Path, out: pathlib.Path, number: int) -> dict[str, Any]:
    """The command, watched from outside by the file that it keeps its batches in."""
    command = [sys.executable, "-m", "ctd_jax.predict", f"--workdir={workdir}", f"--out={out}", str(pictures)]
    began = time.perf_counter()
    process = subprocess.Popen(command)
    watched, kept = psutil.Process(process.pid), out.with_name(f"{out.name}.unfinished") / "1-of-1/batches.jsonl"
    done, at, seen = 0, 0, []

    def now() -> tuple[float, float, float]:
        return time.perf_counter() - began, _wanted(process.pid), watched.memory_info().rss / 2**20

    while process.poll() is None:
        time.sleep(POLL)
        try:
            with kept.open("rb") as file:
                file.seek(at)
                new = file.read()
            new = new[: new.rfind(b"\n") + 1]  # whole lines
        except FileNotFoundError:
            continue
        at += len(new)
        done += sum(len(json.loads(line).get("files", ())) for line in new.splitlines())
        if len(seen) < len(MARKS) and done >= MARKS[len(seen)] * number:
            seen.append((done, *now()))
    if process.returncode or len(seen) < len(MARKS):
        sys.exit(f"predict ended with exit code {process.returncode}, {done} of {number} pictures done")
    (few, first, wanted_first, _), (most, last, wanted_last, _) = seen[0], seen[2]
    return {
        "images_per_s": (most - few) / (last - first),
        "cores_wanted": (wanted_last - wanted_first) / (last - first),
        "seconds": time.perf_counter() - began,
        "resident_mib": {f"{share:.0%}": one[3] for share, one in zip(MARKS, seen, strict=True)},
    }


def _wanted(process: int) -> float:
    """Seconds that the threads of a process have been on a processor, or waited for one that others had (Linux)."""
    times = [path.read_text("utf-8").split()[:2] for path in pathlib.Path(f"/proc/{process}/task").glob("*/schedstat")]
    return sum(int(run) + int(wait) for run, wait in times) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000, help="number of them (2000)")
    parser.add_argument("--workdir", type=pathlib.Path, help="of a run; default: the demo's network after one step")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        (folder / "pictures").mkdir()
        mib = draw(folder / "pictures", args.pictures)
        print(f"{args.pictures} pictures of {SIDES[0]} to {SIDES[1]} px, {mib:.0f} MiB", flush=True)
        workdir = args.workdir or folder / "run"
        if not args.workdir:
            train(workdir)
        network = alone(workdir)
        found = predict(workdir, folder / "pictures", folder / "out.csv", args.pictures)
    print(f"network alone    {network:8.1f} pictures/s")
    print(f"predict          {found['images_per_s']:8.1f} pictures/s, {found['images_per_s'] / network:.2f} of that")
    print(f"processors       {found['cores_wanted']:8.1f} wanted, of {len(os.sched_getaffinity(0))}")
    print(f"whole command    {found['seconds']:8.1f} s")
    for share, resident in found["resident_mib"].items():
        print(f"resident at {share:<5}{resident:8.0f} MiB")
    if args.json:
        known = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "pictures": args.pictures}
        args.json.write_text(json.dumps(known | {"alone": network} | found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
