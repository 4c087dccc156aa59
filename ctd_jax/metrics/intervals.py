"""95 % intervals over subjects, also of few: from what a number would be without each of the subjects.

A metric is a ratio r of sums over subjects, each with all its pictures. Leaving out one subject at a time (the
jackknife, Tukey 1958; of clusters CR3 of Bell and McCaffrey 2002, Survey Methodology 28:169-181) gives

    se^2 = (n - 1) / n * sum_i (r_(i) - r)^2     r_(i): without subject i; n: subjects that contribute
    df   = max(1, 1 / sum_i h_i^2 - 1)           h_i: subject i's share of the denominator (Kish 1965)

Where all subjects contribute alike, se^2 is the linearised variance of a ratio, n / (n - 1) sum_i e_i^2 with
e_i = (x_i - r y_i) / sum(y), and df is n - 1. With t the 97.5 % point of Student's distribution of df, the bounds are

    level                  r exp(-+ t se / r)                    errors and distances, 0 or more
    fraction               expit(logit(r) -+ t se / (r (1 - r))) rates, AUC, Dice: 0 to 1
    difference             r -+ t se                             of two methods, in the same pictures
    difference of fractions  the same, cut at -1 and 1
    correlation            tanh(atanh(r) -+ t se / (1 - r^2))    ICC

A level with df < 2 (two subjects, or one that outweighs the rest) has r -+ t se, cut at 0: the other reaches to
hundreds of times r and covers no better. Where the subjects of a fraction do not differ at all, se = 0 would claim
certainty: at r = 0 and 1 the far bound is then 1 - 0.05^(1/n) away, where a failure would go unseen in n subjects in
5 % of the cases, as if each subject were all success or all failure; between them se is that of n such subjects,
sqrt(r (1 - r) / n). The bounds of differences of fractions are as far away from the difference.

How often the bounds hold the truth, in %, with 3, 5, 10, 22 and 100 people with 1 to 60 pictures each, by simulation
(experiments/intervals.py; least and most over kinds of errors and numbers of pictures), and the percentile bootstrap:

                                 3         5         10        22        100
    errors, AUC               91 - 97   91 - 96   91 - 95   92 - 95   94 - 94
      percentile bootstrap    66 - 77   77 - 83   83 - 88   89 - 92   91 - 94
    failures of 1, 10, 50 %   97 - 100  94 - 100  94 - 100  94 - 98   93 - 98
      percentile bootstrap     4 - 79    4 - 94    9 - 96   22 - 95   65 - 96
    differences of errors     95 - 98   94 - 97   93 - 96   94 - 95   94 - 95
      percentile bootstrap    73 - 77   80 - 83   85 - 91   92 - 94   94 - 95

Differences are also held by the bootstrap-t (91 to 95 % from 5 people on), which is up to 1.4 times as wide and has no
bounds of 3 people.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import scipy

Scale = Literal["level", "fraction", "difference", "difference of fractions", "correlation"]
_ROUNDING = 1e-12  # a sum that should cancel


@dataclasses.dataclass(frozen=True)
class Estimate:
    """M numbers, and how precisely they are known from n subjects; `se` is NaN where that is unknown."""

    value: np.ndarray  # [M]
    se: np.ndarray  # [M] standard error
    df: np.ndarray  # [M] degrees of freedom, at least 1
    n: np.ndarray  # [M] subjects that contribute


def jackknife(value: np.ndarray, left_out: np.ndarray, size: np.ndarray) -> Estimate:
    """The estimate of M numbers from S subjects.

    Args:
      value: `[M]` numbers of all subjects together.
      left_out: `[S, M]` numbers without each of the subjects; NaN where they are unknown without it: such a number has
        no standard error.
      size: `[S, M]` size of each subject's contribution, such as its number of pictures; where it is 0, `left_out` is
        not read.

    Returns:
      Without a standard error where fewer than two subjects contribute, and where it is too large for a float64.
    """
    contributes = size > 0
    n = contributes.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        change = np.where(contributes, left_out - value, 0.0)
        se = np.sqrt((n - 1) / n * (change**2).sum(axis=0))
        df = np.maximum(size.sum(axis=0) ** 2 / (size**2).sum(axis=0) - 1, 1.0)
    se = np.where(se < _ROUNDING * np.maximum(1, np.abs(value)), 0.0, se)
    return Estimate(value, np.where((n >= 2) & np.isfinite(se), se, np.nan), df, n)


def of_ratios(numerator: np.ndarray, denominator: np.ndarray, subjects: np.ndarray) -> Estimate:
    """The estimate of M ratios of sums over pictures; see `jackknife`.

    Args:
      numerator, denominator: `[N, M]` contributions of each picture; a ratio is the sum of the first over that of the
        second.
      subjects: `[N]` names.
    """
    return jackknife(*_left_out(numerator, denominator, subjects))


def of_mean_of_ratios(numerator: np.ndarray, denominator: np.ndarray, subjects: np.ndarray) -> Estimate:
    """`[1]`, the mean of those of the M ratios that any subject contributes to; arguments as in `of_ratios`."""
    known = (denominator > 0).any(axis=0)
    value, left_out, size = _left_out(numerator[:, known], denominator[:, known], subjects)
    left_out = np.where(size > 0, left_out, value)
    share = size / size.sum(axis=0)
    return jackknife(*(part.mean(axis=-1, keepdims=True) for part in (value, left_out, share)))


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of numbers of different subjects; its degrees of freedom are those of Welch and Satterthwaite."""
    value, se, df, n = (np.stack([getattr(one, key) for one in estimates]) for key in ("value", "se", "df", "n"))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        variances = (se**2).sum(axis=0)
        pooled = np.where(variances > 0, variances**2 / (se**4 / df).sum(axis=0), df.min(axis=0))
    is_known = np.isfinite(variances) & np.isfinite(pooled)
    mean_se = np.where(is_known, np.sqrt(variances) / len(estimates), np.nan)
    return Estimate(value.mean(axis=0), mean_se, pooled, n.min(axis=0))


