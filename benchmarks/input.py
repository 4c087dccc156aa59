"""Whether the input keeps up with the step, and whether a folder larger than the memory for it can be trained on.

    python -m benchmarks.input --data=DIR --teacher=FILE [--size=112] [--batch=8] [--json=input.json]
    python -m benchmarks.input --streaming [--pictures=20000] [--cap_mib=2000] [--folder=DIR] [--json=streaming.json]

The first: seconds of training steps on the pictures of a landmark folder, decoded once (`cached`) and at every use
(`streamed`), over those of the same steps on one batch that stays (`constant`), and the share of them spent waiting for
the next batch. Each is a process of its own, and they take turns. Each step is waited for: in a training, where they
are not, the wait hides behind the step before.

The second makes a folder of many drawn faces, prepares it and runs the demo on it with `data.cache_mib=64`: seconds and
resident memory of each. With --cap_mib it fails (exit code 1) where a process needs more.
"""

import argparse
import csv
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import contestants
from benchmarks.step import Ours, machine

STEPS = 20  # at a turn
INPUTS = {"constant": 2048, "cached": 2048, "streamed": 0}  # data.cache_mib
PEOPLE = 400  # of the drawn folder
SIDE = 192  # pixels of its pictures
TRAINING = {"data.cache_mib": 64, "data.image_size": 128, "train.steps": 200, "eval.every": 100}


class Fed(Ours):
    """The program of `ctd_jax.main`, fed from a landmark folder.

    Args:
      kind: one of `INPUTS`.
      batch: pictures in a batch.
      size: side of the network's picture, pixels.
      root: the landmark folder.
      teacher: file of the teacher's weights.
      cache: folder for prepared pictures and compiled programs.
    """

    def __init__(self, *, kind: str, batch: int, size: int, root: str, teacher: str, cache: str):
        import jax

        from configs import ctd_ed
        from ctd_jax import data
        from ctd_jax.tasks.landmarks import LandmarkTask
        from ctd_jax.training import memory

        memory.keep()
        jax.config.update("jax_compilation_cache_dir", cache)  # all three compile the same
        config = ctd_ed.get_config()
        config.data.root, config.data.image_size, config.data.cache_mib = root, size, INPUTS[kind]
        config.teacher.weights, config.data.on_device = teacher, "no"
        job = LandmarkTask(config, data.load(config.data, Path(cache)))
        self._start(job, batch)
        self._batches = job.train.training_batches(batch_size=batch, seed=0, start=0)
        self._constant = kind == "constant"
        self.wait = 0.0

    def _argument(self) -> Any:
        return self._parallel.shard(self._batch)

    def steps(self) -> None:
        self.wait = 0.0
        for _ in range(STEPS):
            began = time.perf_counter()
            self._batch = self._batch if self._constant else next(self._batches)
            self.wait += time.perf_counter() - began
            self.train()

    def waited(self) -> float:
        return self.wait


