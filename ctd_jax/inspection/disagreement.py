"""Raters who can't mean the same picture or point: their mean is no place of anything.

A rater's points are compared with the mean of the others' (of the only rater's, with landmarks.csv). A picture's
distance is the median over its points, as a share of the shape's size (root mean square distance from its middle). It
is named beyond `UNUSUAL` times the median picture where something explains it: left and right exchanged, or what the
others say of another picture; else beyond `FAR` and `TIMES` times the median picture. A single point is named beyond
`FAR` and `TIMES` times the median of its landmark.

Of the two people who annotated the 400 cephalograms of ISBI 2015, no picture is named, and 7 points are. Where the rows
of one of them are exchanged between two pictures, all of 400 are named (ten
times twenty pairs), and none of the 3600 others.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.inspection.findings import Finding, Item
from ctd_jax.inspection.painting import Painter

FAR, TIMES, UNUSUAL = 0.25, 8.0, 2.0
FITS = 0.5  # of the distance as it is: what explains a picture brings its points at least so near
NAMED = 4  # landmarks that a sentence names


def findings(table: LandmarkTable, flip_order: Sequence[int] | None, painter: Painter, shown: int) -> list[Finding]:
    """What raters can't both be right about, `shown` pictures of each kind painted; nothing where there are none."""
    if table.of_raters is None:
        return []
    others = np.stack([_others(table, rater) for rater in range(table.of_raters.shape[1])], axis=1)
    distance = np.linalg.norm(table.of_raters - others, axis=-1) / _size(table.xy)[:, None, None]  # [N, R, K]
    of_picture = np.where(np.isfinite(distance).any(-1), _median(distance), np.nan)  # [N, R], NaN: nothing to compare
    everywhere = _median(of_picture.T) > FAR
    whole = [_everywhere(table, others, flip_order, everywhere)] if everywhere.any() else []
    usual_picture = float(_median(of_picture.ravel()[None])[0])
    of_picture = np.where(everywhere, 0, np.nan_to_num(of_picture))
    for i in _worst_first(of_picture.max(1), UNUSUAL * usual_picture):
        why = {r: _why(table, i, r, others, flip_order) for r in range(len(everywhere)) if not everywhere[r]}
        r = min(why, key=lambda r: (why[r][0], -of_picture[i, r]))
        if why[r][1] or of_picture[i, r] > max(FAR, TIMES * usual_picture):
            whole.append(_of_picture(table, i, r, others, why[r][1], painter if len(whole) < shown else None))
            distance[i] = 0
    usual = _median(np.moveaxis(distance, 2, 0).reshape(distance.shape[2], -1))
    far = np.where(distance > np.maximum(FAR, TIMES * usual), distance, 0)
    far[:, everywhere] = 0
    single: list[Item] = []
    for i in _worst_first(far.max((1, 2)), 0.0):
        r = int(far[i].max(-1).argmax())
        single.append(_of_points(table, i, r, far[i, r] > 0, others, painter if len(single) < shown else None))
    circles = "Circle: the rater's; cross: where the others have it."
    return [
        Finding("Raters who mean another picture or side", True, "What one says can't be of the same picture as what "
                f"the others say, so that their mean is no place of anything. {circles}", whole),
        Finding("Points that raters place far apart", False, f"Whose point is it? {circles}", single),
        Finding("Raters who disagree whether a point is there", False, "One placed it, another, who annotated the "
                "picture, left it empty. It is absent where more than half of them left it empty.",
                list(_half_placed(table))),
    ]  # fmt: skip


def _others(table: LandmarkTable, rater: int) -> np.ndarray:
    """`[N, K, 2]` the mean of the other raters; where there are none, the table."""
    assert table.of_raters is not None
    rest = np.delete(table.of_raters, rater, axis=1)
    placed = np.isfinite(rest).all(-1)
    total = np.where(placed[..., None], rest, 0).sum(1)
    number = placed.sum(1)[..., None]
    return np.where(number > 0, total / np.maximum(number, 1), np.nan) if rest.shape[1] else table.xy


def _size(xy: np.ndarray) -> np.ndarray:
    """`[N]` size of each picture's shape; the median of all where it has fewer than two points."""
    known = np.isfinite(xy).all(-1)
    number = known.sum(1)
    middle = np.where(known[..., None], xy, 0).sum(1) / np.maximum(number, 1)[:, None]
    square = np.where(known, ((xy - middle[:, None]) ** 2).sum(-1), 0).sum(1) / np.maximum(number, 1)
    size = np.where(number > 1, np.sqrt(square), np.nan)
    return np.where(size > 0, size, max(float(_median(size[None])[0]), 1e-9))


def _median(values: np.ndarray) -> np.ndarray:
    """The median over the last axis without NaN; 0 where there is nothing else."""
    known = np.isfinite(values)
    full = np.where(known, values, np.nan)
    full[~known.any(-1)] = 0
    return np.nanmedian(full, axis=-1)


