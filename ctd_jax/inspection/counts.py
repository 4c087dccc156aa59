"""How many pictures, subjects and points there are: by split, by rater, by landmark."""

import contextlib
import dataclasses
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ctd_jax.data import landmark_folder, raters
from ctd_jax.data.about import Landmarks
from ctd_jax.data.faults import Faults
from ctd_jax.errors import UserError


class Split(NamedTuple):
    name: str
    pictures: int
    subjects: int
    points: int  # annotated ones


class Rater(NamedTuple):
    name: str
    pictures: int
    distance: float  # median distance of its points from those of landmarks.csv, px; NaN: no point of both


def by_split(splits: Sequence[str], subjects: Sequence[str], xy: np.ndarray) -> list[Split]:
    """The splits in the order of their first pictures; `xy` is `[N, K, 2]`, NaN where not annotated."""
    known, found = ~np.isnan(xy).any(-1), []
    for name in dict.fromkeys(splits):
        rows = [row for row, split in enumerate(splits) if split == name]
        found.append(Split(name, len(rows), len({subjects[row] for row in rows}), int(known[rows].sum())))
    return found


def of_subjects(subjects: Sequence[str]) -> tuple[int, int, str]:
    """The number of subjects, the most pictures that one has, and who."""
    counted = Counter(subjects)
    name, most = counted.most_common(1)[0]
    return len(counted), most, name


def by_file(root: pathlib.Path, images: Sequence[str], landmarks: Landmarks, xy: np.ndarray) -> list[Rater]:
    """The raters that have a table of their own, `landmarks_NAME.csv` beside landmarks.csv, but whom dataset.json does
    not name.

    Args:
      root: the folder.
      images: names of its N pictures.
      landmarks: of its dataset.json.
      xy: `[N, K, 2]` places in landmarks.csv.
    """
    found = []
    stem = pathlib.Path(landmark_folder.FILE).stem
    for path in sorted(root.glob(f"{stem}_*.csv")):
        name = path.stem.removeprefix(f"{stem}_")
        if name in landmarks.raters:
            continue
        alone = dataclasses.replace(landmarks, raters=(name,))
        with contextlib.suppress(UserError):  # another table
            found += by_column([name], raters.of_files(root, alone, images, Faults(str(path))), xy)
    return found


def by_column(names: Sequence[str], of_raters: np.ndarray, xy: np.ndarray) -> list[Rater]:
    """The raters of the column `rater`, or whom dataset.json names.

    Args:
      names: of R raters.
      of_raters: `[N, R, K, 2]`, NaN where one placed none.
      xy: `[N, K, 2]` what is trained on.
    """
    distance = np.linalg.norm(of_raters - xy[:, None], axis=-1)
    pictures = np.isfinite(of_raters).all(-1).any(-1).sum(0)
    found = []
    for r, name in enumerate(names):
        both = distance[:, r][np.isfinite(distance[:, r])]
        found.append(Rater(name, int(pictures[r]), float(np.median(both)) if len(both) else np.nan))
    return found
