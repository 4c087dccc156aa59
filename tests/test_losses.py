"""The heatmap loss against NumPy's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_jax import losses


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    heatmaps, true_heatmaps = rng.normal(size=(2, 3, 4, 5, 6)).astype(np.float32)
    mask = rng.random((3, 6)) < 0.6
    mask[2] = False
    return heatmaps, true_heatmaps, mask


def test_heatmap_mse_matches_numpy(batch):
    heatmaps, true_heatmaps, mask = batch
    want = [
        np.mean([((heatmaps[b, ..., k] - true_heatmaps[b, ..., k]) ** 2).mean() for k in np.flatnonzero(mask[b])])
        for b in range(2)
    ]
    np.testing.assert_allclose(jax.jit(losses.heatmap_mse)(*batch), [*want, 0], rtol=1e-5)


def test_heatmap_mse_of_a_hand_calculation():
    heatmaps = jnp.zeros((1, 2, 2, 3)).at[0, 0, 0].set(jnp.array([2.0, 4.0, 100.0]))
    mask = jnp.array([[True, True, False]])
    # (2^2 / 4 cells + 4^2 / 4 cells) / 2 landmarks
    np.testing.assert_allclose(losses.heatmap_mse(heatmaps, jnp.zeros_like(heatmaps), mask), [2.5])


def test_masked_landmarks_get_no_gradient(batch):
    heatmaps, true_heatmaps, mask = batch
    gradient = jax.grad(lambda h: losses.heatmap_mse(h, true_heatmaps, mask).sum())(heatmaps)
    counts = np.broadcast_to(mask[:, None, None], gradient.shape)
    assert (gradient[~counts] == 0).all()
    assert (gradient[counts] != 0).all()
