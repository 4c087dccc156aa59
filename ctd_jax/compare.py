"""Is A better than B? A paired test of two predictions of the same pictures.

    python -m ctd_jax.compare runs/ctd_ed-demo runs/ft-demo
    python -m ctd_jax.compare A.csv B.csv --normalizer=left_eye_outer,right_eye_outer --out=difference.json

A and B are finished runs (their folders) or tables as in their predictions.csv, with the same pictures, landmarks and
annotations. Shown is A - B of every metric: an error below 0 means that A is better. The 95 % interval and p (of no
difference) are over people, each with all their pictures, also of few (three and more). They cover other people, not
other trainings: repeat those with another seed before you believe a small difference.

Where A or B is a run, the error of the mean shape of its training labels (A's, if both are) stands beside theirs, if
both predict every point. It is a table too: RUN/mean_shape.csv can be A or B.

Normaliser, radii and the threshold of a failure are those of A, or of B where only B is a run. For two tables there is
no NME, the radii are 2, 2.5, 3 and 4 mm, and a failure is an error above 4 mm, where mm are known, else above 10 px.
Others:

    --normalizer=LANDMARK,LANDMARK --radii=2,4 --threshold=0.08

How would another tool score the same points?

    python -m ctd_jax.compare --metrics=landmarker,payer runs/ctd_ed-demo
    python -m ctd_jax.compare --metrics=mmpose results.json --truth=annotations.json --normalizer=left_eye,right_eye

One run or table, and --metrics=landmarker|payer|gu2net|cl2023|hrnet_face|mmpose|deeplabcut|sleap, one or several: the
numbers that the tool's own evaluation would give, ours beside them, and what makes the two differ. Read too, with the
annotations as --truth: COCO keypoint results, DeepLabCut's csv, landmarker's arrays as a csv without a header.

Exit code: 0 done; 2 something you can mend, the message says how; 1 anything else.
"""

import json
import logging
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
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
_METRICS = flags.DEFINE_list(
    "metrics", None, "Other tools whose numbers are recomputed from one table; see above.", flag_values=_FLAGS
)
_OF_METRICS: dict[str, flags.FlagHolder[Any]] = {
    "truth": flags.DEFINE_string("truth", None, "Annotations for another tool's predictions.", flag_values=_FLAGS),
    "spacing": flags.DEFINE_float("spacing", None, "mm of a pixel, for such predictions.", flag_values=_FLAGS),
    "normalizer_mm": flags.DEFINE_float(
        "normalizer_mm",
        None,
        "payer, gu2net: length of the normaliser in mm (the wrist of a hand: 50); errors become mm by it.",
        flag_values=_FLAGS,
    ),
    "pcutoff": flags.DEFINE_float("pcutoff", None, "deeplabcut: smallest confidence that counts.", flag_values=_FLAGS),
    "grid": flags.DEFINE_string("grid", None, "gu2net: WIDTHxHEIGHT that it resizes to.", flag_values=_FLAGS),
    "size": flags.DEFINE_string("size", None, "gu2net: WIDTHxHEIGHT of every picture.", flag_values=_FLAGS),
    "grid_spacing": flags.DEFINE_float(
        "grid_spacing", None, "gu2net: mm of a pixel of the grid (its cephalograms: 0.46875).", flag_values=_FLAGS
    ),
}

RADII_MM = (2.0, 2.5, 3.0, 4.0)
THRESHOLDS = {"nme": 0.1, "mm": 4.0, "px": 10.0}
_log = logging.getLogger("ctd_jax.compare")  # also where __name__ is __main__
_paths: list[str] = []


def main() -> None:
    from ctd_jax import metrics, report
    from ctd_jax.metrics import paired

    if _OUT.value:
        files.expect("out", _OUT.value, ".json")
    if _METRICS.value:
        _say_of_others(_METRICS.value)
        return
    for name, flag in _OF_METRICS.items():
        if flag.value is not None:
            raise UserError(f"--{name} goes with --metrics; leave it out, or name a tool")
    if len(_paths) != 2:
        raise UserError(f"expected two runs or tables, A and B, found {len(_paths)}; --help shows examples")
    paths = [pathlib.Path(path) for path in _paths]
    tables = [_table(path) for path in paths]
    if tables[0].resolve() == tables[1].resolve():
        raise UserError(f"A and B are the same file, {tables[0]}; give two")
    run = next((path for path in paths if path.is_dir()), None)
    a, b = map(metrics.read_predictions, tables)
    a = paired.aligned(a, b, (str(paths[0]), str(paths[1])))
    settings = _settings(run)
    result = paired.difference([a], [b], **settings)
    shapes = [_mean_shape(path, settings) for path in paths]
    shape = next(filter(None, shapes), {})
    result["mean_shape"] = {} if "n_left_out" in result else shape
    if result["n_subjects"] < 2:
        _log.warning("there is only one subject, which says nothing about others: no interval and no p-value")
    if "n_left_out" in result:
        also = ", and so is the mean shape, whose error is of all points (RUN/mean_shape.csv can be B)" if shape else ""
        _log.warning(
            "%d annotated points are not predicted by one of the two, or by both; they are left out%s",
            result["n_left_out"],
            also,
        )
    _write({"a": _paths[0], "b": _paths[1]} | result)
    warnings = [
        f"{name} is no better than the mean shape of its training labels."
        for name, of_run in zip("AB", shapes, strict=True)
        if not of_run.get("beaten", True)
    ]
    print("\n".join([*warnings, f"A  {paths[0]}", f"B  {paths[1]}", "", report.comparison(result)]))


