"""Shape and size, against SciPy, morphops and a hand calculation; costs half a second."""

import json

import morphops
import numpy as np
import pytest
import scipy.spatial
import scipy.stats

from ctd_jax.metrics import Predictions, procrustes

NOT_KNOWN = np.full((1, 2), np.nan)


def shapes(seed, k=9):
    rng = np.random.default_rng(seed)
    a = rng.normal(0, 30, (k, 2))
    return a, a + rng.normal(0, 3, (k, 2))


@pytest.mark.parametrize("seed", range(5))
def test_distance_is_that_of_scipy(seed):
    """SciPy's disparity is the square (it also mirrors, which does not help shapes that are as near as these)."""
    a, b = shapes(seed)
    *_, disparity = scipy.spatial.procrustes(a, b)
    assert procrustes.distance(a, b) == pytest.approx(disparity**0.5, rel=1e-9)
    assert procrustes.distance(b, a) == pytest.approx(procrustes.distance(a, b))


def test_position_size_and_rotation_do_not_count_but_a_mirror_image_does():
    a, _ = shapes(0)
    turned = scipy.spatial.transform.Rotation.from_euler("z", 73, degrees=True).as_matrix()[:2, :2]
    assert procrustes.distance(a, 2.5 * a @ turned.T + (90, -4)) == pytest.approx(0, abs=1e-7)
    assert procrustes.distance(a, a * (-1, 1)) > 0.3
    assert np.isnan(procrustes.distance(a, np.ones_like(a)))


@pytest.mark.parametrize("mirrored", [False, True])
def test_distance_is_that_of_morphops(mirrored):
    """What is left after the best scale and rotation onto a shape of size 1, squared; mirror images are not turned."""
    a, b = shapes(3)
    a = a * (-1, 1) if mirrored else a
    unit = (b - b.mean(axis=0)) / np.sqrt(((b - b.mean(axis=0)) ** 2).sum())
    rest = morphops.opa(a, unit, do_scaling=True, no_reflect=True)["oss"]
    assert procrustes.distance(a, b) == pytest.approx(rest**0.5, rel=1e-9)


def test_centroid_size_by_hand():
    """Four corners of 6 x 8: each lies 5 from the middle."""
    corners = np.array([(0, 0), (6, 0), (6, 8), (0, 8)], float)
    assert procrustes.centroid_size(corners) == pytest.approx(10)
    assert procrustes.centroid_size(np.vstack([corners, [[np.nan, np.nan]]])) == pytest.approx(10)


def table(xy, true, subjects):
    n, k = xy.shape[:2]
    return Predictions.from_points([f"{i}" for i in range(n)], subjects, [f"p{i}" for i in range(k)], xy, true_xy=true)


def test_summary_by_hand():
    """Two people with two pictures; one landmark of one picture is not annotated."""
    pairs = [shapes(seed) for seed in range(4)]
    true, xy = (np.stack(part) for part in zip(*pairs, strict=True))
    xy *= np.array([1.0, 1.1, 1.2, 0.9])[:, None, None]
    true[3, 0] = np.nan
    found = procrustes.summarize(table(xy, true, ["a", "a", "b", "b"]), np.repeat(NOT_KNOWN, 4, axis=0))
    rows = [slice(None)] * 3 + [slice(1, None)]
    distances = [scipy.spatial.procrustes(t[r], x[r])[2] ** 0.5 for x, t, r in zip(xy, true, rows, strict=True)]
    sizes = [np.std(x[r], axis=0) @ np.std(x[r], axis=0) / (np.std(t[r], axis=0) @ np.std(t[r], axis=0))
             for x, t, r in zip(xy, true, rows, strict=True)]  # fmt: skip
    ratios = np.sqrt(sizes)
    assert found["n_images"] == 4
    assert found["procrustes_distance"] == pytest.approx(np.mean(distances))
    assert found["centroid_size_bias"] == pytest.approx(np.mean(ratios - 1))
    assert found["centroid_size_error"] == pytest.approx(np.mean(np.abs(ratios - 1)))
    of_people = (ratios - 1).reshape(2, 2).mean(axis=1)
    half = scipy.stats.t.ppf(0.975, 1) * abs(of_people[0] - of_people[1]) / 2
    np.testing.assert_allclose(found["ci95"]["centroid_size_bias"], np.mean(of_people) + np.array([-half, half]))
    json.dumps(found, allow_nan=False)


def test_a_spacing_that_differs_along_x_and_y_counts():
    (true, xy), spacing = shapes(1), np.array([[2.0, 0.5]])
    found = procrustes.summarize(table(xy[None], true[None], ["a"]), spacing)
    expected = scipy.spatial.procrustes(true * spacing, xy * spacing)[2] ** 0.5
    assert found["procrustes_distance"] == pytest.approx(expected) and found["ci95"] == {}


def test_fewer_than_three_points_have_no_shape():
    true, xy = shapes(2, k=4)
    true[2:] = np.nan
    assert procrustes.summarize(table(xy[None], true[None], ["a"]), NOT_KNOWN) == {"n_images": 0, "ci95": {}}


def test_observers_error_by_scipy_and_by_hand():
    """Three raters of two pictures, in mm; the second picture has a landmark that one rater left out."""
    rng = np.random.default_rng(5)
    true = rng.normal(0, 30, (2, 6, 2))
    people = true + rng.normal(0, 2, (3, 2, 6, 2))
    people[1] *= 1.1
    people[2, 1, 4] = np.nan
    xy, spacing = true + rng.normal(0, 3, true.shape), np.array([[0.5, 2.0], [0.5, 2.0]])
    found = procrustes.between_raters(table(xy, true, ["a", "b"]), people, spacing)

    def apart(one, other):
        one, other = one * (0.5, 2.0), other * (0.5, 2.0)
        sizes = [np.linalg.norm(shape - shape.mean(axis=0)) for shape in (one, other)]
        return scipy.spatial.procrustes(one, other)[2] ** 0.5, abs(sizes[0] - sizes[1]) / np.mean(sizes)

    known = [np.arange(6), np.array([0, 1, 2, 3, 5])]
    between, network = [], []
    for i, rows in enumerate(known):
        a, b, c = people[:, i, rows]
        between.append(np.mean([apart(a, b), apart(a, c), apart(b, c)], axis=0))
        network.append(np.mean([apart(xy[i, rows], one) for one in (a, b, c)], axis=0))
    assert found["n_images"] == 2
    for who, values in (("between", between), ("network", network)):
        assert list(found[who].values()) == pytest.approx(np.mean(values, axis=0).tolist(), rel=1e-9)
    assert list(found["between"]) == ["procrustes_distance", "centroid_size_difference"]


def test_without_two_raters_or_three_points_there_is_no_observers_error():
    xy, _ = np.random.default_rng(0).normal(0, 9, (2, 1, 5, 2))
    one = table(xy, xy, ["a"])
    assert procrustes.between_raters(one, xy[None], NOT_KNOWN) == {}
    few = np.stack([xy, xy])
    few[:, :, 2:] = np.nan
    assert procrustes.between_raters(one, few, NOT_KNOWN) == {}
    assert procrustes.between_raters(one, np.ones((2, 1, 5, 2)), NOT_KNOWN) == {}
