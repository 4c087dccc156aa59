"""Metrics of predicted against annotated class maps, each with a 95 % interval over subjects.

Everything is computed from `segmentation_metrics.csv`, one row per picture and foreground class, which is computed on
the original picture's pixels. TP, FP, FN, TN count pixels; A and B are the annotated and the found region.

dice               2 TP / (2 TP + FP + FN)
sensitivity        TP / (TP + FN)
specificity        TN / (TN + FP)
volume_difference  | |B| - |A| | / |A|, the relative absolute difference, of areas: a picture is a slice
assd               average symmetric surface distance, (sum_a d(a, S(B)) + sum_b d(b, S(A))) / (|S(A)| + |S(B)|)
mssd               maximum symmetric surface distance (Hausdorff), the largest of these distances
                   (Heimann et al. 2009, doi 10.1109/TMI.2009.2013851)

S is the outline: the region's pixels with one of the four neighbours outside the region or the picture; d is Euclidean,
between centres of pixels. Distances are in pixels, and in mm where the spacing is known.

An empty cell is an undefined value, which is left out of every mean: all but specificity where the class is neither
there nor found; sensitivity and volume difference where it is not there; distances where it is not there or not found.
A class that was there and not found therefore counts with Dice 0, but not in the distances: `missed_...` counts these
pictures.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy

from ctd_jax import files, metrics
from ctd_jax.errors import UserError
from ctd_jax.metrics import intervals

OVERLAPS = ("dice", "sensitivity", "specificity", "volume_difference")
DISTANCES = ("assd_px", "mssd_px", "assd_mm", "mssd_mm")
MEASURES = OVERLAPS + DISTANCES
FRACTIONS = ("dice", "sensitivity", "specificity")
NAMES = ("image", "subject", "domain", "class")
COUNTS = ("true_pixels", "pixels")
COLUMNS = (*NAMES, *COUNTS, *MEASURES)


def measure(true: np.ndarray, found: np.ndarray, spacing: np.ndarray) -> dict[str, float]:
    """`COUNTS` and `MEASURES` of one class in one picture, NaN where undefined.

    Args:
      true: `[H, W]` bool, the annotated region.
      found: `[H, W]` bool, the predicted one.
      spacing: `[2]` mm per pixel along x and y, NaN where unknown.
    """
    both, in_true, in_found = (int(region.sum()) for region in (true & found, true, found))
    outside = true.size - in_true

    def ratio(above: float, below: float) -> float:
        return above / below if below else np.nan

    values: dict[str, float] = {
        "true_pixels": in_true,
        "pixels": in_found,
        "dice": ratio(2 * both, in_true + in_found),
        "sensitivity": ratio(both, in_true),
        "specificity": ratio(outside - (in_found - both), outside),
        "volume_difference": ratio(abs(in_found - in_true), in_true),
    } | dict.fromkeys(DISTANCES, np.nan)
    if in_true and in_found:
        units = {"px": np.ones(2)} | ({"mm": spacing} if np.isfinite(spacing).all() else {})
        for unit, of_pixel in units.items():
            distances = surface_distances(true, found, of_pixel)
            values |= {f"assd_{unit}": float(distances.mean()), f"mssd_{unit}": float(distances.max())}
    return values


def surface_distances(one: np.ndarray, other: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """`[N]` distance of every outline pixel of either region to the nearest outline pixel of the other.

    Args:
      one, other: `[H, W]` bool, neither empty.
      spacing: `[2]` size of a pixel along x and y; the unit of the result.
    """
    window = scipy.ndimage.find_objects((one | other).astype(np.uint8))[0]
    outlines = [region & ~scipy.ndimage.binary_erosion(region) for region in (one[window], other[window])]
    away = [scipy.ndimage.distance_transform_edt(~outline, sampling=spacing[::-1]) for outline in outlines]
    return np.concatenate([away[1][outlines[0]], away[0][outlines[1]]])


def slug(name: str) -> str:
    """A name as keys of metrics.json have it: small letters and digits of any script, underscores for all else."""
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def suffixes(classes: Mapping[str, Sequence[str]]) -> dict[tuple[str, str | None], str]:
    """(domain, foreground class) and (domain, None) -> how their keys end: `_DOMAIN_CLASS`, `_DOMAIN`.

    Args:
      classes: domain -> names, the background first.

    Raises:
      UserError: two of them would have the same key.
    """
    pairs = [(domain, name) for domain, names in classes.items() for name in (None, *names[1:])]
    ends: dict[str, tuple[str, str | None]] = {}
    for domain, name in pairs:
        end = f"_{slug(domain)}" + (f"_{slug(name)}" if name else "")
        if end in ends:
            what = (" of ".join(filter(None, (name, domain))) for domain, name in ((domain, name), ends[end]))
            raise UserError(f"{' and '.join(what)} would both be called dice{end} in metrics.json; rename one of them")
        ends[end] = (domain, name)
    return {pair: end for end, pair in ends.items()}


@dataclasses.dataclass(frozen=True)
class Scores:
    """The R rows of `segmentation_metrics.csv`."""

    names: dict[str, np.ndarray]  # `NAMES` -> [R] str
    values: dict[str, np.ndarray]  # `COUNTS` and `MEASURES` -> [R], NaN: undefined

    @property
    def n_images(self) -> int:
        return len(set(self.names["image"].tolist()))

    def rows(self, chosen: np.ndarray) -> "Scores":
        """Those of a boolean mask or of indices."""
        names, values = ({key: column[chosen] for key, column in x.items()} for x in (self.names, self.values))
        return Scores(names, values)

    def of(self, domain: str, name: str | None = None) -> np.ndarray:
        """`[R]` bool: the rows of a domain, or of one of its classes."""
        mine = self.names["domain"] == domain
        return mine if name is None else mine & (self.names["class"] == name)


def write(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of `NAMES`, `COUNTS` and `MEASURES`."""

    def cells(row: Mapping[str, Any]) -> list[Any]:
        numbers = ("" if np.isnan(row[key]) else f"{row[key]:.6g}" for key in MEASURES)
        return [*(files.cell(row[key]) for key in NAMES), *(row[key] for key in COUNTS), *numbers]

    files.write_csv(path, COLUMNS, map(cells, rows))


