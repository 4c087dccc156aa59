"""A copy of a landmark folder with box columns: of each picture the smallest box of its points.

    python -m experiments.cut_to_points --root=faces_ytf --out=cut/faces_ytf

So pictures are cut to what the landmarks lie on, with data.margin around it. Only for pictures whose points are known
beforehand, as a helping domain's are: never for those that are judged. The pictures themselves are linked, not copied.
"""

import argparse
import csv
import pathlib
import shutil

import numpy as np

from ctd_jax.data.boxes import BOX
from ctd_jax.data.points import read_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, required=True, help="a landmark folder")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the folder to make")
    args = parser.parse_args()

    xy = read_folder(args.root).xy
    boxes = np.concatenate([np.nanmin(xy, axis=1), np.nanmax(xy, axis=1)], axis=1)
    with (args.root / "landmarks.csv").open(newline="", encoding="utf-8") as file:
        given = zip(csv.DictReader(file), boxes.tolist(), strict=True)
        rows = [row | dict(zip(BOX, box, strict=True)) for row, box in given]
    args.out.mkdir(parents=True)
    (args.out / "images").symlink_to((args.root / "images").resolve())
    shutil.copy(args.root / "dataset.json", args.out)
    with (args.out / "landmarks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
