"""Sends hostile files through every door and counts what becomes of them.

python -m tests.fuzz                        # 15 of each door, as the tests do
python -m tests.fuzz --number=1000 --seed=7
"""

import argparse
import os
import pathlib
import sys
import tempfile
from collections import Counter

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from tests.fuzz import doors, hostile, label_doors  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=hostile.NUMBER)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    total: Counter[str] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        (run := pathlib.Path(place, "run")).mkdir()
        every = doors.doors(doors.run_folder(run)) | label_doors.doors()
        for i, (name, door) in enumerate(every.items()):
            counts, broken = hostile.count(name, door, args.number, args.seed, pathlib.Path(place, str(i)))
            print(f"{name:<50} {counts['refused']:>5} refused {counts['accepted']:>5} accepted {len(broken):>5} broken")
            total, faults = total + counts, faults + broken
    print(f"{total.total() + len(faults)} hostile files: {total['refused']} refused with one message, "
          f"{total['accepted']} accepted with the right numbers, {len(faults)} broken promises")  # fmt: skip
    print("\n".join(faults))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
