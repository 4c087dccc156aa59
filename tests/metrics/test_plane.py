"""Plane geometry, against SciPy, least squares and figures drawn by hand; costs half a second."""

import numpy as np
import pytest
import scipy.optimize
import scipy.spatial

from ctd_jax.metrics import plane


def at(*points):
    """Points of one picture, `[1, 2]` each."""
    return [np.array([point], float) for point in points]


def reason(faults):
    """The first fault of one picture."""
    return next((text for mask, text in faults if mask[0]), "")


def random_points(n, k, seed=0):
    return [np.random.default_rng(seed + i).uniform(0, 500, (n, 2)) for i in range(k)]


# Points


def test_projection_is_the_nearest_point_of_the_line():
    p, a, b = random_points(20, 3)
    found, _ = plane.projection(p, a, b)
    for i in range(20):
        (where,), *_ = np.linalg.lstsq((b - a)[i][:, None], (p - a)[i], rcond=None)
        np.testing.assert_allclose(found[i], a[i] + where * (b - a)[i], atol=1e-8)


def test_intersection_solves_two_equations():
    a, b, c, d = random_points(20, 4)
    found, _ = plane.intersection(a, b, c, d)
    for i in range(20):
        normals = np.array([[-(q - p)[1], (q - p)[0]] for p, q in ((a[i], b[i]), (c[i], d[i]))])
        solved = np.linalg.solve(normals, [normals[0] @ a[i], normals[1] @ c[i]])
        np.testing.assert_allclose(found[i], solved, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("k", [3, 4, 7])
def test_centre_of_a_circle(k):
    """Exactly on a circle it is the centre; beside it, the least sum of (d^2 - r^2)^2, which SciPy finds too."""
    turns = np.linspace(0.3, 2.5, k)
    exact = np.stack([120 + 40 * np.cos(turns), 80 + 40 * np.sin(turns)], axis=-1)
    np.testing.assert_allclose(plane.circle_centre(*at(*exact))[0], [[120, 80]], atol=1e-8)
    beside = exact + np.random.default_rng(k).normal(0, 1, exact.shape)

    def off(circle):
        return ((beside - circle[:2]) ** 2).sum(axis=-1) - circle[2]

    fitted = scipy.optimize.least_squares(off, [100, 100, 1000.0], x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    np.testing.assert_allclose(plane.circle_centre(*at(*beside))[0][0], fitted.x[:2], rtol=1e-5)


def test_midpoint():
    np.testing.assert_array_equal(plane.midpoint(*at((1, 2), (4, 8)))[0], [[2.5, 5]])


# Numbers, by hand; y goes downwards


@pytest.mark.parametrize(
    ("of", "points", "expected"),
    [
        ("distance", [(1, 1), (4, 5)], 5),
        ("distance", [(4, 5), (4, 5)], 0),
        ("angle", [(0, -3), (0, 0), (2, 0)], 90),
        ("angle", [(2, 0), (0, 0), (0, -3)], 90),
        ("signed_angle", [(0, -3), (0, 0), (2, 0)], 90),  # from 12 to 3 o'clock
        ("signed_angle", [(2, 0), (0, 0), (0, -3)], -90),
        ("signed_angle", [(5, 0), (0, 0), (-3, 3)], 135),
        ("angle_of_lines", [(0, 0), (4, 0), (9, 9), (9, 5)], 90),
        ("angle_of_lines", [(0, 0), (4, 0), (7, 3), (6, 3)], 180),
        ("distance_to_line", [(3, 2), (0, 0), (9, 0)], 2),  # below a line to the right: on its right-hand side
        ("distance_to_line", [(3, 2), (9, 0), (0, 0)], -2),
        ("distance_along", [(1, 7), (6, 3), (0, 0), (2, 0)], 5),
        ("distance_along", [(1, 7), (6, 3), (0, 0), (0, 2)], -4),
        ("distance_across", [(1, 7), (6, 3), (0, 0), (2, 0)], -4),
        ("area", [(0, 0), (4, 0), (4, 3), (0, 3)], 12),
        ("area", [(0, 3), (4, 3), (4, 0), (0, 0)], 12),
        ("area", [(0, 0), (4, 0), (4, 4), (2, 1)], 6),  # the corner at (2, 1) goes inwards
        ("perimeter", [(0, 0), (4, 0), (4, 3)], 12),
        ("circularity", [(0, 0), (5, 0), (5, 5), (0, 5)], np.pi / 4),
    ],
)
def test_by_hand(of, points, expected):
    found, faults = getattr(plane, of)(*at(*points))
    assert found[0] == pytest.approx(expected) and reason(faults) == ""


def test_area_and_perimeter_are_those_of_a_hull():
    points = np.random.default_rng(3).normal(1000, 50, (30, 2))
    hull = scipy.spatial.ConvexHull(points)
    corners = at(*points[hull.vertices])
    assert plane.area(*corners)[0][0] == pytest.approx(hull.volume, rel=1e-9)
    assert plane.perimeter(*corners)[0][0] == pytest.approx(hull.area, rel=1e-9)
    assert 0 < plane.circularity(*corners)[0][0] < 1


# What can't be told


@pytest.mark.parametrize(
    ("of", "points", "expected"),
    [
        ("projection", [(1, 1), (2, 2), (2, 2)], "{1} and {2} lie on one point"),
        ("distance_to_line", [(1, 1), (2, 2), (2, 2)], "{1} and {2} lie on one point"),
        ("intersection", [(0, 0), (1, 1), (5, 0), (9, 4)], "the lines {0} to {1} and {2} to {3} are parallel"),
        ("intersection", [(0, 0), (1, 0), (5, 3), (5, 3)], "{2} and {3} lie on one point"),
        ("circle_centre", [(0, 0), (1, 1), (3, 3)], "{0}, {1}, {2} lie on one line"),
        ("circle_centre", [(2, 2), (2, 2), (2, 2)], "{0}, {1}, {2} lie on one line"),
        ("angle", [(1, 1), (1, 1), (3, 4)], "{1} and {0} lie on one point"),
        ("signed_angle", [(0, 0), (1, 1), (1, 1)], "{1} and {2} lie on one point"),
        ("angle_of_lines", [(0, 0), (1, 1), (4, 4), (4, 4)], "{2} and {3} lie on one point"),
        ("distance_along", [(0, 0), (1, 1), (4, 4), (4, 4)], "{2} and {3} lie on one point"),
        ("distance_across", [(0, 0), (1, 1), (4, 4), (4, 4)], "{2} and {3} lie on one point"),
        ("area", [(0, 0), (1, 1), (2, 2)], "{0}, {1}, {2} lie on one line"),
        ("area", [(0, 0), (4, 4), (4, 0), (0, 4)], "the outline {0}, {1}, {2}, {3} crosses itself"),
        ("perimeter", [(0, 0), (4, 4), (4, 0), (0, 4)], "the outline {0}, {1}, {2}, {3} crosses itself"),
        ("circularity", [(7, 7), (7, 7), (7, 7)], "{0}, {1}, {2} lie on one line"),
    ],
)
def test_what_cannot_be_told_has_a_reason(of, points, expected):
    assert reason(getattr(plane, of)(*at(*points))[1]) == expected


def test_a_u_whose_ends_are_in_one_line_does_not_cross_itself():
    shape = [(0, 0), (6, 0), (6, 6), (4, 6), (4, 2), (2, 2), (2, 6), (0, 6)]
    found, faults = plane.area(*at(*shape))
    assert found[0] == pytest.approx(28) and reason(faults) == ""


def test_a_side():
    below, on = at((5, 3), (7, 0))
    line = at((0, 0), (9, 0))
    assert plane.side(below, *line) == (1, False) and plane.side(below, *line[::-1]) == (-1, False)
    assert plane.side(on, *line)[1].all() and plane.side(below, *at((2, 2), (2, 2)))[1].all()


def test_angles_are_turned_to_where_they_are_compared():
    degrees = np.array([179.5, -179, 178, 0.1, -180, np.nan])
    np.testing.assert_array_equal(plane.turned(degrees, 180), [179.5, 181, 178, 0.1, 180, np.nan])
    np.testing.assert_array_equal(plane.turned(degrees, 0), degrees)
    np.testing.assert_array_equal(plane.turned(np.array([10.0, -170]), np.array([-175.0, 175])), [-350, 190])


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        ([10.0, 30, 20], 20),
        ([170.0, -170, 179, -177], 180),
        ([-60.0, 80, 70, -90], -5),  # two groups: 170 degrees between 80 and -90, 130 between -60 and 70
        ([110.0, -100, 90, -80], -175),  # 170 degrees between -80 and 90
        ([90.0, -90], 0),
        ([33.0], 33),
    ],
)
def test_the_middle_of_angles_leaves_out_the_widest_gap(degrees, expected):
    assert plane.middle(np.array(degrees)) == pytest.approx(expected)
