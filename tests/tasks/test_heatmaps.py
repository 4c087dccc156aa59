"""Heatmaps against the formula, and the decoder against drawn Gaussians."""

import jax
import numpy as np
import pytest

from ctd_jax.tasks.landmarks import heatmaps

CELLS, STRIDE = 24, 4
draw = jax.jit(heatmaps.draw, static_argnames=("size", "stride"))
decode = jax.jit(heatmaps.decode, static_argnames="stride")
width = jax.jit(heatmaps.width, static_argnames="stride")


def gaussian(cell, sigma, height=CELLS, width=CELLS):
    """`[h, w, K]` by NumPy; `cell` is `[K, 2]`, (x, y) in cells."""
    v, u = np.mgrid[:height, :width]
    return np.exp(-((u[..., None] - cell[:, 0]) ** 2 + (v[..., None] - cell[:, 1]) ** 2) / (2 * sigma**2))


def decoded_cells(maps, stride=STRIDE):
    xy, confidence = decode(np.asarray(maps, np.float32), stride=stride)
    return (np.asarray(xy, np.float64) + 0.5) / stride - 0.5, np.asarray(confidence)


def test_draw_by_hand():
    """Pixel 1.5 of stride 4 is the middle of cell 0, pixel 9.5 of cell 2."""
    maps = np.asarray(draw(np.float32([[1.5, 9.5]]), size=16, stride=4, sigma=2.0))
    assert maps.shape == (4, 4, 1)
    assert maps[2, 0, 0] == pytest.approx(1.0)
    assert maps[2, 1, 0] == pytest.approx(np.exp(-1 / 8))
    assert maps[0, 3, 0] == pytest.approx(np.exp(-(3**2 + 2**2) / 8))


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_draw_is_the_formula(sigma):
    cell = np.random.default_rng(0).uniform(-1, CELLS, (7, 2))
    xy = (cell + 0.5) * STRIDE - 0.5
    maps = draw(np.asarray(xy, np.float32), size=CELLS * STRIDE, stride=STRIDE, sigma=sigma)
    np.testing.assert_allclose(maps, gaussian(cell, sigma), atol=1e-5)
    batch = draw(np.asarray(xy[None, None], np.float32), size=CELLS * STRIDE, stride=STRIDE, sigma=sigma)
    np.testing.assert_allclose(batch[0, 0], maps, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.5, 2.5])
@pytest.mark.parametrize("height, width", [(CELLS, CELLS), (16, 28)])
def test_decode_finds_the_centre(sigma, height, width):
    """Everywhere from the outer edge of the first cell to that of the last, and whatever the height."""
    rng = np.random.default_rng(1)
    cell = rng.uniform(-0.5, (width - 0.5, height - 0.5), (200, 2))
    cell[:50, 0] = rng.choice([-0.5, -0.2, 0.0, 0.3, width - 1.3, width - 1, width - 0.6], 50)
    cell[50:100, 1] = rng.choice([-0.5, -0.2, 0.0, 0.3, height - 1.3, height - 1, height - 0.6], 50)
    for peak in (1.0, 0.3):
        found, confidence = decoded_cells(peak * gaussian(cell, sigma, height, width))
        np.testing.assert_allclose(found, cell, atol=0.005)
        assert confidence.max() <= peak + 1e-6 and confidence.min() > 0.75 * peak * np.exp(-0.25 / sigma**2)


def test_decode_with_a_little_noise():
    rng = np.random.default_rng(2)
    cell = rng.uniform(2, CELLS - 3, (300, 2))
    found, _ = decoded_cells(gaussian(cell, 1.5) + rng.normal(0, 0.01, (CELLS, CELLS, 300)))
    error = np.linalg.norm(found - cell, axis=-1)
    assert np.sqrt((error**2).mean()) < 0.05 and error.max() < 0.15


def test_decode_of_each_picture_and_landmark():
    """`[B, h, w, K]`: nothing is mixed up between pictures and landmarks."""
    cell = np.random.default_rng(3).uniform(1, CELLS - 2, (3, 5, 2))
    found, confidence = decoded_cells(np.stack([gaussian(c, 1.5) for c in cell]))
    np.testing.assert_allclose(found, cell, atol=0.005)
    assert confidence.shape == (3, 5)


def test_confidence_is_the_height_within_0_and_1():
    maps = np.zeros((8, 8, 4))
    maps[3, 4] = (0.25, 1.5, 0.0, 1.0)
    maps[..., 2] -= 0.1
    np.testing.assert_allclose(decoded_cells(maps)[1], [0.25, 1.0, 0.0, 1.0], atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, -0.3, 1e-9, 100.0])
def test_flat_heatmaps_give_the_first_cell(value):
    found, confidence = decoded_cells(np.full((8, 8, 4), value))
    np.testing.assert_array_equal(found, 0)
    assert np.isfinite(confidence).all()


def test_plateau_and_spikes_stay_within_half_a_cell_of_the_peak():
    maps = np.full((8, 8, 4), -0.2)
    maps[2:5, 3:6, 0] = 0.7  # three by three cells alike
    maps[5, 6, 1] = 0.9  # one cell, all others negative
    maps[7, 0, 2] = 0.9  # one in the corner
    maps[4, :3, 3] = 0.9, 0.8, 0.7  # down from the border in a straight line: the parabola's vertex is far away
    found, _ = decoded_cells(maps)
    assert 2.5 <= found[0, 0] <= 5.5 and 1.5 <= found[0, 1] <= 4.5
    np.testing.assert_allclose(found[1:], [[6, 5], [0, 7], [0, 4]], atol=0.5)
    np.testing.assert_array_equal(found[2], [0, 7])


@pytest.mark.parametrize("sigma", [1.5, 2.5])
def test_the_width_of_a_gaussian_is_its_sigma(sigma):
    """Its square is a Gaussian of sigma / sqrt(2) along each axis: sqrt(2) * sigma / sqrt(2) cells from the centre."""
    maps = gaussian(np.array([[11.3, 12.2], [9.0, 14.5]]), sigma)
    found = width(np.float32([maps, maps - 1e-3]), stride=STRIDE)
    np.testing.assert_allclose(found, np.full((2, 2), STRIDE * sigma), rtol=0.01)


def test_an_empty_heatmap_has_no_width():
    assert np.asarray(width(np.zeros((8, 8, 1), np.float32), stride=STRIDE)).tolist() == [0.0]
