"""A segmentation folder of drawn anatomies, in small: 40 x 32 pixels; half train, a quarter each val and test."""

import csv
import json
import pathlib

import numpy as np
import tiny
from PIL import Image

from configs import mtmd
from ctd_jax import data
from ctd_jax.data import drawn_anatomies

SPLITS = ("train", "train", "val", "test")
COLUMNS = ("image", "mask", "domain", "subject", "split", "spacing_x_mm", "spacing_y_mm")


def write(root: pathlib.Path, people: int = 8) -> pathlib.Path:
    """`people` pictures of each domain; the heads have a spacing of 0.5 x 0.25 mm, the spines none."""
    rows = []
    for domain in drawn_anatomies.CLASSES:
        (root / domain).mkdir(parents=True)
        for i in range(people):
            picture, classes = (x[4:36] for x in drawn_anatomies.draw(domain, i, 0, size=40, seed=0))
            image, mask = f"{domain}/{i}.png", f"{domain}/{i}_mask.png"
            Image.fromarray(picture).save(root / image)
            Image.fromarray(classes).save(root / mask)
            spacing = (0.5, 0.25) if domain == "heads" else ("", "")
            rows.append((image, mask, domain, f"person{i}", SPLITS[i * 4 // people], *spacing))
    (root / "classes.json").write_text(json.dumps(drawn_anatomies.CLASSES))
    write_rows(root, rows)
    return root


def load(root: pathlib.Path | str, place: pathlib.Path, **changes) -> data.SplitPictures:
    """The pictures of `root` as a tiny `mtmd` has them, prepared in `place`."""
    config = tiny.config("none", mtmd, data__root=str(root), **changes)
    return data.load(config.data, place / "tfds", targets=data.CLASS_MAPS)


def read_rows(root: pathlib.Path) -> list[list[str]]:
    with (root / "segmentation.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def write_rows(root: pathlib.Path, rows: list, columns: tuple = COLUMNS) -> None:
    with (root / "segmentation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def change(path: pathlib.Path, function) -> None:
    """Replaces a class map by what `function` makes of it."""
    Image.fromarray(function(np.array(Image.open(path)))).save(path)
