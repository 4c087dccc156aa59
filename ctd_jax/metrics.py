"""Metrics of a table of predictions, each with a 95 % interval over subjects. NumPy only, float64.

Everything is computed from `Predictions` (`predictions.csv`), in pixels of the original picture or in mm. A missing
point is left out of numerator and denominator: it counts neither as a miss nor as an error of 0.
"""

import csv
import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ctd_jax import files
from ctd_jax.errors import UserError

COLUMNS = ("image", "subject", "landmark", "x", "y", "true_x", "true_y", "error_px", "error_mm", "confidence")
_DECIMALS = (3, 3, 3, 3, 4, 4, 4)  # of the columns from x on; 0.0005 px is far below what anybody can annotate
_REQUIRED = ("image", "landmark", "x", "y")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """N pictures x K landmarks; coordinates are (x, y) in pixels of the original picture, NaN where unknown."""

    images: np.ndarray  # [N] str, unique
    subjects: np.ndarray  # [N] str; "" where unknown: the picture is then a subject of its own
    landmarks: np.ndarray  # [K] str, unique
    xy: np.ndarray  # [N, K, 2]
    true_xy: np.ndarray  # [N, K, 2], NaN where not annotated
    error_px: np.ndarray  # [N, K] Euclidean distance, NaN where not annotated
    error_mm: np.ndarray  # [N, K] the same in mm, NaN also where the spacing is unknown
    confidence: np.ndarray  # [N, K], NaN where unknown

    @classmethod
    def from_points(
        cls,
        images: Sequence[str],
        subjects: Sequence[str],
        landmarks: Sequence[str],
        xy: np.ndarray,
        *,
        true_xy: np.ndarray | None = None,
        spacing: np.ndarray | None = None,
        confidence: np.ndarray | None = None,
    ) -> "Predictions":
        """The table of N pictures and K landmarks, with its errors computed.

        Args:
          images, subjects: N names each; landmarks: K names.
          xy: `[N, K, 2]` predicted points (x, y), pixels of the original picture.
          true_xy: `[N, K, 2]` annotated points, NaN where not annotated (None: none is).
          spacing: `[N, 2]` mm per pixel along x and y, NaN where unknown (None: unknown everywhere).
          confidence: `[N, K]` (None: unknown).

        Raises:
          ValueError: shapes that do not fit.
        """
        n, k = len(images), len(landmarks)

        def array(values, shape):
            values = np.full(shape, np.nan) if values is None else np.asarray(values, np.float64)
            if values.shape != shape:
                raise ValueError(f"expected an array of shape {shape}, found {values.shape}")
            return values

        xy, true_xy = array(xy, (n, k, 2)), array(true_xy, (n, k, 2))
        offset, spacing = xy - true_xy, array(spacing, (n, 2))
        return cls(
            images=np.array(images, dtype=str),
            subjects=np.array(subjects, dtype=str),
            landmarks=np.array(landmarks, dtype=str),
            xy=xy,
            true_xy=true_xy,
            error_px=np.linalg.norm(offset, axis=-1),
            error_mm=np.linalg.norm(offset * spacing[:, None, :], axis=-1),
            confidence=array(confidence, (n, k)),
        )

    def rows(self, chosen: np.ndarray) -> "Predictions":
        """The pictures where `chosen` [N] is true."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "landmarks"]
        return dataclasses.replace(self, **{name: getattr(self, name)[chosen] for name in names})


def concatenate(tables: Sequence[Predictions]) -> Predictions:
    """One table of the pictures of several, which have the same landmarks."""
    rows = [f.name for f in dataclasses.fields(Predictions) if f.name != "landmarks"]
    return dataclasses.replace(tables[0], **{name: np.concatenate([getattr(t, name) for t in tables]) for name in rows})


def write_predictions(path: str | os.PathLike, table: Predictions) -> None:
    """Writes one row per picture x landmark, an empty cell where unknown. Replaces a file already there in one move."""
    values = np.concatenate(
        [table.xy, table.true_xy, np.stack([table.error_px, table.error_mm, table.confidence], axis=-1)], axis=-1
    )  # [N, K, 7]

    def rows() -> Iterator[list[str]]:
        for image, subject, of_image in zip(table.images, table.subjects, values, strict=True):
            for landmark, row in zip(table.landmarks, of_image, strict=True):
                cells = ("" if math.isnan(v) else f"{v:.{d}f}" for v, d in zip(row, _DECIMALS, strict=True))
                yield [*map(files.cell, (image, subject, landmark)), *cells]

    files.write_csv(path, COLUMNS, rows())


def read_predictions(path: str | os.PathLike) -> Predictions:
    """Reads what `write_predictions` wrote; pictures and landmarks in order of first appearance, rows in any order.

    Raises:
      UserError: no such file, another header, a missing or second row of a picture x landmark, a picture with two
        subjects, a cell that is not a number, half a point, an error without its true point (or the reverse).
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = tuple(next(reader, ()))
            lines = [(reader.line_num, row) for row in reader if row]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. It is written by the evaluation of a run.") from None
    if header != COLUMNS:
        found = ",".join(header) or "nothing"
        raise UserError(f"{path}, line 1: expected the columns {','.join(COLUMNS)}, found {found}.")

    cells: dict[tuple[str, str], list[float]] = {}
    subjects: dict[str, str] = {}
    landmarks: dict[str, None] = {}
    for line, row in lines:
        where = f"{path}, line {line}"
        if len(row) != len(COLUMNS):
            raise UserError(f"{where}: expected {len(COLUMNS)} cells, found {len(row)}.")
        image, subject, landmark = map(files.plain, row[:3])
        if (image, landmark) in cells:
            raise UserError(f"{where}: expected one row of landmark {landmark!r} in {image!r}, found a second one.")
        if subjects.setdefault(image, subject) != subject:
            raise UserError(f"{where}: expected subject {subjects[image]!r} of {image!r} as above, found {subject!r}.")
        landmarks[landmark] = None
        cells[image, landmark] = _numbers(where, row)

    missing = next(((i, k) for i in subjects for k in landmarks if (i, k) not in cells), None)
    if missing:
        raise UserError(
            f"{path}, line {lines[-1][0]}: the file ends without a row of landmark {missing[1]!r} in {missing[0]!r}; "
            f"expected {len(subjects)} pictures x {len(landmarks)} landmarks, found {len(lines)} rows."
        )
    values = np.array([cells[i, k] for i in subjects for k in landmarks], np.float64)
    values = values.reshape(len(subjects), len(landmarks), 7)
    return Predictions(
        images=np.array(list(subjects), dtype=str),
        subjects=np.array(list(subjects.values()), dtype=str),
        landmarks=np.array(list(landmarks), dtype=str),
        xy=values[..., 0:2],
        true_xy=values[..., 2:4],
        error_px=values[..., 4],
        error_mm=values[..., 5],
        confidence=values[..., 6],
    )


