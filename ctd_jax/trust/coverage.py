"""Whether the radii hold: how many of the true points of pictures that nothing was fitted on lie within them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy

from ctd_jax.metrics import Predictions, intervals, subject_units
from ctd_jax.trust.radius import LEVEL, MIN_OWN, Radius, rank

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of the reliability plot


@dataclasses.dataclass(frozen=True)
class Compared:
    """What the radii of a table are compared with, of the same N pictures and K landmarks, in pixels of each picture.

    Attributes:
      at_level: `[L, N, K]` radii of each of `LEVELS`.
      constant: `[N, K]` radii by the same rule that are the same part of every picture.
    """

    at_level: np.ndarray
    constant: np.ndarray

    def rows(self, chosen: np.ndarray) -> "Compared":
        """The pictures where `chosen` [N] is true."""
        return Compared(self.at_level[:, chosen], self.constant[chosen])


def concatenate(parts: Sequence[Compared]) -> Compared:
    """The pictures of several, one after the other."""
    return Compared(
        np.concatenate([one.at_level for one in parts], axis=1), np.concatenate([one.constant for one in parts])
    )


def summarize(table: Predictions, compared: Compared, radius: Radius) -> dict[str, Any]:
    """What metrics.json has as `radius`; a number that is unknown is absent.

    - `level`: the probability that is promised. `coverage`: the share of the annotated points of the table that lie
      within their radius, with `ci95` over subjects. `n_points` of them have a radius.
    - `by_chance`: bounds of what n subjects of val can do: with one score of each, the coverage of endless new subjects
      is a draw from the beta distribution of k and n + 1 - k (Vovk 2012, "Conditional validity of inductive conformal
      predictors"), 95 % of which lie between them. Several scores of each subject vary less.
    - `mean_px`, `mean_mm`: mean radius of these points. `constant_px`: mean of the radii by the same rule that are the
      same part of every picture; `constant_coverage`: what they cover.
    - `rank_correlation`: of radius and error (Spearman); `constant_rank_correlation`.
    - `doubt`: what scales the radii, or null. `n_subjects`: those of val. `own`: number of landmarks whose radius is
      from their own scores, the others' from all. `without`: names of landmarks without a radius.
    - `reliability`: for each of several levels the level, the coverage and its interval.
    - `per_landmark`: name -> `n`, `coverage`, `mean_px`.

    Args:
      table: of test pictures.
      compared: the same pictures.
      radius: that the table's radii are of.
    """
    known = np.isfinite(table.error_px) & np.isfinite(table.radius_px)
    about = {
        "level": LEVEL,
        "n_subjects": radius.n_of_all,
        "n_points": int(known.sum()),
        "without": table.landmarks[np.isnan(table.radius_px).all(axis=0)].tolist(),
    }
    if not known.any():
        return about
    error, within = table.error_px[known], table.radius_px[known]
    constant = compared.constant[known]
    coverage, ends = _coverage(table, table.radius_px)
    in_mm = known & np.isfinite(table.radius_mm)
    about |= {"coverage": coverage} | ({"ci95": ends} if ends else {})
    about["by_chance"] = by_chance(radius.n_of_all)
    about |= {"mean_px": float(within.mean())} | (
        {"mean_mm": float(table.radius_mm[in_mm].mean())} if in_mm.any() else {}
    )
    about |= {"constant_px": float(constant.mean()), "constant_coverage": float((error <= constant).mean())}
    for name, radii in (("rank_correlation", within), ("constant_rank_correlation", constant)):
        if np.ptp(radii) > 0 and np.ptp(error) > 0:
            about[name] = float(scipy.stats.spearmanr(radii, error).statistic)
    of_levels = [(level, *_coverage(table, radii)) for level, radii in zip(LEVELS, compared.at_level, strict=True)]
    return about | {
        "doubt": radius.doubt,
        "own": int((radius.n_subjects >= MIN_OWN).sum()),
        "reliability": [[level, share, *ends] for level, share, ends in of_levels if ends],
        "per_landmark": {
            str(name): {
                "n": int(known[:, k].sum()),
                "coverage": float((table.error_px <= table.radius_px)[known[:, k], k].mean()),
                "mean_px": float(table.radius_px[known[:, k], k].mean()),
            }
            for k, name in enumerate(table.landmarks)
            if known[:, k].any()
        },
    }


def by_chance(n: int) -> list[float]:
    """See `summarize`; `n` subjects, as many as a radius needs."""
    k = rank(n)
    return scipy.stats.beta(k, n + 1 - k).ppf([0.025, 0.975]).tolist()


def _coverage(table: Predictions, radius_px: np.ndarray) -> tuple[float, list[float]]:
    """The share of the annotated points within the radii, and its interval over subjects, if there is one."""
    known = np.isfinite(table.error_px) & np.isfinite(radius_px)
    within = (known & (table.error_px <= radius_px)).sum(axis=1, keepdims=True).astype(np.float64)
    estimate = intervals.of_ratios(within, known.sum(axis=1, keepdims=True).astype(np.float64), subject_units(table))
    ends = intervals.bounds(estimate, "fraction")[:, 0]
    return float(estimate.value[0]), ends.tolist() if np.isfinite(ends).all() else []
