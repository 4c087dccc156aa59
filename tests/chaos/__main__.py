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
from tests.chaos.command import Place  # noqa: E402

IN_A_ROW = 4  # kills of one run, at most
MOMENTS = 0.25  # of the kills, after those at every place, come at a random moment
SECONDS = 8.0  # the latest of these


def kills(whole: trials.Whole, folder: pathlib.Path, number: int, draw: random.Random) -> int:
    """Kills runs until that many kills have been, at every place if they suffice; returns the number of runs."""
    waiting = draw.sample(places := trials.first_places(whole), len(places))
    killed, runs = 0, 0
    while killed < number:
        some = waiting[:IN_A_ROW] or draw.sample(whole.places, IN_A_ROW)
        deaths: list[Place | float] = sorted(some[: number - killed], key=whole.places.index)
        if not waiting:
            deaths = [draw.uniform(0, SECONDS) if draw.random() < MOMENTS else death for death in deaths]
        died = trials.kill(whole, folder / f"killed{runs}", deaths)
        waiting = [place for place in waiting if place not in deaths[:died]]
        killed, runs = killed + died, runs + 1
        print(f"{killed} kills of {runs} runs, {len(waiting)} places to come", flush=True)
    return runs


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
        counts["kills"], counts["runs that were killed"] = number, kills(whole, folder, number, draw)
        before = trials.midway(whole, folder / "before")
        for i in range(others):
            counts[f"SIGTERM, {trials.stop(whole, folder / f'stopped{i}', draw.uniform(0, SECONDS))}"] += 1
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
