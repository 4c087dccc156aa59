"""Shapes: fits as SciPy and morphops have them, expectations as the Gaussian's own formula has them."""

import dataclasses

import morphops
import numpy as np
import pytest
import varied_shapes
from scipy import spatial

from ctd_jax.inspection import shape_model
from ctd_jax.inspection.shape_model import ShapeModel

RNG = np.random.default_rng(0)
MEAN = varied_shapes.mean() / np.sqrt((abs(varied_shapes.mean()) ** 2).mean())
K, Q = len(MEAN), 3


def model():
    return ShapeModel(MEAN, np.full(K, 0.1), RNG.normal(0, 0.1, (K, 2, Q)), 0.003, RNG.uniform(1, 2, K))


def real(z):
    return np.stack([z.real, z.imag], -1).reshape(-1)


def test_a_fit_is_that_of_scipy():
    points = varied_shapes.points(6)
    fitted = shape_model.weighted_fit(points, MEAN, np.ones(points.shape))
    for z, fit in zip(points, fitted, strict=True):
        disparity = spatial.procrustes(varied_shapes.to_xy(MEAN), varied_shapes.to_xy(z))[2]
        assert np.isclose((abs(fit - MEAN) ** 2).sum() / (abs(MEAN - MEAN.mean()) ** 2).sum(), disparity)


def test_a_fit_with_missing_points_is_that_of_the_others():
    points = varied_shapes.points(2)
    points[0, [2, 7]] = np.nan
    there = ~np.isnan(points[0])
    fitted = shape_model.weighted_fit(points, MEAN, np.ones(points.shape))[0]
    assert np.isnan(fitted).tolist() == (~there).tolist()
    disparity = spatial.procrustes(varied_shapes.to_xy(MEAN[there]), varied_shapes.to_xy(points[0, there]))[2]
    size = (abs(MEAN[there] - MEAN[there].mean()) ** 2).sum()
    assert np.isclose((abs(fitted[there] - MEAN[there]) ** 2).sum() / size, disparity)


def test_a_robust_fit_is_not_moved_by_wrong_points():
    z = (3 - 2j) * MEAN + 40 + 10j
    z[[1, 6]] += [30, 50j]
    fitted = shape_model.robust_fit(z[None], MEAN, np.full(K, 0.05))[0]
    right = np.delete(np.arange(K), [1, 6])
    assert abs(fitted - MEAN)[right].max() < 0.02
    plain = shape_model.weighted_fit(z[None], MEAN, np.ones((1, K)))[0]
    assert abs(plain - MEAN)[right].max() > 0.3


def test_a_robust_fit_of_right_points_is_nearly_that_of_least_squares():
    points = varied_shapes.points(50)
    least, robust, medians = (
        (abs(fitted - MEAN) ** 2).sum()
        for fitted in (
            shape_model.weighted_fit(points, MEAN, np.ones(points.shape)),
            shape_model.robust_fit(points, MEAN, np.full(K, 0.1)),
            shape_model.median_fit(points, MEAN),
        )
    )
    assert least < robust < 1.03 * least < medians