def read(path: pathlib.Path) -> Scores:
    """Reads what `write` wrote.

    Raises:
      UserError: see `metrics.read_rows`; a cell that is no number.
    """
    rows = [dict(zip(COLUMNS, row, strict=True)) for _, row in metrics.read_rows(path, COLUMNS)]
    try:
        return Scores(
            {key: np.array([files.plain(row[key]) for row in rows], str) for key in NAMES},
            {key: np.array([metrics.number(row[key]) for row in rows]) for key in COUNTS + MEASURES},
        )
    except ValueError as error:
        raise UserError(f"{path}: expected numbers ({error}); evaluate the run again") from error


def summarize(scores: Scores, classes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The numbers of metrics.json that are computed from the table.

    `MEASURE_DOMAIN_CLASS` is the mean over the domain's pictures, `MEASURE_DOMAIN` the mean of its classes, `MEASURE`
    (overlaps only: distances of other anatomies in other units have no common mean) the mean of the domains. `ci95` are
    over subjects (`intervals`: Dice, sensitivity and specificity as fractions, the others as levels), for `MEASURE`
    those of each domain by itself.

    Args:
      scores: the table; domains that have no row are left out.
      classes: domain -> names, the background first.
    """
    ends = suffixes(classes)
    result: dict[str, Any] = {"n_images": scores.n_images}
    ci95: dict[str, list[float]] = {}
    of_domains: dict[str, list[intervals.Estimate]] = {}

    def add(measure: str, keys: Sequence[str], estimate: intervals.Estimate) -> None:
        bounds = intervals.bounds(estimate, "fraction" if measure in FRACTIONS else "level")
        for key, value, pair in zip(keys, estimate.value, bounds.T, strict=True):
            if np.isfinite(value):
                result[key] = float(value)
            if np.isfinite(pair).all():
                ci95[key] = pair.tolist()

    for domain, names in classes.items():
        mine = scores.of(domain)
        if not mine.any():
            continue
        result[f"n_images{ends[domain, None]}"] = len(set(scores.names["image"][mine].tolist()))
        for measure in MEASURES:
            above, below, subjects = _of_classes(scores, domain, names[1:], measure)
            of_classes = intervals.of_ratios(above, below, subjects)
            add(measure, [f"{measure}{ends[domain, name]}" for name in names[1:]], of_classes)
            if below.any():
                whole = intervals.of_mean_of_ratios(above, below, subjects)
                add(measure, [f"{measure}{ends[domain, None]}"], whole)
                of_domains.setdefault(measure, []).append(whole)
        for name in names[1:]:
            rows = scores.of(domain, name)
            missed = (scores.values["true_pixels"][rows] > 0) & (scores.values["pixels"][rows] == 0)
            result[f"missed{ends[domain, name]}"] = int(missed.sum())
    for measure in OVERLAPS:
        if measure in of_domains:
            add(measure, [measure], intervals.mean(of_domains[measure]))
    return result | {"ci95": ci95}


def _of_classes(
    scores: Scores, domain: str, names: Sequence[str], measure: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A measure of C classes in the N pictures of a domain: `[N, C]` values, 0 where undefined; `[N, C]` 1 where they
    are defined, else 0; `[N]` subjects."""
    mine = scores.of(domain)
    images, picture = np.unique(scores.names["image"][mine], return_inverse=True)
    subjects = np.empty(len(images), object)
    subjects[picture] = scores.names["subject"][mine]
    values = np.full((len(images), len(names)), np.nan)
    for i, name in enumerate(names):
        rows = scores.names["class"][mine] == name
        values[picture[rows], i] = scores.values[measure][mine][rows]
    return np.nan_to_num(values), np.isfinite(values).astype(float), subjects.astype(str)


def class_dice(found: np.ndarray, true: np.ndarray, number: int) -> np.ndarray:
    """`[N, number - 1]` Dice of each foreground class in each picture, NaN where it is neither there nor found.

    Args:
      found: `[N, S, S]` predicted classes.
      true: `[N, S, S]` annotated classes; pixels where it is none of 0 .. number - 1 do not count.
      number: of classes, the background among them.
    """
    counts = true < number
    columns = []
    for i in range(1, number):
        a, b = true == i, (found == i) & counts
        sizes = a.sum((1, 2)) + b.sum((1, 2))
        columns.append(np.divide(2 * (a & b).sum((1, 2)), sizes, out=np.full(len(true), np.nan), where=sizes > 0))
    return np.stack(columns, axis=1)


def mean_dice(dice: np.ndarray, domain: np.ndarray) -> float:
    """Mean over domains of the mean over classes of the mean over pictures of Dice.

    Args:
      dice: `[N, C]`; NaN is left out.
      domain: `[N]` number of each picture's domain.
    """
    of_domains = []
    for number in np.unique(domain):
        of_pictures = dice[domain == number]
        of_classes = [np.nanmean(column) for column in of_pictures.T if np.isfinite(column).any()]
        if of_classes:
            of_domains.append(np.mean(of_classes))
    return float(np.mean(of_domains))
