"""The result of `paired.difference` in words, for the terminal."""

from collections.abc import Mapping

from ctd_jax.report import tables

MOST_LANDMARKS = 10  # shown; of more, the best and the worst half of so many


def comparison(result: Mapping) -> str:
    """Two tables as plain text: A, B and A - B of every metric, and of the landmarks where they differ most."""
    n = f"{result['n_images']} pictures, {result['n_subjects']} subjects, {result['n_points']} points"
    blind = result.get("mean_shape", {})
    measures = [(n, "", "A", "B", "A - B", "95 % interval", "p", "better", "mean shape" if blind else "")]
    for key, row in result["differences"].items():
        words = tables.quantity(key, result)
        measures.append((words.label, words.unit, *_cells(words, row), _better(key, row), _number(words, key, blind)))

    key = tables.main_key(result["differences"])
    words = tables.quantity(key, result)
    known = [(name, rows[key]) for name, rows in result["per_landmark"].items() if key in rows]
    known.sort(key=lambda item: item[1]["difference"])
    shown = known if len(known) <= MOST_LANDMARKS else known[: MOST_LANDMARKS // 2] + known[-MOST_LANDMARKS // 2 :]
    title = f"{words.label} by landmark" + (f", {len(shown)} of {len(known)}" if len(shown) < len(known) else "")
    landmarks = [(title, "", "A", "B", "A - B", "95 % interval", "p", "better")]
    landmarks += [(name, words.unit, *_cells(words, row), _better(key, row)) for name, row in shown]

    notes = [
        "better: where the interval leaves out 0; p: two-sided; over the subjects (jackknife, Student's t).",
        "Both speak of other subjects, not of other trainings: two seeds of one method can differ as clearly.",
        f"Landmarks are not corrected for their number: of {len(known)}, chance alone marks {len(known) / 20:.1f}.",
    ]
    return "\n\n".join([_table(measures), _table(landmarks), "\n".join(notes)])


def _number(words: tables.Quantity, key: str, of: Mapping) -> str:
    return words.number(of[key]) if key in of else ""


def _cells(words: tables.Quantity, row: Mapping) -> tuple[str, ...]:
    p = f"{row['p']:.4f}" if "p" in row else ""
    return (*(words.number(row[key]) for key in ("a", "b", "difference")), words.range(row.get("ci95")), p)


def _better(key: str, row: Mapping) -> str:
    low, high = row.get("ci95", (0, 0))
    if low <= 0 <= high:
        return ""
    higher_is_better = key.startswith(("auc@", "sdr_"))
    return "A" if (low > 0) == higher_is_better else "B"


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for label, unit, *numbers in rows:
        cells = [f"{label:<{widths[0]}}", f"{unit:<{widths[1]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(numbers, widths[2:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)