def _left_out(
    numerator: np.ndarray, denominator: np.ndarray, subjects: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of `jackknife`, of ratios."""
    order = np.argsort(subjects, kind="stable")
    _, first = np.unique(subjects[order], return_index=True)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        x, y = (np.add.reduceat(sums[order], first, axis=0) for sums in (numerator, denominator))  # [S, M]
        above, below = x.sum(axis=0), y.sum(axis=0)
        rest = below - y
        return above / below, np.where(rest > _ROUNDING * below, (above - x) / rest, np.nan), y


def bounds(estimate: Estimate, scale: Scale) -> np.ndarray:
    """`[2, M]` lower and upper bound of the 95 % interval, NaN where there is none."""
    with np.errstate(all="ignore"):
        r, se, unseen = estimate.value, estimate.se, _unseen(estimate.n)
        if scale == "fraction":
            r = np.where(np.abs(r - np.round(r)) < _ROUNDING, np.round(r), r)
            se = np.where(se == 0, np.sqrt(r * (1 - r) / estimate.n), se)
        half = scipy.special.stdtrit(estimate.df, 0.975) * se
        ends = np.stack([-half, half])
        if scale == "level":
            return np.where((estimate.df < 2) | (r == 0), np.maximum(r + ends, 0), r * np.exp(ends / r))
        if scale == "fraction":
            inside = scipy.special.expit(scipy.special.logit(r) + ends / (r * (1 - r)))
            at_end = np.stack([np.where(r == 0, 0, 1 - unseen), np.where(r == 0, unseen, 1)])
            return np.where(np.isnan(se), np.nan, np.where((r == 0) | (r == 1), at_end, inside))
        if scale == "difference of fractions":
            return np.clip(r + np.where(se == 0, np.stack([-unseen, unseen]), ends), -1, 1)
        if scale == "correlation":
            return np.where(se == 0, r, np.tanh(np.arctanh(r) + ends / (1 - r**2)))
        return r + ends


def p_value(estimate: Estimate, scale: Scale) -> np.ndarray:
    """`[M]` two-sided p-values of differences, below 0.05 where `bounds` leave out 0; NaN where there are none.

    They are those of Student's t. Where no two subjects differ, p is 1 for a difference of 0 and 0 for any other one;
    for a difference r of fractions of n subjects it is (1 - |r|)^n.
    """
    r, se = np.where(np.abs(estimate.value) < _ROUNDING, 0.0, estimate.value), estimate.se
    with np.errstate(all="ignore"):
        p = 2 * scipy.special.stdtr(estimate.df, -np.abs(r) / se)
    if scale == "difference of fractions":
        p_alike = (1 - np.minimum(np.abs(r), 1)) ** estimate.n
    else:
        p_alike = np.where(r == 0, 1.0, 0.0)
    return np.where(se == 0, p_alike, p)


def _unseen(n: np.ndarray) -> np.ndarray:
    """The share of subjects with something that is seen in none of n subjects in 5 % of the cases."""
    return 1 - 0.05 ** (1 / np.maximum(n, 1))
