"""Annotations in another unit or convention, found before anything is trained on them.

Thresholds come from 400 cephalograms (ISBI 2015), 1002 and 4232 faces (FG-NET, YouTube Faces), 620 heads in fetal
ultrasound and the faces that are drawn here, none of which may be warned of:

- Shapes. A row's residual to the median shape (`shapes.fit`) is there at most 0.74 as it is, and 0.86 or more where x
  and y are swapped, y is turned or left and right are exchanged, at least 1.3 times its own. A row is named where its
  own is above `MIN_RESIDUAL` and that of the change below `MAX_RATIO` times its own. Rows are moved and scaled to fit;
  where the pictures are turned every way (ultrasound), which `UPRIGHT` tells, turned as well, and then one word covers
  all these changes.
- Size of a row's points as a share of the picture's: 0.4 to 2.5 times the median; named beyond `OTHER_SIZE` times.
  Percentages may be nearer than that: named where the points lie within 100 pixels, a fifth of the picture from where
  they use to lie, half as large or less, and at their place and size if they are taken as percentages.
- Where the pictures' sizes vary by `VARIES` (YouTube Faces: 0.18), the centres of the points vary half as much as a
  share of the picture as they do in pixels; percentages do the contrary. Named beyond `UNMOVED`.
- Spacing 0.4 to 1.4 times the median; named beyond `OTHER_SPACING` times. From end to end the points span 40 to 240 mm;
  named outside `SPAN_MM`.

Equal rows of points occur in these sets only where the pictures are equal too.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ctd_jax.data import shapes, twins
from ctd_jax.data.faults import Faults
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)
MARKS = ((-1.0, -1.0), (0.0, 0.0))  # what some programs write for a point that is not there
MIN_RESIDUAL, MAX_RATIO = 0.5, 0.6
UPRIGHT = 40  # degrees, of nine tenths of the rows
OTHER_SIZE, OTHER_SPACING = 5.0, 20.0
VARIES, UNMOVED = 0.1, 1.3
SPAN_MM = (1.0, 2000.0)
FEW = 5  # rows that are too few to tell what is usual
HIGH = {"eye", "eyes", "pupil", "brow", "eyebrow", "forehead", "glabella", "nasion", "orbitale", "sella"}
LOW = {"chin", "mouth", "lip", "lips", "menton", "gnathion", "pogonion"}
ABOVE = {"top": "bottom", "upper": "lower", "superior": "inferior"}


def without_marks(xy: np.ndarray, names: Sequence[str], where: Sequence[str]) -> np.ndarray:
    """`xy` with NaN for points at exactly (-1, -1) or (0, 0), which mean that there is none; they are warned of.

    Args:
      xy: `[N, K, 2]`.
      names: of the K landmarks.
      where: file and row of each of the N.
    """
    xy = xy.copy()
    for mark in MARKS:
        marked = (xy == mark).all(-1)
        if marked.any():
            row, landmark = np.argwhere(marked)[0]
            _log.warning(
                "%d points at (%g, %g) are taken as not annotated, first %s: %s; empty their two cells, or, if a "
                "landmark does lie there, write %g.01",
                marked.sum(), *mark, where[row], names[landmark], mark[0],
            )  # fmt: skip
            xy[marked] = np.nan
    return xy


def check_points(points: np.ndarray, names: Sequence[str], at: str, faults: Faults) -> None:
    """Adds a fault for each of the `points`, `[K, 2]`, that has one coordinate only; it becomes NaN, as do infinite
    ones."""
    half = np.isnan(points).sum(-1) == 1
    for i in np.flatnonzero(half).tolist():
        message = f"{at}: {names[i]} has only one of its two coordinates; fill both cells or empty both"
        faults.add("half a point", message)
    points[half | np.isinf(points).any(-1)] = np.nan


def check(table: Any, split_of: Sequence[str], looks: np.ndarray) -> None:
    """Warns of rows whose points seem to be in another unit or convention: for each kind how many, the first, and why.

    Args:
      table: a `LandmarkTable`.
      split_of: the split of each row.
      looks: `[N]` of `twins.LOOK`.

    Raises:
      UserError: the coordinates are fractions of the pictures.
    """
    size = looks["size"].astype(float)
    if np.isnan(table.xy).all():
        return
    _refuse_fractions(table, size)
    found = [
        *_percentages(table.xy, size),
        *_scales(table.xy, size),
        *_shapes(table.xy, table.landmarks),
        *_boxes(table.xy, table.boxes),
        *_spacings(_ends(table.xy), table.spacing, "the landmarks"),
        *_copies(table, looks["thumbnail"]),
    ]
    for rows, text in found:
        _log.warning("%s: %s", _which(rows, table.title, table.where, split_of), text)


def check_spacings(
    title: str, where: Sequence[str], spacing: np.ndarray, domains: Sequence[str], looks: np.ndarray
) -> None:
    """Warns of pictures whose spacing seems to be of another unit.

    Args:
      title: the file.
      where: file and row of each of N pictures.
      spacing: `[N, 2]` mm per pixel.
      domains: of each, which are compared among themselves.
      looks: `twins.LOOK` of each.
    """
    names = np.array(domains)
    for domain in dict.fromkeys(domains):
        mine = np.flatnonzero(names == domain)
        for rows, text in _spacings(looks["size"][mine], spacing[mine], "the pictures"):
            _log.warning("%s: %s", _which(mine[rows], title, where, domains), text)


def _which(rows: np.ndarray, title: str, where: Sequence[str], split_of: Sequence[str]) -> str:
    """Which rows they are, in words."""
    if len(rows) == 1:
        return where[rows[0]]
    names = np.array(split_of)
    whole = [
        name for name in dict.fromkeys(names[rows].tolist()) if (names[rows] == name).sum() == (names == name).sum()
    ]
    if len(rows) == len(names):
        return f"{title}, all {len(rows)} rows"
    which = f" (all of {', '.join(whole)})" if whole else ""
    return f"{len(rows)} rows, first {where[rows[0]]}{which}"


Finding = tuple[np.ndarray, str]  # rows, and what is the matter with them


def _refuse_fractions(table: Any, size: np.ndarray) -> None:
    known = table.xy[~np.isnan(table.xy)]
    if known.max() <= 2 and known.min() >= -1 and len(known) > 2 and size.min() >= 8:
        raise UserError(
            f"{table.title}: all landmarks of all pictures lie within the first pixels, the last "
            f"at {known.max():g}: fractions of the picture? Expected pixels of the picture: multiply x by its width "
            "and y by its height, and subtract 0.5 if 0 is the edge of the first pixel"
        )


def _percentages(xy: np.ndarray, size: np.ndarray) -> Iterator[Finding]:
    rows = np.flatnonzero(~np.isnan(xy).all((1, 2)))
    xy, size = xy[rows], size[rows]
    if np.nanmax(xy) <= 110 and np.nanmin(xy) >= -10 and size.min() >= 150:  # a tenth outside is not refused
        yield rows, f"all landmarks lie within the first {np.nanmax(xy):.0f} pixels: percentages? Expected pixels"
        return
    axes = np.flatnonzero(np.log(size).std(0) >= VARIES)
    if len(rows) < 2 * FEW or not len(axes):
        return
    centre = np.nanmean(xy, 1)[:, axes]
    raw, share = (values.std(0) / np.maximum(abs(values.mean(0)), 1e-9) for values in (centre, centre / size[:, axes]))
    if (share > UNMOVED * raw).all():
        yield (
            rows,
            "the landmarks do not move with the size of the pictures, which varies: percentages, or pixels of pictures "
            "that were resized to one size? Expected pixels of the picture as it is",
        )


def _extent(xy: np.ndarray) -> np.ndarray:
    """`[N]` root mean square distance of the points to their centre; NaN with fewer than two."""
    known = (~np.isnan(xy).any(-1)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.nansum(xy, 1) / known[:, None]
        square = np.nansum((xy - centre[:, None]) ** 2, (1, 2)) / known
    return np.where(known > 1, np.sqrt(square), np.nan)


def _scales(xy: np.ndarray, size: np.ndarray) -> Iterator[Finding]:
    share = _extent(xy) / np.sqrt(size.prod(1))
    yield from _percentage_rows(xy, size, share)
    for rows, side in _far_from_median(share, OTHER_SIZE):
        yield (
            rows,
            f"the landmarks lie {OTHER_SIZE:g} times {'closer together' if side < 0 else 'further apart'} than in most "
            "pictures, or more: fractions, percentages or millimetres? Expected pixels of the picture",
        )


def _percentage_rows(xy: np.ndarray, size: np.ndarray, share: np.ndarray) -> Iterator[Finding]:
    """Single rows, among others in pixels."""
    rows = np.flatnonzero(np.isfinite(share))
    if len(rows) < FEW:
        return
    xy, size, share = xy[rows], size[rows], share[rows]
    usual, place = np.median(share), np.median(np.nanmean(xy, 1) / size, 0)
    if usual == 0:  # most rows have all points in one place
        return
    taken = xy * size[:, None] / 100
    off, off_taken = (abs(np.nanmean(points, 1) / size - place).max(1) for points in (xy, taken))
    ratio, ratio_taken = share / usual, _extent(taken) / np.sqrt(size.prod(1)) / usual
    named = (np.nanmax(xy, (1, 2)) <= 110) & (size.min(1) >= 150) & (off > 0.2) & (off_taken < off / 2)
    named &= (ratio < 0.5) & (ratio > 1 / OTHER_SIZE) & (ratio_taken > 0.5) & (ratio_taken < 2)
    if named.any() and not named.all():
        yield rows[named], "the landmarks lie as in the other pictures if they are percentages; expected pixels"


def _far_from_median(values: np.ndarray, times: float) -> Iterator[tuple[np.ndarray, int]]:
    """Rows below (-1) and above (1) the median of the positive ones by a factor."""
    known = np.isfinite(values) & (values >= 0)
    if known.sum() < FEW:
        return
    middle = np.median(values[known])
    for side, far in ((-1, values < middle / times), (1, values > middle * times)):
        if (far & known).any():
            yield np.flatnonzero(far & known), side


def _shapes(xy: np.ndarray, landmarks: Any) -> Iterator[Finding]:
    points = xy[..., 0] + 1j * xy[..., 1]
    rows = np.flatnonzero((~np.isnan(points)).sum(1) > 2)
    if len(rows) < FEW:
        return
    points = points[rows]
    factor = shapes.fit(points, shapes.median_shape(points, turned=True), turned=True)
    angles = np.degrees(abs(np.angle(factor[1][factor[0] < MIN_RESIDUAL])))
    upright = len(angles) > 0 and bool(np.quantile(angles, 0.9) < UPRIGHT)
    shape = shapes.median_shape(points, turned=not upright)
    residual = shapes.fit(points, shape, turned=not upright)[0]
    yield from _upside_down(rows, points[:: max(1, len(rows) // 2000)], landmarks.names)
    changes = _changes(points, landmarks, upright)
    changed_residuals = np.array([shapes.fit(changed, shape, turned=not upright)[0] for _, changed in changes])
    best = np.nan_to_num(changed_residuals, nan=2.0).argmin(0)
    named = (residual > MIN_RESIDUAL) & (changed_residuals[best, np.arange(len(rows))] < MAX_RATIO * residual)
    for i, (words, _) in enumerate(changes):
        mine = rows[named & (best == i)]
        if len(mine):
            yield mine, f"the landmarks lie unlike those of the other pictures, and like them where {words}"


def _changes(points: np.ndarray, landmarks: Any, upright: bool) -> list[tuple[str, np.ndarray]]:
    """What may have been done to a row, and the points without it."""
    order = landmarks.flip_order
    exchanged = points[:, list(order)] if order else -points.conj()
    if not upright:
        return [("they are mirrored: left and right exchanged, x and y swapped, or y upwards?", points.conj())]
    return [
        ("left and right are exchanged: the other side's names, or x from the right?", exchanged),
        ("x and y are swapped: y before x, or a picture that lies on its side?", points.imag + 1j * points.real),
        ("y is turned: counted from below? Expected y to run downwards, 0 in the uppermost row", points.conj()),
    ]


def _upside_down(rows: np.ndarray, points: np.ndarray, names: Sequence[str]) -> Iterator[Finding]:
    """Where the names say that the whole folder has y upwards."""
    words = [re.split(r"[\W_\d]+", name.lower()) for name in names]
    pairs = [
        (a, b)
        for a in range(len(names))
        for b in range(len(names))
        if (HIGH & {*words[a]} and LOW & {*words[b]})
        or [ABOVE.get(word, word) for word in words[a]] == words[b] != words[a]
    ]
    if not pairs:
        return
    first, second = np.transpose(pairs)
    extent = _extent(np.stack([points.real, points.imag], -1))
    points, extent = points[extent > 0], extent[extent > 0]
    steps = (points[:, second] - points[:, first]) / extent[:, None]
    if np.isnan(steps).all():
        return
    x, y = np.nanmedian(steps.real), np.nanmedian(steps.imag)
    if y < -0.2 and -y > abs(x):
        a, b = pairs[int(np.nanargmin(np.nanmean(steps.imag, 0)))]
        yield (
            rows,
            f"{names[a]} lies below {names[b]} in most of them: y counted from below? Expected y to run downwards, 0 "
            "in the uppermost row",
        )


def _ends(xy: np.ndarray) -> np.ndarray:
    """`[N, 2]` pixels between the outermost points along x and y; not positive where there are fewer than two."""
    low, high = (np.where(np.isnan(xy), fill, xy) for fill in (np.inf, -np.inf))
    return high.max(1) - low.min(1)


def _boxes(xy: np.ndarray, boxes: np.ndarray) -> Iterator[Finding]:
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    known = ~np.isnan(xy).any(-1)
    number = np.maximum(known.sum(1), 1)
    with np.errstate(invalid="ignore"):
        below = (xy < low - 1).any(-1)
        out, out_of_sizes = ((known & (below | (xy > end + 1).any(-1))).sum(1) / number for end in (high, low + high))
    sizes = (out > 0.1) & (out_of_sizes == 0)
    rows = np.flatnonzero((out >= 0.5) | sizes)
    if len(rows):
        hint = "; they lie inside if it is x, y, width and height: expected two corners" if sizes[rows].all() else ""
        yield rows, f"landmarks lie outside of their box, and what lies outside the network does not see{hint}"


def _spacings(extent: np.ndarray, spacing: np.ndarray, what: str) -> Iterator[Finding]:
    """`extent` is `[N, 2]` pixels, of what `what` says."""
    for rows, side in _far_from_median(spacing.mean(1), OTHER_SPACING):
        yield (
            rows,
            f"the spacing is {OTHER_SPACING:g} times {'smaller' if side < 0 else 'larger'} than in most rows, or more: "
            "metres, micrometres? Expected millimetres per pixel",
        )
    span = (extent * spacing).max(1)
    known = span[span > 0]
    if len(known) and not SPAN_MM[0] <= np.median(known) <= SPAN_MM[1]:
        yield (
            np.flatnonzero(span > 0),
            f"from end to end {what} span {np.median(known):.3g} mm by the spacing: metres or micrometres? Expected "
            "millimetres per pixel",
        )


def _copies(table: Any, thumbnails: np.ndarray) -> Iterator[Finding]:
    """Rows whose points are those of an earlier row, though the pictures differ."""
    first: dict[bytes, int] = {}
    copies, sources = [], []
    for i, row in enumerate(table.xy):
        if (~np.isnan(row).any(1)).sum() < 3:
            continue
        of = first.setdefault(row.tobytes(), i)
        if of != i and not twins.are_twins(thumbnails[of], thumbnails[i]):
            copies.append(i)
            sources.append(of)
    if copies:
        yield (
            np.array(copies),
            f"the same landmarks as in {table.where[sources[0]]}, of another picture; which one are they of?",
        )
