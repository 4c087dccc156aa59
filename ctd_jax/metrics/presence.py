"""Whether landmarks that may be absent are there: what is known of that, and how often a network is right."""

from collections.abc import Collection
from typing import Any

import numpy as np

from ctd_jax.metrics import intervals
from ctd_jax.metrics.landmarks import subject_units
from ctd_jax.metrics.predictions import Predictions

THRESHOLD = 0.5  # of the probability; below, a point is said to be absent
RATES = ("precision", "recall", "absent_precision", "absent_recall")


def truth(true_xy: np.ndarray, may_be_absent: np.ndarray) -> np.ndarray:
    """`[N, K]` 1: the landmark is there; 0: it is absent; NaN: nobody knows, because an empty cell does not mean that,
    or the picture has no landmark at all and is not annotated.

    Args:
      true_xy: `[N, K, 2]` annotated points, NaN where the cells are empty.
      may_be_absent: `[K]` bool.
    """
    there = np.isfinite(true_xy).all(axis=-1)
    return np.where(may_be_absent & there.any(axis=1, keepdims=True), there, np.nan)


def there_alone(table: Predictions) -> Predictions:
    """The table without the points that are said to be absent: nothing is measured on them or drawn."""
    return table.masked(~(table.present < THRESHOLD))


def summarize(table: Predictions, absent: Collection[str], temperature: float | None) -> dict[str, Any]:
    """The `presence` of metrics.json. What is unknown, such as the precision where nothing was found, is absent.

    - `threshold`: a point is said to be there from this probability on. `temperature`: see `trust.temperature`; null:
      val could not tell, and the probabilities are not calibrated.
    - `n_present`, `n_absent`: points of the table that are there and that are absent, of landmarks that may be.
    - `precision`: share of those that are said to be there that are; `recall`: share of those that are there that are
      said to be. `absent_precision`, `absent_recall`: the same of those that are absent. With `ci95` over subjects.
    - `brier`: mean squared difference of probability and truth; 0 is perfect.
    - `per_landmark`: name -> the counts and rates of one landmark.

    Args:
      table: of N pictures.
      absent: names of the landmarks that may be absent.
      temperature: of the run.
    """
    true = truth(table.true_xy, np.isin(table.landmarks, list(absent)))
    true = np.where(np.isfinite(table.present), true, np.nan)
    found = table.present >= THRESHOLD
    columns = {"": np.arange(len(table.landmarks))} | {
        str(name): np.array([k]) for k, name in enumerate(table.landmarks)
    }
    columns = {name: at for name, at in columns.items() if np.isfinite(true[:, at]).any()}
    if not columns:
        return {"threshold": THRESHOLD, "temperature": temperature, "n_present": 0, "n_absent": 0, "per_landmark": {}}
    pairs = {name: _rates(true[:, at], found[:, at]) for name, at in columns.items()}
    above, below = (np.stack([pair[i] for one in pairs.values() for pair in one], axis=1) for i in (0, 1))
    estimate = intervals.of_ratios(above, below, subject_units(table))
    ends = intervals.bounds(estimate, "fraction").T.reshape(len(pairs), len(RATES), 2)
    values = estimate.value.reshape(len(pairs), len(RATES))

    def of(i: int, at: np.ndarray) -> dict[str, Any]:
        known = [r for r in range(len(RATES)) if np.isfinite(values[i, r])]
        return {
            "n_present": int((true[:, at] == 1).sum()),
            "n_absent": int((true[:, at] == 0).sum()),
            **{RATES[r]: float(values[i, r]) for r in known},
            "ci95": {RATES[r]: ends[i, r].tolist() for r in known if np.isfinite(ends[i, r]).all()},
        }

    each = {name: of(i, at) for i, (name, at) in enumerate(columns.items())}
    pooled = each.pop("")
    return {
        "threshold": THRESHOLD,
        "temperature": temperature,
        **pooled,
        "brier": float(np.nanmean((table.present - true) ** 2)),
        "per_landmark": each,
    }


def _rates(true: np.ndarray, found: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """`[N]` numerator and denominator of each of `RATES`; `true` and `found` are `[N, K]`."""

    def counts(condition: np.ndarray) -> np.ndarray:
        return (condition & np.isfinite(true)).sum(axis=1).astype(np.float64)

    pairs = []
    for is_true, is_found in ((true == 1, found), (true == 0, ~found)):
        both = counts(is_true & is_found)
        pairs += [(both, counts(is_found)), (both, counts(is_true))]
    return pairs
