"""Picture -> network frame -> heatmap -> back: as numbers, and by where drawn blobs are found."""

import jax.numpy as jnp
import numpy as np
import pytest

from ctd_jax.data import Frame
from ctd_jax.tasks.landmarks import heatmaps

SIZES = [(100, 50), (37, 91), (64, 64), (1935, 2400), (31, 30), (640, 41)]  # width, height
BOXES = [(20.0, 10.0, 80.0, 70.0), (-15.5, 30.25, 40.0, 60.0), (70.3, 60.7, 130.1, 95.2)]  # in 101 x 83


def blob(width, height, centre, sigma):
    """`[H, W, 3]` uint8, a Gaussian of brightness 250 on black."""
    rows, columns = np.mgrid[:height, :width]
    value = 250 * np.exp(-((columns - centre[0]) ** 2 + (rows - centre[1]) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(value).astype(np.uint8)[..., None], 3, axis=2)


def centroid(picture):
    weight = picture[..., 0].astype(float)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def test_letterbox_by_hand():
    """100 x 50 seen at 25: a quarter; 12.5 rows of picture between 6.25 rows of black on either side."""
    frame = Frame.fit(100, 50, 25)
    edges = np.array([[-0.5, -0.5], [99.5, 49.5]])
    np.testing.assert_allclose(frame.to_network(edges), [[-0.5, 5.75], [24.5, 18.25]])
    np.testing.assert_allclose(frame.to_network(np.array([0, 0])), [-0.375, 5.875])
    assert frame.scale == 0.25


def test_box_and_margin_by_hand():
    """A box of 40 x 20 with a quarter of margin: a square of 60 about its middle (30, 40), seen at 120."""
    frame = Frame.fit(200, 300, 120, np.array([10, 30, 50, 50]), 0.25)
    assert frame.scale == 2
    network = frame.to_network(np.array([[30, 40], [0, 10], [60, 70]]))
    np.testing.assert_allclose(network, [[59.5, 59.5], [-0.5, -0.5], [119.5, 119.5]])


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_is_squeezed(width, height):
    frame = Frame.fit(width, height, 96)
    steps = frame.to_network(np.array([[0, 0], [1, 0], [0, 1]]))
    along_x, along_y = np.linalg.norm(steps[1:] - steps[0], axis=-1)
    assert along_x == pytest.approx(along_y) == pytest.approx(96 / max(width, height))
    edges = frame.to_network(np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]]))
    assert (edges >= -0.5 - 1e-9).all() and (edges <= 95.5 + 1e-9).all()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("stride", [2, 4])
def test_coordinates_come_back(width, height, stride):
    """In the precision that the step has: float32 in the network's frame and in the heatmap."""
    frame = Frame.fit(width, height, 96)
    xy = np.random.default_rng(0).uniform(-0.5, (width - 0.5, height - 0.5), (50, 2))
    network = frame.to_network(xy).astype(np.float32)
    np.testing.assert_allclose(frame.to_picture(network), xy, atol=1e-3)
    drawn = heatmaps.draw(jnp.asarray(network), size=96, stride=stride, sigma=1.5)
    decoded, _ = heatmaps.decode(drawn, stride=stride)
    np.testing.assert_allclose(frame.to_picture(np.asarray(decoded, np.float64)), xy, atol=1e-3)


@pytest.mark.parametrize("size", [48, 97, 224])
@pytest.mark.parametrize(("width", "height"), [(100, 50), (37, 91), (251, 63), (101, 83)])
def test_picture_and_points_agree(width, height, size):
    for centre in np.random.default_rng(1).uniform(0.3, 0.7, (3, 2)) * (width, height):
        frame = Frame.fit(width, height, size)
        sigma = max(2.0, 1.5 / frame.scale)
        found = centroid(frame.resample(blob(width, height, centre, sigma)))
        np.testing.assert_allclose(found, frame.to_network(centre), atol=0.05)


@pytest.mark.parametrize("margin", [0.0, 0.25])
@pytest.mark.parametrize("box", BOXES)
def test_picture_and_points_agree_in_a_box(box, margin):
    centre = np.array([(max(box[0], 8) + min(box[2], 92)) / 2 + 0.3, (box[1] + min(box[3], 76)) / 2 - 0.4])
    frame = Frame.fit(101, 83, 112, np.array(box), margin)
    found = centroid(frame.resample(blob(101, 83, centre, 2.0)))
    np.testing.assert_allclose(found, frame.to_network(centre), atol=0.05)


@pytest.mark.parametrize(("width", "height", "box"), [(101, 83, b) for b in (None, *BOXES)] + [(37, 91, None)])
def test_black_where_there_is_no_picture(width, height, box):
    frame = Frame.fit(width, height, 64, None if box is None else np.array(box), 0.1)
    white = frame.resample(np.full((height, width, 3), 255, np.uint8))[..., 0]
    rows, columns = np.mgrid[:64, :64]
    corners = [frame.to_picture(np.stack([columns + dx, rows + dy], -1)) for dx in (-0.5, 0.5) for dy in (-0.5, 0.5)]
    within = np.all([((c > -0.5 - 1e-6) & (c < (width - 0.5 + 1e-6, height - 0.5 + 1e-6))).all(-1) for c in corners], 0)
    np.testing.assert_array_equal(white, np.where(within, 255, 0))


def test_a_box_far_from_the_picture_is_black():
    frame = Frame.fit(50, 40, 32, np.array([100.0, 100.0, 120.0, 130.0]))
    assert frame.resample(np.full((40, 50, 3), 255, np.uint8)).max() == 0


def test_shrinking_averages():
    """A chequerboard of single pixels becomes grey: no aliasing."""
    board = np.indices((256, 256)).sum(0) % 2 * 255
    seen = Frame.fit(256, 256, 32).resample(np.repeat(board[..., None], 3, 2).astype(np.uint8))
    assert np.abs(seen.astype(int) - 127).max() < 12
