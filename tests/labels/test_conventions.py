"""Where each format has the dot of a hand-drawn picture: y from the bottom, half pixels, pixels from 1, percent, mm.

The picture has 12 columns and 8 rows, and one white pixel: the eighth column from the left, the third row from the top.
The numbers in the files are by hand, from what each program shows where one clicks on the middle of that pixel."""

import json

import numpy as np
import pytest
from PIL import Image

from ctd_jax.labels import by_name
from ctd_jax.labels.told import Pictures, Told

WIDTH, HEIGHT = 12, 8
PICTURE = """
............
............
.......#....
............
............
............
............
............
"""


@pytest.fixture
def told(tmp_path):
    rows = PICTURE.split()
    dark = np.array([[0 if cell == "." else 255 for cell in row] for row in rows], np.uint8)
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(dark).save(folder / "dot.png")
    return Told(Pictures(folder), ("dot",), (0.5, 0.25))


def coco(v=2):
    image = {"id": 7, "file_name": "dot.png", "width": WIDTH, "height": HEIGHT}
    category = {"id": 1, "name": "thing", "keypoints": ["dot"], "skeleton": []}
    annotation = {"id": 1, "image_id": 7, "category_id": 1, "keypoints": [7, 2, v], "bbox": [7, 2, 0, 0]}
    return json.dumps({"images": [image], "categories": [category], "annotations": [annotation]})


def labelme(image="dot.png"):
    """Qt's canvas: the corner of the picture is (0, 0), the middle of its first pixel (0.5, 0.5)."""
    shape = {"label": "dot", "points": [[7.5, 2.5]], "group_id": None, "shape_type": "point", "flags": {}}
    content = {"version": "5.5.0", "flags": {}, "shapes": [shape], "imagePath": image, "imageData": None}
    return json.dumps(content | {"imageHeight": HEIGHT, "imageWidth": WIDTH})


FILES = {
    "coco": ("labels.json", coco()),
    "labelme": ("dot.json", labelme()),
    "pts": ("dot.pts", "version: 1\nn_points: 1\n{\n8 3\n}\n"),
    "tps": ("labels.tps", "LM=1\n7 6\nIMAGE=dot.png\nID=1\n"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_dot_is_where_the_picture_is_white(name, told, tmp_path):
    file, text = FILES[name]
    (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    (picture,) = by_name.read(tmp_path / file, name, told).pictures
    x, y = picture.points["dot"].x, picture.points["dot"].y
    white = np.argwhere(np.asarray(Image.open(told.pictures.root / picture.image)) == 255)
    np.testing.assert_allclose([[y, x]], white, atol=1e-9)


@pytest.mark.parametrize(("v", "state"), [(0, None), (1, True), (2, False)])
def test_v_of_coco(v, state, told, tmp_path):
    (tmp_path / "labels.json").write_text(coco(v))
    (picture,) = by_name.read(tmp_path / "labels.json", "coco", told).pictures
    assert (picture.points["dot"].hidden if "dot" in picture.points else None) is state


def test_labelme_may_lie_in_another_folder(told, tmp_path):
    (tmp_path / "dot.json").write_text(labelme("..\\pictures\\dot.png"))
    (picture,) = by_name.read(tmp_path / "dot.json", "labelme", told).pictures
    assert picture.image == "dot.png"


CURVES = "LM=1\n1 1\nCURVES=2\nPOINTS=2\n2 2\n3 3\nPOINTS=1\n4 4\nIMAGE=dot.png\nID=anna\nSCALE=0.125\n"


def test_curves_of_tps_are_further_points(told, tmp_path):
    (tmp_path / "labels.tps").write_text(CURVES)
    named = Told(told.pictures, ("a", "b", "c", "d"))
    (picture,) = by_name.read(tmp_path / "labels.tps", "tps", named).pictures
    assert [(name, point.x, point.y) for name, point in picture.points.items()] == [
        ("a", 1, 7), ("b", 2, 6), ("c", 3, 5), ("d", 4, 4)
    ]  # fmt: skip
    assert (picture.subject, picture.spacing) == ("anna", (0.125, 0.125))


def test_a_blank_scale_is_no_spacing(told, tmp_path, caplog):
    (tmp_path / "labels.tps").write_text("LM=1\n1 1\nIMAGE=dot.png\nSCALE=\n" + "LM=1\n1 1\nIMAGE=dot.png\nSCALE=2\n")
    found = by_name.read(tmp_path / "labels.tps", "tps", Told(told.pictures))
    assert [picture.spacing for picture in found.pictures] == [None, (2, 2)]
    assert "SCALE is given for 1 of 2 specimens" in caplog.text


@pytest.mark.parametrize("missing", ["-1 -1", "NA NA"])
def test_missing_points_of_tps(missing, told, tmp_path):
    (tmp_path / "labels.tps").write_text(f"LM=2\n{missing}\n7 6\nIMAGE=dot.png\n")
    given = Told(told.pictures, ("gone", "dot"), negative_missing=True)
    (picture,) = by_name.read(tmp_path / "labels.tps", "tps", given).pictures
    assert set(picture.points) == {"dot"}
