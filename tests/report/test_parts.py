"""The files of a run, as the pages read them."""

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from ctd_jax import files
from ctd_jax.report import parts


def test_rows_of_a_file(tmp_path):
    files.write_csv(tmp_path / "a.csv", ("image", "n"), [(files.cell("=1+1.png"), "3"), ("b.png", "")])
    assert parts.rows(tmp_path / "a.csv") == [{"image": "=1+1.png", "n": "3"}, {"image": "b.png", "n": ""}]
    assert parts.rows(tmp_path / "none.csv") == []


def test_an_empty_cell_of_the_log_is_nan(tmp_path):
    (tmp_path / "log.csv").write_text("step,loss,val_error\n10,0.5,\n20,0.25,6.5\n")
    assert parts.log(tmp_path / "log.csv") == {
        "step": [10, 20],
        "loss": [0.5, 0.25],
        "val_error": [pytest.approx(math.nan, nan_ok=True), 6.5],
    }
    assert parts.log(tmp_path / "none.csv") == {}


def test_pictures_and_subjects_of_each_split_are_counted():
    rows = [{"split": split, "subject": subject} for split, subject in (("val", "a"), ("train", "b"), ("train", "b"))]
    assert parts.counts(rows) == [("val", 1, 1), ("train", 2, 1)]


def test_settings_have_dotted_keys():
    config = {"seed": 7, "data": {"root": "x", "deep": {"budget": None}}, "empty": {}, "layers": ["a", 1]}
    assert dict(parts.flat(config)) == {
        "seed": "7", "data.root": "x", "data.deep.budget": "null", "empty": "{}", "layers": '["a", 1]'
    }  # fmt: skip


def test_a_picture_in_the_page_is_the_picture():
    address = parts.jpeg(Image.fromarray(np.full((8, 4, 3), 100, np.uint8)))
    kind, _, content = address.partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.size == (4, 8) and abs(image.getpixel((2, 2))[0] - 100) < 3
