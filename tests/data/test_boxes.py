"""Boxes in a csv file of their own, as `predict` reads them."""

import numpy as np
import pytest

from ctd_jax.data.boxes import Box, check_box, read_boxes
from ctd_jax.errors import UserError


def test_a_file_of_boxes(tmp_path):
    file = tmp_path / "boxes.csv"
    file.write_text("image,box_x0,box_y0,box_x1,box_y1\na.png,1,2,3.5,4\n")
    np.testing.assert_array_equal(read_boxes(file)["a.png"].box, [1, 2, 3.5, 4])
    file.write_text("image,box_x0,box_y0,box_x1,box_y1\na.png,,,,\n")
    assert np.isnan(read_boxes(file)["a.png"].box).all()
    file.write_text("image,box_x0,box_y0,box_x1,box_y1\na.png,1,2,0.5,4\n")
    with pytest.raises(UserError, match=r"boxes.csv, row 2: box is .*; expected x0 < x1 and y0 < y1"):
        read_boxes(file)
    file.write_text("image,x0\na.png,1\n")
    with pytest.raises(UserError, match="boxes.csv: expected the columns box_x0, .* found image, x0"):
        read_boxes(file)
    file.write_text("image,box_x0,box_y0,box_x1,box_y1\na.png,1,2,3,4\n./a.png,1,2,3,4\n")
    with pytest.raises(UserError, match=r"boxes.csv, row 3: a.png has another box in .*boxes.csv, row 2"):
        read_boxes(file)


@pytest.mark.parametrize(
    ("box", "inside"),
    [((0, 0, 40, 30), True), ((-9, -9, 0, 0), True), ((41, 0, 50, 9), False), ((0, -9, 9, -1), False)],
)
def test_a_box_lies_in_its_picture_at_least_in_part(box, inside):
    one = Box(np.array(box, float), "row 2")
    if inside:
        one.check_inside(40, 30)
    else:
        with pytest.raises(UserError, match="row 2: the box .* lies outside the picture of 40 x 30 pixels"):
            one.check_inside(40, 30)


def test_a_box_has_an_inside():
    check_box(np.array([1.0, 2.0, 3.0, 4.0]), "row 2")
    for box in ([3, 2, 1, 4], [1, 4, 3, 2], [1, 2, np.nan, 4]):
        with pytest.raises(UserError, match="row 2: box is"):
            check_box(np.array(box, float), "row 2")
