"""Is A better than B? A paired test of two predictions of the same pictures.

    python -m ctd_jax.compare runs/ctd_ed-demo runs/ft-demo
    python -m ctd_jax.compare A.csv B.csv --normalizer=left_eye_outer,right_eye_outer --out=difference.json

A and B are finished runs (their folders) or tables as in their predictions.csv, with the same pictures, landmarks and
annotations. Shown is A - B of every metric: an error below 0 means that A is better. The 95 % interval and p (of no
difference) are over people, each with all their pictures, also of few (three and more). They cover other people, not
other trainings: repeat those with another seed before you believe a small difference.

Where A or B is a run, the error of the mean shape of its training labels (A's, if both are) stands beside theirs. It is
a table too: RUN/mean_shape.csv can be A or B.

Normaliser, radii and the threshold of a failure are those of A, or of B where only B is a run. For two tables there is
no NME, the radii are 2, 2.5, 3 and 4 mm, and a failure is an error above 4 mm, where mm are known, else above 10 px.
Others:

    --normalizer=LANDMARK,LANDMARK --radii=2,4 --threshold=0.08

Exit code: 0 done; 2 something you can mend, the message says how; 1 anything else.
"""

import json
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from ctd_jax import command, files
from ctd_jax.config import config_of_run
from ctd_jax.errors import UserError

_FLAGS = command.new_flags()
_NORMALIZER = flags.DEFINE_list(
    "normalizer", None, "Two landmarks: the NME is the error / their distance.", flag_values=_FLAGS
)
_RADII = flags.DEFINE_list("radii", None, "Radii of the success detection rate (SDR), mm.", flag_values=_FLAGS)
_THRESHOLD = flags.DEFINE_float(
    "threshold",
    None,
    "Of a failure (FR), and the end of the AUC: a fraction with a normaliser, else mm, else px.",
    flag_values=_FLAGS,
)
_OUT = flags.DEFINE_string("out", None, "JSON file for all differences, also of every landmark.", flag_values=_FLAGS)

RADII_MM = (2.0, 2.5, 3.0, 4.0)
THRESHOLDS = {"nme": 0.1, "mm": 4.0, "px": 10.0}
_log = logging.getLogger("ctd_jax.compare")  # also where __name__ is __main__
_paths: list[str] = []


def main() -> None:
    from ctd_jax import metrics, report
    from ctd_jax.metrics import paired

    if _OUT.value:
        files.expect("out", _OUT.value, ".json")
    if len(_paths) != 2:
        raise UserError(f"expected two runs or tables, A and B, found {len(_paths)}; --help shows examples")
    paths = [pathlib.Path(path) for path in _paths]
    tables = [path / "predictions.csv" if path.is_dir() else path for path in paths]
    if tables[0].resolve() == tables[1].resolve():
        raise UserError(f"A and B are the same file, {tables[0]}; give two")
    run = next((path for path in paths if path.is_dir()), None)
    a, b = map(metrics.read_predictions, tables)
    a = paired.aligned(a, b, (str(paths[0]), str(paths[1])))
    result = paired.difference([a], [b], **_settings(run))
    result["mean_shape"] = _mean_shape(run) if run else {}
    if result["n_subjects"] < 2:
        _log.warning("there is only one subject, which says nothing about others: no interval and no p-value")
    if _OUT.value:
        content = {"a": _paths[0], "b": _paths[1]} | result
        try:
            files.write_text(pathlib.Path(_OUT.value), json.dumps(content, indent=1))
        except OSError as error:
            raise UserError(f"--out: the result can't be written ({error}); give another file") from error
    warnings = [
        f"{name} is no better than the mean shape of its training labels."
        for name, mean_shape in zip("AB", map(_mean_shape, paths), strict=True)
        if mean_shape and not mean_shape["beaten"]
    ]
    print("\n".join([*warnings, f"A  {paths[0]}", f"B  {paths[1]}", "", report.comparison(result)]))


def _mean_shape(path: pathlib.Path) -> dict[str, Any]:
    """The errors of the mean shape in metrics.json of a run; empty for a table, and for a run of an older version."""
    return _result(path).get("mean_shape", {}) if (path / "metrics.json").exists() else {}


def _result(run: pathlib.Path) -> dict[str, Any]:
    return files.read_json(run / "metrics.json", "is the run finished? Else restore the file")


def _settings(run: pathlib.Path | None) -> dict[str, Any]:
    """Normaliser, thresholds and radii: those of the flags, else those of the run if there is one, else the usual."""
    settings: dict[str, Any] = {"normalizer": None, "thresholds": THRESHOLDS, "radii_mm": RADII_MM}
    if run:
        known = _result(run)
        radii = [float(key[7:-2]) for key in known if key.startswith("sdr_le_")]
        settings = {
            "normalizer": tuple(known["normalizer"]) if known.get("normalizer") else None,
            "thresholds": config_of_run(run).eval.threshold.to_dict(),
            "radii_mm": radii or RADII_MM,
        }
    if _NORMALIZER.value:
        if len(_NORMALIZER.value) != 2:
            raise UserError(f"--normalizer: expected two landmarks, a,b, found {','.join(_NORMALIZER.value)}")
        settings["normalizer"] = tuple(_NORMALIZER.value)
    if _RADII.value:
        settings["radii_mm"] = _positive("radii", _RADII.value)
    if _THRESHOLD.value is not None:
        settings["thresholds"] = dict.fromkeys(THRESHOLDS, *_positive("threshold", [_THRESHOLD.value]))
    return settings


def _positive(flag: str, values: Sequence[str | float]) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = [0.0]
    if min(numbers) <= 0:
        raise UserError(f"--{flag}: expected numbers above 0, found {','.join(map(str, values))}")
    return numbers


if __name__ == "__main__":
    command.run(main, __doc__, _FLAGS, paths=_paths)
