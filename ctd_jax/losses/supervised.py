"""What the tasks' own maps and coordinates are trained on, per picture; the caller takes the mean."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

ADAPTIVE_WING_SCALE = 0.05


def heatmap_mse(heatmaps: Array, true_heatmaps: Array, mask: Array) -> Array:
    """Squared error of heatmaps, averaged over cells and over the landmarks that count.

    L_H = 1 / (h w sum_k m_k) sum_k m_k ||h_k - H_k||_F^2      (Fu et al. 2020, Eq. 1; its scale is not known)

    Args:
      heatmaps: `[B, h, w, K]`.
      true_heatmaps: same shape.
      mask: `[B, K]` bool; a landmark that is not annotated, or not in the picture, is False.

    Returns:
      `[B]` float32; 0 where no landmark counts.
    """
    return _mean_of_landmarks((heatmaps - true_heatmaps) ** 2, mask)


def adaptive_wing(heatmaps: Array, true_heatmaps: Array, mask: Array) -> Array:
    """Adaptive wing loss of heatmaps, averaged over cells and over the landmarks that count.

    With d = |h - H|, of each cell (Wang et al. 2019, arXiv 1904.07399, section 4):

    L = omega ln(1 + (d / eps)^(alpha - H))    where d < theta, else A d - C, a line that goes on smoothly
    A = omega / (1 + (theta / eps)^(alpha - H)) (alpha - H) (theta / eps)^(alpha - H - 1) / eps
    C = theta A - omega ln(1 + (theta / eps)^(alpha - H))

    with alpha = 2.1, omega = 14, eps = 1, theta = 0.5. A cell in whose 3 x 3 neighbourhood H reaches 0.2 counts 11
    times. `ADAPTIVE_WING_SCALE`, ours, brings the whole near to `heatmap_mse`, so that constraints keep their weights.

    Args:
      heatmaps, true_heatmaps, mask: see `heatmap_mse`.

    Returns:
      `[B]` float32; 0 where no landmark counts.
    """
    alpha, omega, eps, theta, foreground = 2.1, 14.0, 1.0, 0.5, 10.0
    power, error = alpha - true_heatmaps, jnp.abs(heatmaps - true_heatmaps)
    at_theta = (theta / eps) ** power
    slope = omega / (1 + at_theta) * power * (theta / eps) ** (power - 1) / eps
    far = slope * (error - theta) + omega * jnp.log1p(at_theta)
    near = omega * jnp.log1p((error / eps) ** power)
    reached = nn.max_pool(true_heatmaps, (3, 3), (1, 1), "SAME") >= 0.2
    loss = jnp.where(error < theta, near, far) * (1 + foreground * reached)
    return ADAPTIVE_WING_SCALE * _mean_of_landmarks(loss, mask)


def _mean_of_landmarks(loss: Array, mask: Array) -> Array:
    """`[B]` mean of `[B, h, w, K]` over cells, and over the landmarks that count; 0 where none does."""
    return jnp.sum(jnp.where(mask, jnp.mean(loss, axis=(1, 2)), 0.0), axis=-1) / jnp.maximum(mask.sum(-1), 1)


HEATMAP_LOSSES = {"mse": heatmap_mse, "adaptive_wing": adaptive_wing}  # of train.heatmap_loss


def pixel_cross_entropy(logits: Array, classes: Array) -> Array:
    """Cross-entropy of the classes of a picture's pixels, averaged over those that count.

    Args:
      logits: `[B, H, W, C]`; a class that a pixel cannot have has a large negative one.
      classes: `[B, H, W]` index of each pixel's class; -1: the pixel does not count.

    Returns:
      `[B]` float32; 0 where no pixel counts.
    """
    counts = classes >= 0
    found = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(classes, 0)[..., None], axis=-1)[..., 0]
    return -jnp.sum(jnp.where(counts, found, 0.0), axis=(1, 2)) / jnp.maximum(counts.sum((1, 2)), 1)


def soft_dice(logits: Array, classes: Array, foreground: Array) -> Array:
    """One minus the soft Dice coefficient, averaged over the foreground classes that a picture has.

    L_i = 1/|K_i| sum_{k in K_i} [1 - 2 sum_x p_k t_k / (sum_x p_k^2 + sum_x t_k^2)]      (Milletari et al. 2016, Eq. 3)

    p is the softmax, t is 1 where the class is k. The sums are over the pixels of picture i that count, and K_i are the
    foreground classes with a pixel in it: the others are left to the cross-entropy. The paper has one class.

    Args:
      logits, classes: see `pixel_cross_entropy`.
      foreground: `[C]` bool, False for background.

    Returns:
      `[B]` float32; 0 where the picture has no foreground.
    """
    counts = (classes >= 0)[..., None]
    found = jnp.where(counts, jax.nn.softmax(logits), 0.0)
    true = jax.nn.one_hot(classes, logits.shape[-1])
    both, squares, size = (jnp.sum(x, axis=(1, 2)) for x in (found * true, found**2, true))
    present = (size > 0) & foreground
    dice = 1 - 2 * both / jnp.where(present, squares + size, 1.0)
    return jnp.sum(jnp.where(present, dice, 0.0), axis=-1) / jnp.maximum(present.sum(-1), 1)


def coordinate_error(coordinates: Array, true_coordinates: Array, mask: Array) -> Array:
    """Absolute error of coordinates, averaged over the axes and over the landmarks that count.

    L_C = 1 / (2 sum_k m_k) sum_k m_k ||c_k - C_k||_1

    The second task of FSF-LD's teacher (Huang et al. 2022), a reconstruction: of the text we have that it is
    "multi-task". Alternatives: the centre of mass of each heatmap in place of a head, or several data sets.

    Args:
      coordinates: `[B, K, 2]`, as shares of the picture's side.
      true_coordinates: same shape; for a landmark that does not count, any numbers, even NaN.
      mask: `[B, K]` bool; a landmark that is not annotated, or not in the picture, is False.

    Returns:
      `[B]` float32; 0 where no landmark counts.
    """
    error = jnp.mean(jnp.abs(coordinates - jnp.where(mask[..., None], true_coordinates, 0.0)), axis=-1)
    return jnp.sum(jnp.where(mask, error, 0.0), axis=-1) / jnp.maximum(mask.sum(-1), 1)


def presence_cross_entropy(logits: Array, present: Array, mask: Array) -> Array:
    """Sigmoid cross-entropy of whether landmarks are there, averaged over those that count.

    L_P = 1 / sum_k m_k sum_k m_k [ln(1 + exp(z_k)) - y_k z_k]

    Args:
      logits: `[B, K]`.
      present: `[B, K]` bool; False: absent.
      mask: `[B, K]` bool; False: nobody knows whether the landmark is there.

    Returns:
      `[B]` float32; 0 where no landmark counts.
    """
    entropy = jax.nn.softplus(logits) - present * logits
    return jnp.sum(jnp.where(mask, entropy, 0.0), axis=-1) / jnp.maximum(mask.sum(-1), 1)


def arcface_logits(cosines: Array, subjects: Array, *, margin: float, scale: float) -> Array:
    """Logits with an additive angular margin (Deng et al. 2019, arXiv 1801.07698, Eq. 3).

    s cos(theta_y + m) for the picture's own subject y, s cos(theta_j) for the others. Where theta_y + m > pi the cosine
    would grow again: it is continued by cos(theta_y) - m sin(m), which falls on, as in the code of the authors.

    Args:
      cosines: `[B, N]`, of each picture's features and each subject's class weights.
      subjects: `[B]` int, in 0 .. N - 1.
      margin: m, radians, in 0 .. pi.
      scale: s.

    Returns:
      `[B, N]` logits for a softmax. Their gradient is finite at cosines of -1 and 1 too.
    """
    cosine = jnp.take_along_axis(cosines, subjects[:, None], axis=1)
    sine = jnp.sqrt(jnp.maximum(1 - cosine**2, 1e-6))
    moved = jnp.where(
        cosine > -math.cos(margin),
        cosine * math.cos(margin) - sine * math.sin(margin),
        cosine - margin * math.sin(margin),
    )
    return scale * jnp.where(jax.nn.one_hot(subjects, cosines.shape[1], dtype=bool), moved, cosines)


def unit_vectors(vectors: Array, *, axis: int) -> Array:
    """`vectors` scaled to the length 1 along `axis`; a vector of zeros stays one, with a finite gradient."""
    return vectors * jax.lax.rsqrt(jnp.maximum(jnp.sum(vectors**2, axis=axis, keepdims=True), 1e-12))
