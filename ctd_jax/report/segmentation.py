"""The report of a segmentation run: a table for the terminal, outlines in pictures, one HTML page."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from ctd_jax import files, versions
from ctd_jax.metrics import segmentation
from ctd_jax.report import curves, overlays, pairs, parts, tables

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


def distance_keys(metrics: Mapping, domain: str) -> dict[str, str]:
    """assd, mssd -> the key of a domain: in mm where it has a spacing."""
    end = f"_{segmentation.slug(domain)}"
    return {key: f"{key}_mm" if f"{key}_mm{end}" in metrics else f"{key}_px" for key in ("assd", "mssd")}


def rows(metrics: Mapping) -> list[dict[str, str]]:
    """A row for each domain and class, "" for their means: domain, class, and of each measure in `WORDS` its value
    with unit, and its interval as MEASURE_interval; the Dice of the mean_map; "" where it is unknown."""
    ends = segmentation.suffixes(metrics["classes"])
    found = []
    for (domain, name), end in (({("", None): ""} if len(metrics["classes"]) > 1 else {}) | ends).items():
        row = {"domain": domain, "class": name or ""}
        units = distance_keys(metrics, domain)
        for measure, (_, unit, _) in WORDS.items():
            key = units.get(measure, measure)
            value, bounds = metrics.get(key + end), metrics["ci95"].get(key + end)
            unit = unit or key[-2:]
            row[measure] = f"{cell(key, value)} {unit}" if value is not None else ""
            row[f"{measure}_interval"] = f"{cell(key, bounds[0])} to {cell(key, bounds[1])}" if bounds else ""
        blind = metrics.get("mean_map", {}).get(f"dice{end}")
        row["mean_map"] = f"{cell('dice', blind)} %" if blind is not None else ""
        row["missed"] = str(metrics.get(f"missed{end}") or "")
        found.append(row)
    return found


def console(metrics: Mapping) -> str:
    """The result as plain text: cautions; Dice with its 95 % interval, surface distances, and the Dice of the mean
    map, of each domain and class.

    `metrics` is what `metrics.json` holds.
    """
    head = f"{metrics['split']}: {metrics['n_images']} pictures"
    lines = [(head, "Dice", "95 % interval", "average distance", "maximum", "Dice of the mean map")]
    for row in rows(metrics):
        label = f"  {row['class']}" if row["class"] else row["domain"] or "mean of the domains"
        lines.append((label, row["dice"], row["dice_interval"], row["assd"], row["mssd"], row["mean_map"]))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    ]
    text.insert(1, "-" * (sum(widths) + 2 * len(widths) - 2))
    first = tables.cautions(metrics)
    return "\n".join([*first, *[""] * bool(first), *text])


def draw(picture: np.ndarray, found: np.ndarray, true: np.ndarray | None = None, *, side: int = SIDE) -> Image.Image:
    """The picture with the outlines of its classes.

    Args:
      picture: `[H, W, 3]` uint8.
      found, true: `[H, W]` classes, 0 the background.
      side: longer side of the result.
    """
    H, W = picture.shape[:2]
    factor = side / max(H, W)
    size = (max(round(W * factor), 1), max(round(H * factor), 1))
    image = np.array(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    thin = max(round(side / 210), 1)
    for classes, colour, width in ((true, overlays.TRUTH, 2 * thin), (found, overlays.PREDICTION, thin)):
        if classes is None:
            continue
        large = np.asarray(Image.fromarray(classes).resize(size, Image.Resampling.NEAREST))
        for i in np.unique(large[large > 0]):
            region = np.pad(large == i, 1)
            inner = ndimage.binary_erosion(region, iterations=width)
            rim = ndimage.binary_dilation(region)
            image[(rim & ~region)[1:-1, 1:-1]] = overlays.RIM
            image[(region & ~inner)[1:-1, 1:-1]] = colour
    return Image.fromarray(image)


def legend(width: int) -> Image.Image:
    """A strip that shows what the outlines mean."""
    strip = Image.new("RGB", (width, 44), (255, 255, 255))
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(size=18)
    for x, colour, text in ((10, overlays.TRUTH, "annotated"), (170, overlays.PREDICTION, "predicted")):
        pen.rectangle([x, 12, x + 30, 32], outline=colour, width=4)
        pen.text((x + 42, 22), text, fill=(20, 20, 20), font=font, anchor="lm")
    return strip


def write(
    workdir: Path, pictures: Callable[[str], Sequence[np.ndarray]], originals: Callable[[str], np.ndarray]
) -> Path:
    """Writes `report.html`, `overlays.png` and `curves.png` into the workdir; returns the path of the page.

    Args:
      workdir: holds `config.json`, `metrics.json`, `segmentation.csv` and, if there are any, `log.csv`,
        `twins.csv` and `split.csv`.
      pictures: image name -> `[H, W, 3]` uint8 picture, `[H, W]` annotated and `[H, W]` predicted classes; called for
        the few that are shown.
      originals: image name -> picture, also of those that were trained on.
    """
    metrics = parts.json_of(workdir / "metrics.json")
    scores = segmentation.read(workdir / "segmentation_metrics.csv")
    panels = list(_panels(scores, metrics["classes"], pictures))
    files.write_bytes(workdir / "overlays.png", parts.png_bytes(overlays.montage(panels, SIDE, legend)))
    parts.save(curves.training(parts.log(workdir / "log.csv")), workdir / "curves.png")
    config, split = parts.json_of(workdir / "config.json"), parts.rows(workdir / "split.csv")
    page = parts.page(
        "segmentation.html",
        name=workdir.resolve().name,
        metrics=metrics,
        rows=rows(metrics),
        words=WORDS,
        shared=None,
        cautions=tables.cautions(metrics),
        pairs=pairs.read(workdir, {row["image"] for row in split}, set(scores.names["image"].tolist()), originals),
        versions_line=versions.line(metrics.get("versions", {})),
        subjects=len(set(scores.names["subject"].tolist())),
        counts=parts.counts(split),
        curves=parts.png(workdir / "curves.png"),
        groups={group: [(p, parts.jpeg(p.image)) for p in panels if p.group == group] for group in metrics["classes"]},
        legend=parts.jpeg(legend(440)),
        config=dict(parts.flat(config)),
    )
    path = workdir / "report.html"
    files.write_text(path, page)
    return path


def _panels(
    scores: segmentation.Scores, classes: Mapping, pictures: Callable[[str], Sequence[np.ndarray]]
) -> Iterator[overlays.Panel]:
    """Of each domain the best, the median and the worst picture by its mean Dice."""
    for domain in classes:
        mine = scores.of(domain)
        images, place = np.unique(scores.names["image"][mine], return_inverse=True)
        dice = scores.values["dice"][mine]
        told = np.isfinite(dice)
        sums, counts = (np.bincount(place[told], w, len(images)) for w in (dice[told], None))
        mean = np.divide(sums, counts, out=np.full(len(images), np.nan), where=counts > 0)
        for indices in overlays.choose(-mean, each=1).values():
            for i in indices:
                picture, true, found = pictures(str(images[i]))
                caption = f"Dice {cell('dice', mean[i])} %"
                yield overlays.Panel(domain, str(images[i]), caption, draw(picture, found, true))
