"""How many pictures, subjects and points there are: by split, by rater, by landmark."""

import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ctd_jax.data import landmark_folder, tables
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


def by_rater(root: pathlib.Path, images: Sequence[str], names: Sequence[str], xy: np.ndarray) -> list[Rater]:
    """The raters that have a table of their own, `landmarks_NAME.csv` beside landmarks.csv.

    Args:
      root: the folder.
      images: names of its N pictures.
      names: of K landmarks.
      xy: `[N, K, 2]` places in landmarks.csv.
    """
    row_of, found = {name: row for row, name in enumerate(images)}, []
    stem = pathlib.Path(landmark_folder.FILE).stem
    for path in sorted(root.glob(f"{stem}_*.csv")):
        try:
            rows = [values for _, values in tables.read(path).rows(Faults(str(path)))]
        except UserError:
            continue
        distances, pictures = [], 0
        for values in rows:
            row = row_of.get(values["image"])
            points = np.array([[_number(values.get(f"{name}_{axis}", "")) for axis in "xy"] for name in names])
            pictures += bool(np.isfinite(points).all(-1).any())
            if row is not None:
                distances.append(np.hypot(*(points - xy[row]).T))
        both = np.concatenate(distances) if distances else np.empty(0)
        both = both[np.isfinite(both)]
        found.append(
            Rater(path.stem.removeprefix(f"{stem}_"), pictures, float(np.median(both)) if len(both) else np.nan)
        )
    return found


def by_column(names: Sequence[str], of_raters: np.ndarray, xy: np.ndarray) -> list[Rater]:
    """The raters of the column `rater`.

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


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
