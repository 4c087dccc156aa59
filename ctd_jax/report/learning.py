"""Learning curves: the error of methods against the number of labelled pictures, as numbers, a table and a picture."""

import collections
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ctd_jax import files, metrics
from ctd_jax.errors import UserError
from ctd_jax.metrics import mean_shape, paired
from ctd_jax.metrics.repeated import Repeats
from ctd_jax.report import curves, tables
from ctd_jax.text_table import text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_BANDS = 5  # methods whose bands can be told apart in one picture
SHOWN = 3  # landmarks that a sentence lists
MEAN_SHAPE = "mean_shape.csv"


def summarize(lines: Sequence[Mapping[str, Any]], out: pathlib.Path, *, reference: str) -> dict[str, Any]:
    """The content of curve.json, from the lines of curve.csv and the predictions.csv of the runs that they name.

    Args:
      lines: of the runs that are compared.
      out: folder that their `run` is in.
      reference: name of a method.

    Returns:
      `methods`: name -> `setting`, and `budgets`: number of labels ->
        `error`, the mean over the seeds; `seeds`, the error of each; `ci95` [lower, upper] of the mean over the seeds,
        over subjects, where these are several;
        `mean_shape`, the error of the mean shape of the training labels, and `beats_mean_shape` (see
        `mean_shape.beaten`); both are absent for runs of an older version;
        `minus_reference`: `difference`, `ci95` and `p` of `paired.difference`, of the points that both predict;
        `not_predicted`: landmark that another run predicts -> number of seeds in which these runs don't, in some of the
        pictures; absent if there are none;
        `reference_labels`: number of labels with which the reference has this error, on straight lines between its
        points in log(labels), null where it never has; `labels_saved`: this number less the labels; both are absent
        where these runs, or any of the reference, don't predict all landmarks.
      `measure`, `label`, `unit`, `scale`: what `error` is, and how it is written for people.
      `split`, `n_images`: of the test pictures. `reference`: its name.

    Raises:
      UserError: a damaged run, or runs of other pictures or annotations than the newest.
    """
    groups = collections.defaultdict(list)
    for line in lines:
        groups[line["method"], line["labels"]].append(line)
    result = files.read_json(
        out / lines[0]["run"] / "metrics.json", "remove its folder, and the same command trains it anew"
    )
    measure = result["ced_measure"]
    workdirs = {key: [out / line["run"] for line in group] for key, group in groups.items()}
    lacking = _lacking(workdirs)
    repeats = {key: Repeats.read(folders) for key, folders in workdirs.items()}
    methods: dict[str, Any] = {}
    for (method, labels), group in groups.items():
        repeated = repeats[method, labels]
        seeds = {str(line["seed"]): line["error"] for line in group}
        ci95 = repeated.levels()[measure]["ci95"]
        point = {"error": float(np.mean(list(seeds.values()))), "seeds": seeds}
        if np.isfinite(ci95).all():
            point["ci95"] = ci95
        if lacking[method, labels]:
            point["not_predicted"] = lacking[method, labels]
        if all((folder / MEAN_SHAPE).exists() for folder in workdirs[method, labels]):  # not of an older version
            difference = repeated.minus(Repeats.read(workdirs[method, labels], MEAN_SHAPE))[measure]
            point |= {"mean_shape": difference["b"], "beats_mean_shape": mean_shape.beaten(difference)}
        if method != reference and (reference, labels) in repeats:
            difference = repeated.minus(repeats[reference, labels])[measure]
            point["minus_reference"] = {
                key: difference[key] for key in ("difference", "ci95", "p") if key in difference
            }
        methods.setdefault(method, {"setting": group[0]["setting"], "budgets": {}})["budgets"][str(labels)] = point
    of_reference = methods[reference]["budgets"]
    for method in methods.values():
        for labels, point in method["budgets"].items():
            if any("not_predicted" in one for one in (point, *of_reference.values())):
                continue
            point["reference_labels"] = _labels_for(point["error"], of_reference)
            if point["reference_labels"]:
                point["labels_saved"] = point["reference_labels"] - int(labels)
    words = tables.quantity(measure, result)
    return {
        "measure": measure,
        "label": words.label,
        "unit": words.unit,
        "scale": words.scale,
        "split": result["split"],
        "n_images": result["n_images"],
        "reference": reference,
        "methods": methods,
    }


