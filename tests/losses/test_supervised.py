"""The heatmap loss against NumPy's numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_jax.losses import supervised

heatmap_mse = jax.jit(supervised.heatmap_mse)
adaptive_wing = jax.jit(supervised.adaptive_wing)
presence_cross_entropy = jax.jit(supervised.presence_cross_entropy)


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
    np.testing.assert_allclose(heatmap_mse(*batch), [*want, 0], rtol=1e-5)


def test_heatmap_mse_of_a_hand_calculation():
    heatmaps, mask = np.zeros((1, 2, 2, 3), np.float32), np.array([[True, True, False]])
    heatmaps[0, 0, 0] = 2, 4, 100
    # (2^2 / 4 cells + 4^2 / 4 cells) / 2 landmarks
    np.testing.assert_allclose(heatmap_mse(heatmaps, np.zeros_like(heatmaps), mask), [2.5])


@pytest.mark.slow
def test_masked_landmarks_get_no_gradient(batch):
    heatmaps, true_heatmaps, mask = batch
    gradient = jax.jit(jax.grad(lambda h: heatmap_mse(h, true_heatmaps, mask).sum()))(heatmaps)
    gradient = np.asarray(gradient)
    counts = np.broadcast_to(mask[:, None, None], gradient.shape)
    assert (gradient[~counts] == 0).all()
    assert (gradient[counts] != 0).all()


# ---------------------------------------------------------------- adaptive wing


def wing_by_hand(y, d):
    """The published equation of one cell, for Python's numbers."""
    if d < 0.5:
        return 14 * math.log(1 + d ** (2.1 - y))
    a = 14 * (1 / (1 + 0.5 ** (2.1 - y))) * (2.1 - y) * 0.5 ** (1.1 - y)
    return a * d - (0.5 * a - 14 * math.log(1 + 0.5 ** (2.1 - y)))


