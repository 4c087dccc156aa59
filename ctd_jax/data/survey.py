"""A look through the pictures of a folder: their grey range, and what people should know of them."""

import contextlib
import dataclasses
import io
import json
import logging
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import IO, TYPE_CHECKING

import numpy as np

from ctd_jax import files
from ctd_jax.data import grey_range, pictures
from ctd_jax.data.prefetch import map_in_threads, progress

if TYPE_CHECKING:
    from ctd_jax.data.builder import PreparedPictures

_log = logging.getLogger(__name__)
FILE = "grey-1.json"  # beside the prepared pictures; another rule for the range takes another number
FLAT = 1 / 16  # of the range: a picture whose values spread over less has little contrast left
MIDDLE = (5, 95)  # per cent: what counts as spread


@dataclasses.dataclass(frozen=True)
class Seen:
    """What is known of one picture; only name and note, if it has 8 bits.

    Attributes:
      name: for messages.
      note: see `pictures.Stored`.
      kind: "integer" or "float"; "": 8 bits.
      bounds: see `grey_range.bounds`.
      extremes: its lowest and highest value.
      spread: between its 5th and 95th percentile.
    """

    name: str
    note: str
    kind: str = ""
    bounds: grey_range.Range = (0.0, 0.0)
    extremes: grey_range.Range = (0.0, 0.0)
    spread: float = 0.0


def look(file: IO[bytes], name: str) -> Seen:
    """What is known of the picture in a file; of one of 8 bits, the head alone is read.

    Raises:
      UserError: where `pictures.decode` does.
    """
    deep, note = pictures.is_deep(file, name)
    if not deep:
        return Seen(name, note)
    file.seek(0)
    return of_values(pictures.read(file.read(), name).values, name, note)


def of_values(values: np.ndarray, name: str, note: str = "") -> Seen:
    """What is known of a picture that is read: `[H, W]` or `[H, W, 3]`."""
    if values.dtype == np.uint8:
        return Seen(name, note)
    kind, numbers = grey_range.kind(values), values[np.isfinite(values)]
    if not numbers.size:
        return Seen(name, note, kind)
    low, high = np.percentile(numbers.ravel()[:: max(1, numbers.size // grey_range.SAMPLE)], MIDDLE)
    extremes = float(numbers.min()), float(numbers.max())
    return Seen(name, note, kind, grey_range.bounds(values), extremes, float(high - low))


def ranges(seen: Sequence[Seen]) -> dict[str, grey_range.Range]:
    """The grey range of each kind of picture among them."""
    of_kind = {kind: [one.bounds for one in seen if one.kind == kind] for kind in ("integer", "float")}
    return {kind: grey_range.shared(bounds, kind) for kind, bounds in of_kind.items() if bounds}


def remarks(seen: Sequence[Seen], grey: grey_range.Grey) -> list[str]:
    """What people should know, one line for each kind of finding with the first picture of it."""
    several = [one for one in seen if one.note]
    lines = [f"{_count(several)} more than one picture: {several[0].name} has {several[0].note}"] if several else []
    for kind, (low, high) in grey.items():
        mine = [one for one in seen if one.kind == kind]
        range_ = f"the grey range {low:g} to {high:g} of pictures of more than 8 bits ({kind})"
        mostly = [one for one in mine if _beyond(one.bounds, (low, high))]
        single = [one for one in mine if _outside(one.extremes, (low, high)) and one not in mostly]
        flat = [one for one in mine if one.spread < FLAT * (high - low) and one not in mostly]
        for found, what in (
            (mostly, f"much beyond {range_}, which becomes black or white; store all pictures in one way"),
            (single, f"a few pixels beyond {range_}, which become black or white"),
            (flat, f"little contrast in {range_}: nine in ten pixels lie within a sixteenth of it, so little is to be "
             "seen; store all pictures in one way, with values that fill it"),
        ):  # fmt: skip
            if found:
                lowest, highest = found[0].extremes
                lines.append(f"{_count(found)} {what} (first {found[0].name}, values {lowest:g} to {highest:g})")
    return lines


def _count(found: Sequence[Seen]) -> str:
    return f"{len(found)} {'files have' if len(found) > 1 else 'file has'}"


def _outside(found: grey_range.Range, range_: grey_range.Range) -> bool:
    return found[0] < range_[0] or found[1] > range_[1]


def _beyond(found: grey_range.Range, range_: grey_range.Range) -> bool:
    """Whether values go beyond a range by more than the tolerance with which it was found."""
    low, high = range_
    return found[0] < low - grey_range.UNDERSHOOT * (high - low) or found[1] > grey_range.OVERSHOOT * high


def prepared(
    encoded: "PreparedPictures",
    names: Sequence[str],
    groups: Sequence[str],
    *,
    folder: pathlib.Path,
    root: pathlib.Path,
) -> dict[str, grey_range.Grey]:
    """Group -> grey range of its prepared pictures; found once, then read from `FILE`. Warns of what `remarks` says.

    Args:
      encoded: the examples of `builder.pictures`.
      names: of the pictures, for messages.
      groups: of each picture; those of a group share a range.
      folder: where the prepared pictures lie.
      root: the user's folder, for messages.
    """
    path = folder / FILE
    try:
        known = json.loads(path.read_text("utf-8"))
        grey, lines = known["grey"], known["remarks"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        grey, lines = _survey(lambda i: look(io.BytesIO(encoded[i]["picture"]), names[i]), groups)
        with contextlib.suppress(OSError):  # a cache of others may be read-only
            files.write_text(path, json.dumps({"grey": grey, "remarks": lines}, indent=1))
    for line in lines:
        _log.warning("%s: %s", root, line)
    return {group: {kind: tuple(pair) for kind, pair in one.items()} for group, one in grey.items()}


def _survey(look_at: Callable[[int], Seen], groups: Sequence[str]) -> tuple[dict[str, grey_range.Grey], list[str]]:
    looks: Iterable[Seen] = progress(map_in_threads(look_at, range(len(groups))), "grey range", len(groups))
    seen = list(looks)
    grey: dict[str, grey_range.Grey] = {}
    lines: list[str] = []
    for group in dict.fromkeys(groups):
        mine = [one for one, its_group in zip(seen, groups, strict=True) if its_group == group]
        grey[group] = ranges(mine)
        lines += [f"{group}: {line}" if group else line for line in remarks(mine, grey[group])]
    return grey, lines