def _lacking(workdirs: Mapping[Any, Sequence[pathlib.Path]]) -> dict[Any, dict[str, int]]:
    """Key -> the `not_predicted` of the runs in its folders.

    Raises:
      UserError: runs of other pictures or annotations than the newest.
    """
    tables = {run: metrics.read_predictions(run / "predictions.csv") for runs in workdirs.values() for run in runs}
    newest = max(tables, key=lambda run: (run / "metrics.json").stat().st_mtime)
    found, others, why = {}, [], ""
    for run, table in tables.items():
        try:
            found[run] = np.isfinite(paired.aligned(table, tables[newest], (str(run), str(newest))).error_px)
        except UserError as error:
            others.append(str(run))
            why = why or str(error)
    if others:
        each = ", ".join(others)
        raise UserError(f"{why} Remove the runs of other data, and the same command trains them anew: {each}")
    anywhere = np.any(list(found.values()), axis=0)
    counts: dict[Any, dict[str, int]] = {}
    for key, runs in workdirs.items():
        lacked = np.sum([(anywhere & ~found[run]).any(axis=0) for run in runs], axis=0)
        counts[key] = {str(tables[newest].landmarks[k]): int(lacked[k]) for k in np.flatnonzero(lacked)}
    return counts


def _labels_for(error: float, points: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Where the curve through `points` first comes down to `error`; None: nowhere."""
    curve = sorted((int(labels), point["error"]) for labels, point in points.items())
    if error >= curve[0][1]:
        return float(curve[0][0]) if error == curve[0][1] else None
    for (x0, y0), (x1, y1) in zip(curve, curve[1:], strict=False):
        if y1 <= error < y0:
            share = (y0 - error) / (y0 - y1)
            return math.exp(math.log(x0) + share * (math.log(x1) - math.log(x0)))
    return None


def console(result: Mapping[str, Any]) -> str:
    """The table for the terminal: which methods are no better than the mean shape; error of each method, and its
    difference from the reference with p."""
    scale, reference = result["scale"], result["reference"]
    methods = result["methods"]
    budgets = sorted({int(labels) for method in methods.values() for labels in method["budgets"]})
    not_of_all = _not_of_all(result)
    rows = [["labels", *(f"{budget} *" if budget in not_of_all else str(budget) for budget in budgets)]]
    for name, method in methods.items():
        points = [method["budgets"].get(str(budget)) for budget in budgets]
        rows.append([name, *(f"{point['error'] * scale:.2f}" if point else "" for point in points)])
        if name != reference:
            differences = [(point or {}).get("minus_reference") for point in points]
            cells = (f"{difference['difference'] * scale:+.2f}" if difference else "" for difference in differences)
            rows.append([f"  minus {reference}", *cells])
            rows.append(["  p", *(_p(one["p"]) if one and "p" in one else "" for one in differences)])
            saved = [(point or {}).get("labels_saved") for point in points]
            rows.append(["  labels saved", *("" if labels is None else f"{labels:+.0f}" for labels in saved)])
    shape = _mean_shape(result)
    if shape:
        rows.append(["mean shape", *(f"{shape[budget] * scale:.2f}" if budget in shape else "" for budget in budgets)])
    lines = text_table(rows, "<" + "  >" * len(budgets))
    rule = "-" * max(map(len, lines))
    head = (
        f"{result['label']}, {result['unit']}; {result['n_images']} pictures of {result['split']}, mean over the seeds"
    )
    tests = sum(name != reference for name in methods) * len(budgets)
    note = f"p: paired, over subjects, not corrected for {tests} comparisons; other seeds are not covered"
    return "\n".join([*_cautions(result), head, rule, *lines, rule, note])


def _mean_shape(result: Mapping[str, Any]) -> dict[int, float]:
    """Labels -> error of the mean shape, over the methods; it differs between seeds, which have other pictures."""
    found = collections.defaultdict(list)
    for method in result["methods"].values():
        for labels, point in method["budgets"].items():
            if "mean_shape" in point:
                found[int(labels)].append(point["mean_shape"])
    return {labels: float(np.mean(errors)) for labels, errors in sorted(found.items())}


def _cautions(result: Mapping[str, Any]) -> list[str]:
    """What is wrong with the result, in a sentence each."""
    cautions, not_better = [], []
    for name, method in result["methods"].items():
        labels = [labels for labels, point in method["budgets"].items() if not point.get("beats_mean_shape", True)]
        not_better += [f"{name} with {', '.join(labels)} labels"] if labels else []
    if not_better:
        cautions.append(f"No better than the mean shape of the training labels: {'; '.join(not_better)}.")
    if lacking := _not_of_all(result):
        columns = "; ".join(f"{labels} labels leave out {names}" for labels, names in lacking.items())
        differences = "Differences are of the points that both predict; labels saved need all landmarks."
        cautions.append(f"Columns with * are not of all landmarks: {columns}. {differences}")
    return cautions


def _not_of_all(result: Mapping[str, Any]) -> dict[int, str]:
    """Labels -> landmarks that some of their runs don't predict, and in how many seeds of the method that lacks them in
    most; other columns are absent."""
    found: dict[int, dict[str, tuple[int, int]]] = collections.defaultdict(dict)
    for method in result["methods"].values():
        for labels, point in method["budgets"].items():
            for name, n in point.get("not_predicted", {}).items():
                here = found[int(labels)]
                here[name] = max(here.get(name, (0, 0)), (n, len(point["seeds"])))
    return {
        labels: ", ".join(f"{name} (in {n} of {seeds} seeds)" for name, (n, seeds) in [*names.items()][:SHOWN])
        + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        for labels, names in sorted(found.items())
    }


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def plot(result: Mapping[str, Any]) -> "Figure":
    """Error against labels: the mean over the seeds, a dot for each, and the 95 % band over subjects (of the reference
    alone where there are many methods)."""
    figure = curves.new_figure(7.2, 4.6)
    axes = figure.add_subplot()
    scale = result["scale"]
    for i, (name, method) in enumerate(result["methods"].items()):
        points = sorted((int(labels), point) for labels, point in method["budgets"].items())
        x = np.array([labels for labels, _ in points]) * 1.02 ** (i - len(result["methods"]) / 2)  # dots stay apart
        colour = curves.COLOURS[i % len(curves.COLOURS)]
        dash = curves.DASHES[i // len(curves.COLOURS) % len(curves.DASHES)]
        axes.plot(x, [scale * point["error"] for _, point in points], color=colour, ls=dash, lw=1.6, label=name)
        if name == result["reference"] or len(result["methods"]) <= MAX_BANDS:
            low, high = scale * np.array([point.get("ci95", (np.nan, np.nan)) for _, point in points]).T
            axes.fill_between(x, low, high, color=colour, alpha=0.10, lw=0)
        for at, (_, point) in zip(x, points, strict=True):
            axes.plot([at] * len(point["seeds"]), [scale * e for e in point["seeds"].values()], ".", color=colour, ms=4)
    shape = _mean_shape(result)
    if shape:
        style: dict[str, Any] = {"color": curves.GREY, "ls": ":", "lw": 1.4}
        axes.plot(list(shape), [scale * error for error in shape.values()], label="mean shape", **style)
        if len(shape) == 1:
            axes.axhline(scale * next(iter(shape.values())), **style)
    ticks = sorted({int(labels) for method in result["methods"].values() for labels in method["budgets"]})
    axes.set_xscale("log")
    errors = [point["error"] for method in result["methods"].values() for point in method["budgets"].values()]
    errors += shape.values()
    if max(errors) > 4 * min(errors):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    not_of_all = _not_of_all(result)
    axes.set_xticks(ticks, [f"{tick} *" if tick in not_of_all else str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    star = " (*: not of all landmarks)" if not_of_all else ""
    axes.set(xlabel=f"labelled training pictures{star}", ylabel=f"{result['label']}, {result['unit']}")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, ncols=2 if len(result["methods"]) > 7 else 1)
    whose = "" if len(result["methods"]) <= MAX_BANDS else f" ({result['reference']})"
    axes.set_title(f"line: mean over seeds; band: 95 % over subjects{whose}; dots: seeds", fontsize=8, loc="left")
    return figure
