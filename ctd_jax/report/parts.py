"""Parts of the report's pages: the files of a run, and pictures as data in a page."""

import base64
import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ctd_jax import files, versions
from ctd_jax.report import tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def of_run(workdir: Path, metrics: Mapping[str, Any], split: list[dict[str, str]]) -> dict[str, Any]:
    """What `run.html` shows of every run.

    Args:
      workdir: has `config.json`.
      metrics: what `metrics.json` holds.
      split: rows of `split.csv`.
    """
    return {
        "metrics": metrics,
        "cautions": tables.cautions(metrics),
        "counts": counts(split),
        "config": dict(flat(json_of(workdir / "config.json"))),
        "versions_line": versions.line(metrics.get("versions", {})),
    }


def json_of(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a run.

    Raises:
      UserError: it is missing or damaged.
    """
    return files.read_json(path, "start the run's command again, which evaluates anew")


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, the cells as `files.cell` was given them; none where it is absent."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: files.plain(cell) for key, cell in row.items()} for row in csv.DictReader(file)]


def log(path: Path) -> dict[str, list[float]]:
    """Columns of the training log, NaN for an empty cell."""
    found = rows(path)
    return {name: [float(row[name] or math.nan) for row in found] for name in (found[0] if found else ())}


def counts(split: list[dict[str, str]]) -> list[tuple[str, int, int]]:
    """Name, number of pictures and number of subjects of each split, in the order of the file."""
    pictures = Counter(row["split"] for row in split)
    subjects = Counter(name for name, _ in {(row["split"], row["subject"]) for row in split})
    return [(name, n, subjects[name]) for name, n in pictures.items()]


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and value, as text, of each setting."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def save(figure: "Figure", path: Path) -> None:
    """Writes a plot as PNG."""
    layout = figure.get_layout_engine()
    if layout and figure.axes:  # here, because `savefig` would draw the whole figure twice for it
        layout.execute(figure)
        figure.set_layout_engine("none")
    with files.writing(path, binary=True) as file:
        figure.savefig(file, format="png")


def png_bytes(image: Image.Image) -> bytes:
    """A picture as the content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def png(path: Path) -> str:
    """The address of a PNG file that is part of the page."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def jpeg(image: Image.Image, quality: int = 90) -> str:
    """The address of a picture, as JPEG, that is part of the page; `quality`: Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return jpeg_file(buffer.getvalue())


def jpeg_file(content: bytes) -> str:
    """The address of a JPEG file, whose content is given, that is part of the page."""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()
