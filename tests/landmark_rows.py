"""Changes of a landmark folder's table, for the tests of what a check finds."""

import csv
import pathlib


def read(root: pathlib.Path) -> list[dict[str, str]]:
    with (root / "landmarks.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def change(root: pathlib.Path, changes: dict[int, dict[str, str]], drop: tuple[str, ...] = ()) -> None:
    """Writes cells of some rows anew; `changes`: row, from 0 -> column -> cell; `drop`: columns that are left out."""
    table = read(root)
    for row, cells in changes.items():
        table[row] |= cells
    columns = [name for name in dict.fromkeys(name for row in table for name in row) if name not in drop]
    with (root / "landmarks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
