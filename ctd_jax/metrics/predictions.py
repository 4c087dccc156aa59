"""The table of predictions: one row per picture and landmark, and its csv."""

import csv
import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ctd_jax import files
from ctd_jax.errors import UserError

COLUMNS = ("image", "subject", "landmark", "x", "y", "true_x", "true_y", "error_px", "error_mm", "confidence")
SPREAD = "spread_px"  # a further column, where several networks were averaged
MM = ("x_mm", "y_mm")  # further columns of new pictures whose spacing is known: x and y times the mm of a pixel
AT_DETECTOR = ("x_mm_at_detector", "y_mm_at_detector", "radius_mm_at_detector")  # instead, where mm are no others
TRUST = ("radius_px", "radius_mm", "unlike")  # further columns, which older tables lack
PRESENT = "present"  # a further column, where the run learned whether landmarks are there
EVERY_COLUMN = (*COLUMNS, SPREAD, *TRUST, PRESENT, *MM, *AT_DETECTOR)  # in their order
_THREE = ("x", "y", "true_x", "true_y", SPREAD, "unlike")  # columns with 3 decimals; those in mm have `digits`, the
# others 4. 0.0005 px is far below what anybody can annotate
_REQUIRED = ("image", "landmark")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """N pictures x K landmarks; coordinates are (x, y) in pixels of the original picture, NaN where unknown."""

    images: np.ndarray  # [N] str, unique
    subjects: np.ndarray  # [N] str; "" where unknown: such a picture counts as one subject
    landmarks: np.ndarray  # [K] str, unique
    xy: np.ndarray  # [N, K, 2]
    true_xy: np.ndarray  # [N, K, 2], NaN where not annotated
    error_px: np.ndarray  # [N, K] Euclidean distance, NaN where not annotated
    error_mm: np.ndarray  # [N, K] the same in mm, NaN also where the spacing is unknown
    confidence: np.ndarray  # [N, K], NaN where unknown
    spread_px: np.ndarray  # [N, K] root mean square distance of several networks' points from their mean, `xy`; NaN:
    # the points are of one network
    radius_px: np.ndarray  # [N, K] of the circle about `xy` that holds the true point with 90 % probability, see
    # `trust.radius`; NaN where the run can't tell
    radius_mm: np.ndarray  # [N, K] the same in mm, by the longer side of a pixel; NaN also where the spacing is unknown
    unlike: (
        np.ndarray
    )  # [N] above 1: the picture is unlike those of the training, see `trust.unlike`; NaN where unknown
    present: np.ndarray  # [N, K] probability that the landmark is in the picture; NaN: the run didn't learn that

    @classmethod
    def from_points(
        cls,
        images: Sequence[str],
        subjects: Sequence[str],
        landmarks: Sequence[str],
        xy: np.ndarray,
        *,
        true_xy: np.ndarray | None = None,
        spacing: np.ndarray | None = None,
        confidence: np.ndarray | None = None,
        spread_px: np.ndarray | None = None,
        radius_px: np.ndarray | None = None,
        unlike: np.ndarray | None = None,
        present: np.ndarray | None = None,
    ) -> "Predictions":
        """The table of N pictures and K landmarks, with its errors computed.

        Args:
          images, subjects: N names each.
          landmarks: K names.
          xy: `[N, K, 2]` predicted points (x, y), pixels of the original picture.
          true_xy: `[N, K, 2]` annotated points, NaN where not annotated (None: none is).
          spacing: `[N, 2]` mm per pixel along x and y, NaN where unknown (None: unknown everywhere).
          confidence: `[N, K]` (None: unknown).
          spread_px: `[N, K]` (None: the points are of one network).
          radius_px: `[N, K]` (None: unknown).
          unlike: `[N]` (None: unknown).
          present: `[N, K]` (None: unknown).

        Raises:
          ValueError: shapes that do not fit.
        """
        n, k = len(images), len(landmarks)

        def array(values: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
            found = np.full(shape, np.nan) if values is None else np.asarray(values, np.float64)
            if found.shape != shape:
                raise ValueError(f"expected an array of shape {shape}, found {found.shape}")
            return found

        xy, true_xy = array(xy, (n, k, 2)), array(true_xy, (n, k, 2))
        offset, spacing = xy - true_xy, array(spacing, (n, 2))
        return cls(
            images=np.array(images, dtype=str),
            subjects=np.array(subjects, dtype=str),
            landmarks=np.array(landmarks, dtype=str),
            xy=xy,
            true_xy=true_xy,
            error_px=np.linalg.norm(offset, axis=-1),
            error_mm=np.linalg.norm(offset * spacing[:, None, :], axis=-1),
            confidence=array(confidence, (n, k)),
            spread_px=array(spread_px, (n, k)),
            radius_px=array(radius_px, (n, k)),
            radius_mm=array(radius_px, (n, k)) * spacing.max(axis=1, keepdims=True),
            unlike=array(unlike, (n,)),
            present=array(present, (n, k)),
        )

    def rows(self, chosen: np.ndarray) -> "Predictions":
        """The pictures at the indices, or where the booleans are true, of `chosen`."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "landmarks"]
        return dataclasses.replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def columns(self, chosen: np.ndarray) -> "Predictions":
        """The landmarks at the indices, or where the booleans are true, of `chosen`."""
        of_pictures = ("images", "subjects", "unlike")
        names = [field.name for field in dataclasses.fields(self) if field.name not in (*of_pictures, "landmarks")]
        of_points = {name: getattr(self, name)[:, chosen] for name in names}
        return dataclasses.replace(self, landmarks=self.landmarks[chosen], **of_points)

    def masked(self, kept: np.ndarray) -> "Predictions":
        """The table without what is said of the points where `kept`, `[K]` or `[N, K]`, is false: they are NaN."""
        of_points = ("error_px", "error_mm", "confidence", "spread_px", "radius_px", "radius_mm", "present")
        values = {name: np.where(kept, getattr(self, name), np.nan) for name in of_points}
        return dataclasses.replace(self, xy=np.where(kept[..., None], self.xy, np.nan), **values)


def concatenate(tables: Sequence[Predictions]) -> Predictions:
    """One table of the pictures of several, which have the same landmarks."""
    rows = [f.name for f in dataclasses.fields(Predictions) if f.name != "landmarks"]
    return dataclasses.replace(tables[0], **{name: np.concatenate([getattr(t, name) for t in tables]) for name in rows})


def write_predictions(
    path: str | os.PathLike, table: Predictions, spacing: np.ndarray | None = None, *, at_detector: bool = False
) -> None:
    """Writes one row per picture x landmark, an empty cell where unknown, in place of a file already there.

    Args:
      path: of the csv file.
      table: of N pictures.
      spacing: `[N, 2]` mm per pixel, NaN where unknown: `MM` are written too, and `radius_mm`; None: they are not.
      at_detector: these are mm at the detector: `AT_DETECTOR` are written instead.
    """
    columns = columns_of(table, spacing, at_detector=at_detector)
    files.write_csv(path, columns, rows_of(table, columns, spacing, at_detector=at_detector))


def columns_of(table: Predictions, spacing: np.ndarray | None, *, at_detector: bool = False) -> tuple[str, ...]:
    """The columns of `write_predictions`, with the same arguments."""
    further = (() if np.isnan(table.spread_px).all() else (SPREAD,)) + TRUST
    further += () if np.isnan(table.present).all() else (PRESENT,)
    in_mm: tuple[str, ...] = AT_DETECTOR if at_detector else MM
    return (*COLUMNS, *further, *(() if spacing is None else in_mm))


def rows_of(
    table: Predictions, columns: Sequence[str], spacing: np.ndarray | None, *, at_detector: bool = False
) -> Iterator[list[str]]:
    """The rows of `write_predictions`, with the same arguments, in these columns."""
    unlike = np.broadcast_to(table.unlike[:, None], table.error_px.shape)
    names = ("error_px", "error_mm", "confidence", SPREAD, "radius_px", "radius_mm", PRESENT)
    of = {name: getattr(table, name) for name in names} | {"unlike": unlike}
    for prefix, xy in (("", table.xy), ("true_", table.true_xy)):
        of |= {f"{prefix}x": xy[..., 0], f"{prefix}y": xy[..., 1]}
    if spacing is not None:
        x, y, radius = AT_DETECTOR if at_detector else (*MM, "radius_mm")
        mm = table.xy * spacing[:, None]
        of |= {x: mm[..., 0], y: mm[..., 1], radius: table.radius_px * spacing.max(axis=1, keepdims=True)}
    numbers = columns[3:]
    cell_of = [digits if "_mm" in name else "{:.3f}".format if name in _THREE else "{:.4f}".format for name in numbers]
    values = np.stack([of[name] for name in numbers], axis=-1)  # [N, K, columns]
    for image, subject, of_image in zip(table.images, table.subjects, values, strict=True):
        for landmark, row in zip(table.landmarks, of_image, strict=True):
            cells = ("" if math.isnan(v) else cell(v) for v, cell in zip(row, cell_of, strict=True))
            yield [*map(files.cell, (image, subject, landmark)), *cells]


def digits(value: float) -> str:
    """A number of mm, or of what is measured: four decimals, below 1 six significant digits, as a cell is 0.01 mm long;
    empty where it is NaN."""
    value = round(value, 12)  # less is what computing leaves of 0
    if math.isnan(value):
        return ""
    return f"{value:.4f}" if value == 0 or abs(value) >= 1 else f"{value:.6g}"


def read_rows(
    path: str | os.PathLike, columns: Sequence[str], optional: Sequence[str] = ()
) -> list[tuple[int, list[str]]]:
    """The rows of a table that the evaluation of a run writes, each with the number of its line in the file.

    Args:
      path: of the table.
      columns: its header.
      optional: columns that may follow, any of them in this order; the cells of those that don't are empty.

    Raises:
      UserError: no such file, one that is no csv in UTF-8, another header, a row with more or fewer cells.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            rows = [(reader.line_num, row) for row in reader if row]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. It is written by the evaluation of a run.") from None
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError(f"{path}: expected a table in UTF-8 as a run writes it ({error}); evaluate again.") from error
    follow = [name for name in optional if name in header]
    if header != [*columns, *follow]:
        found = ",".join(header)[:200] or "nothing"
        raise UserError(f"{path}, line 1: expected the columns {','.join(columns)}, found {found}.")
    for line, row in rows:
        if len(row) != len(header) or any("\0" in cell for cell in row):
            count = "a NUL byte" if len(row) == len(header) else str(len(row))
            raise UserError(f"{path}, line {line}: expected {len(header)} cells, found {count}.")
    place = [header.index(name) if name in follow else None for name in optional]
    return [(line, row[: len(columns)] + ["" if i is None else row[i] for i in place]) for line, row in rows]


def read_predictions(path: str | os.PathLike) -> Predictions:
    """Reads what `write_predictions` wrote; pictures and landmarks in order of first appearance, rows in any order.

    Raises:
      UserError: see `read_rows`; a missing or second row of a picture x landmark, a picture with two subjects, a cell
        that is not a number, half a point, an error without one of its two points (or the reverse).
    """
    further = (*MM, *AT_DETECTOR)  # which x, y and a spacing give
    rows = read_rows(path, COLUMNS, (SPREAD, *TRUST, PRESENT, *further))
    lines = [(line, row[: -len(further)]) for line, row in rows]
    cells: dict[tuple[str, str], list[float]] = {}
    subjects: dict[str, str] = {}
    landmarks: dict[str, None] = {}
    for line, row in lines:
        where = f"{path}, line {line}"
        image, subject, landmark = map(files.plain, row[:3])
        if (image, landmark) in cells:
            raise UserError(f"{where}: expected one row of landmark {landmark!r} in {image!r}, found a second one.")
        if subjects.setdefault(image, subject) != subject:
            raise UserError(f"{where}: expected subject {subjects[image]!r} of {image!r} as above, found {subject!r}.")
        landmarks[landmark] = None
        cells[image, landmark] = _numbers(where, row)

    missing = next(((i, k) for i in subjects for k in landmarks if (i, k) not in cells), None)
    if missing:
        raise UserError(
            f"{path}, line {lines[-1][0]}: the file ends without a row of landmark {missing[1]!r} in {missing[0]!r}; "
            f"expected {len(subjects)} pictures x {len(landmarks)} landmarks, found {len(lines)} rows."
        )
    values = np.array([cells[i, k] for i in subjects for k in landmarks], np.float64)
    values = values.reshape(len(subjects), len(landmarks), 12)
    return Predictions(
        images=np.array(list(subjects), dtype=str),
        subjects=np.array(list(subjects.values()), dtype=str),
        landmarks=np.array(list(landmarks), dtype=str),
        xy=values[..., 0:2],
        true_xy=values[..., 2:4],
        error_px=values[..., 4],
        error_mm=values[..., 5],
        confidence=values[..., 6],
        spread_px=values[..., 7],
        radius_px=values[..., 8],
        radius_mm=values[..., 9],
        present=values[..., 11],
        unlike=values[:, 0, 10] if len(landmarks) else np.full(len(subjects), np.nan),
    )


def number(cell: str) -> float:
    """A cell of a table that the evaluation writes, NaN where it is empty; raises ValueError if it is no number."""
    value = float(cell) if cell else math.nan
    if cell and ("_" in cell or not math.isfinite(value)):
        raise ValueError(f"not a number: {cell[:50]!r}")
    return value


def _numbers(where: str, row: list[str]) -> list[float]:
    numbers = []
    for column, cell in list(zip((*COLUMNS, SPREAD, *TRUST, PRESENT), row, strict=True))[3:]:
        try:
            numbers.append(number(cell))
        except ValueError as error:
            raise UserError(
                f"{where}, column {column}: expected a number or an empty cell, found {cell[:50]!r}."
            ) from error
    for column, cell in zip(COLUMNS, row, strict=False):
        if column in _REQUIRED and not cell:
            raise UserError(f"{where}, column {column}: expected a value, found an empty cell.")
    x, y, true_x, true_y, error_px, error_mm, *_ = map(math.isnan, numbers)
    if x != y:
        raise UserError(f"{where}: expected x and y both filled or, of a landmark that is not predicted, both empty.")
    if true_x != true_y or error_px != (x or true_x) or (error_px and not error_mm):
        raise UserError(f"{where}: expected true_x, true_y and error_px all filled or, with error_mm, all empty.")
    return numbers
