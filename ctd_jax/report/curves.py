"""Figures: the cumulative error distribution (CED), the agreement of measurements, the course of training.

No global state of Matplotlib."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ctd_jax.metrics import intervals, landmarks
from ctd_jax.metrics.agreement import Measured
from ctd_jax.report import tables
from ctd_jax.report.tables import Metrics

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"  # Okabe and Ito
PEOPLE = ("#000000", "#009E73")
DASHES = ("-", "--", ":", "-.")  # these differ in grey, too
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#000000", "#E69F00")
_NOT_TERMS = ("_lr", "_per_s", "seconds")  # ends of the columns of the log that are no terms of the loss


def ced(
    errors: np.ndarray, subjects: np.ndarray, metrics: Metrics, people: Mapping[str, np.ndarray] | None = None
) -> "Figure":
    """The CED of the pictures with its threshold and, over subjects, the pointwise 95 % band.

    Args:
      errors: `[N]` error of each picture in the unit of `metrics["ced_measure"]`; NaN is left out.
      subjects: `[N]` names.
      metrics: what `metrics.json` holds.
      people: label -> the same of people, `[N]`, whose curves are drawn beside it.
    """
    subjects, errors = subjects[np.isfinite(errors)], errors[np.isfinite(errors)]
    words = tables.quantity(metrics["ced_measure"], metrics)
    auc, fr = (next(key for key in metrics if key.startswith(name)) for name in ("auc@", "fr@"))
    threshold = float(auc.partition("@")[2])
    end = max(1.25 * threshold, float(np.quantile(errors, 0.95)))

    figure = new_figure(6.4, 4.0)
    axes = figure.add_subplot()
    grid = np.linspace(0, end, 241)
    within = (errors[:, None] <= grid).astype(np.float64)
    low, high = intervals.bounds(intervals.of_ratios(within, np.ones_like(within), subjects), "fraction")
    if np.isfinite(low).all():
        axes.fill_between(
            grid * words.scale, low * 100, high * 100, color=BLUE, alpha=0.18, lw=0, step="post", label="95 % band"
        )
    x, y = landmarks.ced(errors)
    x, y = np.append(x, max(end, x[-1])), np.append(y, y[-1])
    label = f"CED of {len(errors)} pictures\n" + "\n".join(
        f"{name} {_with_interval(key, metrics)}" for name, key in (("AUC", auc), ("FR", fr))
    )
    axes.step(x * words.scale, y * 100, where="post", color=BLUE, lw=1.8, label=label)
    for (label, each), colour, dashes in zip((people or {}).items(), PEOPLE, DASHES[2:], strict=False):
        x, y = landmarks.ced(each)
        x, y = np.append(x, max(end, x[-1])), np.append(y, y[-1])
        axes.step(x * words.scale, y * 100, where="post", color=colour, ls=dashes, lw=1.6, label=label)
    axes.axvline(
        threshold * words.scale,
        color=ORANGE,
        ls="--",
        lw=1.2,
        label=f"threshold {threshold * words.scale:g} {words.unit}",
    )
    unit = words.unit
    if metrics["ced_measure"].startswith("nme_"):
        unit += " of the distance " + " to ".join(metrics["normalizer"])
    axes.set(xlim=(0, end * words.scale), ylim=(0, 101), xlabel=_plain(f"mean error of a picture, {unit}"))
    axes.set_ylabel("pictures with at most this error, %")
    _legend(axes, 2 if people else 3)
    return figure


def reliability(radius: Metrics) -> "Figure":
    """The share of true points within their radius, over the probability that the radius was made for, with 95 %
    intervals over subjects; `radius` is what `metrics.json` has of that name."""
    promised, found, low, high = 100 * np.array(radius["reliability"]).T
    figure = new_figure(4.6, 4.2)
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color=GREY, lw=0.8, label="as promised")
    axes.errorbar(
        promised, found, [found - low, high - found], color=BLUE, fmt="o-", ms=4, lw=1.4, label="found, 95 % intervals"
    )
    axes.set(xlim=(40, 101), ylim=(min(40.0, low.min()), 101), xlabel="probability that is promised, %")
    axes.set_ylabel("true points within their radius, %")
    _legend(axes, 2)
    return figure


def bland_altman(measured: Measured, metrics: Metrics) -> "Figure":
    """A panel for each measurement: the difference predicted - annotated of every picture, over the mean of both; bias,
    limits of agreement, and their 95 % intervals as bands (Bland and Altman 1986); where several people annotated, what
    95 % of their differences are less than.

    Args:
      measured: values of every picture.
      metrics: what `metrics.json` holds; its `measurements` are those of `measured`.
    """
    summary = metrics["measurements"]
    rows = -(-len(summary) // 2)
    figure = new_figure(6.4, 2.5 * rows + 0.3)
    panels = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes in panels[len(summary) :]:
        axes.set_axis_off()
    legend: dict[str, Artist] = {}
    for axes, (name, one) in zip(panels, summary.items(), strict=False):
        pairs, words = measured.comparable(name), tables.measurement(name, metrics)
        mean, difference = (pairs.value + pairs.true_value) / 2, pairs.value - pairs.true_value
        axes.axhline(0, color=GREY, lw=0.8)
        axes.plot(mean, difference, ".", color=GREY, ms=4, alpha=0.6, mew=0, label="one picture")
        lines = [("bias", one["bias"], one["ci95"].get("bias"), BLUE, "-")] if "bias" in one else []
        for limit, band in zip(one.get("loa", ()), one["ci95"].get("loa", (None, None)), strict=False):
            lines.append(("limits of agreement", limit, band, ORANGE, "--"))
        for label, level, band, colour, dashes in lines:
            axes.axhline(level, color=colour, ls=dashes, lw=1.4, label=label)
            if band:
                axes.axhspan(*band, color=colour, alpha=0.15, lw=0)
        if "reproducibility" in one.get("raters", {}):
            limit = one["raters"]["reproducibility"]
            for level in (-limit, limit):
                axes.axhline(level, color=PEOPLE[0], ls=":", lw=1.4, label="two annotators differ by less (95 %)")
        handles, labels = axes.get_legend_handles_labels()
        legend |= dict(zip(labels, handles, strict=True))
        unit = f", {words.unit.removesuffix(' unsigned')}" if words.unit else ""
        unsigned = " (unsigned angle)" if words.unit.endswith(" unsigned") else ""
        axes.set_title(_plain(name) + unsigned, fontsize=9)
        axes.set_xlabel(f"mean of both{unit}", fontsize=8)
        axes.set_ylabel(f"predicted - annotated{unit}", fontsize=8)
        axes.tick_params(labelsize=8)
    figure.legend(handles=list(legend.values()), loc="outside upper left", ncols=3, fontsize=8.5, frameon=False)
    return figure


def training(log: Mapping[str, Sequence[float]]) -> "Figure":
    """The terms of the loss in one panel, the norms of their gradients (`gradient_...`) in another, and each validation
    column (`val...`) in a further one, with its least value marked.

    Args:
      log: the columns of `log.csv`, equally long, NaN where a cell is empty.
    """
    steps = np.asarray(log.get("step", ()), np.float64)
    known = {name: np.asarray(values, np.float64) for name, values in log.items() if name != "step"}
    known = {name: values for name, values in known.items() if np.isfinite(values).any()}
    validation = [name for name in known if name.startswith("val")]
    gradients = [name for name in known if name.startswith("gradient_")]
    terms = [name for name in known if name not in validation + gradients and not name.endswith(_NOT_TERMS)]
    panels = [names for names in (terms, gradients) if names] + [[name] for name in validation]
    if not panels:
        figure = new_figure(6.4, 1.2)
        figure.text(0.5, 0.5, "The training log is empty.", ha="center", va="center")
        return figure

    figure = new_figure(6.4, 2.6 * len(panels))
    for axes, names in zip(figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0], panels, strict=True):
        for i, name in enumerate(names):
            filled = np.isfinite(known[name])
            axes.plot(
                steps[filled],
                known[name][filled],
                label=_plain(name),
                marker="." if filled.sum() < 40 else None,
                color=COLOURS[i % len(COLOURS)],
                ls=DASHES[i % len(DASHES)],
                lw=1.4,
            )
        values = np.concatenate([known[name][np.isfinite(known[name])] for name in names])
        if names in (terms, gradients):
            if (values > 0).all():
                axes.set_yscale("log")
            axes.set_ylabel("training terms" if names is terms else "gradient norms")
        else:
            best = int(np.nanargmin(known[names[0]]))
            text = f"best: {known[names[0]][best]:.4g} at step {steps[best]:g}"
            axes.plot(steps[best], known[names[0]][best], "o", mfc="none", mec=ORANGE, ms=10, mew=1.8, label=text)
            axes.set_ylabel(_plain(names[0]))
        _legend(axes, 4)
    axes.set_xlabel("step")
    return figure


def _legend(axes: "Axes", columns: int) -> None:
    """Above the axes, where it hides no curve."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize=8.5, frameon=False)


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, inches wide and high."""
    from matplotlib.figure import Figure  # half a second, which only a report needs

    return Figure(figsize=(width, height), dpi=160, layout="constrained", facecolor="white")


def _with_interval(key: str, metrics: Metrics) -> str:
    words, bounds = tables.quantity(key, metrics), metrics["ci95"].get(key)
    return words.text(metrics[key]) + (f" ({words.range(bounds)})" if bounds else "")


def _plain(text: str) -> str:
    """`text` without formulas: a $ is shown as it is."""
    return text.replace("$", r"\$")
