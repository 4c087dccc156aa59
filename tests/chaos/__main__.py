"""Kills runs and spoils what they leave, many times, and counts.

    python -m tests.chaos            # 12 kills, as the tests do
    python -m tests.chaos --long     # 200, at every place at least once, and everything else

All choices follow --seed. It ends with an AssertionError at the first run that ends otherwise than one that was left
alone and says nothing.
"""

import argparse
import collections
import os
import pathlib
import random
import tempfile
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

from tests.chaos import trials  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="200 kills and everything else many times")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw, began = random.Random(args.seed), time.monotonic()
    number, others, damaged = (200, 10, 40) if args.long else (12, 1, 4)
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
        whole = trials.whole_run(folder)
        counts["kills"] = number
        counts["runs that were killed"] = trials.kill_often(whole, folder / "killed", number, draw)
        before = trials.midway(whole, folder / "before")
        for i in range(others):
            counts[f"SIGTERM, {trials.stop(whole, folder / f'stopped{i}', draw.uniform(0, trials.SECONDS))}"] += 1
        for i in range(others if trials.can_mount(folder / "disk") else 0):
            kib = draw.uniform(0.01, 0.8) * trials.size_kib(whole.run)
            trials.fill_disk(whole, folder / f"small{i}", int(kib))
            counts["full disks"] += 1
        trials.start_twice(whole, folder / "twice")
        trials.change_data(whole, before, folder / "changed")
        counts["two processes"], counts["changed data"] = 1, 2
        every = [(file, how) for file in sorted(trials.contents(before)) for how in trials.DAMAGES]
        for i, (file, how) in enumerate(draw.sample(every, damaged)):
            counts[f"{how} files, {trials.damage(whole, before, folder / f'damaged{i}', file, how, seed=i)}"] += 1
            print(file, how, flush=True)
    print(f"all ended as one that was left alone, or said what to do, in {time.monotonic() - began:.0f} s, seed "
          f"{args.seed}: {', '.join(f'{n} {what}' for what, n in counts.items())}")  # fmt: skip


if __name__ == "__main__":
    main()
