"""What is measured of a picture; the numbers are calculated by hand, or by OpenCV's definition with plain sums."""

import io

import numpy as np
from PIL import Image, ImageFilter

from ctd_jax.inspection import looks


def test_size_brightness_and_thumbnail():
    picture = np.full((200, 400, 3), (30, 60, 90), np.uint8)
    found = looks.look(picture)
    assert found.twin["size"].tolist() == [400, 200] and found.sharpness == 0
    assert abs(found.brightness - (0.299 * 30 + 0.587 * 60 + 0.114 * 90)) < 1  # ITU-R 601
    assert Image.open(io.BytesIO(found.thumbnail)).size == (150, 75)


def test_sharpness_is_the_spread_of_the_laplacian():
    grey = np.zeros((4, 4), np.float32)
    grey[1, 1] = 16
    # the Laplacian has -64 there and 16 at four neighbours: mean square (64 ** 2 + 4 * 16 ** 2) / 16 = 320, mean 0;
    # the picture has mean 1 and mean square 16
    assert np.isclose(looks.sharpness(grey), np.sqrt(320 / (16 - 1)))
    assert np.isclose(looks.sharpness(5 * grey + 3), looks.sharpness(grey))


def test_a_blurred_picture_is_less_sharp():
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    blurred = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(2)))
    assert looks.look(blurred).sharpness < 0.5 * looks.look(picture).sharpness
