"""Is one method better than another on the same pictures? The paired difference of every metric, over subjects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ctd_jax import metrics
from ctd_jax.errors import UserError
from ctd_jax.metrics import Predictions, intervals
from ctd_jax.metrics.landmarks import Key

SAME_PX = 0.01  # true points further apart are another annotation; predictions.csv keeps three decimals


def difference(
    a: Sequence[Predictions],
    b: Sequence[Predictions],
    *,
    normalizer: tuple[str, str] | None,
    thresholds: Mapping[str, float],
    radii_mm: Sequence[float],
) -> dict[str, Any]:
    """A - B in every metric of `metrics.summarize`, ready for JSON: negative errors and failure rates mean that A is
    better, as do positive areas under the curve and success rates.

    A and B are one or more runs each, such as seeds of one method: what each picture adds to a metric is first averaged
    over the runs, then paired by picture. A metric is a ratio of sums, and A's and B's have the same denominator, so
    that their difference is again such a ratio (points that one of the tables lacks are left out of all), and has the
    interval of one (`intervals`: difference, of AUC and rates difference of fractions). The interval is over subjects
    with these runs, and does not cover other seeds.

    Measured (experiments/intervals.py, least and most of six simulated kinds, 4,000 sets each): intervals of
    differences of mean errors held the truth in 95 to 98 % with 3 people, 94 to 97 with 5, 93 to 96 with 10, 94 to 95
    with 22 and 100; the percentile bootstrap did in 73 to 77, 80 to 83, 85 to 91, 92 to 94 and 94 to 95. Those of
    failure rates of 10 and 4 % are the weak spot: 88 to 100 % with 5 to 22 people, 92 to 93 with 100; where the rates
    are equal, 95 up.

    Args:
      a: tables of the runs of A.
      b: those of B; all tables have the same pictures, landmarks and annotations, in any order.
      normalizer: names of the two landmarks, or None.
      thresholds: of "nme" (a fraction), "mm" and "px", see `metrics.summarize`.
      radii_mm: radii of the success rates.

    Returns:
      The counts of `metrics.counts_of`, `n_subjects`, `normalizer`, `ced_measure`; `differences`: metric ->
      `a`, `b`, `difference`, `ci95` [lower, upper] and `p` (`intervals.p_value`: below 0.05 where the interval leaves
      out 0), the last two absent where fewer than two subjects contribute; `per_landmark`: name -> the same for each
      metric of a landmark; `n_left_out`, if there are any: annotated points that one of the tables lacks.

    Raises:
      UserError: nothing is annotated, the tables do not match (see `aligned`), a normaliser that is no landmark.
    """
    tables_a, tables_b = ([aligned(table, a[0]) for table in tables] for tables in (a, b))
    found = np.all([np.isfinite(table.xy).all(axis=-1) for table in (*tables_a, *tables_b)], axis=0)
    like = tables_a[0].masked(found)
    annotated = np.isfinite(like.error_px)
    if not annotated.any():
        raise UserError(f"expected at least one annotated landmark, found none in {len(like.images)} pictures.")

    def sums(tables: Sequence[Predictions]) -> tuple[list[Key], np.ndarray, np.ndarray]:
        """Keys of the M metrics; `[N, M]` numerators and denominators, the means over the runs."""
        runs = [
            metrics.ratios(table.masked(found), normalizer=normalizer, thresholds=thresholds, radii_mm=radii_mm)
            for table in tables
        ]
        above, below = (np.array([[pair[i] for pair in run.values()] for run in runs]).mean(axis=0).T for i in (0, 1))
        return list(runs[0]), above, below

    (keys, above_a, below), (_, above_b, _) = sums(tables_a), sums(tables_b)
    units = metrics.subject_units(like)
    estimate = intervals.of_ratios(above_a - above_b, below, units)
    fraction = np.array([metrics.is_fraction(key) for key in keys])
    bounds, p = (
        np.where(fraction, of(estimate, "difference of fractions"), of(estimate, "difference"))
        for of in (intervals.bounds, intervals.p_value)
    )

    def row(m: int) -> dict[str, Any]:
        n = below[:, m].sum()
        found = {
            "a": float(above_a[:, m].sum() / n),
            "b": float(above_b[:, m].sum() / n),
            "difference": float((above_a - above_b)[:, m].sum() / n),
        }
        if not np.isfinite(p[m]):
            return found
        return {**found, "ci95": bounds[:, m].tolist(), "p": float(p[m])}

    rows = {keys[m]: row(m) for m in range(len(keys)) if below[:, m].any()}
    pooled = [key for key in rows if isinstance(key, str)]
    left_out = int((~found & np.isfinite(a[0].true_xy).all(axis=-1)).sum())
    errors = metrics.image_errors(like, normalizer)
    return {
        **metrics.counts_of(like, errors),
        **({"n_left_out": left_out} if left_out else {}),
        "n_subjects": len(np.unique(units[annotated.any(axis=1)])),
        "normalizer": list(normalizer) if normalizer else None,
        "ced_measure": metrics.ced_measure(errors),
        "differences": {key: rows[key] for key in pooled},
        "per_landmark": {
            name: {key: rows[name, key] for key in pooled if (name, key) in rows} for name in map(str, like.landmarks)
        },
    }


def aligned(table: Predictions, like: Predictions, names: tuple[str, str] = ("one table", "another")) -> Predictions:
    """`table` with its pictures and landmarks in the order of `like`.

    Args:
      table: to be brought into order.
      like: the table that has it.
      names: names of the two for a message.

    Raises:
      UserError: they have other pictures, subjects or landmarks, or other annotations: true points more than `SAME_PX`
        apart, or points or millimetres that only one of them knows; or another spacing, as far as their errors show it.
    """
    rows = _order("pictures", table.images, like.images, names)
    columns = _order("landmarks", table.landmarks, like.landmarks, names)
    table = table.rows(rows).columns(columns)

    differ = np.flatnonzero(table.subjects != like.subjects)
    if len(differ):
        i = differ[0]
        raise UserError(
            f"{names[0]} and {names[1]} name another subject in {len(differ)} of {len(like.images)} pictures (first: "
            f"{str(like.images[i])!r}: {str(table.subjects[i])!r} and {str(like.subjects[i])!r}); give both the same."
        )
    apart = np.linalg.norm(table.true_xy - like.true_xy, axis=-1) > SAME_PX
    apart |= np.isnan(table.true_xy).any(axis=-1) != np.isnan(like.true_xy).any(axis=-1)
    if apart.any():
        i, k = np.argwhere(apart)[0]
        one, two = ("({:g}, {:g})".format(*t.true_xy[i, k]).replace("(nan, nan)", "none") for t in (table, like))
        raise UserError(
            f"{names[0]} and {names[1]} were measured against other annotations: {apart.sum()} of {apart.size} true "
            f"points differ (first: {str(like.landmarks[k])!r} in {str(like.images[i])!r}: {one} and {two}); evaluate "
            "both on the same landmarks.csv."
        )
    in_one = np.isnan(table.error_mm) != np.isnan(like.error_mm)
    in_one &= np.isfinite(table.error_px) & np.isfinite(like.error_px)
    if in_one.any():
        raise UserError(
            f"{names[0]} and {names[1]} know the error in mm of other points ({in_one.sum()} differ); evaluate both "
            "with the same spacing."
        )
    other = np.flatnonzero(_have_other_spacings(table, like))
    if len(other):
        i = other[0]
        one, two = (np.nanmedian(t.error_mm[i] / t.error_px[i]) for t in (table, like))
        raise UserError(
            f"{names[0]} and {names[1]} have another spacing in {len(other)} of {len(like.images)} pictures (first: "
            f"{str(like.images[i])!r}, about {one:.3g} and {two:.3g} mm of a pixel); evaluate both with the same "
            "spacing."
        )
    return table


def _have_other_spacings(table: Predictions, like: Predictions) -> np.ndarray:
    """`[N]` whether no mm of a pixel along x and along y, the best in least squares, give the errors in mm of both to
    1 % and the rounding of predictions.csv. Errors of up to a pixel or 0.1 mm have too few digits, and don't count."""
    squares = np.concatenate([(one.xy - one.true_xy) ** 2 for one in (table, like)], axis=1)  # [N, 2 K, 2]
    mm = np.concatenate([table.error_mm, like.error_mm], axis=1)
    known = (mm > 0.1) & (squares.sum(axis=-1) > 1)
    rows = np.where(known[..., None], squares / np.where(known, mm, 1.0)[..., None] ** 2, 0.0)  # rows @ spacing^2 = 1
    spacing = (np.linalg.pinv(np.einsum("nki,nkj->nij", rows, rows)) @ rows.sum(axis=1)[..., None])[..., 0]
    found = np.sqrt(np.maximum(np.einsum("nki,ni->nk", np.where(known[..., None], squares, 0.0), spacing), 0.0))
    return np.any(known & (np.abs(found - mm) > 0.001 + 0.01 * mm), axis=1)


def _order(what: str, of: np.ndarray, like: np.ndarray, names: tuple[str, str]) -> np.ndarray:
    """The permutation that brings the names `of` into the order of `like`."""
    ours, theirs = (one[~np.isin(one, other)] for one, other in ((of, like), (like, of)))
    if not len(ours) and not len(theirs):
        place = {name: i for i, name in enumerate(of)}
        return np.array([place[name] for name in like], dtype=int)
    only = [
        f"{len(some)} only in {name} (first: {str(some[0])!r})"
        for some, name in ((ours, names[0]), (theirs, names[1]))
        if len(some)
    ]
    common = len(of) - len(ours)
    raise UserError(
        f"{names[0]} and {names[1]} have other {what}: {common or 'none'} in common, {', '.join(only)}; a paired test "
        "needs the same data and the same split."
    )
