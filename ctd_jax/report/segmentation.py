"""The report of a segmentation run: a table for the terminal, and one HTML page."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ctd_jax import files
from ctd_jax.metrics import segmentation
from ctd_jax.report import curves, overlays, pages, pairs, parts, tables
from ctd_jax.report.tables import Metrics
from ctd_jax.text_table import text_table

SIDE = 420  # pixels of the longer side of a picture in the report
# measure -> label, unit, meaning
WORDS = {
    "dice": ("Dice", "%", "Twice the overlap over the sum of both areas; 100 % is perfect."),
    "sensitivity": ("Sensitivity", "%", "Share of the annotated pixels that were found."),
    "specificity": ("Specificity", "%", "Share of the other pixels that were left out; large where a class is small."),
    "volume_difference": ("Volume difference", "%", "Difference of the areas as a share of the annotated one."),
    "assd": ("Average surface distance", "", "Mean distance from each outline to the other (symmetric)."),
    "mssd": ("Maximum surface distance", "", "Largest distance from either outline to the other (Hausdorff)."),
}


def cell(key: str, value: float) -> str:
    """A value of metrics.json without its unit."""
    percent = WORDS[key.removesuffix("_px").removesuffix("_mm")][1] == "%"
    return f"{value * (100 if percent else 1):.1f}" if percent else f"{value:.2f}"


def distance_keys(metrics: Metrics, domain: str) -> dict[str, str]:
    """assd, mssd -> its key with the unit of a domain: in mm where the spacing is known."""
    end = f"_{segmentation.slug(domain)}"
    return {key: f"{key}_mm" if f"{key}_mm{end}" in metrics else f"{key}_px" for key in ("assd", "mssd")}


def rows(metrics: Metrics) -> list[dict[str, str]]:
    """The table: a row for each domain and each class of it, and before them one for the mean of several domains.

    Returns:
      For each row `domain` and `class` ("" where it is a mean of them), the value of each measure in `WORDS` with its
      unit, its interval as MEASURE_interval, the Dice of the mean map as `mean_map`, and `missed`; "" where unknown.
    """
    ends: dict[tuple[str, str | None], str] = segmentation.suffixes(metrics["classes"])
    if len(metrics["classes"]) > 1:
        ends = {("", None): "", **ends}
    found = []
    for (domain, name), end in ends.items():
        row = {"domain": domain, "class": name or ""}
        units = distance_keys(metrics, domain)
        for measure, (_, unit, _) in WORDS.items():
            key = units.get(measure, measure)
            value, bounds = metrics.get(key + end), metrics["ci95"].get(key + end)
            unit = unit or key[-2:]
            row[measure] = f"{cell(key, value)} {unit}" if value is not None else ""
            row[f"{measure}_interval"] = f"{cell(key, bounds[0])} to {cell(key, bounds[1])}" if bounds else ""
        baseline = metrics.get("mean_map", {}).get(f"dice{end}")
        row["mean_map"] = f"{cell('dice', baseline)} %" if baseline is not None else ""
        row["missed"] = str(metrics.get(f"missed{end}") or "")
        found.append(row)
    return found


def verdict(metrics: Metrics) -> str:
    """Whether the network beats the mean map of its training labels, in one sentence; "" where that is unknown."""
    beaten: Mapping[str, bool] = metrics.get("mean_map", {}).get("beaten", {})
    if not beaten:
        return ""
    if all(beaten.values()):
        return "The network beats the mean map of its training labels."
    where = [domain for domain, is_beaten in beaten.items() if not is_beaten]
    only = f" in {', '.join(where)}" if len(beaten) > 1 else ""
    return f"The network does not beat the mean map of its training labels{only}."


def console(metrics: Metrics) -> str:
    """The result as plain text: cautions; then, for each domain and class, Dice with its 95 % interval, surface
    distances, and the Dice of the mean map.

    Args:
      metrics: what `metrics.json` holds.
    """
    head = f"{metrics['split']}: {metrics['n_images']} pictures"
    lines = [(head, "Dice", "95 % interval", "average distance", "maximum", "Dice of the mean map")]
    for row in rows(metrics):
        label = f"  {row['class']}" if row["class"] else row["domain"] or "mean of the domains"
        lines.append((label, row["dice"], row["dice_interval"], row["assd"], row["mssd"], row["mean_map"]))
    table = text_table(lines, "<  >  >  >  >  >", rule=True)
    cautions = tables.cautions(metrics)
    if cautions:
        cautions.append("")
    return "\n".join([*cautions, *table])


def write(
    workdir: Path, pictures: Callable[[str], Sequence[np.ndarray]], originals: Callable[[str], np.ndarray]
) -> Path:
    """Writes `report.html`, `overlays.png` and `curves.png` into the workdir; returns the path of the page.

    Args:
      workdir: holds `config.json`, `metrics.json`, `segmentation_metrics.csv` and, if there are any, `log.csv`,
        `twins.csv` and `split.csv`.
      pictures: image name -> `[H, W, 3]` uint8 picture, `[H, W]` annotated and `[H, W]` predicted classes; called for
        the few that are shown.
      originals: image name -> picture, also of those that were trained on.
    """
    metrics = parts.json_of(workdir / "metrics.json")
    scores = segmentation.read(workdir / "segmentation_metrics.csv")
    panels = list(_panels(scores, metrics["classes"], pictures))
    sheet = overlays.montage(panels, SIDE, overlays.legend_of_outlines)
    files.write_bytes(workdir / "overlays.png", parts.png_bytes(sheet))
    parts.save(curves.training(parts.log(workdir / "log.csv")), workdir / "curves.png")
    split = parts.rows(workdir / "split.csv")
    known, evaluated = {row["image"] for row in split}, set(scores.names["image"].tolist())
    return pages.write(
        workdir,
        "segmentation.html",
        **parts.of_run(workdir, metrics, split),
        rows=rows(metrics),
        verdict=verdict(metrics),
        words=WORDS,
        shared=None,
        pairs=pairs.read(workdir, known, evaluated, originals),
        subjects=len(set(scores.names["subject"].tolist())),
        figures={"curves": parts.png(workdir / "curves.png")},
        groups={group: [(p, parts.jpeg(p.image)) for p in panels if p.group == group] for group in metrics["classes"]},
        legend=parts.jpeg(overlays.legend_of_outlines(440)),
    )


def _panels(
    scores: segmentation.Scores, classes: Mapping[str, Sequence[str]], pictures: Callable[[str], Sequence[np.ndarray]]
) -> Iterator[overlays.Panel]:
    """The best, the median and the worst picture of each domain, by its mean Dice."""
    for domain in classes:
        mine = scores.of(domain)
        images, place = np.unique(scores.names["image"][mine], return_inverse=True)
        dice = scores.values["dice"][mine]
        known = np.isfinite(dice)
        sums, counts = (np.bincount(place[known], w, len(images)) for w in (dice[known], None))
        mean = np.divide(sums, counts, out=np.full(len(images), np.nan), where=counts > 0)
        for indices in overlays.choose(-mean, each=1).values():
            for i in indices:
                picture, true, found = pictures(str(images[i]))
                caption = f"Dice {cell('dice', mean[i])} %"
                yield overlays.Panel(
                    domain, str(images[i]), caption, overlays.paint_outlines(picture, found, true, side=SIDE)
                )
