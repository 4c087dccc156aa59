"""Near-identical pictures in the report: how many of them flatter the result, and the first pairs side by side."""

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from PIL import Image

from ctd_jax.report import parts

SHOWN = 6  # pairs
SIDE = 300  # pixels of the longer side of a picture


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The pairs of twins.csv, as the report shows them."""

    total: int
    flattering: int  # evaluated pictures that were trained or validated on under another name
    shown: list[tuple[dict[str, str], str, str]]  # row, and both pictures as data


def read(
    workdir: Path, known: Collection[str], evaluated: Collection[str], pictures: Callable[[str], np.ndarray]
) -> Pairs:
    """The pairs of a run, those that flatter the result first.

    Args:
      workdir: of the run; has `twins.csv` if there are any pairs.
      known: names of the pictures of split.csv; a pair with another picture, of a domain that helps, is left out.
      evaluated: names of the evaluated pictures.
      pictures: image name -> `[H, W, 3]` uint8.
    """
    config = workdir / "config.json"
    helping = parts.json_of(config).get("data", {}).get("helping", ()) if config.exists() else ()
    named = (_named(row, known, helping) for row in parts.rows(workdir / "twins.csv"))
    rows = [row for row in named if row]
    flattering = [row for row in rows if row["split_a"] in ("train", "val") and row["image_b"] in evaluated
                  and row["split_a"] != row["split_b"]]  # fmt: skip
    first = [*flattering, *(row for row in rows if row not in flattering)][:SHOWN]
    shown = [(row, _small(pictures(row["image_a"])), _small(pictures(row["image_b"]))) for row in first]
    return Pairs(len(rows), len({row["image_b"] for row in flattering}), shown)


def _named(row: dict[str, str], known: Collection[str], helping: Collection[str]) -> dict[str, str] | None:
    """`row` with the names of `known`, which may lack the domain; None where a picture is not among them, or belongs to
    a domain that helps."""
    if any(row[key].partition("/")[0] in helping for key in ("image_a", "image_b")):
        return None
    short = row | {key: row[key].partition("/")[2] for key in ("image_a", "image_b")}
    return next((one for one in (row, short) if one["image_a"] in known and one["image_b"] in known), None)


def _small(picture: np.ndarray) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    return parts.jpeg(image)