def _worst_first(value: np.ndarray, above: float) -> list[int]:
    """The pictures whose `value`, `[N]`, is above that, the largest first."""
    return np.argsort(-value, kind="stable")[: int((value > above).sum())].tolist()


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """Median distance of two sets of points, px; infinite without a point of both."""
    distance = np.linalg.norm(one - other, axis=-1)
    return float(np.nanmedian(distance)) if np.isfinite(distance).any() else np.inf


def _everywhere(
    table: LandmarkTable, others: np.ndarray, flip_order: Sequence[int] | None, everywhere: np.ndarray
) -> Item:
    """Who is far from the others in most pictures: whom an exchange of the sides explains, else the farthest."""
    assert table.of_raters is not None
    of_raters, rows = table.of_raters, np.flatnonzero(everywhere).tolist()
    now = {r: _apart(of_raters[:, r], others[:, r]) for r in rows}
    order = list(flip_order or range(of_raters.shape[2]))
    then = {r: _apart(of_raters[:, r][:, order], others[:, r]) / now[r] for r in rows}
    r = min(rows, key=lambda r: (then[r], -now[r]))
    if then[r] < FITS:
        why = "left and right are exchanged"
    else:
        r = max(rows, key=lambda r: now[r])
        why = "pixels of pictures of another size, or another order of the landmarks?"
    return Item(f"{_named(table, table.landmarks.raters[r])}, in most pictures: {now[r]:.0f} px apart: {why}")


def _why(
    table: LandmarkTable, i: int, r: int, others: np.ndarray, flip_order: Sequence[int] | None
) -> tuple[float, str]:
    """What explains a rater's points of a picture, and how far apart (px) they are by that; infinity and "": nothing
    does."""
    assert table.of_raters is not None
    mine = table.of_raters[i, r]
    now = _apart(mine, others[i, r])
    exchanged = _apart(mine[list(flip_order)], others[i, r]) if flip_order else np.inf
    distance = np.linalg.norm(others[:, r] - mine, axis=-1)  # [N, K]
    apart = np.where(np.isfinite(distance).any(-1), _median(distance), np.inf)
    apart[i] = np.inf
    nearest = int(np.argmin(apart))
    if min(exchanged, apart[nearest]) >= FITS * now:
        return np.inf, ""
    if exchanged < apart[nearest]:
        return exchanged, "left and right are exchanged"
    return apart[nearest], f"is one of {table.images[nearest]}? There they lie {apart[nearest]:.0f} px apart"


def _of_picture(table: LandmarkTable, i: int, r: int, others: np.ndarray, why: str, painter: Painter | None) -> Item:
    assert table.of_raters is not None
    now, who = _apart(table.of_raters[i, r], others[i, r]), _named(table, table.landmarks.raters[r])
    text = f"{table.images[i]}: {who} lie {now:.0f} px apart (median): {why or 'of another picture?'}"
    return Item(text, (i,), _painted(table, i, r, others, painter))


def _of_points(
    table: LandmarkTable, i: int, r: int, points: np.ndarray, others: np.ndarray, painter: Painter | None
) -> Item:
    assert table.of_raters is not None
    distance = np.linalg.norm(table.of_raters[i, r] - others[i, r], axis=-1)
    chosen = np.flatnonzero(points).tolist()
    said = ", ".join(f"{table.landmarks.names[k]} {distance[k]:.0f} px" for k in chosen[:NAMED])
    more = f" and {len(chosen) - NAMED} more" if len(chosen) > NAMED else ""
    who = _named(table, table.landmarks.raters[r])
    return Item(f"{table.images[i]}, {who}: {said}{more}", (i,), _painted(table, i, r, others, painter))


def _named(table: LandmarkTable, rater: str) -> str:
    raters = table.landmarks.raters
    if len(raters) == 2:
        return f"{raters[0]} and {raters[1]}"
    return f"{rater} and the others" if len(raters) > 1 else f"{rater} and landmarks.csv"


def _painted(
    table: LandmarkTable, i: int, r: int, others: np.ndarray, painter: Painter | None
) -> tuple[tuple[str, str], ...]:
    assert table.of_raters is not None
    if painter is None:
        return ()
    return ((painter.points(i, others[i, r], true_xy=table.of_raters[i, r]), table.images[i]),)


def _half_placed(table: LandmarkTable) -> Iterator[Item]:
    """Of the landmarks that may be absent."""
    assert table.of_raters is not None
    placed = np.isfinite(table.of_raters).all(-1)
    empty = placed.any(-1, keepdims=True) & ~placed & np.isin(table.landmarks.names, table.landmarks.absent)
    for i, k in np.argwhere(placed.any(1) & empty.any(1)).tolist():
        who, others = (
            " and ".join(rater for rater, said in zip(table.landmarks.raters, each[i, :, k], strict=True) if said)
            for each in (placed, empty)
        )
        yield Item(f"{table.images[i]}: {table.landmarks.names[k]} placed by {who}, not by {others}", (i,))