def _table(path: pathlib.Path) -> pathlib.Path:
    """A table as it is given, or that of a run."""
    table = path / "predictions.csv" if path.is_dir() else path
    if table.exists():
        return table
    if (path / "segmentation_metrics.csv").exists():
        raise UserError(f"{path}: expected a landmark run, found one of segmentation, which has no points to compare")
    domains = _result(path).get("domains", {}) if (path / "metrics.json").exists() else {}
    if domains:
        each = ", ".join(str(path / name) for name in domains)
        raise UserError(f"{path}: expected a run of one domain, found {len(domains)}; give one of {each}")
    return table


def _write(content: dict[str, Any]) -> None:
    """Writes the file of --out, if there is one."""
    if _OUT.value:
        try:
            files.write_text(pathlib.Path(_OUT.value), json.dumps(content, indent=1))
        except OSError as error:
            raise UserError(f"--out: the result can't be written ({error}); give another file") from error


def _say_of_others(tools: Sequence[str]) -> None:
    """Prints, and writes, what the tools of --metrics would say of one table."""
    from ctd_jax import report
    from ctd_jax.metrics import foreign, peers

    for name in tools:
        if name not in peers.PEERS:
            raise UserError(f"--metrics: expected one or several of {', '.join(peers.PEERS)}, found {name!r}")
    if len(_paths) != 1:
        raise UserError(f"--metrics: expected one run or table, found {len(_paths)}; --help shows examples")
    uses = [peers.PEERS[name].uses for name in tools]
    used = {option for one in uses for option in one}
    given = {"normalizer": _NORMALIZER.value, "radii": _RADII.value, "threshold": _THRESHOLD.value}
    given |= {name: flag.value for name, flag in _OF_METRICS.items() if name not in ("truth", "spacing")}
    for name, value in given.items():
        if value is not None and name not in used:
            raise UserError(f"--{name}: {','.join(tools)} would not use it; leave it out")
    used_alone = any("normalizer" in one and "normalizer_mm" not in one for one in uses)
    if _NORMALIZER.value and not used_alone and given["normalizer_mm"] is None:
        raise UserError(f"--normalizer: {','.join(tools)} would use it only with --normalizer_mm; give both or none")
    path = pathlib.Path(_paths[0])
    table, taken = foreign.read(_table(path), _OF_METRICS["truth"].value, _above_0("spacing"))
    known = _result(path).get("normalizer") if path.is_dir() else None
    normalizer = _two_landmarks() or (tuple(known) if known else None)
    options = peers.Options(
        radii=_positive("radii", _RADII.value) if _RADII.value else RADII_MM,
        normalizer=normalizer,
        normalizer_mm=_above_0("normalizer_mm"),
        pcutoff=_OF_METRICS["pcutoff"].value,
        grid=_width_and_height("grid"),
        size=_width_and_height("size"),
        grid_spacing=_above_0("grid_spacing"),
    )
    results = {name: peers.numbers(name, table, options) for name in tools}
    content = {name: report.other_tools.content(name, table, result) for name, result in results.items()}
    _write({"predictions": _paths[0], "taken": taken, "metrics": content})
    print("\n".join([*taken, *([""] if taken else []), report.other_tools.text(content)]))


def _mean_shape(path: pathlib.Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `mean_shape.summarize` says of a run; empty for a table, and for a run of an older version."""
    from ctd_jax import metrics
    from ctd_jax.metrics import mean_shape

    table = path / "mean_shape.csv"
    if not table.exists():
        return {}
    network, baseline = map(metrics.read_predictions, (_table(path), table))
    try:
        return mean_shape.summarize(network, baseline, settings)
    except UserError as error:
        _log.warning("%s does not fit beside %s, so the mean shape is left out: %s", table, _table(path), error)
        return {}


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
        settings["normalizer"] = _two_landmarks()
    if _RADII.value:
        settings["radii_mm"] = _positive("radii", _RADII.value)
    if _THRESHOLD.value is not None:
        settings["thresholds"] = dict.fromkeys(THRESHOLDS, *_positive("threshold", [_THRESHOLD.value]))
    return settings


def _two_landmarks() -> tuple[str, str] | None:
    """Those of --normalizer; None: not given."""
    if not _NORMALIZER.value:
        return None
    if not len(_NORMALIZER.value) == len(set(_NORMALIZER.value)) == 2:
        raise UserError(f"--normalizer: expected two landmarks, a,b, found {','.join(_NORMALIZER.value)}")
    first, second = _NORMALIZER.value
    return first, second


def _above_0(name: str) -> float | None:
    """The number of a flag of --metrics; None: not given."""
    value = _OF_METRICS[name].value
    return None if value is None else _positive(name, [value])[0]


def _width_and_height(name: str) -> tuple[int, int] | None:
    text = _OF_METRICS[name].value
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if not match:
        raise UserError(f"--{name}: expected WIDTHxHEIGHT in pixels, as 416x512, found {text}")
    return int(match[1]), int(match[2])


def _positive(flag: str, values: Sequence[str | float]) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = [0.0]
    if not all(0 < number < math.inf for number in numbers):
        raise UserError(f"--{flag}: expected numbers above 0, found {','.join(map(str, values))}")
    return numbers


if __name__ == "__main__":
    command.run(main, __doc__, _FLAGS, paths=_paths)