def keeping_up(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        case = {"batch": args.batch, "size": args.size, "cache": cache}
        case |= {"root": str(args.data), "teacher": str(args.teacher)}
        with contestants({kind: (Fed, {"kind": kind} | case) for kind in INPUTS}) as runners:
            seconds, waits = {kind: [] for kind in INPUTS}, {kind: [] for kind in INPUTS}
            for turn in range(args.repeats + 1):
                for kind, runner in runners.items():
                    took = runner("steps")
                    if turn:  # the first compiles
                        seconds[kind].append(took)
                        waits[kind].append(runner("waited"))
    median = {kind: float(np.median(values)) for kind, values in seconds.items()}
    results = {
        kind: {
            "step_ms": 1e3 * median[kind] / STEPS,
            "ratio": median[kind] / median["constant"],
            "wait_share": float(np.median(np.divide(waits[kind], seconds[kind]))),
        }
        for kind in INPUTS
    }
    print(f"{'input':<12}{'ms a step':>10}{'of constant':>12}{'waiting':>9}")
    for kind, entry in results.items():
        print(f"{kind:<12}{entry['step_ms']:10.1f}{entry['ratio']:12.3f}{entry['wait_share']:9.2%}")
    return {"batch": args.batch, "size": args.size, "teacher": args.teacher.name, "inputs": results}


def make_folder(root: Path, number: int) -> None:
    """A landmark folder of `number` pictures: faces drawn once for each of `PEOPLE`, each time with another place,
    brightness and noise. Split by person: a tenth each for val and test."""
    from PIL import Image

    from ctd_jax.data import synthetic
    from ctd_jax.data.prefetch import map_in_threads

    (root / "images").mkdir(parents=True)
    faces = synthetic.faces(range(PEOPLE), 1, size=SIDE, seed=0)

    def write(i: int) -> list[Any]:
        rng = np.random.default_rng(i)
        person, shift = i % PEOPLE, rng.integers(-8, 9, 2)
        picture = np.roll(faces["pictures"][person], shift[::-1], (0, 1)) * rng.uniform(0.7, 1.2)
        picture += rng.normal(0, 6, picture.shape)
        image = f"images/{i:06d}.jpg"
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(root / image, quality=90)
        part = {0: "val", 1: "test"}.get(person % 10, "train")
        return [image, faces["subjects"][person], part, *(faces["xy"][person] + shift).round(2).ravel().tolist()]

    columns = [f"{name}_{axis}" for name in synthetic.LANDMARKS for axis in "xy"]
    with (root / "landmarks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "subject", "split", *columns])
        writer.writerows(map_in_threads(write, range(number)))
    known = {"landmarks": synthetic.LANDMARKS, "flip_pairs": synthetic.FLIP_PAIRS, "normalizer": synthetic.NORMALIZER}
    (root / "dataset.json").write_text(json.dumps(known), encoding="utf-8")


def resident_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def prepare(root: Path, cache: Path) -> list[dict[str, Any]]:
    """What happens to a folder before its first training: reading (tables, checksums), and the prepared copy."""
    from ctd_jax.data import builder
    from ctd_jax.data.points import read_folder

    rows = [{"stage": "imported", "seconds": 0.0, "resident_mib": resident_mib()}]
    for stage in ("read", "copied"):
        began = time.perf_counter()
        if stage == "read":
            table = read_folder(root)
        else:
            builder.pictures(root, table, cache)
        rows.append({"stage": stage, "seconds": time.perf_counter() - began, "resident_mib": resident_mib()})
    return rows


def train(root: Path, cache: Path, workdir: Path) -> tuple[list[dict[str, Any]], list[float]]:
    """The demo on the folder, watched from outside. Returns the most resident memory by stage, and images/s."""
    command = [sys.executable, "-m", "ctd_jax.main", "--config=configs/ctd_ed.py", f"--workdir={workdir}"]
    command += [f"--config.{key}={value}" for key, value in ({"data.root": root} | TRAINING).items()]
    began, rows = time.perf_counter(), []
    process = subprocess.Popen(command, env=os.environ | {"TFDS_DATA_DIR": str(cache)}, stdout=subprocess.DEVNULL)
    log = workdir / "log.csv"

    def steps() -> list[dict[str, str]]:
        return list(csv.DictReader(log.read_text(encoding="utf-8").splitlines())) if log.exists() else []

    stages = {
        "before the first step": log.exists,
        "step 100": lambda: any(row["step"] == "100" for row in steps()),
        "after the last step": lambda: any(row["step"] == str(TRAINING["train.steps"]) for row in steps()),
        "evaluated": (workdir / "report.html").exists,
    }
    while process.poll() is None:
        for stage, reached in list(stages.items())[len(rows) :]:
            if not reached():
                break
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            most = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), None)
            if most:
                now = time.perf_counter() - began
                rows.append({"stage": stage, "seconds": now, "resident_mib": int(most) / 1024})
        time.sleep(0.05)
    if process.returncode:
        sys.exit(f"the training ended with exit code {process.returncode}")
    return rows, [float(row["images_per_s"]) for row in steps()[1:] if row["images_per_s"]]


def streaming(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "faces"
        if not folder.exists():
            make_folder(folder, args.pictures)
        sizes = [path.stat().st_size for path in (folder / "images").iterdir()]
        print(f"{len(sizes)} pictures, {sum(sizes) / 2**20:.0f} MiB, on average {np.mean(sizes) / 1024:.1f} KiB")
        cache = Path(temporary) / "tfds"
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            preparing = pool.apply(prepare, (folder, cache))
        training, rates = train(folder, cache, Path(temporary) / "run")
    for title, rows in (("preparing", preparing), ("training", training)):
        print(f"\n{title:<24}{'seconds':>9}{'most resident, MiB':>20}")
        for row in rows:
            print(f"  {row['stage']:<22}{row['seconds']:9.1f}{row['resident_mib']:20.0f}")
    rate = float(np.median(rates))
    print(f"\ntraining: {rate:.0f} pictures/s")
    result = {"pictures": len(sizes), "mib": sum(sizes) / 2**20, "cap_mib": args.cap_mib, "settings": TRAINING}
    return result | {"preparing": preparing, "training": training, "images_per_s": rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a landmark folder with real pictures")
    parser.add_argument("--teacher", type=Path, help="a teacher's weights (.safetensors)")
    parser.add_argument("--batch", type=int, default=8, help="pictures in a batch (8)")
    parser.add_argument("--size", type=int, default=112, help="side of the network's pictures, pixels (112)")
    parser.add_argument("--repeats", type=int, default=5, help=f"turns of {STEPS} steps (5)")
    parser.add_argument("--streaming", action="store_true", help="the second benchmark instead")
    parser.add_argument("--pictures", type=int, default=20_000, help="of the folder that it makes (20000)")
    parser.add_argument("--folder", type=Path, help="where it is made, and kept for the next time; default: nowhere")
    parser.add_argument("--cap_mib", type=float, help="most resident memory, MiB")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    if not args.streaming and not (args.data and args.teacher):
        parser.error("give --data and --teacher, or --streaming")
    result = streaming(args) if args.streaming else keeping_up(args)
    if args.json:
        known = {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
        args.json.write_text(json.dumps(known | result, indent=1) + "\n", encoding="utf-8")
    if args.streaming and args.cap_mib:
        most = max(row["resident_mib"] for row in (*result["preparing"], *result["training"]))
        if most > args.cap_mib:
            sys.exit(f"resident memory of {most:.0f} MiB; expected at most {args.cap_mib:.0f}")


if __name__ == "__main__":
    main()