def _numbers(where: str, row: list[str]) -> list[float]:
    numbers = []
    for column, cell in list(zip(COLUMNS, row, strict=True))[3:]:
        try:
            number = float(cell) if cell else math.nan
        except ValueError:
            number = math.inf
        if cell and not math.isfinite(number):
            raise UserError(f"{where}, column {column}: expected a number or an empty cell, found {cell!r}.")
        numbers.append(number)
    for column, cell in zip(COLUMNS, row, strict=True):
        if column in _REQUIRED and not cell:
            raise UserError(f"{where}, column {column}: expected a value, found an empty cell.")
    _, _, true_x, true_y, error_px, error_mm, _ = map(math.isnan, numbers)
    if not true_x == true_y == error_px or (true_x and not error_mm):
        raise UserError(f"{where}: expected true_x, true_y and error_px all filled or, with error_mm, all empty.")
    return numbers


def nme_key(normalizer: tuple[str, str]) -> str:
    """The key of the NME with its normaliser in the name: `nme_<a>_<b>`."""
    return "nme_" + "_".join(normalizer)


def image_error(table: Predictions, normalizer: tuple[str, str] | None, measure: str) -> np.ndarray:
    """`[N]` mean error of each picture over its annotated landmarks; NaN where it cannot be told.

    `measure` is "me_px", "me_mm" (needs the spacing) or `nme_key(normalizer)`: error in px divided by the distance of
    the two annotated normaliser landmarks of that picture, a fraction; NaN where one is missing or both coincide.

    Raises:
      UserError: a normaliser that is no landmark of the table. ValueError: another measure.
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
    """Every measure of `image_error` that can be told of any picture. The last is what the CED is built from: NME, else
    mm, else pixels."""
    measures = ["me_px", "me_mm"] + ([nme_key(normalizer)] if normalizer else [])
    errors = {measure: image_error(table, normalizer, measure) for measure in measures}
    return {measure: values for measure, values in errors.items() if np.isfinite(values).any()}


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


def resample(
    numerator: np.ndarray, denominator: np.ndarray, subjects: np.ndarray, *, bootstrap: int, seed: int
) -> np.ndarray:
    """M ratios of sums in each of R resamples of the subjects, in one matrix product.

    A resample draws as many subjects as there are, with replacement, each with all its pictures (the cluster bootstrap,
    Field and Welsh 2007); all M ratios see the same resamples.

    Args:
      numerator, denominator: `[N, M]` sums of each picture; a ratio is the sum of one over the sum of the other.
      subjects: `[N]` names.
      bootstrap: R, number of resamples.

    Returns:
      `[R, M]`; NaN where a ratio is 0/0, and everywhere for a ratio to which fewer than two subjects contribute: one
      subject says nothing about others, and resamples that are all alike would claim the opposite.
    """
    names, group = np.unique(subjects, return_inverse=True)
    sums = np.zeros((2, len(names), numerator.shape[1]))
    np.add.at(sums[0], group, numerator)
    np.add.at(sums[1], group, denominator)
    told = (sums[1] > 0).sum(axis=0) >= 2
    ratios = np.full((bootstrap, len(told)), np.nan)
    if bootstrap and told.any():
        share = np.full(len(names), 1 / len(names))
        counts = np.random.default_rng(seed).multinomial(len(names), share, size=bootstrap).astype(np.float64)  # [R, S]
        above, below = counts @ sums[0][:, told], counts @ sums[1][:, told]
        ratios[:, told] = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    return ratios


def percentile_interval(resamples: np.ndarray) -> np.ndarray:
    """`[2, M]` bounds that hold the middle 95 % of `[R, M]` resamples, NaN left out; NaN where nothing is left."""
    bounds = np.full((2, resamples.shape[1]), np.nan)
    told = np.isfinite(resamples).any(axis=0)
    if told.any():
        bounds[:, told] = np.nanpercentile(resamples[:, told], [2.5, 97.5], axis=0)
    return bounds


def interval(
    numerator: np.ndarray, denominator: np.ndarray, subjects: np.ndarray, *, bootstrap: int, seed: int
) -> np.ndarray:
    """`[2, M]` 95 % percentile bootstrap interval over subjects of M ratios of sums; see `resample`."""
    return percentile_interval(resample(numerator, denominator, subjects, bootstrap=bootstrap, seed=seed))


def bootstrap_units(table: Predictions) -> np.ndarray:
    """`[N]` the subjects that are resampled; a picture without one stands for itself."""
    return np.where(table.subjects == "", np.char.add("image ", table.images), table.subjects)


def ratios(
    table: Predictions,
    *,
    normalizer: tuple[str, str] | None,
    thresholds: Mapping[str, float],
    radii_mm: Sequence[float],
) -> dict[str | tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Every metric of `summarize` as a ratio of sums: the numerators and denominators `[N]` of the pictures.

    Keys are those of `summarize`; (landmark, key) for a metric of one landmark. Arguments as there.
    """
    per_image = image_errors(table, normalizer)
    ced_measure = list(per_image)[-1]
    errors = per_image[ced_measure]
    a = float(thresholds[{"me_mm": "mm", "me_px": "px"}.get(ced_measure, "nme")])

    out = {key: _ratio(value) for key, value in per_image.items()}
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
    bootstrap: int,
    seed: int,
) -> dict:
    """All metrics, ready for JSON (no NaN: a key that cannot be told, for want of a unit or of points, is absent).

    - `n_images`, `n_points`: pictures with at least one annotated landmark; annotated landmarks.
    - `me_px`, `me_mm`: mean over pictures of the mean error over the annotated landmarks of the picture. (Payer's code
      divides by K whether annotated or not; DeepLabCut calls the mean error "RMSE".)
    - `nme_<a>_<b>`: the same of error / distance of landmarks a and b, a fraction; a picture without both is not
      counted. HRNet-Facial's NME where nothing is missing; mmpose pools over points instead, and other papers divide by
      the distance of the pupils or by the box, hence the names in the key.
    - `ced_measure`: the key whose value per picture (`image_error`) the CED is built from: NME if there is one, else
      me_mm, else me_px. Its threshold a is `thresholds["nme"]` (fraction), `["mm"]` or `["px"]`.
    - `auc@<a>`: (1/a) * integral of the CED from 0 to a = mean of max(0, 1 - error/a), exact for the step function. A
      perfect model has 1. (mmpose's AUC is a mean of PCK at 20 radii, at most 0.95: another metric.)
    - `fr@<a>`: failure rate, the share of pictures with an error > a.
    - `sdr_le_<r>mm`: success detection rate, the share of annotated points with an error <= r, pooled over pictures.
      (Payer's outliers are >= r, so ties differ; landmarker counts a missing point as a miss.)
    - `per_landmark`: name -> `n`, and `me_px`, `me_mm`, `sdr_le_<r>mm` of that landmark alone, with their `ci95`.
    - `ci95`: key -> [lower, upper], see `resample`; absent where only one subject contributes, or `bootstrap` is 0.

    Args:
      normalizer: names of the two landmarks, or None.
      thresholds: "nme", "mm", "px"; radii_mm: radii r.
      bootstrap: number of resamples; seed: of the resamples.

    Raises:
      UserError: nothing is annotated; a normaliser that is no landmark.
    """
    if not np.isfinite(table.error_px).any():
        raise UserError(f"expected at least one annotated landmark, found none in {len(table.images)} pictures.")

    terms = ratios(table, normalizer=normalizer, thresholds=thresholds, radii_mm=radii_mm)
    above, below = (np.stack([pair[i] for pair in terms.values()], axis=1) for i in (0, 1))
    bounds = interval(above, below, bootstrap_units(table), bootstrap=bootstrap, seed=seed)
    told = {key: m for m, key in enumerate(terms) if below[:, m].sum() > 0}
    value = {key: float(above[:, m].sum() / below[:, m].sum()) for key, m in told.items()}
    ci95 = {key: bounds[:, m].tolist() for key, m in told.items() if np.isfinite(bounds[:, m]).all()}
    pooled = [key for key in value if isinstance(key, str)]

    def of_landmark(name: str, n: int) -> dict:
        own = {key: value[name, key] for key in pooled if (name, key) in value}
        return {"n": n, **own, "ci95": {key: ci95[name, key] for key in own if (name, key) in ci95}}

    annotated = np.isfinite(table.error_px)
    return {
        "n_images": int(annotated.any(axis=1).sum()),
        "n_points": int(annotated.sum()),
        **{key: value[key] for key in pooled},
        "ced_measure": list(image_errors(table, normalizer))[-1],
        "ci95": {key: ci95[key] for key in pooled if key in ci95},
        "per_landmark": {
            str(name): of_landmark(str(name), int(n))
            for name, n in zip(table.landmarks, annotated.sum(axis=0), strict=True)
        },
    }


def _ratio(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mean over the values that are not NaN, as numerator and denominator to be summed."""
    valid = np.isfinite(values)
    return np.where(valid, values, 0.0), valid.astype(np.float64)
