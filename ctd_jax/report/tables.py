"""Metrics in words: label, unit and meaning of every key of `metrics.json`; the result table for the terminal."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctd_jax.metrics import measurements
from ctd_jax.text_table import text_table

Metrics = Mapping[str, Any]  # what metrics.json holds


@dataclasses.dataclass(frozen=True)
class Quantity:
    """How the number of one key of `metrics.json` is written for people."""

    label: str
    unit: str  # "px", "mm", "°", "%" or ""
    meaning: str

    @property
    def scale(self) -> float:
        return 100.0 if self.unit == "%" else 1.0

    def number(self, value: float) -> str:
        """The value in `unit`, without the unit; of what is small, three significant digits of its mm."""
        if self.unit.startswith("mm") and 0 < abs(value) < 0.1:
            return f"{value:.3g}"
        return f"{value * self.scale:.{2 if self.unit else 3}f}"

    def text(self, value: float) -> str:
        return f"{self.number(value)} {self.unit}".rstrip()

    def range(self, bounds: tuple[float, float] | None) -> str:
        """The interval, empty where there is none."""
        return f"{self.number(bounds[0])} to {self.number(bounds[1])}" if bounds else ""


def quantity(key: str, metrics: Metrics) -> Quantity:
    """The words for `key`; `metrics` has the normaliser and the measure of the CED."""
    if key == "me_px":
        return Quantity("Mean error (ME)", "px", "Mean over pictures of the mean distance to the annotated points.")
    if key == "me_mm":
        label = "Mean error (ME)" + _coverage(key, metrics)
        return Quantity(label, "mm", "The same in millimetres, in pictures whose spacing is known.")
    if key.startswith("nme_"):
        a, b = metrics["normalizer"]
        meaning = f"Error of each picture as a share of the distance from {a} to {b} in that picture, then the mean."
        return Quantity("Normalised mean error (NME)" + _coverage(key, metrics), "%", meaning)
    if key.startswith("sdr_le_"):
        radius = key.removeprefix("sdr_le_").removesuffix("mm")
        meaning = f"Share of all annotated points found within {radius} mm (boundary included)."
        return Quantity(f"Success detection rate (SDR), {radius} mm" + _coverage(key, metrics), "%", meaning)
    measure = quantity(metrics["ced_measure"], metrics)
    name, _, threshold = key.partition("@")
    limit = f"{float(threshold) * measure.scale:g} {measure.unit}"
    if name == "auc":
        meaning = "Area under the CED curve up to the threshold, divided by it: 1 is perfect, 0 is all above."
        return Quantity(f"Area under the curve (AUC), to {limit}", "", meaning)
    if name == "fr":
        return Quantity(f"Failure rate (FR), {limit}", "%", f"Share of pictures whose error is above {limit}.")
    raise KeyError(key)


def measurement(name: str, metrics: Metrics) -> Quantity:
    """The words for one of `metrics["measurements"]`."""
    one = metrics["measurements"][name]
    return Quantity(name, one["unit"].replace("deg", "\u00b0").replace("2", "\u00b2"), measurements.words(one["of"]))


def class_agreement(name: str, metrics: Metrics) -> str:
    """A sentence on the classes of one measurement; "" where it has none."""
    classes = metrics["measurements"][name].get("classes", {})
    if "agreement" not in classes:
        return ""
    words = {key: f"{classes[key]:.2f}" for key in ("agreement", "kappa") if key in classes}
    for key, ends in classes["ci95"].items():
        words[key] += " ({:.2f} to {:.2f})".format(*ends)
    kappa = f"; kappa {words['kappa']}" if "kappa" in words else ""
    return (
        f"{', '.join(classes['names'])}: share of {classes['n']} pictures in the same class {words['agreement']}{kappa}"
    )


AGREEMENT = ("true_mean", "bias", "loa", "mae", "slope", "icc")


def people_agreement(name: str, metrics: Metrics) -> str:
    """How well annotators agree in one measurement, in words; "" where that is unknown."""
    one = metrics["measurements"][name].get("raters", {})
    if "reproducibility" not in one:
        return ""
    number = measurement(name, metrics).number
    icc = f"; ICC {one['icc']:.2f}" if "icc" in one else ""
    apart = f"{number(one['mae'])} on average, less than {number(one['reproducibility'])} in 95 %"
    return f"two annotators differ by {apart}{icc}"


def agreement(name: str, metrics: Metrics) -> list[tuple[str, list[str]]]:
    """Mean, bias, limits, mean absolute error, slope and ICC of one measurement, each as text with its intervals; ""
    where it is unknown."""
    one, number = metrics["measurements"][name], measurement(name, metrics).number

    def text(key: str, value: float | list[float]) -> str:
        if isinstance(value, list):
            return "\u00a0to ".join(text(key, end) for end in value)
        return f"{value:.2f}" if key in ("slope", "icc") else number(value)

    cells = []
    for key in AGREEMENT:
        pairs = one["ci95"].get(key, [])
        if pairs and key != "loa":
            pairs = [pairs]
        cells.append((text(key, one[key]) if key in one else "", [text(key, pair) for pair in pairs]))
    return cells


def agreement_in_short(metrics: Metrics) -> str:
    """Which measurement agrees best with the annotated one, and which worst, in one sentence; "" where none is known
    to."""
    found = {name: one["icc"] for name, one in metrics.get("measurements", {}).items() if "icc" in one}
    if not found:
        return ""
    best, *others = sorted(found, key=lambda name: -found[name])
    if not others:
        return f"{best} agrees with what is annotated (ICC {found[best]:.2f})."
    worst = others[-1]
    return f"{best} agrees best with what is annotated (ICC {found[best]:.2f}), {worst} worst ({found[worst]:.2f})."


def keys(metrics: Metrics) -> list[str]:
    """The keys of the result table, in its order."""
    return [key for key in metrics if key.startswith(("me_", "nme_", "auc@", "fr@", "sdr_le_"))]


def main_key(metrics: Metrics) -> str:
    """The key of the error at the head of the report: in mm where the spacing of every picture is known, else in
    pixels."""
    return "me_mm" if "me_mm" in metrics and "n_images_mm" not in metrics else "me_px"


def _coverage(key: str, metrics: Metrics) -> str:
    """The part of a metric's label that tells of how many pictures or points it is; "" where it is of all that are
    annotated."""
    counted, word = ("points", "points") if key.startswith("sdr_le_") else ("images", "pictures")
    n_known = f"n_{counted}_nme" if key.startswith("nme_") else f"n_{counted}_mm"
    if n_known not in metrics:
        return ""
    return f", {metrics[n_known]} of {metrics[f'n_{counted}']} {word}"


def verdict(metrics: Metrics) -> str:
    """Whether the network beats the mean shape of its training labels and, where there are raters, a person, in one
    sentence; "" where that is unknown."""
    shape, raters, key = metrics.get("mean_shape", {}), metrics.get("raters", {}), main_key(metrics)
    said = []
    if shape:
        distance = f" ({quantity(key, metrics).text(shape[key])})" if key in shape else ""
        said.append(
            f"{'beats' if shape['beaten'] else 'does not beat'} the mean shape of its training labels{distance}"
        )
    if raters:
        network, between = (Quantity("", raters["unit"], "").text(raters[one]) for one in ("network", "between"))
        nearer = "nearer" if raters["beaten"] else "no nearer"
        said.append(f"is {nearer} to an annotator ({network}) than another annotator is ({between})")
    return f"The network {' and '.join(said)}." if said else ""


def beside_people(metrics: Metrics) -> list[tuple[str, Metrics]]:
    """Who is compared with whom -> metrics of it, of the points that all annotators have; empty where there are fewer
    than two."""
    raters = metrics.get("raters", {})
    if "people" not in raters:
        return []
    rows = [(f"network, from {name}", one) for name, one in raters["network_to"].items()]
    rows += [(f"{one['raters'][0]}, from {one['raters'][1]}", one) for one in raters["pairs"]]
    if len(raters["pairs"]) > 1:
        rows.append(("an annotator from another, mean", raters["people"]))
    return [("network, from what it is evaluated by", raters["annotation"]), *rows]


def people_keys(metrics: Metrics) -> list[str]:
    """The keys of that table: the main error, the NME, and the success rates."""
    chosen = [key for key in keys(metrics) if key == main_key(metrics) or key.startswith(("nme_", "sdr_le_"))]
    return [key for key in chosen if any(key in one for _, one in beside_people(metrics))]


def by_error(metrics: Metrics) -> list[str]:
    """Names of the landmarks, the one with the largest error first; those without any annotation last."""
    key = main_key(metrics)
    return sorted(metrics["per_landmark"], key=lambda name: -metrics["per_landmark"][name].get(key, -1.0))


def longest_bar(metrics: Metrics) -> float:
    """The error at the full width of the bars: the largest mean error of a landmark or upper end of its interval, never
    0."""
    key, landmarks = main_key(metrics), metrics["per_landmark"].values()
    ends = [one["ci95"].get(key, [0, one[key]])[1] for one in landmarks if key in one]
    return max(ends) or 1.0


def radius_keys(metrics: Metrics) -> list[str]:
    """The keys of the success rates that are known."""
    return [key for key in metrics if key.startswith("sdr_le_")]


def cautions(metrics: Metrics) -> list[str]:
    """The sentences that come before the numbers; those of several domains begin with its name."""
    if "domains" in metrics:
        return [f"{domain}: {text}" for domain, one in metrics["domains"].items() for text in cautions(one)]
    return list(metrics.get("cautions", ()))


def console(metrics: Metrics) -> str:
    """The result as plain text: cautions first; every pooled metric with its 95 % interval, and that of the mean shape;
    the three worst landmarks.

    Args:
      metrics: what `metrics.json` holds (`metrics.summarize` with `split`, `normalizer`, `mean_shape` and `cautions`
        added), for one domain or for each of its `domains`.
    """
    each = metrics.get("domains", {"": metrics})
    parts = [f"{domain}\n{_result(one)}".lstrip() for domain, one in each.items()]
    return "\n\n".join(["\n".join(cautions(metrics)), *parts]).lstrip()


def _result(metrics: Metrics) -> str:
    head = f"{metrics['split']}: {metrics['n_images']} pictures, {metrics['n_points']} points"
    shape = metrics.get("mean_shape", {})
    rows = [(head, "", "", "95 % interval", "mean shape" if shape else "")]
    for key in keys(metrics):
        words = quantity(key, metrics)
        interval = words.range(metrics["ci95"].get(key))
        baseline = words.number(shape[key]) if key in shape else ""
        rows.append((words.label, words.number(metrics[key]), words.unit, interval, baseline))
    lines = text_table(rows, "<  > <  >  >", rule=True)

    key = main_key(metrics)
    known = [name for name in by_error(metrics) if key in metrics["per_landmark"][name]]
    worst = (f"{name} {quantity(key, metrics).text(metrics['per_landmark'][name][key])}" for name in known[:3])
    lines.append(f"largest mean errors: {', '.join(worst)}")
    for who, one in beside_people(metrics):
        if key in one:
            lines.append(f"{who}: {quantity(key, metrics).text(one[key])}")
    there = metrics.get("presence", {})
    if "recall" in there and "absent_recall" in there:
        lines.append(
            f"is it there? {100 * there['recall']:.1f} % of {there['n_present']} points that are there are found so, "
            f"{100 * there['absent_recall']:.1f} % of {there['n_absent']} that are absent"
        )
    if any(one["unit"] == measurements.UNSIGNED for one in metrics.get("measurements", {}).values()):
        lines.append("angles are unsigned: 0 to 180\u00b0, whichever way they open, but for those in deg alone")
    return "\n".join(lines)
