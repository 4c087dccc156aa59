"""Pictures, landmarks, heatmaps and class maps move together, and grey values change as far as is asked."""

import functools

import jax
import numpy as np
import pytest
from scipy import ndimage

from ctd_jax.data import Affine, Augmentation, augment
from ctd_jax.tasks.landmarks import heatmaps

SIZE = 64
ORDER = (1, 0, 2)  # the first two swap, the third is its own mirror image
XY = np.array([[20.3, 30.6], [41.8, 28.2], [31.0, 40.4]], np.float32)
ALL_PLACES = {"flip": 0.5, "scale": 0.25, "shift": 0.05, "rotation": 30.0, "aspect": 0.2}


def blobs():
    """`[S, S, K]`: landmark k is a Gaussian in channel k."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.exp(-((columns[..., None] - XY[:, 0]) ** 2 + (rows[..., None] - XY[:, 1]) ** 2) / 8).astype(np.float32)


def noisy(size=SIZE, channels=3):
    return np.random.default_rng(5).integers(0, 256, (size, size, channels), np.uint8)


def centroids(pictures):
    rows, columns = np.mgrid[:SIZE, :SIZE]
    mass = pictures.sum((1, 2))
    return np.stack([np.einsum("nhwk,hw->nk", pictures, c) / mass for c in (columns, rows)], axis=-1)


def affine(matrix, offset=(0.0, 0.0)):
    return Affine(np.array(matrix, np.float32), np.array(offset, np.float32))


@functools.partial(jax.jit, static_argnames=("number", "augmentation"))
def _drawn(seed, number, augmentation):
    keys = jax.random.split(jax.random.key(seed), number)
    return jax.vmap(lambda key: augment.random_affine(key, augmentation))(keys)


def drawn(number, seed=0, **options):
    """`number` maps, one after the other, as NumPy has them."""
    maps = jax.device_get(_drawn(seed, number, Augmentation(**options)))
    return list(map(Affine, *maps))


move_picture, move_points = jax.jit(augment.move_picture), jax.jit(augment.move_points)


@functools.partial(jax.jit, static_argnames=("augmentation", "flip_order"))
def _moved(keys, picture, xy, augmentation, flip_order):
    def move(key):
        one = augment.random_affine(key, augmentation, mirrors=flip_order is not None)
        points = augment.swap_pairs(one, augment.move_points(one, xy, len(picture)), flip_order)
        return augment.move_picture(one, picture), points

    return jax.vmap(move)(keys)


def moved(number, *, picture=None, xy=XY, flip_order=ORDER, seed=0, **options):
    """`[n, S, S, C]` pictures and `[n, K, 2]` points under n keys."""
    keys = jax.random.split(jax.random.key(seed), number)
    picture = blobs() if picture is None else picture
    return [np.asarray(x) for x in _moved(keys, picture, xy, Augmentation(**options), flip_order)]


def sampled(picture, one):
    """`[S, S, C]`: a picture under a map by SciPy, as the docstring of `move_picture` says it."""
    matrix, offset = np.asarray(one.matrix, np.float64), np.asarray(one.offset, np.float64)
    size = len(picture)
    rows, columns = np.mgrid[:size, :size]
    centre = (size - 1) / 2
    there = np.stack([columns - centre, rows - centre]) - size * offset[:, None, None]
    x, y = np.einsum("ij,jhw->ihw", np.linalg.inv(matrix), there) + centre
    inside = (np.abs(x - centre) <= size / 2) & (np.abs(y - centre) <= size / 2)
    planes = [
        ndimage.map_coordinates(picture[..., c].astype(float), [y, x], order=1, mode="nearest")
        for c in range(picture.shape[-1])
    ]
    clear = np.minimum.reduce([np.abs(np.abs(place - centre) - size / 2) for place in (x, y)]) > 1e-3
    return inside[..., None] * np.stack(planes, axis=-1), clear


# ---------------------------------------------------------------- today's flip, scale and shift


def test_nothing_asked_nothing_done():
    pictures, xy = moved(3, picture=noisy())
    np.testing.assert_array_equal(pictures, np.broadcast_to(noisy(), pictures.shape))
    np.testing.assert_array_equal(xy, np.broadcast_to(XY, xy.shape))


def test_mirror_by_hand():
    pictures, xy = moved(1, picture=noisy(), flip=1.0)
    np.testing.assert_array_equal(pictures[0], noisy()[:, ::-1])
    np.testing.assert_allclose(xy[0], [[63 - 41.8, 28.2], [63 - 20.3, 30.6], [63 - 31.0, 40.4]], atol=1e-5)


def test_mirrored_twice_is_unchanged():
    once, once_xy = moved(1, flip=1.0)
    twice, twice_xy = moved(1, picture=once[0], xy=once_xy[0], flip=1.0)
    np.testing.assert_allclose(twice[0], blobs(), atol=1e-6)
    np.testing.assert_allclose(twice_xy[0], XY, atol=1e-5)


def test_without_pairs_nothing_is_mirrored():
    _, xy = moved(20, flip=1.0, flip_order=None)
    np.testing.assert_allclose(xy, np.broadcast_to(XY, xy.shape), atol=1e-5)


def test_the_draws_of_older_runs():
    """Points and pixels as the first version gave them, by `jax.image.scale_and_translate`, for the same keys."""
    points = [
        [[15.567, 29.2481], [42.3083, 32.2332], [28.9999, 44.4223]],
        [[24.8286, 31.1681], [43.5246, 33.2551], [34.2201, 41.777]],
        [[18.9715, 27.5032], [45.0666, 24.5902], [31.9584, 39.3977]],
        [[26.115, 25.6651], [43.3159, 27.5852], [34.7554, 35.4256]],
    ]
    row = [
        [106.486, 99.3, 148.909, 181.447],
        [0.0, 186.82, 121.418, 135.992],
        [45.795, 112.416, 82.931, 197.698],
        [0.0, 176.362, 219.638, 0.0],
    ]
    pictures, xy = moved(4, picture=noisy(), seed=7, flip=0.5, scale=0.25, shift=0.05)
    np.testing.assert_allclose(xy, points, atol=2e-4)
    np.testing.assert_allclose(pictures[:, 20, ::20, 0], row, atol=1e-2)


@pytest.mark.slow
def test_scale_and_shift_as_jax_has_them():
    """The whole picture, its border too."""
    picture = noisy()

    @jax.jit
    def wanted(factors, moves):
        grey = picture.astype(np.float32)
        return jax.image.scale_and_translate(grey, picture.shape, (0, 1), factors, moves, "linear", antialias=False)

    for one in drawn(20, scale=0.4, shift=0.2):
        factor = one.matrix[0, 0]
        move = one.offset * SIZE + (1 - factor) * SIZE / 2
        want = wanted(np.full(2, factor), move[::-1])
        np.testing.assert_allclose(move_picture(one, picture), want, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"scale": 0.25}, {"shift": 0.1}, {"rotation": 40.0}, {"aspect": 0.3}, ALL_PLACES])
def test_a_blob_moves_with_its_landmark(options):
    pictures, xy = moved(64, **options)
    found = centroids(pictures)
    back = np.array([np.linalg.det(one.matrix) < 0 for one in drawn(64, **options)])
    want = np.where(back[:, None, None], xy[:, list(ORDER)], xy)  # channels know nothing of pairs
    np.testing.assert_allclose(found, want, atol=0.03)
    assert back.any() == bool(options.get("flip")) and not back.all()


def test_same_key_same_result():
    (one, one_xy), (other, other_xy) = moved(8, **ALL_PLACES), moved(8, **ALL_PLACES)
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


# ---------------------------------------------------------------- one map


def test_points_by_hand():
    """A quarter turn clockwise about the centre (31.5, 31.5), then a tenth of 64 to the right."""
    quarter = affine([[0, -1], [1, 0]], (0.1, 0.0))
    np.testing.assert_allclose(move_points(quarter, np.float32([41.5, 30.5]), 64), [31.5 + 1 + 6.4, 41.5])
    half_size = move_points(quarter, np.float32([20.5, 15.0]), 32)  # the same place in a map of 32 cells
    np.testing.assert_allclose(half_size, [15.5 + 0.5 + 3.2, 20.5], atol=1e-6)


@pytest.mark.slow
def test_how_often_and_how_far():
    """Over 4000 keys: half are mirrored; every number fills its range, and none depends on another."""
    options = {"flip": 0.5, "scale": 0.25, "shift": 0.1, "rotation": 30.0, "aspect": 0.2}
    maps = jax.device_get(_drawn(0, 4000, Augmentation(**options)))
    matrix, offset = maps.matrix.astype(np.float64), maps.offset
    determinant = np.linalg.det(matrix)
    mirrored = determinant < 0
    np.testing.assert_array_equal(mirrored, jax.jit(jax.vmap(lambda one: one.mirrored))(maps))
    unmirrored = matrix * np.where(mirrored, -1, 1)[:, None, None] ** [1, 0]
    factor = np.sqrt(np.abs(determinant))
    angle = np.degrees(np.arctan2(unmirrored[:, 1, 0], unmirrored[:, 0, 0]))
    aspect = np.log(np.hypot(*unmirrored[:, :, 0].T) / factor)
    right = np.radians(angle)
    back = np.array([[np.cos(right), np.sin(right)], [-np.sin(right), np.cos(right)]]).transpose(2, 0, 1)
    np.testing.assert_allclose((back @ unmirrored)[:, [0, 1], [1, 0]], 0, atol=1e-6)  # a rotation of a stretching
    assert 0.47 < mirrored.mean() < 0.53
    most = np.log(1.2)
    ranges = [(factor, 0.75, 1.25), (angle, -30, 30), (aspect, -most, most), *((x, -0.1, 0.1) for x in offset.T)]
    for values, low, high in ranges:
        part = (values - low) / (high - low)
        assert -1e-4 <= part.min() < 0.01 and 0.99 < part.max() <= 1 + 1e-4
        np.testing.assert_allclose(np.histogram(part, 4, (0, 1))[0] / 4000, 0.25, atol=0.03)
    columns = np.column_stack([*(values for values, _, _ in ranges), mirrored])
    assert np.abs(np.corrcoef(columns.T) - np.eye(6)).max() < 0.06


@pytest.mark.slow
def test_a_picture_as_scipy_moves_it():
    picture = noisy()
    for one in drawn(20, flip=0.5, scale=0.3, shift=0.2, rotation=180.0, aspect=0.3):
        want, clear = sampled(picture, one)
        found = np.asarray(move_picture(one, picture))
        np.testing.assert_allclose(found[clear], want[clear], atol=2e-2)
        assert clear.mean() > 0.98 and (want == 0).any() and found.dtype == np.float32


def test_classes_as_the_nearest_pixel_has_them():
    classes = noisy(channels=1)[..., 0].astype(np.int32)
    move_classes = jax.jit(functools.partial(augment.move_classes, outside=-1))
    for one in drawn(20, flip=0.5, scale=0.3, shift=0.2, rotation=180.0, aspect=0.3):
        found = np.asarray(move_classes(one, classes))
        matrix, offset = np.asarray(one.matrix, np.float64), np.asarray(one.offset, np.float64)
        for row, column in np.random.default_rng(0).integers(0, SIZE, (200, 2)):
            x, y = np.linalg.solve(matrix, np.array([column, row]) - 31.5 - SIZE * offset) + 31.5
            if min(abs(x % 1 - 0.5), abs(y % 1 - 0.5)) < 1e-3:
                continue  # between two pixels
            nearest = round(y), round(x)
            inside = all(0 <= place < SIZE for place in nearest)
            assert found[row, column] == (classes[nearest] if inside else -1)


@pytest.mark.slow
def test_one_map_for_points_and_heatmaps_of_another_resolution():
    """Heatmaps of a quarter of the side, moved, are those of the moved points."""

    @jax.jit
    def moved_maps(one):
        before = heatmaps.draw(XY, size=SIZE, stride=4, sigma=2.0)
        return heatmaps.decode(augment.move_picture(one, before), stride=4)[0]

    for one in drawn(10, seed=2, scale=0.1, shift=0.05, rotation=20.0, aspect=0.1, flip=0.5):
        np.testing.assert_allclose(moved_maps(one), move_points(one, XY, SIZE), atol=0.6)


@pytest.mark.slow
def test_back_and_from_one_frame_into_another():
    one, other = drawn(2, seed=4, **ALL_PLACES)
    in_one = move_points(one, XY, SIZE)
    back = jax.jit(Affine.inverse)(one)
    np.testing.assert_allclose(move_points(back, in_one, SIZE), XY, atol=1e-4)
    across = jax.device_get(jax.jit(Affine.after)(other, back))
    np.testing.assert_allclose(move_points(across, in_one, SIZE), move_points(other, XY, SIZE), atol=1e-4)
    assert bool(across.mirrored) == (bool(one.mirrored) != bool(other.mirrored))


def test_left_and_right_are_exchanged_in_a_mirror_image_only():
    values = np.arange(12.0).reshape(4, 3)
    mirror, turn = affine([[-1, 0], [0, 1]]), affine([[-1, 0], [0, -1]])
    swapped = jax.jit(augment.swap_pairs, static_argnames=("flip_order", "axis"))
    np.testing.assert_array_equal(swapped(mirror, values, ORDER, axis=1), values[:, [1, 0, 2]])
    np.testing.assert_array_equal(swapped(turn, values, ORDER, axis=1), values)
    np.testing.assert_array_equal(swapped(mirror, values, None, axis=1), values)
    np.testing.assert_array_equal(swapped(mirror, values.T, ORDER), values.T[[1, 0, 2]])


# ---------------------------------------------------------------- grey values


def changed(number, picture, **options):
    """`[n, S, S, C]` under n keys."""
    keys = jax.random.split(jax.random.key(0), number)
    change = functools.partial(augment.change_greys, augmentation=Augmentation(**options))
    return np.asarray(jax.jit(jax.vmap(change, (0, None)))(keys, picture), np.float64)


def fills(values, low, high):
    part = (np.asarray(values) - low) / (high - low)
    return (part >= -1e-3).all() and (part <= 1 + 1e-3).all() and part.min() < 0.08 and part.max() > 0.92


def test_places_leave_greys_alone():
    picture = noisy()
    assert augment.change_greys(jax.random.key(0), picture, Augmentation(**ALL_PLACES)) is picture


def test_brightness_is_added():
    found = changed(200, np.full((4, 4, 3), 120, np.uint8), brightness=0.2)
    assert (found == found[:, :1, :1, :1]).all() and fills(found[:, 0, 0, 0] - 120, -51, 51)


def test_contrast_is_a_factor_about_the_middle_grey():
    picture = np.array([[[100.0], [127.5]], [[137.5], [140.0]]], np.float32)
    found = changed(200, picture, contrast=0.4)[..., 0] - 127.5
    factor = found[:, 1, 0] / 10
    np.testing.assert_allclose(found, factor[:, None, None] * (picture[..., 0] - 127.5), atol=1e-4)
    assert fills(factor, 0.6, 1.4)


def test_gamma_is_an_exponent():
    picture = np.array([[[0.0], [64.0]], [[200.0], [255.0]]], np.float32)
    found = changed(300, picture, gamma=0.5)[..., 0]
    gamma = np.log(found[:, 0, 1] / 255) / np.log(64 / 255)
    np.testing.assert_allclose(found, 255 * (picture[..., 0] / 255) ** gamma[:, None, None], atol=1e-2)
    assert fills(np.log(gamma), -np.log(1.5), np.log(1.5)) and 0.4 < (gamma < 1).mean() < 0.6


def test_colour_is_a_factor_of_each_channel():
    found = changed(200, np.full((2, 2, 3), 100, np.uint8), colour=0.3)
    assert (found == found[:, :1, :1]).all()
    gain = found[:, 0, 0] / 100
    assert all(fills(gain[:, channel], 0.7, 1.3) for channel in range(3))
    assert np.abs(np.corrcoef(gain.T) - np.eye(3)).max() < 0.25


@pytest.mark.slow
def test_blur_as_scipy_does_it():
    """The sigma of each key is read from a point of light, whose second moment it is."""
    light = np.zeros((SIZE, SIZE, 1), np.float32)
    light[32, 32] = 255
    spread = changed(60, light, blur=0.04)[..., 0] / 255
    sigma = np.sqrt(np.einsum("nhw,w->n", spread, (np.arange(SIZE) - 32.0) ** 2))
    assert sigma.max() < 0.04 * SIZE and fills(sigma[sigma > 0.5], 0.5, 0.04 * SIZE)  # a smaller one is below a pixel
    np.testing.assert_allclose(spread.sum((1, 2)), 1, atol=1e-5)
    picture = noisy(channels=1)
    for found, one in zip(changed(60, picture, blur=0.04), sigma, strict=True):
        if one > 1:
            want = ndimage.gaussian_filter(picture[..., 0].astype(float), one, truncate=6)
            np.testing.assert_allclose(found[16:-16, 16:-16, 0], want[16:-16, 16:-16], atol=0.2)
    plain = changed(5, np.full((SIZE, SIZE, 3), 77, np.uint8), blur=0.04)
    np.testing.assert_allclose(plain, 77, atol=1e-3)  # at the edge too


def test_noise_is_gaussian_and_of_one_grey():
    found = changed(100, np.full((SIZE, SIZE, 3), 127, np.uint8), noise=0.1) - 127
    assert (found == found[..., :1]).all()
    sigma = found[..., 0].std((1, 2))
    assert fills(sigma, 0, 26)  # 25.5, and what 4096 pixels leave uncertain
    standard = found[sigma > 5, ..., 0] / sigma[sigma > 5, None, None]
    shares = [(np.abs(standard) < limit).mean() for limit in (1, 2, 3)]
    np.testing.assert_allclose(shares, [0.6827, 0.9545, 0.9973], atol=0.003)
    assert np.abs(np.corrcoef(standard.reshape(len(standard), -1)) - np.eye(len(standard))).max() < 0.1


@pytest.mark.slow
def test_occlusion_is_a_rectangle_of_one_grey():
    picture = np.random.default_rng(0).uniform(0, 255, (SIZE, SIZE, 3)).astype(np.float32)
    found = changed(400, picture, occlusion=0.5)
    widths, heights, greys, centres = [], [], [], []
    for one in found:
        covered = (one != picture).any(-1)
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        if not len(rows):
            continue
        np.testing.assert_array_equal(covered, np.outer(covered.any(1), covered.any(0)))
        np.testing.assert_allclose(one[covered], one[rows[0], columns[0], 0], atol=1e-3)
        assert np.ptp(rows) == len(rows) - 1 and np.ptp(columns) == len(columns) - 1
        if min(rows[0], columns[0]) > 0 and max(rows[-1], columns[-1]) < SIZE - 1:
            widths.append(len(columns)), heights.append(len(rows))
        greys.append(one[rows[0], columns[0], 0]), centres.append((rows.mean(), columns.mean()))
    assert len(greys) > 370 and max(widths) > 29 and max(heights) > 29 and max(widths + heights) <= 33
    assert fills(greys, 0, 255) and np.std(widths) > 6 and abs(np.corrcoef(widths, heights)[0, 1]) < 0.2
    assert fills(np.array(centres)[:, 0], 0, SIZE - 1) and fills(np.array(centres)[:, 1], 0, SIZE - 1)


def test_greys_stay_in_their_range():
    options = {"brightness": 0.5, "contrast": 0.5, "gamma": 1.0, "colour": 0.5, "noise": 0.3, "blur": 0.02}
    found = changed(50, noisy(), occlusion=0.5, **options)
    assert found.min() == 0 and found.max() == 255


@pytest.mark.slow
def test_a_key_changes_greys_one_way_whatever_else_is_on():
    """Brightness is that of the key, with the other changes or without; and it does not go with the place."""
    picture = np.full((8, 8, 3), 120, np.uint8)
    alone = changed(200, picture, brightness=0.2)[:, 0, 0, 0]
    beside = changed(200, picture, brightness=0.2, **ALL_PLACES)[:, 0, 0, 0]
    np.testing.assert_array_equal(alone, beside)
    turned = [float(np.arctan2(one.matrix[1, 0], one.matrix[0, 0])) for one in drawn(200, rotation=30.0)]
    moves = [float(one.offset[0]) for one in drawn(200, shift=0.1)]
    assert max(abs(np.corrcoef(alone, other)[0, 1]) for other in (turned, moves)) < 0.2
