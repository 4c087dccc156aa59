"""Whether a network is as near to a person as another person is: `raters.csv`, and the numbers made from it."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ctd_jax import files
from ctd_jax.errors import UserError
from ctd_jax.metrics import intervals
from ctd_jax.metrics.landmarks import image_error, subject_units
from ctd_jax.metrics.landmarks import summarize as summarize_landmarks
from ctd_jax.metrics.predictions import Predictions, digits, number, read_rows
from ctd_jax.metrics.repeated import Repeats

COLUMNS = ("image", "landmark", "from", "rater", "distance_px", "distance_mm")
NETWORK = ""  # the cell `from` of a row that is of the network and a rater
Pair = tuple[str, str]  # the network or a rater, and a rater


def summarize(table: Predictions, points: np.ndarray, names: Sequence[str], spacing: np.ndarray) -> dict[str, Any]:
    """The `raters` of metrics.json, of the points that all raters annotated; empty where there are none.

    The distance of the network from a rater, and of a rater from another one, are averaged over raters or pairs, then
    over the points of a picture, then over pictures. So both hold the scatter of one rater. Neither is a distance from
    the annotation that the network was trained on, such as the raters' mean: a rater is a part of that.

    Returns:
      `names`, `unit` ("mm" where the spacing of all these pictures is known, else "px"), `n_points`, `network` and
      `between`, `difference` of the two with its `ci95` and `p` over subjects (absent with one subject), and `beaten`:
      the difference is below 0, and its interval, if there is one, leaves out 0.

    Args:
      table: of N pictures.
      points: `[R, N, K, 2]` of R raters in pixels, NaN where one annotated none.
      names: R of them.
      spacing: `[N, 2]` mm per pixel, NaN where unknown.
    """
    known = np.isfinite(points).all(axis=(0, 3)) & np.isfinite(table.xy).all(axis=-1)  # [N, K]
    shown = known.any(axis=1)
    if len(points) < 2 or not shown.any():
        return {}
    in_mm = bool(np.isfinite(spacing[shown]).all())
    scale = spacing[:, None] if in_mm else np.ones((len(spacing), 1, 2))

    def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """`[N]` mean over the points of each picture."""
        each = np.where(known, np.linalg.norm((one - other) * scale, axis=-1), 0.0)
        return each.sum(axis=1) / np.maximum(known.sum(axis=1), 1)

    network = np.mean([distance(table.xy, one) for one in points], axis=0)
    between = np.mean([distance(one, other) for one, other in combinations(points, 2)], axis=0)
    weight = shown.astype(np.float64)[:, None]
    sums = np.stack([network, between, network - between], axis=1) * weight
    estimate = intervals.of_ratios(sums, np.repeat(weight, 3, axis=1), subject_units(table))
    value = estimate.value.tolist()
    result = {
        "names": list(names),
        "unit": "mm" if in_mm else "px",
        "n_points": int(known.sum()),
        "network": value[0],
        "between": value[1],
        "difference": value[2],
    }
    ci95 = intervals.bounds(estimate, "difference")[:, 2]
    if not np.isfinite(ci95).all():
        return result | {"beaten": value[2] < 0}
    p = float(intervals.p_value(estimate, "difference")[2])
    return result | {"ci95": ci95.tolist(), "p": p, "beaten": bool(value[2] < 0 and not ci95[0] <= 0 <= ci95[1])}


# ---------------------------------------------------------------- distances


@dataclasses.dataclass(frozen=True)
class Distances:
    """How far the network is from each of R raters, and each two of these from each other; of the points that all
    raters annotated and the network predicted, NaN elsewhere."""

    px: dict[Pair, np.ndarray]  # [N, K]
    mm: dict[Pair, np.ndarray]  # [N, K], NaN also where the spacing is unknown

    @classmethod
    def of(cls, xy: np.ndarray, points: np.ndarray, names: Sequence[str], spacing: np.ndarray) -> "Distances":
        """Distances of N pictures.

        Args:
          xy: `[N, K, 2]` predicted points, pixels.
          points: `[R, N, K, 2]` of R raters, NaN where one annotated none.
          names: R of them.
          spacing: `[N, 2]` mm per pixel, NaN where unknown.
        """
        known = np.isfinite(points).all(axis=(0, 3)) & np.isfinite(xy).all(axis=-1)
        places = {NETWORK: xy} | dict(zip(names, points, strict=True))
        pairs = [(NETWORK, name) for name in names] + list(combinations(names, 2))
        offset = {pair: np.where(known[..., None], places[pair[0]] - places[pair[1]], np.nan) for pair in pairs}
        return cls(
            {pair: np.linalg.norm(each, axis=-1) for pair, each in offset.items()},
            {pair: np.linalg.norm(each * spacing[:, None], axis=-1) for pair, each in offset.items()},
        )

    def rows(self, chosen: np.ndarray) -> "Distances":
        """Those of some of the pictures."""
        px, mm = ({pair: values[chosen] for pair, values in of.items()} for of in (self.px, self.mm))
        return Distances(px, mm)

    @property
    def of_network(self) -> list[Pair]:
        return [pair for pair in self.px if pair[0] == NETWORK]

    @property
    def of_people(self) -> list[Pair]:
        return [pair for pair in self.px if pair[0] != NETWORK]

    @property
    def known(self) -> np.ndarray:
        """`[N, K]` the points that they are of."""
        return np.isfinite(self.px[self.of_network[0]])

    def table(self, table: Predictions, pair: Pair | None = None) -> Predictions:
        """The table with the distances of a pair for its errors; None: with its own, of the same points."""
        if pair is None:
            kept = self.known
            px, mm = (np.where(kept, errors, np.nan) for errors in (table.error_px, table.error_mm))
        else:
            px, mm = self.px[pair], self.mm[pair]
        return dataclasses.replace(table, error_px=px, error_mm=mm)

    def image_error(
        self, table: Predictions, pairs: Sequence[Pair], normalizer: tuple[str, str] | None, measure: str
    ) -> np.ndarray:
        """`[N]` error of each picture, the mean over pairs; see `metrics.image_error`."""
        return np.mean([image_error(self.table(table, pair), normalizer, measure) for pair in pairs], axis=0)


def write(path: str | os.PathLike, table: Predictions, distances: Distances) -> None:
    """Writes one row per picture, landmark and pair, of the points that are known, in place of a file already there."""
    rows = []
    for i, k in np.argwhere(distances.known).tolist():
        for pair in distances.px:
            px, mm = distances.px[pair][i, k], distances.mm[pair][i, k]
            names = (str(table.images[i]), str(table.landmarks[k]), *pair)
            rows.append([*map(files.cell, names), f"{px:.4f}", digits(mm)])
    files.write_csv(path, COLUMNS, rows)


def read(path: str | os.PathLike, table: Predictions) -> Distances:
    """Reads what `write` wrote, of the pictures of `table`.

    Raises:
      UserError: see `metrics.read_rows`; a picture or a landmark that the table lacks, what is no number.
    """
    place = {str(image): i for i, image in enumerate(table.images)}
    column = {str(name): k for k, name in enumerate(table.landmarks)}
    px: dict[Pair, np.ndarray] = {}
    mm: dict[Pair, np.ndarray] = {}
    for line, row in read_rows(path, COLUMNS, ()):
        image, landmark, one, other = map(files.plain, row[:4])
        if image not in place or landmark not in column:
            raise UserError(f"{path}, line {line}: expected a picture and a landmark of {Path(path).parent}'s "
                            f"predictions.csv, found {image}, {landmark}.")  # fmt: skip
        try:
            values = number(row[4]), number(row[5])
        except ValueError as error:
            raise UserError(f"{path}, line {line}: expected numbers, found {','.join(row[4:6])[:80]}.") from error
        for of, value in zip((px, mm), values, strict=True):
            of.setdefault((one, other), np.full(table.error_px.shape, np.nan))[place[image], column[landmark]] = value
    return Distances(px, mm)


def beside(
    table: Predictions,
    distances: Distances,
    *,
    measure: str,
    normalizer: tuple[str, str] | None,
    thresholds: Mapping[str, float],
    radii_mm: Sequence[float],
) -> dict[str, Any]:
    """The rest of the `raters` of metrics.json: the metrics of `metrics.summarize`, of the points that all raters
    annotated. Errors are normalised by what the table has annotated, for people too.

    Returns:
      `annotation`: of the network and what it is evaluated by; `network_to`: rater -> of the network and that rater;
      `pairs`: of each two raters, whose names are its `raters`; each with `ci95`. `people`: the mean over pairs, and
      their `per_landmark`: name -> `me_px`, `me_mm`.

    Args:
      table: of N pictures.
      distances: of these pictures.
      measure: the metric that the CED is built from.
      normalizer, thresholds, radii_mm: as in `metrics.summarize`.
    """

    def metrics_of(pair: Pair | None) -> dict[str, Any]:
        found = summarize_landmarks(
            distances.table(table, pair), normalizer=normalizer, thresholds=thresholds, radii_mm=radii_mm
        )
        return {key: value for key, value in found.items() if key != "per_landmark"}

    pairs = distances.of_people
    people = Repeats(
        tuple(distances.table(table, pair) for pair in pairs), measure, normalizer, thresholds, tuple(radii_mm)
    ).levels()
    per_landmark: dict[str, dict[str, float]] = {}
    for k, name in enumerate(table.landmarks.tolist()):
        for key, of in (("me_px", distances.px), ("me_mm", distances.mm)):
            values = np.mean([of[pair][:, k] for pair in pairs], axis=0)
            if np.isfinite(values).any():
                per_landmark.setdefault(name, {})[key] = float(np.nanmean(values))
    return {
        "annotation": metrics_of(None),
        "network_to": {pair[1]: metrics_of(pair) for pair in distances.of_network},
        "pairs": [{"raters": list(pair), **metrics_of(pair)} for pair in pairs],
        "people": {
            **{key: one["mean"] for key, one in people.items() if np.isfinite(one["mean"])},
            "ci95": {key: one["ci95"] for key, one in people.items() if np.isfinite(one["ci95"]).all()},
            "per_landmark": per_landmark,
        },
    }
