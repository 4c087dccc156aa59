"""Metrics in words: label, unit and meaning of every key of `metrics.json`; the result table for the terminal."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Quantity:
    """How one key of `metrics.json` is written for people."""

    label: str
    unit: str  # "px", "mm", "°", "%" or ""
    meaning: str

    @property
    def scale(self) -> float:
        return 100.0 if self.unit == "%" else 1.0

    def number(self, value: float) -> str:
        """The value in `unit`, without it."""
        return f"{value * self.scale:.{2 if self.unit else 3}f}"

    def text(self, value: float) -> str:
        return f"{self.number(value)} {self.unit}".rstrip()

    def range(self, bounds: tuple[float, float] | None) -> str:
        """The interval, empty where there is none."""
        return f"{self.number(bounds[0])} to {self.number(bounds[1])}" if bounds else ""


def quantity(key: str, metrics: Mapping) -> Quantity:
    """The words for `key`. `metrics` tells the normaliser and what the CED measures."""
    if key == "me_px":
        return Quantity("Mean error (ME)", "px", "Mean over pictures of the mean distance to the annotated points.")
    if key == "me_mm":
        label = "Mean error (ME)" + _of_some(key, metrics)
        return Quantity(label, "mm", "The same in millimetres, in pictures whose spacing is known.")
    if key.startswith("nme_"):
        a, b = metrics["normalizer"]
        meaning = f"Error of each picture as a share of the distance from {a} to {b} in that picture, then the mean."
        return Quantity("Normalised mean error (NME)" + _of_some(key, metrics), "%", meaning)
    if key.startswith("sdr_le_"):
        radius = key.removeprefix("sdr_le_").removesuffix("mm")
        meaning = f"Share of all annotated points found within {radius} mm (boundary included)."
        return Quantity(f"Success detection rate (SDR), {radius} mm" + _of_some(key, metrics), "%", meaning)
    measure = quantity(metrics["ced_measure"], metrics)
    name, _, threshold = key.partition("@")
    limit = f"{float(threshold) * measure.scale:g} {measure.unit}"
    if name == "auc":
        meaning = "Area under the CED curve up to the threshold, divided by it: 1 is perfect, 0 is all above."
        return Quantity(f"Area under the curve (AUC), to {limit}", "", meaning)
    if name == "fr":
        return Quantity(f"Failure rate (FR), {limit}", "%", f"Share of pictures whose error is above {limit}.")
    raise KeyError(key)


def measurement(name: str, metrics: Mapping) -> Quantity:
    """The words for one of `metrics["measurements"]`."""
    one = metrics["measurements"][name]
    unit, of = one["unit"].replace("deg", "°"), one["of"]
    if "ratio" in of:
        return Quantity(name, unit, " / ".join(of["ratio"]))
    if len(of) == 3:
        return Quantity(name, "° unsigned", f"angle at {of[1]}, from {of[0]} to {of[2]}")
    return Quantity(name, unit, f"distance from {of[0]} to {of[1]}")


def agreement(name: str, metrics: Mapping) -> list[tuple[str, list[str]]]:
    """Mean, bias, limits, mean absolute error, slope, ICC of one measurement, each with its intervals; "": unknown."""
    one, number = metrics["measurements"][name], measurement(name, metrics).number

    def text(key: str, value: float | list[float]) -> str:
        if isinstance(value, list):
            return "\u00a0to ".join(text(key, end) for end in value)
        return f"{value:.2f}" if key in ("slope", "icc") else number(value)

    cells = []
    for key in ("true_mean", "bias", "loa", "mae", "slope", "icc"):
        bounds = one["ci95"].get(key, [])
        bounds = bounds if key == "loa" else [bounds][: len(bounds)]
        cells.append((text(key, one[key]) if key in one else "", [text(key, pair) for pair in bounds]))
    return cells


def keys(metrics: Mapping) -> list[str]:
    """The keys of the result table, in its order; the per-landmark part has the same names."""
    return [key for key in metrics if key.startswith(("me_", "nme_", "auc@", "fr@", "sdr_le_"))]


def main_key(metrics: Mapping) -> str:
    """The error that heads the report: in mm where the spacing of every picture is known, else in pixels."""
    return "me_mm" if "me_mm" in metrics and "n_images_mm" not in metrics else "me_px"


def _of_some(key: str, metrics: Mapping) -> str:
    """How many pictures or points a metric is of, where it is not of all that are annotated."""
    what = "points" if key.startswith("sdr_le_") else "images"
    n = f"n_{what}_{'nme' if key.startswith('nme_') else 'mm'}"
    return f", {metrics[n]} of {metrics[f'n_{what}']} {what.replace('images', 'pictures')}" if n in metrics else ""


def by_error(metrics: Mapping) -> list[str]:
    """Names of the landmarks, largest `main_key` first; those without any annotation last."""
    key = main_key(metrics)
    return sorted(metrics["per_landmark"], key=lambda name: -metrics["per_landmark"][name].get(key, -1.0))


def longest_bar(metrics: Mapping) -> float:
    """The largest mean error of a landmark or upper end of its interval: the full width of the bars; never 0."""
    key, landmarks = main_key(metrics), metrics["per_landmark"].values()
    ends = [one["ci95"].get(key, [0, one[key]])[1] for one in landmarks if key in one]
    return max(ends) or 1.0


def radius_keys(metrics: Mapping) -> list[str]:
    """The success rates that are known."""
    return [key for key in metrics if key.startswith("sdr_le_")]


def cautions(metrics: Mapping) -> list[str]:
    """What has to be known before the numbers; of several domains each with its name."""
    if "domains" in metrics:
        return [f"{domain}: {text}" for domain, one in metrics["domains"].items() for text in cautions(one)]
    return list(metrics.get("cautions", ()))


def console(metrics: Mapping) -> str:
    """The result as plain text: cautions first; every pooled metric with its 95 % interval, and that of the mean shape;
    the three worst landmarks.

    `metrics` is what `metrics.json` holds (`metrics.summarize` with `split`, `normalizer`, `mean_shape` and `cautions`
    added), or has such for each of its `domains`.
    """
    each = metrics.get("domains", {"": metrics})
    parts = [f"{domain}\n{_table(one)}".lstrip() for domain, one in each.items()]
    return "\n\n".join(["\n".join(cautions(metrics)), *parts]).lstrip()


def _table(metrics: Mapping) -> str:
    head = f"{metrics['split']}: {metrics['n_images']} pictures, {metrics['n_points']} points"
    shape = metrics.get("mean_shape", {})
    rows = [(head, "", "", "95 % interval", "mean shape" if shape else "")]
    for key in keys(metrics):
        words = quantity(key, metrics)
        blind = words.number(shape[key]) if key in shape else ""
        rows.append((words.label, words.number(metrics[key]), words.unit, words.range(metrics["ci95"].get(key)), blind))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    label, number, unit, interval, last = widths
    lines = [
        f"{a:<{label}}  {b:>{number}} {c:<{unit}}  {d:>{interval}}  {e:>{last}}".rstrip() for a, b, c, d, e in rows
    ]
    lines.insert(1, "-" * len(lines[0]))

    key = main_key(metrics)
    known = [name for name in by_error(metrics) if key in metrics["per_landmark"][name]]
    worst = (f"{name} {quantity(key, metrics).text(metrics['per_landmark'][name][key])}" for name in known[:3])
    lines.append(f"largest mean errors: {', '.join(worst)}")
    if any(len(one["of"]) == 3 for one in metrics.get("measurements", {}).values()):
        lines.append("angles are unsigned: 0 to 180\u00b0, whichever way they open")
    return "\n".join(lines)
