"""Plane geometry for measurements, of N pictures at once.

Every function takes points `[N, 2]`, x to the right and y downwards, both axes in the same unit. It gives points
`[N, 2]` or numbers `[N]`, and its faults: what makes them unknown, as masks `[N]` with a reason in which `{0}`, `{1}`,
... stand for the names of its arguments. Where a mask is true, the number means nothing.

Signs are those of the cross product: positive is clockwise in the picture as it is shown, and the right-hand side of
somebody who walks along a line.
"""

import itertools

import numpy as np

Faults = list[tuple[np.ndarray, str]]
Found = tuple[np.ndarray, Faults]

EQUAL = 1e-9  # of the largest coordinate: points that are less apart are one point
PARALLEL = 1e-4  # radians, 0.006 degrees: lines that differ by less are parallel, as far as coordinates can tell


def midpoint(a: np.ndarray, b: np.ndarray) -> Found:
    return (a + b) / 2, []


def projection(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> Found:
    """The foot of the perpendicular from p to the line through a and b."""
    along, faults = _direction(a, b, "{1} and {2} lie on one point")
    return a + _dot(p - a, along)[:, None] * along, faults


def intersection(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> Found:
    """The point that the line through a and b has in common with that through c and d."""
    (u, no_first), (v, no_second) = _line(a, b, 0), _line(c, d, 2)
    sine = _cross(u, v)
    parallel = np.abs(sine) < PARALLEL
    where = _cross(c - a, v) / np.where(parallel, np.nan, sine)
    faults = [*no_first, *no_second, (parallel, "the lines {0} to {1} and {2} to {3} are parallel")]
    return a + where[:, None] * u, faults


def circle_centre(*points: np.ndarray) -> Found:
    """The centre of the circle through three points. Of more it is that of the circle which minimises the sum of
    (d^2 - r^2)^2 over the distances d from the centre (Kasa 1976, IEEE Trans Instrum Meas 25:8-14)."""
    every = np.stack(points, axis=1)  # [N, P, 2]
    middle = every.mean(axis=1)
    u = every - middle[:, None]
    spread = np.einsum("npi,npj->nij", u, u)
    moment = np.einsum("npi,np->ni", u, (u**2).sum(axis=-1)) / 2
    least, most = np.moveaxis(np.linalg.eigvalsh(np.where(np.isfinite(spread), spread, 0.0)), -1, 0)
    on_a_line = least <= PARALLEL**2 * most
    solvable = np.where(on_a_line[:, None, None], np.eye(2), np.where(np.isfinite(spread), spread, 0.0))
    centre = np.linalg.solve(solvable, moment[..., None])[..., 0] + middle
    return centre, [(on_a_line, f"{_listed(len(points))} lie on one line")]


def middle(degrees: np.ndarray) -> float:
    """The middle of the arc that holds angles of -180 to 180 degrees, one or more: what it leaves out is the widest gap
    between them, and of equally wide ones that across 180."""
    ordered = np.sort(degrees)
    gaps = np.diff(ordered, prepend=ordered[-1] - 360)
    widest = np.argmax(gaps)
    return float(turned(ordered[widest] - gaps[widest] / 2 + 180, 0))


def turned(degrees: np.ndarray | float, near: np.ndarray | float) -> np.ndarray:
    """Angles, moved by whole turns to within half a turn of `near`, where the same one has other numbers: -179 is 181.
    One that lies there stays as it is, to the last bit."""
    return np.asarray(degrees) - 360 * np.round((np.asarray(degrees) - near) / 360)


def distance(a: np.ndarray, b: np.ndarray) -> Found:
    return np.linalg.norm(a - b, axis=-1), []


def angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Found:
    """Degrees from 0 to 180 at b."""
    signed, faults = signed_angle(a, b, c)
    return np.abs(signed), faults


def signed_angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Found:
    """Degrees from -180 to 180 by which the ray from b to a is turned clockwise to become the ray from b to c."""
    (u, no_first), (v, no_second) = _line(b, a, 1, 0), _line(b, c, 1, 2)
    return _turn(u, v), no_first + no_second


def angle_of_lines(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> Found:
    """Degrees from 0 to 180 between the direction from a to b and that from c to d."""
    (u, no_first), (v, no_second) = _line(a, b, 0), _line(c, d, 2)
    return np.abs(_turn(u, v)), no_first + no_second


def distance_to_line(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> Found:
    """The distance from p to the line through a and b, positive on the right-hand side on the way from a to b."""
    along, faults = _direction(a, b, "{1} and {2} lie on one point")
    return _cross(along, p - a), faults


def distance_along(p: np.ndarray, q: np.ndarray, a: np.ndarray, b: np.ndarray) -> Found:
    """How far q lies from p in the direction from a to b; negative: against it."""
    along, faults = _line(a, b, 2)
    return _dot(q - p, along), faults


def distance_across(p: np.ndarray, q: np.ndarray, a: np.ndarray, b: np.ndarray) -> Found:
    """How far q lies from p at right angles to the line from a to b, positive to the right-hand side."""
    along, faults = _line(a, b, 2)
    return _cross(along, q - p), faults


def area(*points: np.ndarray) -> Found:
    """The area inside the polygon with these corners, in order (either way round)."""
    every = np.stack(points, axis=1)
    every = every - every[:, :1]  # for the sake of precision
    following = np.roll(every, -1, axis=1)
    twice = _cross(every, following).sum(axis=-1)
    return np.abs(twice) / 2, [*_crossing(points), (_is_flat(points), f"{_listed(len(points))} lie on one line")]


def perimeter(*points: np.ndarray) -> Found:
    every = np.stack(points, axis=1)
    return np.linalg.norm(np.roll(every, -1, axis=1) - every, axis=-1).sum(axis=-1), _crossing(points)


def circularity(*points: np.ndarray) -> Found:
    """4 pi area / perimeter^2 of a polygon: 1 of a circle, 0.785 of a square (Cox 1927, J Paleontol 1:179-183)."""
    (inside, faults), (around, _) = area(*points), perimeter(*points)
    return 4 * np.pi * inside / np.where(around > 0, around, np.nan) ** 2, faults


def side(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`[N]` 1 where p lies on the right-hand side on the way from a to b, else -1; and `[N]` where it is on the
    line."""
    sine = _cross(_direction(a, b, "")[0], _direction(a, p, "")[0])
    return np.where(sine > 0, 1.0, -1.0), ~(np.abs(sine) >= PARALLEL)


def _line(a: np.ndarray, b: np.ndarray, first: int, second: int | None = None) -> Found:
    """The direction of a line whose ends are these arguments of the caller."""
    return _direction(a, b, f"{{{first}}} and {{{first + 1 if second is None else second}}} lie on one point")


def _direction(a: np.ndarray, b: np.ndarray, reason: str) -> Found:
    """`[N, 2]` of length 1, from a to b."""
    length = np.linalg.norm(b - a, axis=-1)
    equal = length <= EQUAL * np.maximum(np.abs(a), np.abs(b)).max(axis=-1)
    return (b - a) / np.where(equal, np.nan, length)[:, None], [(equal, reason)]


def _turn(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Degrees from u to v, by the arc tangent: the arc cosine is imprecise near 0 and 180."""
    return np.degrees(np.arctan2(_cross(u, v), _dot(u, v)))


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


def _dot(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (u * v).sum(axis=-1)


def _is_flat(points: tuple[np.ndarray, ...]) -> np.ndarray:
    every = np.stack(points, axis=1)
    u = every - every.mean(axis=1, keepdims=True)
    spread = np.einsum("npi,npj->nij", u, u)
    least, most = np.moveaxis(np.linalg.eigvalsh(np.where(np.isfinite(spread), spread, 0.0)), -1, 0)
    return least <= PARALLEL**2 * most


def _crossing(points: tuple[np.ndarray, ...]) -> Faults:
    """Whether the outline meets itself: two sides that are no neighbours have a point in common."""
    sides = list(zip(points, (*points[1:], points[0]), strict=True))
    crossing = np.zeros(len(points[0]), bool)
    for i, j in itertools.combinations(range(len(sides)), 2):
        if j - i not in (1, len(sides) - 1):
            crossing |= _meet(*sides[i], *sides[j])
    return [(crossing, f"the outline {_listed(len(points))} crosses itself")]


def _meet(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Where the segment from a to b and the segment from c to d have a point in common."""
    low, high = np.maximum(np.minimum(a, b), np.minimum(c, d)), np.minimum(np.maximum(a, b), np.maximum(c, d))
    overlap = (low <= high).all(axis=-1)
    parted = _cross(b - a, c - a) * _cross(b - a, d - a) <= 0
    return overlap & parted & (_cross(d - c, a - c) * _cross(d - c, b - c) <= 0)


def _listed(n: int) -> str:
    return ", ".join(f"{{{i}}}" for i in range(n))