@pytest.mark.parametrize("missing", [(), (3, 4)])
def test_a_point_is_expected_where_the_gaussian_has_it_given_the_others(missing):
    known, one = model(), 8
    fitted = MEAN + 0.2 * (RNG.normal(size=K) + 1j * RNG.normal(size=K))
    fitted[list(missing)] = np.nan
    offset, square = known.expect(fitted[None])
    W = known.components.reshape(2 * K, Q)
    covariance = W @ W.T + known.noise * np.eye(2 * K)
    mine = [2 * one, 2 * one + 1]
    others = [i for i in range(2 * K) if i // 2 != one and i // 2 not in missing]
    v = real(fitted - MEAN)
    gain = covariance[np.ix_(mine, others)] @ np.linalg.inv(covariance[np.ix_(others, others)])
    from_expected = v[mine] - gain @ v[others]
    left = covariance[np.ix_(mine, mine)] - gain @ covariance[np.ix_(others, mine)]
    assert np.allclose([offset[0, one].real, offset[0, one].imag], from_expected)
    assert np.isclose(square[0, one] * known.usual[one], from_expected @ np.linalg.inv(left) @ from_expected)
    assert np.isnan(square[0]).tolist() == [k in missing for k in range(K)]
    there = [i for i in range(2 * K) if i // 2 not in missing]
    whole = v[there] @ np.linalg.inv(covariance[np.ix_(there, there)]) @ v[there]
    assert np.isclose(known.energy(fitted[None])[0], whole / (K - len(missing)))


@pytest.mark.parametrize("missing", [(), (3,)])
def test_an_exchange_changes_the_energy_by_what_it_says(missing):
    known = model()
    fitted = MEAN + 0.2 * (RNG.normal(size=K) + 1j * RNG.normal(size=K))
    fitted[list(missing)] = np.nan
    other = fitted.copy()
    other[[2, 9]] = fitted[[9, 2]]
    number = K - len(missing)
    before, after = known.energy(np.array([fitted, other])) * number
    change = known.exchange(fitted)
    assert np.isclose(change[2, 9], after - before) and np.isclose(change[9, 2], after - before)
    assert (change[list(missing)] == 0).all() and (np.diag(change) == 0).all()


@pytest.mark.slow
def test_mean_and_variation_are_those_of_morphops_and_numpy():
    points = varied_shapes.points(300)
    found = shape_model.of(points)
    gpa = morphops.gpa(varied_shapes.to_xy(points))
    assert spatial.procrustes(varied_shapes.to_xy(found.mean), gpa["mean"])[2] < 1e-4
    v = found.fit(points) - found.mean
    values = np.linalg.eigvalsh(np.cov(np.stack([v.real, v.imag], -1).reshape(len(v), -1).T))[::-1]
    W = found.components.reshape(2 * K, -1)
    ours = np.linalg.eigvalsh(W.T @ W)[::-1] + found.noise
    assert np.allclose(ours[:3], values[:3], rtol=0.1)
    rest = found.noise / values[len(ours) : 2 * K - 4].mean()
    assert 1 < rest < 1.25, "robust fits leave a little in the four dimensions that least squares takes away"
    usual = np.median(found.expect(found.fit(points))[1], 0)
    assert 0.8 < np.median(usual) < 1.2, "distances are multiples of the usual one"


def test_the_components_are_the_principal_ones_of_numpy():
    """Of rows without missing points: the covariance's largest values, and the mean of the others but the four that
    fits take away."""
    v = RNG.normal(size=(200, K)) * np.linspace(1, 5, K) + 1j * RNG.normal(size=(200, K)) + 3j
    mean, W, noise = shape_model._principal(v)
    assert np.allclose(mean, v.mean(0))
    values = np.linalg.eigvalsh(np.cov(np.stack([v.real, v.imag], -1).reshape(200, 2 * K).T))[::-1]
    W = W.reshape(2 * K, -1)
    assert noise == pytest.approx(values[W.shape[1] :].sum() / (2 * K - 4 - W.shape[1])) and 0 < W.shape[1] < 2 * K
    assert np.allclose(np.linalg.eigvalsh(W.T @ W)[::-1] + noise, np.maximum(values[: W.shape[1]], noise))


def test_medians_are_those_of_numpy():
    values = RNG.normal(size=(20, 6)) + 1j * RNG.normal(size=(20, 6))
    values[RNG.uniform(size=(20, 6)) < 0.3] = np.nan + 1j * np.nan
    expected = np.nanmedian(values.real, -1) + 1j * np.nanmedian(values.imag, -1)
    assert np.allclose(shape_model._median(values), expected)


def test_mistakes_do_not_spoil_the_model():
    points, clean = varied_shapes.points(200), shape_model.of(varied_shapes.points(200))
    for row in range(20):
        points[row] = points[row, list(varied_shapes.ORDER)]
    for row in range(20, 40):
        points[row, row % K] += 100
    points[40:80, 3] = np.nan
    found = shape_model.of(points)
    assert spatial.procrustes(varied_shapes.to_xy(found.mean), varied_shapes.to_xy(clean.mean))[2] < 1e-4
    assert abs(found.noise / clean.noise - 1) < 0.3


@pytest.mark.parametrize("number", [0, 7])
def test_too_few_pictures_have_no_model(number):
    assert shape_model.of(varied_shapes.points(number)) is None


def test_a_landmark_that_is_nowhere_annotated_leaves_no_model():
    points = varied_shapes.points(20)
    points[:, 4] = np.nan
    assert shape_model.of(points) is None


def test_a_model_is_not_changed_by_its_use():
    found = shape_model.of(varied_shapes.points(20))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.noise = 0
