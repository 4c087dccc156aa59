"""Agreement of predicted with annotated measurements: `measurements.csv`, and the numbers made from it.

Bland and Altman 1986, Lancet 327:307-310 (bias, limits of agreement); Shrout and Fleiss 1979, Psychological Bulletin
86:420-428, and McGraw and Wong 1996, Psychological Methods 1:30-46 (ICC); Cohen 1960, Educ Psychol Meas 20:37-46
(kappa of classes). NumPy only, float64.
"""

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy

from ctd_jax import files
from ctd_jax.errors import UserError
from ctd_jax.metrics import Predictions, intervals, plane, read_rows, subject_units
from ctd_jax.metrics.measurements import Measurement, are_turns, classes, evaluate, units
from ctd_jax.metrics.predictions import digits

COLUMNS = ("image", "subject", "measurement", "unit", "value", "true_value")
WORDS = ("class", "true_class", "reason")  # further columns, where any measurement has classes, or any value is empty
AT_DETECTOR = " at the detector"  # behind a unit of mm, where these are not mm in the patient
SCORES = ("z", "percentile")  # further columns, where norms are given


@dataclasses.dataclass(frozen=True)
class Measured:
    """R rows, one per picture x measurement; a value is NaN where it is unknown."""

    images: np.ndarray  # [R] str
    subjects: np.ndarray  # [R] str, "" where unknown
    names: np.ndarray  # [R] str, of the measurements
    units: np.ndarray  # [R] see `measurements.units`
    value: np.ndarray  # [R] of the predicted landmarks
    true_value: np.ndarray  # [R] of the annotated landmarks
    classes: np.ndarray  # [R] str, of the predicted landmarks; "" where there is none
    true_classes: np.ndarray  # [R] str, of the annotated landmarks
    reasons: np.ndarray  # [R] str: why a value is unknown; "" where all that can be known is
    z: np.ndarray | None = None  # [R] standard deviations of the value above the norm; None: no norms are given

    @classmethod
    def from_predictions(
        cls, table: Predictions, measurements: Sequence[Measurement], spacing: np.ndarray
    ) -> "Measured":
        """The M measurements of each picture.

        Args:
          table: of N pictures.
          measurements: M definitions.
          spacing: `[N, 2]` mm per pixel, NaN where unknown.
        """
        m, landmarks = len(measurements), table.landmarks.tolist()
        unit = units(measurements, spacing)
        found, true = (evaluate(measurements, landmarks, xy, spacing) for xy in (table.xy, table.true_xy))
        is_annotated = np.isfinite(table.true_xy).any(axis=(1, 2))[:, None]
        return cls(
            images=np.repeat(table.images, m),
            subjects=np.repeat(table.subjects, m),
            names=np.tile([one.name for one in measurements], len(table.images)),
            units=unit.ravel(),
            value=found.value.ravel(),
            true_value=true.value.ravel(),
            classes=_classes(measurements, found.value, unit),
            true_classes=_classes(measurements, true.value, unit),
            reasons=_reasons(found.reason, np.where(is_annotated, true.reason, "")),
        )

    def rows(self, chosen: np.ndarray) -> "Measured":
        """The rows where `chosen` [R] is true."""
        columns = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        known = {name: column[chosen] for name, column in columns.items() if column is not None}
        return dataclasses.replace(self, **known)

    def in_mm(self, *, at_detector: bool = False) -> "Measured":
        """The same without values in pixels, which have a reason instead: units are not mixed in one table.

        `at_detector`: mm are those at the detector, by which no classes are told that are in mm.
        """
        in_px = np.char.startswith(self.units, "px")
        reasons = np.where(in_px & np.isfinite(self.value), "no spacing, so nothing in mm", self.reasons)
        units = np.char.replace(self.units, "px", "mm")
        in_mm = np.char.startswith(units, "mm") & at_detector
        return dataclasses.replace(
            self,
            units=np.where(in_mm, np.char.add(units, AT_DETECTOR), units),
            classes=np.where(in_mm, "", self.classes),
            true_classes=np.where(in_mm, "", self.true_classes),
            value=np.where(in_px, np.nan, self.value),
            true_value=np.where(in_px, np.nan, self.true_value),
            reasons=reasons,
        )

    def comparable(self, name: str) -> "Measured":
        """The rows of one measurement in which both values are known, in one unit: those in mm where there are any.
        Angles about 180 degrees, where their numbers jump, are moved by whole turns: the true ones so that they jump in
        the widest gap between them, and each value to within half a turn of its own."""
        rows = self.rows((self.names == name) & np.isfinite(self.value) & np.isfinite(self.true_value))
        if are_turns(rows.units, rows.true_value, rows.value):
            true_value = plane.turned(rows.true_value, plane.middle(rows.true_value))
            return dataclasses.replace(rows, true_value=true_value, value=plane.turned(rows.value, true_value))
        in_mm = np.char.startswith(rows.units, "mm")
        return rows.rows(in_mm) if in_mm.any() else rows


