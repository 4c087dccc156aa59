"""Landmarks to heatmaps and back.

A cell of a heatmap covers `stride` x `stride` network pixels, so that cell = (pixel + 0.5) / stride - 0.5. No other
module knows about cells.
"""

import jax.numpy as jnp
from jax import Array


def draw(xy: Array, *, size: int, stride: int, sigma: float) -> Array:
    """Gaussians of peak 1 at the landmarks, not cut off and not rounded to whole cells.

    H_k(u, v) = exp(-((u - x_k)^2 + (v - y_k)^2) / (2 sigma^2))      (Fu et al. 2020, section 2; x_k, y_k in cells)

    Args:
      xy: `[..., K, 2]` network pixels.
      size: side of the network's picture, pixels.
      stride: pixels per cell.
      sigma: cells.

    Returns:
      `[..., size / stride, size / stride, K]` float32 in [0, 1].
    """
    cell = (xy + 0.5) / stride - 0.5
    distance = jnp.arange(size // stride)[:, None] - jnp.moveaxis(cell, -1, 0)[..., None, :]  # [2, ..., cells, K]
    profile = jnp.exp(-(distance**2) / (2 * sigma**2))
    return profile[1][..., :, None, :] * profile[0][..., None, :, :]


def decode(heatmaps: Array, *, stride: int) -> tuple[Array, Array]:
    """Sub-pixel place and height of each heatmap's peak.

    The largest cell is refined along each axis by the vertex of the parabola through the logarithms of it and its two
    neighbours: exact for a Gaussian, which `draw` draws. On the border, the three outermost cells are used.

    Args:
      heatmaps: `[..., h, w, K]`.
      stride: network pixels per cell.

    Returns:
      `[..., K, 2]` (x, y) in network pixels, and `[..., K]` confidence: the peak clipped to [0, 1].
    """
    height, width, _ = heatmaps.shape[-3:]
    flat = heatmaps.reshape(*heatmaps.shape[:-3], height * width, -1)
    peak = jnp.argmax(flat, axis=-2, keepdims=True)
    confidence = jnp.take_along_axis(flat, peak, axis=-2)[..., 0, :]

    def refine(cell: Array, cells: int, step: int) -> Array:
        middle = jnp.clip(cell, 1, cells - 2)
        base = peak + (middle - cell) * step
        below, at, above = (
            jnp.log(jnp.maximum(jnp.take_along_axis(flat, base + d, axis=-2), 1e-6)) for d in (-step, 0, step)
        )
        curve = below - 2 * at + above
        curved = curve < -1e-6
        offset = middle - cell + 0.5 * (below - above) / jnp.where(curved, curve, 1.0)
        return cell + jnp.clip(jnp.where(curved, offset, 0.0), -0.5, 0.5)

    x = refine(peak % width, width, 1)
    y = refine(peak // width, height, width)
    cell = jnp.stack([x[..., 0, :], y[..., 0, :]], axis=-1)
    return (cell + 0.5) * stride - 0.5, jnp.clip(confidence, 0, 1)


def width(heatmaps: Array, *, stride: int) -> Array:
    """`[..., K]` spread of each heatmap `[..., h, w, K]`, in network pixels: the root mean square distance of its mass,
    the square of what is above 0, from its centre of mass."""
    mass = jnp.maximum(heatmaps, 0)
    mass = mass * mass
    total = jnp.maximum(mass.sum(axis=(-3, -2)), 1e-12)

    def variance(profile: Array) -> Array:
        cell = jnp.arange(profile.shape[-2])[:, None]
        mean = (profile * cell).sum(-2) / total
        apart = cell - mean[..., None, :]
        return (profile * apart * apart).sum(-2) / total

    return stride * jnp.sqrt(variance(mass.sum(-3)) + variance(mass.sum(-2)))
