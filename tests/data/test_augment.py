"""Pictures and landmarks move together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctd_jax.data import augment

SIZE = 64
ORDER = (1, 0, 2)  # the first two swap, the third is its own mirror image
XY = np.array([[20.3, 30.6], [41.8, 28.2], [31.0, 40.4]], np.float32)


def blobs():
    """`[S, S, K]`: landmark k is a Gaussian in channel k."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.exp(-((columns[..., None] - XY[:, 0]) ** 2 + (rows[..., None] - XY[:, 1]) ** 2) / 8).astype(np.float32)


def centroids(pictures):
    rows, columns = np.mgrid[:SIZE, :SIZE]
    mass = pictures.sum((1, 2))
    return np.stack([np.einsum("nhwk,hw->nk", pictures, c) / mass for c in (columns, rows)], axis=-1)


def moved(number, *, picture=None, xy=XY, **options):
    """`[n, S, S, C]` pictures and `[n, K, 2]` points under n keys."""
    options = {"flip": 0.0, "scale": 0.0, "shift": 0.0, "flip_order": ORDER} | options
    move = jax.jit(jax.vmap(functools.partial(augment, **options), in_axes=(0, None, None)))
    picture = blobs() if picture is None else picture
    return [np.asarray(x) for x in move(jax.random.split(jax.random.key(0), number), picture, jnp.asarray(xy))]


def test_nothing_asked_nothing_done():
    pictures, xy = moved(3)
    np.testing.assert_allclose(pictures, np.broadcast_to(blobs(), pictures.shape), atol=1e-6)
    np.testing.assert_allclose(xy, np.broadcast_to(XY, xy.shape), atol=1e-5)


def test_mirror_by_hand():
    pictures, xy = moved(1, flip=1.0)
    np.testing.assert_allclose(pictures[0], blobs()[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(xy[0], [[63 - 41.8, 28.2], [63 - 20.3, 30.6], [63 - 31.0, 40.4]], atol=1e-5)


def test_mirrored_twice_is_unchanged():
    once, once_xy = moved(1, flip=1.0)
    twice, twice_xy = moved(1, picture=once[0], xy=once_xy[0], flip=1.0)
    np.testing.assert_allclose(twice[0], blobs(), atol=1e-6)
    np.testing.assert_allclose(twice_xy[0], XY, atol=1e-5)


def test_without_pairs_nothing_is_mirrored():
    _, xy = moved(20, flip=1.0, flip_order=None)
    np.testing.assert_allclose(xy, np.broadcast_to(XY, xy.shape), atol=1e-5)


@pytest.mark.parametrize("options", [{"scale": 0.25}, {"shift": 0.1}, {"scale": 0.25, "shift": 0.05, "flip": 0.5}])
def test_a_blob_moves_with_its_landmark(options):
    pictures, xy = moved(64, **options)
    found = centroids(pictures)
    mirrored = found[:, 0, 0] > found[:, 1, 0]  # channels know nothing of pairs: blob 0 is on the right now
    want = np.where(mirrored[:, None, None], xy[:, list(ORDER)], xy)
    np.testing.assert_allclose(found, want, atol=0.03)
    assert mirrored.any() == bool(options.get("flip")) and not mirrored.all()


def test_how_often_and_how_far():
    """Over 2000 keys: half are mirrored; factors fill 0.75..1.25, moves -0.1..0.1 of the side, on each axis."""
    picture = np.zeros((SIZE, SIZE, 1), np.float32)
    middle = (SIZE - 1) / 2
    points = np.array([[middle, middle], [middle + 10, middle]], np.float32)
    _, xy = moved(2000, picture=picture, xy=points, flip=0.5, scale=0.25, shift=0.1, flip_order=(0, 1))
    along = (xy[:, 1, 0] - xy[:, 0, 0]) / 10
    assert 0.45 < (along < 0).mean() < 0.55
    factor, move = np.abs(along), (xy[:, 0] - middle) / SIZE
    assert 0.75 - 1e-4 <= factor.min() < 0.76 and 1.24 < factor.max() <= 1.25 + 1e-4
    assert (np.abs(move) <= 0.1 + 1e-4).all()
    assert (move.min(0) < -0.099).all() and (move.max(0) > 0.099).all()
    assert np.abs(np.corrcoef(np.column_stack([factor, move, along > 0]).T) - np.eye(4)).max() < 0.1


def test_same_key_same_result():
    options = {"flip": 0.5, "scale": 0.25, "shift": 0.1}
    (one, one_xy), (other, other_xy) = moved(8, **options), moved(8, **options)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one_xy, other_xy)
    assert len({points.tobytes() for points in one_xy}) == 8


def test_black_where_nothing_was():
    """A white picture at factor f covers f * S pixels of each axis, and the rest is black."""
    pictures, xy = moved(30, picture=np.ones((SIZE, SIZE, 1), np.float32), scale=0.25, shift=0.1)
    factor = (xy[:, 1, 0] - xy[:, 0, 0]) / (XY[1, 0] - XY[0, 0])
    corner = xy[:, 0] - (XY[0] + 0.5) * factor[:, None]  # where the top-left corner went
    first, last = np.clip(corner, -0.5, SIZE - 0.5), np.clip(corner + factor[:, None] * SIZE, -0.5, SIZE - 0.5)
    np.testing.assert_allclose(pictures.sum((1, 2, 3)), np.prod(last - first, axis=-1), rtol=0.04)
    assert pictures.min() >= 0 and pictures.max() <= 1 + 1e-5