def _classes(measurements: Sequence[Measurement], value: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """`[N M]` names of classes of `[N, M]` values."""
    columns = [classes(one, value[:, i], unit[:, i]) for i, one in enumerate(measurements)]
    return np.stack(columns, axis=1).ravel()


def _reasons(predicted: np.ndarray, annotated: np.ndarray) -> np.ndarray:
    """`[R]` why values are unknown, for people; both where they differ."""
    of_true = np.array([f"annotated: {why}" if why else "" for why in annotated.ravel()], object)
    both = zip(predicted.ravel(), of_true, strict=True)
    return np.array(["; ".join(why for why in pair if why) for pair in both], dtype=str)


def write(path: str | os.PathLike, table: Measured) -> None:
    """Writes one row per picture x measurement, an empty cell where unknown, in place of a file already there."""
    columns = columns_of(table)
    files.write_csv(path, columns, rows_of(table, columns))


def columns_of(table: Measured) -> tuple[str, ...]:
    """The columns of `write`."""
    has_words = any((column != "").any() for column in (table.classes, table.true_classes, table.reasons))
    return (*COLUMNS, *(WORDS if has_words else ()), *(() if table.z is None else SCORES))


def rows_of(table: Measured, columns: Sequence[str]) -> Iterator[Sequence[str]]:
    """The rows of `write` in these columns."""
    texts = (table.images, table.subjects, table.names, table.units)
    cells: list[Iterable[str]] = [*(map(files.cell, column) for column in texts)]
    cells += [map(digits, column) for column in (table.value, table.true_value)]
    if WORDS[0] in columns:
        cells += [map(files.cell, column) for column in (table.classes, table.true_classes, table.reasons)]
    if table.z is not None:
        cells += [map(_score, table.z), map(_score, 100 * scipy.special.ndtr(table.z))]
    return zip(*cells, strict=True)


def _score(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def read(path: str | os.PathLike) -> Measured:
    """Reads what `write` wrote.

    Raises:
      UserError: see `metrics.read_rows`; a cell that is no number.
    """
    numbers, rows = [], read_rows(path, COLUMNS, (*WORDS, *SCORES))
    for line, row in rows:
        numbers.append([_number(cell) for cell in row[4:6]])
        if np.isinf(numbers[-1]).any():
            raise UserError(f"{path}, line {line}: expected numbers or empty cells, found {','.join(row[4:6])}.")
    words = [[files.plain(cell) for cell in (*row[:4], *row[6:9])] for _, row in rows]
    columns = np.array(words, dtype=str).reshape(-1, 7).T
    return Measured(*columns[:4], *np.array(numbers, np.float64).reshape(-1, 2).T, *columns[4:])


def _number(cell: str) -> float:
    """NaN of an empty cell, infinity of one that holds no number."""
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return math.inf


def agreement(true_value: np.ndarray, value: np.ndarray) -> dict[str, float | list[float]]:
    """How well N predicted values agree with the annotated ones; NaN where there are too few, or all are the same.

    With d = predicted - annotated of each picture and m their mean, and the mean squares of the two-way analysis of
    variance of n pictures x 2 raters (annotator, network):

        bias = mean(d)
        loa  = bias -+ 1.96 SD(d)                  limits of agreement, Bland and Altman 1986 (who round 1.96 to 2)
        mae  = mean(|d|)
        slope = Cov(d, m) / Var(m)                 of d over m, Bland and Altman 1999, Stat Methods Med Res 8:135-160
        icc  = (MSR - MSE) / (MSR + MSE + 2 (MSC - MSE) / n)
               MSR = 2 Var(m), MSC = n bias^2 / 2, MSE = Var(d) / 2     (Var and SD with n - 1)

    The last is ICC(2,1) of Shrout and Fleiss, ICC(A,1) of McGraw and Wong: two-way, absolute agreement, one measurement
    (the same whether the raters are taken as random or fixed). The limits assume differences with one mean and one
    spread over the whole range: a slope well below 0 says that small values are predicted too large and large ones too
    small. Pictures of one subject are pooled as if they showed several; only the intervals are over subjects.

    Args:
      true_value: `[N]` annotated values.
      value: `[N]` predicted values, in the same unit.

    Returns:
      `bias`, `mae`, `slope`, `icc`, and `loa`: the lower and the upper limit.
    """
    statistics = _statistics(_sums(true_value, value).sum(axis=0))
    return {key: one.tolist() for key, one in statistics.items()}


def between(values: np.ndarray) -> dict[str, float]:
    """How well R raters agree in N values, `[N, R]`; what is unknown is absent.

        s_w^2           = mean over pictures of the variance (R - 1) of its raters
        reproducibility = 1.96 sqrt(2) s_w     two raters differ by less in 95 % of the pictures; Bland and Altman 1999
        icc             = (MSR - MSE) / (MSR + (R - 1) MSE + R (MSC - MSE) / N)     as in `agreement`, of R raters
        mae             = mean over pictures and pairs of raters of their absolute difference

    Returns:
      `n` (the pictures that all raters have a value of), `reproducibility`, `icc`, `mae`.
    """
    values = values[np.isfinite(values).all(axis=1)]
    n, raters = values.shape
    if n < 1 or raters < 2:
        return {"n": n}
    within = values.var(axis=1, ddof=1).mean()
    pairs = np.abs(values[:, :, None] - values[:, None])[:, *np.triu_indices(raters, 1)]
    found = {"n": n, "reproducibility": float(1.96 * np.sqrt(2 * within)), "mae": float(pairs.mean())}
    return found | ({"icc": icc} if n > 1 and np.isfinite(icc := _icc(values)) else {})


def _icc(values: np.ndarray) -> float:
    n, raters = values.shape
    of_pictures, of_raters = values.mean(axis=1), values.mean(axis=0)
    msr, msc = raters * of_pictures.var(ddof=1), n * of_raters.var(ddof=1)
    rest = values - of_pictures[:, None] - of_raters + values.mean()
    mse = (rest**2).sum() / (n - 1) / (raters - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((msr - mse) / (msr + (raters - 1) * mse + raters * (msc - mse) / n))


def between_raters(
    points: np.ndarray, table: Predictions, measurements: Sequence[Measurement], spacing: np.ndarray
) -> dict[str, dict[str, float]]:
    """Measurement -> `between` of R raters; in mm, for a distance or an area, where the spacing of any picture is known
    (of these pictures alone).

    Args:
      points: `[R, N, K, 2]` in pixels, NaN where one annotated none.
      table: of the N pictures.
      measurements: M definitions.
      spacing: `[N, 2]` mm per pixel, NaN where unknown.
    """
    if not measurements:
        return {}
    names = table.landmarks.tolist()
    values = np.stack([evaluate(measurements, names, each, spacing).value for each in points], axis=-1)  # [N, M, R]
    unit = units(measurements, spacing)
    in_mm = np.char.startswith(unit, "mm")
    found = {}
    for m, one in enumerate(measurements):
        rows = in_mm[:, m] if in_mm[:, m].any() else np.ones(len(values), bool)
        of_raters = values[rows, m]
        of_raters = of_raters[np.isfinite(of_raters).all(axis=1)]
        if len(of_raters) and are_turns(unit[:, m], of_raters):  # each to within half a turn of its picture's first
            first = plane.turned(of_raters[:, :1], plane.middle(of_raters[:, 0]))
            of_raters = plane.turned(of_raters, first)
        found[one.name] = between(of_raters)
    return found


def _sums(true_value: np.ndarray, value: np.ndarray) -> np.ndarray:
    """`[N, 7]` contributions of each picture; `_statistics` needs only their sums."""
    d, m = value - true_value, (value + true_value) / 2
    m = m - m.mean()  # for the sake of precision: no statistic changes
    return np.stack([np.ones_like(d), d, np.abs(d), d**2, m, m**2, d * m], axis=-1)


def _statistics(sums: np.ndarray) -> dict[str, np.ndarray]:
    """`[..., 7]` -> bias, mae, slope, icc `[...]`, loa `[..., 2]`; the formulas of `agreement`."""
    n, d, absolute, dd, m, mm, dm = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bias, mae = d / n, absolute / n
        var_d, var_m = _variance(n, d, dd), _variance(n, m, mm)
        slope = (dm - bias * m) / (n - 1) / var_m
        msr, msc, mse = 2 * var_m, n * bias**2 / 2, var_d / 2
        icc = (msr - mse) / (msr + mse + 2 * (msc - mse) / n)
    half = 1.96 * np.sqrt(var_d)
    loa = np.stack([bias - half, bias + half], axis=-1)
    return {"bias": bias, "loa": loa, "mae": mae, "slope": slope, "icc": icc}


def _variance(n: np.ndarray, total: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Variance from the sums of n values and of their squares; 0 where it is only rounding."""
    about_mean = squares - total**2 / n
    return np.where(about_mean > 1e-12 * squares, about_mean, 0.0) / (n - 1)


def summarize(table: Measured, measurements: Sequence[Measurement]) -> dict[str, dict[str, Any]]:
    """The `measurements` of metrics.json (without NaN: a number that is unknown is absent).

    Name -> `of` (its definition), `unit`, `n` (pictures in which both values are known; for a distance those in mm, if
    there are any), `true_mean` (of the annotated values), `bias`, `loa`, `mae`, `slope`, `icc` (see `agreement`), and
    `ci95`: key -> [lower, upper] (two of them for `loa`), the 95 % interval over subjects (`intervals`); absent where
    only one subject contributes, or the statistic is unknown without one of the subjects, or the same without any of
    them. Where the measurement has classes, also `classes`, see `of_classes`.
    """
    summary: dict[str, dict[str, Any]] = {}
    for one in measurements:
        rows = table.comparable(one.name)
        n = len(rows.images)
        unit = (rows if n else table.rows(table.names == one.name)).units[0]
        found: dict[str, float | list[float]] = {}
        bounds: dict[str, np.ndarray] = {}
        if n:
            statistics = {"true_mean": float(rows.true_value.mean()), **agreement(rows.true_value, rows.value)}
            found = {key: value for key, value in statistics.items() if np.isfinite(value).all()}
            bounds = intervals_of(rows)
        ci95 = {key: bounds[key].tolist() for key in bounds if key in found}
        summary[one.name] = {"of": one.definition, "unit": str(unit), "n": n, **found, "ci95": ci95}
        if one.classes:
            summary[one.name]["classes"] = of_classes(rows, [each.name for each in one.classes])
    return summary


def kappa(confusion: np.ndarray) -> np.ndarray:
    """Cohen's kappa of tables `[..., C, C]` of counts, one axis for each rater; NaN where all are in one class.

    kappa = (p_o - p_e) / (1 - p_e)     p_o: share on the diagonal; p_e: the same of raters with these margins who
                                        know nothing of each other (Cohen 1960)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        n = confusion.sum(axis=(-2, -1))
        observed = np.trace(confusion, axis1=-2, axis2=-1) / n
        expected = (confusion.sum(axis=-1) * confusion.sum(axis=-2)).sum(axis=-1) / n**2
        return (observed - expected) / np.where(expected < 1, 1 - expected, np.nan)


def of_classes(rows: Measured, names: Sequence[str]) -> dict[str, Any]:
    """How well the predicted classes of one measurement agree with the annotated ones.

    `names` (C of them), `n` (pictures in which both are known), `confusion` (`[C][C]` pictures, a row for each
    annotated class), `agreement` (share of pictures with equal classes), `kappa`, and `ci95` of these two over
    subjects; what is unknown is absent.
    """
    rows = rows.rows((rows.classes != "") & (rows.true_classes != ""))
    index = {name: i for i, name in enumerate(names)}
    subjects, group = np.unique(subject_units(rows), return_inverse=True)
    counts = np.zeros((len(subjects), len(names), len(names)))
    pairs = ([index[name] for name in column] for column in (rows.true_classes.tolist(), rows.classes.tolist()))
    np.add.at(counts, (group, *(np.array(pair, int) for pair in pairs)), 1)
    total, n = counts.sum(axis=0), len(rows.images)
    found: dict[str, Any] = {"names": list(names), "n": n, "confusion": total.astype(int).tolist(), "ci95": {}}
    if not n:
        return found
    of_each = counts.sum(axis=(1, 2))[:, None]
    equal = np.trace(counts, axis1=1, axis2=2)[:, None]
    share = intervals.of_ratios(equal, of_each, subjects)
    of_kappa = intervals.jackknife(np.atleast_1d(kappa(total)), kappa(total - counts)[:, None], of_each)
    for key, one in (("agreement", share), ("kappa", of_kappa)):
        ends = intervals.bounds(one, "fraction" if key == "agreement" else "correlation")[:, 0]
        if np.isfinite(one.value[0]):
            found[key] = float(one.value[0])
        # of a kappa that is the same without any of the subjects the interval is unknown, not of no width
        if np.isfinite(ends).all() and (key == "agreement" or one.se[0] > 0):
            found["ci95"][key] = ends.tolist()
    return found


SCALES: dict[str, intervals.Scale] = {
    "bias": "difference",
    "loa": "difference",
    "mae": "level",
    "slope": "difference",
    "icc": "correlation",
}


def intervals_of(rows: Measured) -> dict[str, np.ndarray]:
    """Key -> `[2]` lower and upper bound; for `loa` `[2, 2]`, one row for each limit. Unknown ones are left out, and
    so are those of what is the same without any of the subjects, which would have no width."""
    names, group = np.unique(subject_units(rows), return_inverse=True)
    sums = np.zeros((len(names), 7))
    np.add.at(sums, group, _sums(rows.true_value, rows.value))
    total, pictures = sums.sum(axis=0), sums[:, :1]
    value, left_out = _statistics(total), _statistics(total - sums)
    found = {}
    for key, scale in SCALES.items():
        columns = left_out[key].reshape(len(names), -1)
        estimate = intervals.jackknife(np.atleast_1d(value[key]), columns, np.broadcast_to(pictures, columns.shape))
        ends = intervals.bounds(estimate, scale).T
        if (estimate.se > 0).all():
            found[key] = ends if key == "loa" else ends[0]
    return {key: ends for key, ends in found.items() if np.isfinite(ends).all()}
