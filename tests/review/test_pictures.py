"""A scaled copy, sharp parts, and the grey range of the folder."""

import numpy as np
import pytest
from PIL import Image

from ctd_jax.errors import UserError
from ctd_jax.review.pictures import Pictures


@pytest.mark.slow
def test_a_large_picture_is_a_scaled_copy_and_sharp_parts(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (1100, 2600, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "large.png")
    shown = Pictures(tmp_path, ["large.png"])
    copy, size = shown.whole("large.png")
    assert copy.size == (2048, 866) and size == (2600, 1100)  # 1100 * 2048 / 2600 = 866.5
    for column, row, part in ((0, 0, np.s_[:1024, :1024]), (2, 1, np.s_[1024:, 2048:])):
        np.testing.assert_array_equal(np.asarray(shown.tile("large.png", 1, column, row)), values[part])
    half = np.asarray(shown.tile("large.png", 2, 1, 0))
    assert half.shape == (550, 276, 3)
    np.testing.assert_allclose(half[7, 9], values[14:16, 2066:2068].reshape(4, 3).mean(0), atol=0.5)
    for wrong in ((1, 3, 0), (1, 0, 2), (4, 1, 0), (0, 0, 0)):
        with pytest.raises(UserError, match="large.png has no part"):
            shown.tile("large.png", *wrong)


def test_more_than_8_bits_are_shown_in_the_range_of_the_folder(tmp_path):
    """The same value is the same grey in a picture that has no bright part; what can't be read has no part in it."""
    for name in ("bright", "bright2"):
        Image.fromarray(np.linspace(0, 4095, 600).reshape(20, 30).astype(np.uint16)).save(tmp_path / f"{name}.png")
    Image.fromarray(np.full((20, 30), 200, np.uint16)).save(tmp_path / "dark.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    shown = Pictures(tmp_path, ["bright.png", "bright2.png", "dark.png", "bad.png"])
    assert set(np.asarray(shown.whole("dark.png")[0]).ravel()) == {round(200 * 255 / 4095)}
    with pytest.raises(UserError, match="bad.png"):
        shown.whole("bad.png")


def test_a_picture_that_has_changed_is_read_again(tmp_path):
    path = tmp_path / "a.png"
    shown = Pictures(tmp_path, ["a.png"])
    for grey in (10, 90):
        Image.new("L", (5, 4), grey).save(path)
        assert shown.whole("a.png")[0].getpixel((0, 0)) == grey


def test_colour_in_a_single_pixel_is_kept(tmp_path):
    picture = Image.new("RGB", (5, 4), (7, 7, 7))
    picture.putpixel((3, 2), (7, 7, 8))
    picture.save(tmp_path / "a.png")
    assert Pictures(tmp_path, ["a.png"]).whole("a.png")[0].getpixel((3, 2)) == (7, 7, 8)
