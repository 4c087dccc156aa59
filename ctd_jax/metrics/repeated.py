"""One method, trained several times: its mean over the runs in every metric, and the difference from another method.

What each picture adds to a metric is first averaged over the runs. The runs are not varied, so an interval covers
other subjects, and not other seeds.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ctd_jax import files, metrics
from ctd_jax.errors import UserError
from ctd_jax.metrics import Predictions, intervals, paired

_REMEDY = "is the run finished? Else restore the file"


@dataclasses.dataclass(frozen=True)
class Repeats:
    """Tables of the same pictures from several runs of one method.

    Attributes:
      tables: one for each run.
      measure: the metric that the CED is built from, such as "me_mm".
      normalizer, thresholds, radii_mm: as in `metrics.summarize`.
    """

    tables: tuple[Predictions, ...]
    measure: str
    normalizer: tuple[str, str] | None
    thresholds: Mapping[str, float]
    radii_mm: tuple[float, ...]

    @classmethod
    def read(cls, workdirs: Sequence[pathlib.Path], table: str = "predictions.csv") -> "Repeats":
        """Reads a table of each of the runs, and from the first run how its metrics were computed.

        Args:
          workdirs: folders of finished landmark runs; of a run of several domains, the folder of one domain.
          table: name of the file in each.

        Raises:
          UserError: a file is missing or damaged, or the runs have other pictures or annotations (`paired.aligned`).
        """
        result = files.read_json(workdirs[0] / "metrics.json", _REMEDY)
        config = files.read_json(workdirs[0] / "config.json", _REMEDY)
        first, *others = (metrics.read_predictions(workdir / table) for workdir in workdirs)
        names = [(str(workdir), str(workdirs[0])) for workdir in workdirs[1:]]
        aligned = (paired.aligned(other, first, of) for other, of in zip(others, names, strict=True))
        try:
            normalizer = result.get("normalizer")
            return cls(
                tables=(first, *aligned),
                measure=result["ced_measure"],
                normalizer=(normalizer[0], normalizer[1]) if normalizer else None,
                thresholds=config["eval"]["threshold"],
                radii_mm=tuple(float(key[7:-2]) for key in result if key.startswith("sdr_le_")),
            )
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f"{workdirs[0]}: not the metrics.json and config.json of a run; {_REMEDY}") from error

    def levels(self) -> dict[str, dict[str, Any]]:
        """Every pooled metric of `metrics.summarize` -> `mean` over the runs, and `ci95` [lower, upper], which is NaN
        where fewer than two subjects contribute."""
        runs = [
            metrics.ratios(table, normalizer=self.normalizer, thresholds=self.thresholds, radii_mm=self.radii_mm)
            for table in self.tables
        ]
        keys = [key for key in runs[0] if isinstance(key, str)]
        numerator, denominator = (
            np.array([[run[key][part] for key in keys] for run in runs]).mean(axis=0).T for part in (0, 1)
        )  # [N, M] each
        estimate = intervals.of_ratios(numerator, denominator, metrics.subject_units(self.tables[0]))
        fraction = np.array([metrics.is_fraction(key) for key in keys])
        bounds = np.where(fraction, intervals.bounds(estimate, "fraction"), intervals.bounds(estimate, "level"))
        return {key: {"mean": float(estimate.value[i]), "ci95": bounds[:, i].tolist()} for i, key in enumerate(keys)}

    def minus(self, others: "Repeats") -> dict[str, dict[str, Any]]:
        """The paired difference of this method from another in every metric: see `differences` of `paired.difference`.

        Raises:
          UserError: they have other pictures or annotations.
        """
        found: dict[str, dict[str, Any]] = paired.difference(
            self.tables,
            others.tables,
            normalizer=self.normalizer,
            thresholds=self.thresholds,
            radii_mm=self.radii_mm,
        )["differences"]
        return found
