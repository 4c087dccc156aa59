"""Metrics of a table of predictions, each with a 95 % interval over subjects. NumPy, float64.

Everything is computed from `Predictions` (`predictions.csv`), in pixels of the original picture or in mm. A missing
point is left out of numerator and denominator: it counts neither as a miss nor as an error of 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ctd_jax.errors import UserError
from ctd_jax.metrics import intervals
from ctd_jax.metrics.predictions import Predictions

Key = str | tuple[str, str]  # of a metric of all landmarks; (landmark, key) of one landmark


class OfPictures(Protocol):
    """A table with a picture and its subject in each row."""

    @property
    def images(self) -> np.ndarray: ...

    @property
    def subjects(self) -> np.ndarray: ...


def nme_key(normalizer: tuple[str, str]) -> str:
    """The key of the NME with its normaliser in the name: `nme_<a>_<b>`."""
    return "nme_" + "_".join(normalizer)


def image_error(table: Predictions, normalizer: tuple[str, str] | None, measure: str) -> np.ndarray:
    """`[N]` mean error of each picture over its annotated landmarks; NaN where it is unknown.

    Args:
      table: of N pictures.
      normalizer: names of two landmarks, or None.
      measure: "me_px", "me_mm" (NaN where the spacing is unknown) or `nme_key(normalizer)`: error in px divided by the
        distance of the two annotated normaliser landmarks of that picture, a fraction; NaN where one is missing or
        both coincide.

    Raises:
      UserError: a normaliser that is no landmark of the table.
      ValueError: another measure.
    """
    if measure == "me_mm":
        return _mean(table.error_mm)
    if measure == "me_px":
        return _mean(table.error_px)
    if normalizer is None or measure != nme_key(normalizer):
        raise ValueError(f"expected me_px, me_mm or the NME of {normalizer}, found {measure!r}")
    names = list(table.landmarks)
    unknown = [name for name in normalizer if name not in names]
    if unknown:
        raise UserError(f"normalizer: {unknown[0]!r} is no landmark; expected two of {', '.join(names)}.")
    a, b = (table.true_xy[:, names.index(name)] for name in normalizer)
    distance = np.linalg.norm(a - b, axis=-1)
    return _mean(table.error_px) / np.where(distance > 0, distance, np.nan)


def image_errors(table: Predictions, normalizer: tuple[str, str] | None) -> dict[str, np.ndarray]:
    """Every measure of `image_error` that is known for any picture."""
    measures = ["me_px", "me_mm"] + ([nme_key(normalizer)] if normalizer else [])
    errors = {measure: image_error(table, normalizer, measure) for measure in measures}
    return {measure: values for measure, values in errors.items() if np.isfinite(values).any()}


def ced_measure(errors: Mapping[str, np.ndarray]) -> str:
    """Which of `image_errors` the CED, AUC and FR are built from: the NME if more than half of the annotated pictures
    have it, else me_mm if all of them have it, else me_px. A few pictures thus never stand for all."""
    counts = {measure: np.isfinite(values).sum() for measure, values in errors.items()}
    nme = [measure for measure in counts if measure.startswith("nme_") and 2 * counts[measure] > counts["me_px"]]
    if nme:
        return nme[0]
    return "me_mm" if counts.get("me_mm", 0) == counts["me_px"] else "me_px"


def _mean(errors: np.ndarray) -> np.ndarray:
    """`[N, K]` -> `[N]`, NaN left out; NaN (without a warning) where nothing is left."""
    valid = np.isfinite(errors)
    n = valid.sum(axis=1)
    return np.where(valid, errors, 0.0).sum(axis=1) / np.where(n > 0, n, np.nan)


def ced(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cumulative error distribution as a step curve `(x, y)`: y[i] is the share of pictures with an error <= x[i].

    `errors` is `[N]`, NaN left out. The curve starts at (0, 0) and holds each y until the next x ("steps-post").
    """
    errors = np.sort(errors[np.isfinite(errors)])
    return np.concatenate([[0.0], errors]), np.arange(len(errors) + 1) / max(len(errors), 1)


