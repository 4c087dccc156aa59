"""The result of `paired.difference` as text, for the terminal."""

from collections.abc import Mapping
from typing import Any

from ctd_jax.report import tables
from ctd_jax.text_table import text_table

MAX_LANDMARKS = 10  # that are shown; where there are more, half of these are the best and half the worst
HEADER = ("", "A", "B", "A - B", "95 % interval", "p", "better")  # of the columns after the first


def comparison(result: Mapping[str, Any]) -> str:
    """Two tables as plain text: A, B and A - B of every metric, and of the landmarks where they differ most."""
    n = f"{result['n_images']} pictures, {result['n_subjects']} subjects, {result['n_points']} points"
    shape = result.get("mean_shape", {})
    measures = [[n, *HEADER, "mean shape" if shape else ""]]
    for key, row in result["differences"].items():
        words = tables.quantity(key, result)
        baseline = words.number(shape[key]) if key in shape else ""
        measures.append([words.label, *_cells(key, words, row), baseline])

    key = tables.main_key({**result, **result["differences"]})
    words = tables.quantity(key, result)
    known = [(name, rows[key]) for name, rows in result["per_landmark"].items() if key in rows]
    known.sort(key=lambda item: item[1]["difference"])
    half = MAX_LANDMARKS // 2
    shown = known if len(known) <= MAX_LANDMARKS else known[:half] + known[-half:]
    title = f"{words.label} by landmark" + (f", {len(shown)} of {len(known)}" if len(shown) < len(known) else "")
    landmarks = [[title, *HEADER], *([name, *_cells(key, words, row)] for name, row in shown)]

    notes = [
        "better: where the interval leaves out 0; p: two-sided; over the subjects (jackknife, Student's t).",
        "Both are over subjects, not over trainings: two seeds of one method can differ as clearly.",
        f"Landmarks are not corrected for their number: of {len(known)}, chance alone marks {len(known) / 20:.1f}.",
    ]
    columns = "<  <  >  >  >  >  >  >"
    parts = [text_table(measures, columns + "  >", rule=True), text_table(landmarks, columns, rule=True), notes]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _cells(key: str, words: tables.Quantity, row: Mapping[str, Any]) -> list[str]:
    """The cells of `HEADER` for one metric."""
    p = f"{row['p']:.4f}" if "p" in row else ""
    numbers = [words.number(row[one]) for one in ("a", "b", "difference")]
    return [words.unit, *numbers, words.range(row.get("ci95")), p, _better(key, row)]


def _better(key: str, row: Mapping[str, Any]) -> str:
    """Which of A and B is better, "" where the interval holds 0."""
    low, high = row.get("ci95", (0, 0))
    if low <= 0 <= high:
        return ""
    higher_is_better = key.startswith(("auc@", "sdr_"))
    return "A" if (low > 0) == higher_is_better else "B"
