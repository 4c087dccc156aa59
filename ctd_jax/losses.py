"""What a landmark network is trained on, per picture; the caller takes the mean."""

import jax.numpy as jnp
from jax import Array


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
    error = jnp.mean((heatmaps - true_heatmaps) ** 2, axis=(1, 2))
    return jnp.sum(jnp.where(mask, error, 0.0), axis=-1) / jnp.maximum(mask.sum(-1), 1)


def coordinate_error(coordinates: Array, true_coordinates: Array, mask: Array) -> Array:
    """Absolute error of coordinates, averaged over the axes and over the landmarks that count.

    L_C = 1 / (2 sum_k m_k) sum_k m_k ||c_k - C_k||_1

    The second task of FSF-LD's teacher (Huang et al. 2022), a reconstruction: of the text we have that it is
    "multi-task". Alternatives: the centre of mass of each heatmap in place of a head, or several data sets.

    Args:
      coordinates: `[B, K, 2]`, as shares of the picture's side.
      true_coordinates: same shape; of a landmark that does not count anything, NaN too.
      mask: `[B, K]` bool; a landmark that is not annotated, or not in the picture, is False.

    Returns:
      `[B]` float32; 0 where no landmark counts.
    """
    error = jnp.mean(jnp.abs(coordinates - true_coordinates), axis=-1)
    return jnp.sum(jnp.where(mask, error, 0.0), axis=-1) / jnp.maximum(mask.sum(-1), 1)