def subject_units(table: OfPictures) -> np.ndarray:
    """`[N]` subject of each row, for intervals over subjects; a picture without one is a subject by itself."""
    return np.where(table.subjects == "", np.char.add("image ", table.images), table.subjects)


def ratios(
    table: Predictions,
    *,
    normalizer: tuple[str, str] | None,
    thresholds: Mapping[str, float],
    radii_mm: Sequence[float],
) -> dict[Key, tuple[np.ndarray, np.ndarray]]:
    """Every metric of `summarize` as a ratio of sums over pictures: its `[N]` numerator and denominator. Arguments as
    there."""
    per_image = image_errors(table, normalizer)
    measure = ced_measure(per_image)
    errors = per_image[measure]
    a = float(thresholds[{"me_mm": "mm", "me_px": "px"}.get(measure, "nme")])

    out: dict[Key, tuple[np.ndarray, np.ndarray]] = {key: _ratio(value) for key, value in per_image.items()}
    out[f"auc@{a:g}"] = _ratio(np.clip(1 - errors / a, 0, 1))
    out[f"fr@{a:g}"] = _ratio(np.where(np.isfinite(errors), errors > a, np.nan))
    by_point = {"me_px": table.error_px, "me_mm": table.error_mm}
    for r in radii_mm:
        by_point[f"sdr_le_{r:g}mm"] = np.where(np.isfinite(table.error_mm), table.error_mm <= r, np.nan)
        above, below = _ratio(by_point[f"sdr_le_{r:g}mm"])
        out[f"sdr_le_{r:g}mm"] = above.sum(axis=1), below.sum(axis=1)
    for key, values in by_point.items():
        above, below = _ratio(values)
        for k, name in enumerate(table.landmarks):
            out[str(name), key] = above[:, k], below[:, k]
    return out


