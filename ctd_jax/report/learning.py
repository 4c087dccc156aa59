"""Learning curves: the error of methods against the number of labelled pictures, as numbers, a table and a picture."""

import collections
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ctd_jax import metrics
from ctd_jax.metrics import intervals, mean_shape, paired
from ctd_jax.report import curves, tables

FEW = 5  # methods whose bands can be told apart


def summarize(lines: Sequence[Mapping[str, Any]], out: pathlib.Path, *, reference: str) -> dict[str, Any]:
    """The content of curve.json, from the lines of curve.csv and the predictions.csv of the runs that they name.

    `methods`: name -> `setting`, and `budgets`: labels -> `error`, the mean over the seeds; `seeds`, that of each;
    `ci95`, of the mean over the seeds, over subjects; `mean_shape`, the error of the mean shape of the
    training labels, and `beats_mean_shape` (see `mean_shape.beaten`; both absent for runs of an older version);
    `minus_reference`: `difference`, `ci95` and `p` of `paired.difference`; `reference_labels`: labels with which the
    reference has this error, on straight lines between its points in log(labels), null where it never has;
    `labels_saved`: these, less the labels.

    Args:
      lines: of the runs that are compared.
      out: folder that their `run` is in.
      reference: name of a method.
    """
    runs = collections.defaultdict(list)
    for line in lines:
        runs[line["method"], line["labels"]].append(line)
    facts = json.loads((out / lines[0]["run"] / "metrics.json").read_text("utf-8"))
    config = json.loads((out / lines[0]["run"] / "config.json").read_text("utf-8"))
    normalizer, measure = facts["normalizer"] and tuple(facts["normalizer"]), facts["ced_measure"]
    predictions = {
        key: [metrics.read_predictions(out / line["run"] / "predictions.csv") for line in of]
        for key, of in runs.items()
    }
    methods: dict[str, Any] = {}
    for (method, labels), of in runs.items():
        tables_ = predictions[method, labels]
        errors = np.mean([metrics.image_error(table, normalizer, measure) for table in tables_], axis=0)[:, None]
        told = np.isfinite(errors)
        estimate = intervals.of_ratios(np.where(told, errors, 0.0), 1.0 * told, metrics.subject_units(tables_[0]))
        bounds = intervals.bounds(estimate, "level")
        seeds = {str(line["seed"]): line["error"] for line in of}
        point = {"error": float(np.mean(list(seeds.values()))), "ci95": bounds[:, 0].tolist(), "seeds": seeds}

        def minus(others: list[metrics.Predictions]) -> dict[str, Any]:
            against = paired.difference(
                tables_,  # noqa: B023 (called at once)
                others,
                normalizer=normalizer,
                thresholds=config["eval"]["threshold"],
                radii_mm=(),
            )["differences"][measure]
            return {key: against[key] for key in ("b", "difference", "ci95", "p") if key in against}

        unseen = [out / line["run"] / "mean_shape.csv" for line in of]
        if all(path.exists() for path in unseen):  # not in runs of an older version
            against = minus([metrics.read_predictions(path) for path in unseen])
            point |= {"mean_shape": against["b"], "beats_mean_shape": mean_shape.beaten(against)}
        if method != reference and (reference, labels) in predictions:
            against = minus(predictions[reference, labels])
            point["minus_reference"] = {key: against[key] for key in ("difference", "ci95", "p") if key in against}
        methods.setdefault(method, {"setting": of[0]["setting"], "budgets": {}})["budgets"][str(labels)] = point
    for method in methods.values():
        for labels, point in method["budgets"].items():
            point["reference_labels"] = _labels_for(point["error"], methods[reference]["budgets"])
            if point["reference_labels"]:
                point["labels_saved"] = point["reference_labels"] - int(labels)
    words = tables.quantity(measure, facts)
    return {
        "measure": measure,
        "label": words.label,
        "unit": words.unit,
        "scale": words.scale,
        "split": facts["split"],
        "n_images": facts["n_images"],
        "reference": reference,
        "methods": methods,
    }


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
    rows = [["labels", *map(str, budgets)]]
    for name, method in methods.items():
        points = [method["budgets"].get(str(budget)) for budget in budgets]
        rows.append([name, *(f"{point['error'] * scale:.2f}" if point else "" for point in points)])
        if name != reference:
            against = [(point or {}).get("minus_reference") for point in points]
            rows.append([f"  minus {reference}", *(f"{d['difference'] * scale:+.2f}" if d else "" for d in against)])
            rows.append(["  p", *(_p(d["p"]) if d and "p" in d else "" for d in against)])
            saved = [(point or {}).get("labels_saved") for point in points]
            rows.append(["  labels saved", *("" if n is None else f"{n:+.0f}" for n in saved)])
    blind = _mean_shape(result)
    if blind:
        rows.append(["mean shape", *(f"{blind[budget] * scale:.2f}" if budget in blind else "" for budget in budgets)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    head = (
        f"{result['label']}, {result['unit']}; {result['n_images']} pictures of {result['split']}, mean over the seeds"
    )
    tests = sum(name != reference for name in methods) * len(budgets)
    note = f"p: paired, over subjects, not corrected for {tests} comparisons; it does not speak of other seeds"
    return "\n".join(
        [*_cautions(result), head, "-" * len(lines[0]), *(line.rstrip() for line in lines), "-" * len(lines[0]), note]
    )


def _mean_shape(result: Mapping[str, Any]) -> dict[int, float]:
    """Labels -> error of the mean shape, over the methods; it differs between seeds, which have other pictures."""
    found = collections.defaultdict(list)
    for method in result["methods"].values():
        for labels, point in method["budgets"].items():
            if "mean_shape" in point:
                found[int(labels)].append(point["mean_shape"])
    return {labels: float(np.mean(errors)) for labels, errors in sorted(found.items())}


def _cautions(result: Mapping[str, Any]) -> list[str]:
    lost = []
    for name, method in result["methods"].items():
        labels = [labels for labels, point in method["budgets"].items() if not point.get("beats_mean_shape", True)]
        lost += [f"{name} with {', '.join(labels)} labels"] if labels else []
    return [f"No better than the mean shape of the training labels: {'; '.join(lost)}."] if lost else []


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def plot(result: Mapping[str, Any]) -> Figure:
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
        if name == result["reference"] or len(result["methods"]) <= FEW:
            low, high = scale * np.array([point["ci95"] for _, point in points]).T
            axes.fill_between(x, low, high, color=colour, alpha=0.10, lw=0)
        for at, (_, point) in zip(x, points, strict=True):
            axes.plot([at] * len(point["seeds"]), [scale * e for e in point["seeds"].values()], ".", color=colour, ms=4)
    blind = _mean_shape(result)
    if blind:
        style = {"color": curves.GREY, "ls": ":", "lw": 1.4}
        axes.plot(list(blind), [scale * error for error in blind.values()], label="mean shape", **style)
        if len(blind) == 1:
            axes.axhline(scale * next(iter(blind.values())), **style)
    ticks = sorted({int(labels) for method in result["methods"].values() for labels in method["budgets"]})
    axes.set_xscale("log")
    errors = [point["error"] for method in result["methods"].values() for point in method["budgets"].values()]
    errors += blind.values()
    if max(errors) > 4 * min(errors):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="labelled training pictures", ylabel=f"{result['label']}, {result['unit']}")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, ncols=2 if len(result["methods"]) > 7 else 1)
    of = "" if len(result["methods"]) <= FEW else f" ({result['reference']})"
    axes.set_title(f"line: mean over seeds; band: 95 % over subjects{of}; dots: seeds", fontsize=8, loc="left")
    return figure
