"""What other tools would say of a table (`metrics.peers`), beside ours, for JSON and for the terminal."""

import math
from collections.abc import Mapping
from typing import Any

from ctd_jax.metrics import Predictions, ratios
from ctd_jax.metrics.peers import PEERS, Result
from ctd_jax.text_table import text_table


def content(tool: str, table: Predictions, result: Result) -> dict[str, Any]:
    """The numbers of a tool, each with ours that is nearest in meaning, ready for JSON.

    Args:
      tool: a key of `PEERS`.
      table: that it is asked about.
      result: what it says.
    """
    peer, numbers = PEERS[tool], []
    for number in result.numbers:
        row: dict[str, Any] = {"name": number.name, "unit": number.unit}
        if math.isfinite(number.value):
            row["value"] = number.value
        ours = _ours(number.ours, table, result.normalizer)
        if ours is not None:
            row |= {"ours": ours * (100 if number.unit == "%" else 1), "key": number.ours}
        numbers.append(row)
    return {
        "source": peer.source,
        "numbers": numbers,
        "notes": result.notes,
        "differs": peer.differs,
        "left_out": peer.left_out,
    }


def text(tools: Mapping[str, Mapping[str, Any]]) -> str:
    """A table for each tool, and below it what makes its numbers differ from ours.

    Args:
      tools: name -> `content`.
    """
    parts = []
    for tool, found in tools.items():
        rows = [("", tool, "", "ours", "")]
        for row in found["numbers"]:
            ours = _number(row["ours"], row["unit"]) if "ours" in row else ""
            rows.append((row["name"], _number(row.get("value"), row["unit"]), row["unit"], ours, row.get("key", "")))
        lines = [
            found["source"],
            *text_table(rows, "<  > <  >  <", rule=True),
            f"Differs from ours: {found['differs']}",
        ]
        lines += [f"Note: {note}." for note in found["notes"]]
        lines += [f"Not from this table: {found['left_out']}."] if found["left_out"] else []
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _ours(key: str, table: Predictions, normalizer: tuple[str, str] | None) -> float | None:
    """The value of one key of `metrics.summarize`; None: unknown, or no key."""
    end = float(key.partition("@")[2] or 1)
    radii = [float(key.removeprefix("sdr_le_").removesuffix("mm"))] if key.startswith("sdr_le_") else []
    terms = ratios(table, normalizer=normalizer, thresholds={"nme": end, "mm": 1, "px": 1}, radii_mm=radii)
    if key not in terms:
        return None
    above, below = (part.sum() for part in terms[key])
    return float(above / below) if below else None


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if unit == "%" else f"{value:.3f}" if unit else f"{value:.4f}"
