"""How long does `ctd-jax check` take for many pictures, and how large is its page?

    python -m benchmarks.check [--pictures=1000] [--side=512] [--json=check.json]

Makes a landmark folder of drawn faces, 30 landmarks each, JPEG files of `side` x `side` pixels, and runs the command on
it once, as a process of its own: its seconds, its largest memory, and the page's megabytes. With --within_s or
--within_mb it fails (exit code 1) where it takes more.
"""

import argparse
import csv
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

from PIL import Image

from benchmarks.step import machine
from ctd_jax.data import synthetic

DRAWN = 192  # pixels in which a face is drawn; then it is enlarged


def write_folder(root: pathlib.Path, number: int, side: int) -> None:
    """Writes a landmark folder of as many people, one picture each."""
    (root / "images").mkdir(parents=True)
    columns = [f"{name}_{axis}" for name in synthetic.LANDMARKS for axis in "xy"]
    scale = side / DRAWN
    with (root / "landmarks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "subject", "split", *columns])
        for person in range(number):
            face = synthetic.faces([person], 1, size=DRAWN, seed=0)
            picture = Image.fromarray(face["pictures"][0]).resize((side, side), Image.Resampling.BICUBIC)
            picture.save(root / f"images/{person:05d}.jpg", quality=92)
            points = (face["xy"][0] + 0.5) * scale - 0.5
            split = ("train", "train", "val", "test")[person % 4]
            writer.writerow([f"images/{person:05d}.jpg", f"s{person}", split, *(f"{v:.2f}" for v in points.ravel())])
    about = {"landmarks": synthetic.LANDMARKS, "flip_pairs": synthetic.FLIP_PAIRS}
    (root / "dataset.json").write_text(json.dumps(about), encoding="utf-8")


def measure(number: int, side: int) -> dict[str, float]:
    """Seconds and MB of the command on a folder of that size."""
    with tempfile.TemporaryDirectory() as folder:
        root, page = pathlib.Path(folder, "faces"), pathlib.Path(folder, "check.html")
        write_folder(root, number, side)
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "ctd_jax", "check", str(root), f"--report={page}"], check=False)
        seconds = time.perf_counter() - begun
        if done.returncode not in (0, 1):
            sys.exit(done.returncode)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "pictures": number,
            "side": side,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "page_mb": round(page.stat().st_size / 1e6, 2),
            "memory_mib": round(used.ru_maxrss / 1024),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--side", type=int, default=512, help="pixels of a picture's side")
    parser.add_argument("--within_s", type=float, default=float("inf"))
    parser.add_argument("--within_mb", type=float, default=float("inf"))
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    result = measure(arguments.pictures, arguments.side)
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine()} | result, indent=1) + "\n", "utf-8")
    if result["seconds"] > arguments.within_s or result["page_mb"] > arguments.within_mb:
        sys.exit(1)


if __name__ == "__main__":
    main()