def summarize(
    table: Predictions,
    *,
    normalizer: tuple[str, str] | None,
    thresholds: Mapping[str, float],
    radii_mm: Sequence[float],
) -> dict[str, Any]:
    """All metrics, ready for JSON (without NaN: a number that is unknown, because a unit or points are missing, is
    absent).

    - `n_images`, `n_points`: pictures with at least one annotated landmark; annotated landmarks.
    - `n_images_mm`, `n_points_mm`, `n_images_nme`: those of them whose error in mm, and whose NME, is known; absent
      where that is all of them. Numbers in mm, and the NME, are of these only.
    - `me_px`, `me_mm`: mean over pictures of the mean error over the annotated landmarks of the picture. A picture
      counts once however many of its points are annotated; landmarker and mmpose pool the points instead (errors 2, 4
      in one picture and 6, 0, 12 in another: 4.5 here, 4.8 there; 0.2 to 0.5 % apart with 30 % of the points missing
      at random). Payer's code divides by K whether annotated or not; DeepLabCut calls the mean error "RMSE".
    - `nme_<a>_<b>`: the same of error / distance of landmarks a and b, a fraction; a picture without both is not
      counted. HRNet-Facial's NME where nothing is missing; mmpose pools over points here too, and other papers divide
      by the distance of the pupils or by the box, hence the names in the key.
    - `ced_measure`: the key whose value per picture (`image_error`) the CED is built from, see `ced_measure`. Its
      threshold a is `thresholds["nme"]` (fraction), `["mm"]` or `["px"]`.
    - `auc@<a>`: (1/a) * integral of the CED from 0 to a = mean of max(0, 1 - error/a), exact for the step function. A
      perfect model has 1. (mmpose's AUC is a mean of PCK at 20 radii, at most 0.95: another metric.)
    - `fr@<a>`: failure rate, the share of pictures with an error > a.
    - `sdr_le_<r>mm`: success detection rate, the share of annotated points with an error <= r, pooled over pictures.
      (Payer's outliers are >= r, so ties differ; landmarker counts a missing point as a miss.)
    - `per_landmark`: name -> `n`, `n_mm` (those in mm, if fewer), and `me_px`, `me_mm`, `sdr_le_<r>mm` of that
      landmark alone, with their `ci95`.
    - `ci95`: key -> [lower, upper], the 95 % interval over subjects (`intervals`: errors as a level, AUC and rates as a
      fraction); absent where only one subject contributes.

    Args:
      table: of N pictures.
      normalizer: names of the two landmarks, or None.
      thresholds: of "nme" (a fraction), "mm" and "px".
      radii_mm: radii r.

    Raises:
      UserError: nothing is annotated; a normaliser that is no landmark.
    """
    if not np.isfinite(table.error_px).any():
        raise UserError(f"expected at least one annotated landmark, found none in {len(table.images)} pictures.")

    terms = ratios(table, normalizer=normalizer, thresholds=thresholds, radii_mm=radii_mm)
    above, below = (np.stack([pair[i] for pair in terms.values()], axis=1) for i in (0, 1))
    estimate = intervals.of_ratios(above, below, subject_units(table))
    value = {key: float(r) for key, r in zip(terms, estimate.value, strict=True) if np.isfinite(r)}
    ends = np.where(
        [is_fraction(key) for key in terms],
        intervals.bounds(estimate, "fraction"),
        intervals.bounds(estimate, "level"),
    )
    ci95 = {key: pair.tolist() for key, pair in zip(terms, ends.T, strict=True) if np.isfinite(pair).all()}
    pooled = [key for key in value if isinstance(key, str)]

    def of_landmark(k: int, name: str) -> dict[str, Any]:
        found = {key: value[name, key] for key in pooled if (name, key) in value}
        counts = {"n": int(annotated[:, k].sum())} | _fewer(n_mm=(in_mm[:, k].sum(), annotated[:, k].sum()))
        return {**counts, **found, "ci95": {key: ci95[name, key] for key in found if (name, key) in ci95}}

    annotated, in_mm = np.isfinite(table.error_px), np.isfinite(table.error_mm)
    errors = image_errors(table, normalizer)
    return {
        **counts_of(table, errors),
        **{key: value[key] for key in pooled},
        "ced_measure": ced_measure(errors),
        "ci95": {key: ci95[key] for key in pooled if key in ci95},
        "per_landmark": {str(name): of_landmark(k, str(name)) for k, name in enumerate(table.landmarks)},
    }


def counts_of(table: Predictions, errors: Mapping[str, np.ndarray]) -> dict[str, int]:
    """`n_images` and `n_points` with an annotation; `n_images_mm`, `n_points_mm` and `n_images_nme`, those that the
    metrics in mm and the NME are of, where these are fewer. `errors` are those of `image_errors`."""
    annotated, in_mm = np.isfinite(table.error_px), np.isfinite(table.error_mm)
    n_images, n_points = annotated.any(axis=1).sum(), annotated.sum()
    n_nme = max((np.isfinite(errors[key]).sum() for key in errors if key.startswith("nme_")), default=0)
    return {
        "n_images": int(n_images),
        "n_points": int(n_points),
        **_fewer(n_images_mm=(in_mm.any(axis=1).sum(), n_images), n_points_mm=(in_mm.sum(), n_points)),
        **_fewer(n_images_nme=(n_nme, n_images)),
    }


def is_fraction(key: Key) -> bool:
    """Whether a metric (one of `ratios`) lies between 0 and 1; the others are errors."""
    return (key if isinstance(key, str) else key[1]).startswith(("auc@", "fr@", "sdr_le_"))


def _fewer(**counts: tuple[int, int]) -> dict[str, int]:
    """The parts of key = (part, whole) that are neither 0 nor the whole."""
    return {key: int(part) for key, (part, whole) in counts.items() if 0 < part < whole}


def _ratio(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mean over the values that are not NaN, as numerator and denominator to be summed."""
    valid = np.isfinite(values)
    return np.where(valid, values, 0.0), valid.astype(np.float64)