@pytest.mark.parametrize("y", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("d", [0.0, 0.01, 0.3, 0.4999, 0.5, 2.0])
def test_adaptive_wing_of_one_cell(y, d):
    true = np.full((1, 1, 1, 1), y, np.float32)
    got = adaptive_wing(true + np.float32(d), true, np.ones((1, 1), bool))
    weight = 11 if y >= 0.2 else 1
    np.testing.assert_allclose(got, [0.05 * weight * wing_by_hand(y, d)], rtol=2e-4, atol=1e-7)


def test_adaptive_wing_at_numbers_of_a_pocket_calculator():
    zero, one = np.zeros((1, 1, 1, 1), np.float32), np.ones((1, 1), bool)
    # ln(1 + 0.1^2.1) = ln 1.0079433 = 0.0079119, times 14; A of y = 0: 14 / 1.2332582 x 2.1 x 0.4665165 = 11.121485
    np.testing.assert_allclose(adaptive_wing(zero + 0.1, zero, one), [0.05 * 0.110766], rtol=1e-4)
    np.testing.assert_allclose(
        adaptive_wing(zero + 3, zero, one) - adaptive_wing(zero + 1, zero, one),
        [0.05 * 2 * 11.121485],
        rtol=1e-4,
    )


def test_adaptive_wing_counts_the_neighbours_of_a_peak_too():
    true, off, far = np.zeros((3, 1, 5, 5, 1), np.float32)
    true[0, 2, 2, 0], true[0, 0, 0, 0] = 1, 0.19
    off[0, 1, 1, 0] = 0.1  # beside the peak
    far[0, 4, 0, 0] = 0.1
    mask = np.ones((1, 1), bool)
    beside, away = (adaptive_wing(true + change, true, mask) for change in (off, far))
    np.testing.assert_allclose(beside, 11 * away, rtol=1e-4)


@pytest.mark.slow
def test_adaptive_wing_averages_what_counts_and_has_a_gradient_everywhere(batch):
    heatmaps, true_heatmaps, mask = batch
    true_heatmaps = np.clip(true_heatmaps, 0, 1)
    heatmaps[0, 0, 0] = true_heatmaps[0, 0, 0]  # no error at all
    total = jax.jit(jax.value_and_grad(lambda h: adaptive_wing(h, true_heatmaps, mask).sum()))
    loss, gradient = jax.device_get(total(heatmaps))
    alone = [
        adaptive_wing(
            heatmaps[b : b + 1, ..., k : k + 1], true_heatmaps[b : b + 1, ..., k : k + 1], np.ones((1, 1), bool)
        )
        for b, k in zip(*np.nonzero(mask), strict=True)
    ]
    np.testing.assert_allclose(
        loss, sum(np.asarray(x)[0] / mask[b].sum() for x, b in zip(alone, np.nonzero(mask)[0], strict=True)), rtol=1e-5
    )
    assert np.isfinite(gradient).all()
    counts = np.broadcast_to(mask[:, None, None], gradient.shape)
    assert (gradient[~counts] == 0).all() and (gradient[counts] != 0).mean() > 0.9


# ---------------------------------------------------------------- class maps


@pytest.fixture
def pixels():
    """Logits of four classes, and classes of three pictures: some pixels do not count; the last has background only."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 5, 6, 4)).astype(np.float32)
    classes = rng.integers(-1, 4, (3, 5, 6))
    classes[1][classes[1] == 2] = 0
    classes[2] = np.minimum(classes[2], 0)
    return logits, classes


def softmax(logits):
    odds = np.exp(logits.astype(np.float64))
    return odds / odds.sum(-1, keepdims=True)


def test_pixel_cross_entropy_matches_numpy(pixels):
    logits, classes = pixels
    p = softmax(logits)
    want = [-np.mean([np.log(p[b, y, x, c]) for (y, x), c in np.ndenumerate(classes[b]) if c >= 0]) for b in range(3)]
    np.testing.assert_allclose(jax.jit(supervised.pixel_cross_entropy)(logits, classes), want, rtol=1e-5)
    assert float(supervised.pixel_cross_entropy(logits[:1], np.full((1, 5, 6), -1))[0]) == 0


def test_pixel_cross_entropy_is_pytorchs(pixels):
    torch = pytest.importorskip("torch")
    logits, classes = pixels
    for b in range(3):
        theirs = torch.nn.functional.cross_entropy(
            torch.tensor(logits[b].reshape(-1, 4)), torch.tensor(classes[b].ravel()), ignore_index=-1
        )
        ours = supervised.pixel_cross_entropy(logits[b : b + 1], classes[b : b + 1])[0]
        assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_soft_dice_matches_numpy(pixels):
    logits, classes = pixels
    p, want = softmax(logits), []
    for b in range(3):
        counts, terms = classes[b] >= 0, []
        for c in (1, 2, 3):
            true = (classes[b] == c)[counts]
            if true.any():
                found = p[b, ..., c][counts]
                terms.append(1 - 2 * (found * true).sum() / ((found**2).sum() + true.sum()))
        want.append(np.mean(terms) if terms else 0.0)
    assert want[2] == 0
    foreground = jnp.array([False, True, True, True])
    np.testing.assert_allclose(jax.jit(supervised.soft_dice)(logits, classes, foreground), want, rtol=1e-5)


@pytest.mark.slow
def test_soft_dice_of_a_hand_calculation():
    """Two pixels, classes 0 and 1, p = 1/2 everywhere: 1 - 2 (1/2) / (1/4 + 1/4 + 1) = 1/3; certain and right: 0."""
    classes, foreground = jnp.array([[[0, 1]]]), jnp.array([False, True])
    assert float(supervised.soft_dice(jnp.zeros((1, 1, 2, 2)), classes, foreground)[0]) == pytest.approx(1 / 3)
    sure = 40 * jax.nn.one_hot(classes, 2)
    assert float(supervised.soft_dice(sure, classes, foreground)[0]) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_the_gradients_of_class_losses_are_finite(pixels):
    logits, classes = pixels
    logits = np.array(logits)
    logits[..., 3] = -1e9  # out of the question
    classes = np.minimum(classes, 2)
    foreground = jnp.array([False, True, True, True])

    def total(logits):
        return (
            supervised.pixel_cross_entropy(logits, classes) + supervised.soft_dice(logits, classes, foreground)
        ).sum()

    gradient = np.asarray(jax.jit(jax.grad(total))(logits))
    assert np.isfinite(gradient).all() and (gradient[..., 3] == 0).all()


# ---------------------------------------------------------------- presence


def test_presence_is_the_cross_entropy_of_what_is_known():
    """Logits ln 3 and -ln 3 are probabilities 3/4 and 1/4."""
    z = math.log(3)
    logits = jnp.array([[z, z, -z], [z, -z, 0.0], [9.0, 9.0, 9.0]])
    present = jnp.array([[True, False, True], [True, True, True], [True, True, False]])
    mask = jnp.array([[True, True, False], [True, False, True], [False, False, False]])
    want = [(math.log(4 / 3) + math.log(4)) / 2, (math.log(4 / 3) + math.log(2)) / 2, 0]
    np.testing.assert_allclose(presence_cross_entropy(logits, present, mask), want, rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda z: presence_cross_entropy(z, present, mask).sum()))(logits)
    want = [[-0.25 / 2, 0.75 / 2, 0], [-0.25 / 2, 0, -0.5 / 2], [0, 0, 0]]  # (sigmoid(z) - y) / number that counts
    np.testing.assert_allclose(gradient, want, rtol=1e-6)


def test_presence_of_huge_logits_stays_finite():
    found = presence_cross_entropy(jnp.array([[-1e4, 1e4]]), jnp.array([[True, True]]), jnp.ones((1, 2), bool))
    np.testing.assert_allclose(found, [5e3])
