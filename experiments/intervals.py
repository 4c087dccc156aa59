"""How often do 95 % intervals of few people hold the truth? Simulated test sets, of which the truth is known.

    python -m experiments.intervals

A set has n people, each with pictures, in which two methods make errors. The error of a picture is lognormal: one
factor of the person, one of the picture, both shared by the methods in part. People have one picture each (`one`), 6 to
18 (`some`, as faces by age), or from 1 to 60 in geometric numbers of mean 8 (`uneven`). Kinds of number:

    level        mean error, person and picture factors of 0.3 and 0.35 (natural logarithm), and `wide`, 0.6 and 0.5
    rate 1/10/50 failure rate of 1, 10 and 50 %
    auc          area under the CED, of about 0.94
    difference   of two mean errors; `null` of equal methods, `shift` of one that is 30 % better
    rate diff    of two failure rates of 10 %, `shift` of 10 and about 4 %
    agreement    one picture a person: bias, upper limit of agreement, slope, ICC (true 0.9) of a measurement
    verification area under the ROC of pairs of pictures, normal features (`one` has no pairs)

Methods: `ours`, ctd_jax.metrics.intervals; `percentile`, the bootstrap over people; `BCa` and `bootstrap-t` (the
statistic studentised by its linearised error), for ratios; `t` with n - 1 degrees of freedom and the linearised error.
Prints the table, coverage and median width relative to the percentile's, and writes experiments/intervals.json.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from ctd_jax.metrics import agreement, intervals
from ctd_jax.metrics.verification import verification_auc, verification_interval

HERE = pathlib.Path(__file__).parent
PEOPLE = (2, 3, 5, 10, 22, 100)
PICTURES: dict[str, Callable] = {
    "one": lambda random, shape: np.ones(shape, int),
    "some": lambda random, shape: random.integers(6, 19, shape),
    "uneven": lambda random, shape: np.minimum(random.geometric(1 / 8, shape), 60),
}
Bounds = tuple[np.ndarray, np.ndarray]


def errors(random: np.random.Generator, sizes: np.ndarray, person: float, picture: float, shared: float) -> np.ndarray:
    """`[2, T, n, P]` errors of two methods.

    Args:
      random: generator.
      sizes: `[T, n]` number of pictures of each person, P at most; errors beyond it are NaN.
      person, picture: standard deviations of the logarithm between people, and between a person's pictures.
      shared: share of the variances that both methods have in common.
    """
    T, n = sizes.shape
    P = sizes.max()
    log = np.zeros((2, T, n, P))
    for of, shape in ((person, (T, n, 1)), (picture, (T, n, P))):
        log += of * np.sqrt(shared) * random.normal(size=shape)
        log += of * np.sqrt(1 - shared) * random.normal(size=(2, *shape))
    return np.where(np.arange(P) < sizes[..., None], np.exp(log), np.nan)


def kinds(random: np.random.Generator, sizes: np.ndarray) -> dict[str, tuple[intervals.Scale, np.ndarray, float]]:
    """Name -> scale, `[T, n, P]` values whose mean is the number, and its true value."""
    narrow, wide = errors(random, sizes, 0.3, 0.35, 0.7), errors(random, sizes, 0.6, 0.5, 0.7)
    sd, wide_sd = np.hypot(0.3, 0.35), np.hypot(0.6, 0.5)
    mean = np.exp(sd**2 / 2)
    end = np.exp(sd * special.ndtri(0.9))  # 10 % are above

    def above(values: np.ndarray, threshold: float) -> np.ndarray:
        return np.where(np.isnan(values), np.nan, values > threshold)

    a, b = narrow
    found: dict[str, tuple[intervals.Scale, np.ndarray, float]] = {
        "level": ("level", a, mean),
        "level wide": ("level", wide[0], np.exp(wide_sd**2 / 2)),
        "auc": ("fraction", np.clip(1 - a / 17, 0, 1), 1 - mean / 17),
        "difference null": ("difference", a - b, 0.0),
        "difference shift": ("difference", 0.7 * a - b, -0.3 * mean),
        "rate diff null": ("difference of fractions", above(a, end) - above(b, end), 0.0),
        "rate diff shift": (
            "difference of fractions",
            above(0.7 * a, end) - above(b, end),
            special.ndtr(-(np.log(end / 0.7)) / sd) - 0.1,
        ),
    }
    for rate in (0.01, 0.1, 0.5):
        threshold = np.exp(sd * special.ndtri(1 - rate))
        found[f"rate {100 * rate:g}"] = ("fraction", above(a, threshold), rate)
    return found


def ratio_methods(
    x: np.ndarray, y: np.ndarray, scale: intervals.Scale, random: np.random.Generator, resamples: int
) -> dict[str, Bounds]:
    """Bounds `[T]` of each method, for the ratios of the sums `[T, n]` of people; those by resampling of the first
    sets only, for the time they take.

    Args:
      x, y: `[T, n]` numerators and denominators, a sum for each person.
      scale: of the ratio.
      random: generator.
      resamples: number of resamples of a bootstrap.
    """
    T, n = x.shape
    above, below = x.sum(1, keepdims=True), y.sum(1, keepdims=True)
    rest = below - y
    with np.errstate(all="ignore"):
        left_out = np.where(rest > 0, (above - x) / rest, np.nan)
    estimate = intervals.jackknife((above / below)[:, 0], left_out.T, y.T)
    found = {"ours": tuple(intervals.bounds(estimate, scale))}
    r = (above / below)[:, 0]
    linear = np.sqrt(n / (n - 1) * ((x - r[:, None] * y) ** 2).sum(1)) / below[:, 0]
    half = special.stdtrit(n - 1, 0.975) * linear
    found["t"] = r - half, r + half
    some = slice(0, max(T // 4, 1))
    return found | bootstraps(x[some], y[some], r[some], linear[some], left_out[some], random, resamples)


def bootstraps(
    x: np.ndarray,
    y: np.ndarray,
    r: np.ndarray,
    linear: np.ndarray,
    left_out: np.ndarray,
    random: np.random.Generator,
    resamples: int,
) -> dict[str, Bounds]:
    """Percentile, BCa (Efron 1987) and bootstrap-t bounds `[T]`.

    Args:
      x, y: `[T, n]` numerators and denominators, a sum for each person.
      r: `[T]` ratios.
      linear: `[T]` linearised standard errors.
      left_out: `[T, n]` ratios without each person.
      random: generator.
      resamples: number of resamples.
    """
    n = x.shape[1]
    counts = random.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)  # [R, n]
    with np.errstate(all="ignore"):
        below = counts @ y.T
        drawn = counts @ x.T / below  # [R, T]
        squares = counts @ (x**2).T - 2 * drawn * (counts @ (x * y).T) + drawn**2 * (counts @ (y**2).T)
        spread = np.sqrt(n / (n - 1) * np.maximum(squares, 0)) / below
        z0 = special.ndtri(((drawn < r).mean(0) + (drawn <= r).mean(0)) / 2)
        away = left_out.mean(1, keepdims=True) - left_out
        a = (away**3).sum(1) / (6 * (away**2).sum(1) ** 1.5)
        levels = [special.ndtr(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in special.ndtri([0.025, 0.975])]
        t = np.where(spread > 1e-9 * linear, (drawn - r) / spread, np.where(drawn > r, np.inf, -np.inf))
        t = np.sort(np.where(drawn == r, 0.0, t), axis=0)
    ends = t[round(0.025 * resamples)], t[round(0.975 * resamples) - 1]
    ordered = np.sort(drawn, axis=0)
    places = [np.clip(np.nan_to_num(level) * resamples, 0, resamples - 1).astype(int) for level in levels]
    with np.errstate(all="ignore"):
        studentised = tuple(np.where(linear > 0, r - end * linear, r) for end in ends[::-1])
    return {
        "percentile": tuple(np.percentile(drawn, [2.5, 97.5], axis=0)),
        "BCa": tuple(np.take_along_axis(ordered, place[None], 0)[0] for place in places),
        "bootstrap-t": studentised,
    }


def of_agreement(random: np.random.Generator, n: int, sets: int) -> dict[str, tuple[Bounds, float]]:
    """Bounds of the statistics of a measurement with a true spread of 3, in which the rater and the network err by 1,
    the latter with a bias of 0.5; and their true values."""
    truth = random.normal(30, 3, (sets, n))
    value, annotated = truth + 0.5 + random.normal(size=truth.shape), truth + random.normal(size=truth.shape)
    names, empty = np.arange(n).astype(str), np.full(n, "")
    rows = [
        agreement.Measured(names, names, empty, empty, found, true, empty, empty, empty)
        for found, true in zip(value, annotated, strict=True)
    ]
    found = [agreement.intervals_of(one) for one in rows]
    loa = {"loa": 0.5 + 1.96 * np.sqrt(2)}
    wanted = {"bias": 0.5, **loa, "slope": 0.0, "icc": 9 / (10 + 0.125)}
    ends = {
        key: np.array([np.atleast_2d(one[key])[-1] if key in one else (np.nan, np.nan) for one in found]).T
        for key in wanted
    }
    return {key: (tuple(ends[key]), wanted[key]) for key in wanted}


def of_verification(random: np.random.Generator, sizes: np.ndarray) -> tuple[Bounds, float]:
    """Bounds of the verification AUC, and its value in many people."""

    def draw(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        subjects = np.repeat(np.arange(len(counts)), counts)
        return random.normal(size=(len(counts), 8))[subjects] + random.normal(size=(len(subjects), 8)), subjects

    truth = np.mean([verification_auc(*draw(np.full(200, 8))) for _ in range(5)])
    ends = [verification_interval(*draw(counts)) or (np.nan, np.nan) for counts in sizes]
    return tuple(np.array(ends).T), float(truth)


def held(bounds: Bounds, truth: float) -> tuple[float, float]:
    """Share of the intervals that hold the truth, and their median width; what has no bounds holds nothing."""
    low, high = bounds
    with np.errstate(invalid="ignore"):
        return float(np.mean((low <= truth) & (truth <= high))), float(np.nanmedian(high - low))


def simulate(sets: int, resamples: int, seed: int) -> list[dict[str, Any]]:
    """A row for each kind of number, spread of the pictures and n: of each method `coverage` and `width`."""
    rows: list[dict[str, Any]] = []
    for spread, draw in PICTURES.items():
        for n in PEOPLE:
            random = np.random.default_rng([seed, n, len(rows)])
            sizes = draw(random, (sets, n))
            for kind, (scale, values, truth) in kinds(random, sizes).items():
                x, y = np.nansum(values, axis=-1), 1.0 * sizes
                methods = ratio_methods(x, y, scale, random, resamples)
                found = {name: held(bounds, truth) for name, bounds in methods.items()}
                rows.append(_row(kind, spread, n, found))
            if spread == "one" and n > 2:
                of = of_agreement(random, n, sets // 4)
                rows += [_row(f"agreement {key}", spread, n, {"ours": held(*one)}) for key, one in of.items()]
            elif n in (3, 5, 10, 22):
                found = {"ours": held(*of_verification(random, sizes[: sets // 10]))}
                rows.append(_row("verification", spread, n, found))
    return rows


def _row(kind: str, spread: str, n: int, found: dict[str, tuple[float, float]]) -> dict[str, Any]:
    of = {
        name: {"coverage": round(c, 4), "width": float(f"{w:.4g}") if np.isfinite(w) else None}
        for name, (c, w) in found.items()
    }
    return {"kind": kind, "pictures": spread, "people": n, "methods": of}


def table(rows: list[dict[str, Any]]) -> str:
    """Coverage in %, and in brackets the median width relative to the percentile's."""
    names = ("percentile", "BCa", "bootstrap-t", "t", "ours")
    lines = [f"{'kind':<18}{'pictures':<9}{'people':>6}" + "".join(f"{name:>16}" for name in names)]
    for row in rows:
        base = row["methods"].get("percentile", {"width": 0})["width"]
        cells = []
        for name in names:
            one = row["methods"].get(name)
            width = f" ({one['width'] / base:.2f})" if one and base and one["width"] is not None else ""
            cells.append(f"{100 * one['coverage']:.1f}{width}" if one else "")
        lines.append(f"{row['kind']:<18}{row['pictures']:<9}{row['people']:>6}" + "".join(f"{c:>16}" for c in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=4000, help="simulated sets of each kind and number of people")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstraps")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.monotonic()
    rows = simulate(args.sets, args.resamples, args.seed)
    content = {"arguments": vars(args), "seconds": round(time.monotonic() - began), "rows": rows}
    (HERE / "intervals.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
