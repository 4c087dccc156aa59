"""The rest of a shape moves along: a similarity, then a thin-plate spline, by equations solved here."""

import numpy as np
import pytest

from ctd_jax.review import fitting

SOURCE = np.array([[0.0, 0.0], [10.0, 1.0], [9.0, 12.0], [-1.0, 10.0], [5.0, 4.0], [3.0, 9.0]])
REST = np.array([[2.0, 2.0], [7.0, 8.0], [20.0, -5.0]])


def turned(points, angle=0.3, scale=1.7, shift=(5.0, -3.0)):
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix.T + shift


def spline(source, target, points):
    """Bookstein 1989: U(r) = r^2 log r^2, with an affine part, through every target."""

    def u(a, b):
        square = ((a[:, None] - b[None]) ** 2).sum(-1)
        return square * np.log(np.where(square > 0, square, 1))

    def affine(a):
        return np.hstack([np.ones((len(a), 1)), a])

    n = len(source)
    matrix = np.block([[u(source, source), affine(source)], [affine(source).T, np.zeros((3, 3))]])
    weights = np.linalg.solve(matrix, np.vstack([target, np.zeros((3, 2))]))
    return u(points, source) @ weights[:n] + affine(points) @ weights[n:]


@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_a_similarity_is_found_again(n):
    np.testing.assert_allclose(fitting.moved(SOURCE[:n], turned(SOURCE[:n]), REST), turned(REST), atol=1e-9)


def test_three_points_give_the_nearest_similarity():
    target = turned(SOURCE[:3]) + [[0.5, 0.0], [-0.3, 0.2], [0.1, -0.4]]
    columns = [np.stack([SOURCE[:3, 0], SOURCE[:3, 1]], -1), np.stack([-SOURCE[:3, 1], SOURCE[:3, 0]], -1)]
    matrix = np.stack([*(c.ravel() for c in columns), np.tile([1.0, 0.0], 3), np.tile([0.0, 1.0], 3)], -1)
    a, b, *shift = np.linalg.lstsq(matrix, target.ravel(), rcond=None)[0]
    expected = REST @ np.array([[a, -b], [b, a]]).T + shift
    np.testing.assert_allclose(fitting.moved(SOURCE[:3], target, REST), expected, atol=1e-9)


def test_more_points_bend_the_plane():
    target = turned(SOURCE) + np.random.default_rng(0).normal(0, 0.5, SOURCE.shape)
    np.testing.assert_allclose(fitting.moved(SOURCE, target, REST), spline(SOURCE, target, REST), atol=1e-8)
    np.testing.assert_allclose(fitting.moved(SOURCE, target, SOURCE), target, atol=1e-8)


def test_points_at_one_place_go_to_the_middle_of_their_targets():
    twice, ends = np.vstack([SOURCE, SOURCE[:1]]), turned(np.vstack([SOURCE, SOURCE[:1]]))
    ends[[0, -1]] += [[4.0, 0.0], [0.0, 2.0]]
    middles = np.vstack([ends[[0, -1]].mean(0), ends[1:-1]])
    np.testing.assert_allclose(fitting.moved(twice, ends, SOURCE), middles, atol=1e-8)


def test_points_on_a_line_or_in_one_place_bend_nothing():
    line = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    np.testing.assert_allclose(fitting.moved(line, turned(line), REST), turned(REST), atol=1e-9)
    same = np.ones((5, 2))
    np.testing.assert_allclose(fitting.moved(same, same + 2, REST), REST + 2, atol=1e-9)
