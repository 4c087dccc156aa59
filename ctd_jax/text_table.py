"""Tables as plain text, for the terminal."""

import re
from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], layout: str, *, rule: bool = False) -> list[str]:
    """The lines of a table with aligned columns.

    Args:
      rows: the cells of each row, one for each column.
      layout: for each column its side, `<` or `>`, after the spaces that come before the column: `"  <  >  >"`.
      rule: whether a line of dashes follows the first row, which then is the header.
    """
    columns = re.findall("( *)([<>])", layout)
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (
            gap + (cell.ljust(width) if side == "<" else cell.rjust(width))
            for cell, width, (gap, side) in zip(row, widths, columns, strict=True)
        )
        lines.append("".join(cells).rstrip())
    if rule:
        lines.insert(1, "-" * max(map(len, lines)))
    return lines
