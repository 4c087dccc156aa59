"""Segmentation folders: what is wrong with one is said with file and row."""

import re

import numpy as np
import pytest
import segmentation_folder
from segmentation_folder import load

from ctd_jax.errors import UserError


@pytest.fixture
def root(tmp_path):
    return segmentation_folder.write(tmp_path / "anatomies")


def without(root, column):
    rows, i = segmentation_folder.read_rows(root), segmentation_folder.COLUMNS.index(column)
    columns = [name for name in segmentation_folder.COLUMNS if name != column]
    segmentation_folder.write_rows(root, [row[:i] + row[i + 1 :] for row in rows], columns)


def edit(root, number, column, value):
    rows = segmentation_folder.read_rows(root)
    rows[number][segmentation_folder.COLUMNS.index(column)] = value
    segmentation_folder.write_rows(root, rows)


MASK = "heads/2_mask.png"
MISTAKES = {
    "undeclared": (
        lambda r: segmentation_folder.change(r / MASK, lambda m: m + (m == 2)),
        "2_mask.png has the value 3, but classes.json declares 3 classes for 'heads': 0 to 2",
    ),
    "size": (
        lambda r: segmentation_folder.change(r / MASK, lambda m: m[:, 1:]),
        "2_mask.png has 39 x 32 pixels, its picture 40 x 32",
    ),
    "empty": (lambda r: segmentation_folder.change(r / MASK, lambda m: 0 * m), "2_mask.png is empty"),
    "colours": (
        lambda r: segmentation_folder.change(r / MASK, lambda m: np.repeat(m[..., None], 3, 2)),
        "2_mask.png: a class map has one channel of 8 bits, this file has mode RGB",
    ),
    "no map": (lambda r: (r / MASK).unlink(), "row 4: class map heads/2_mask.png does not exist"),
    "not a map": (lambda r: (r / MASK).write_text("x"), "2_mask.png: not a readable class map"),
    "no picture": (lambda r: (r / "heads/2.png").unlink(), "row 4: picture heads/2.png does not exist"),
    "domain": (
        lambda r: edit(r, 2, "domain", "hands"),
        "row 4: domain is 'hands', which classes.json does not have; it has heads, spines",
    ),
    "twice": (lambda r: edit(r, 2, "image", "heads/1.png"), "row 4: heads/1.png was already listed in .*row 3"),
    "one name": (
        lambda r: ((r / "heads/2.png").rename(r / "1.png"), edit(r, 2, "image", "1.png")),
        "row 4: 1.png and heads/1.png are of one domain, and would both be called heads/1.png; rename one",
    ),
    "half a spacing": (lambda r: edit(r, 2, "spacing_x_mm", ""), "row 4: spacing is .*two positive numbers"),
    "column": (lambda r: without(r, "mask"), "no column `mask`, found image, domain"),
    "some spacing": (
        lambda r: (edit(r, 2, "spacing_x_mm", ""), edit(r, 2, "spacing_y_mm", "")),
        "1 of the 8 pictures of domain 'heads' have no spacing",
    ),
    "one picture": (
        lambda r: segmentation_folder.write_rows(r, segmentation_folder.read_rows(r)[7:]),
        "domain 'heads' of classes.json has one picture",
    ),
    "no classes": (lambda r: (r / "classes.json").unlink(), "classes.json: no such file; expected the names"),
    "no json": (lambda r: (r / "classes.json").write_text("{"), "classes.json: not JSON"),
    "list": (lambda r: (r / "classes.json").write_text("[]"), "classes.json: expected "),
    "one class": (
        lambda r: (r / "classes.json").write_text('{"heads": ["background"], "spines": ["a", "b"]}'),
        "'heads' has .*expected two different names or more",
    ),
    "a domain twice": (
        lambda r: (r / "classes.json").write_text('{"heads": ["a", "b"], "heads": ["a", "b"]}'),
        "the key 'heads' stands twice",
    ),
    "slash": (
        lambda r: (r / "classes.json").write_text('{"he/ads": ["a", "b"]}'),
        "'he/ads' is no name of a domain",
    ),
    "no train": (
        lambda r: [edit(r, i, "split", "test") for i in range(8)],
        "domain heads: no training pictures",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_wrong_with_a_folder(mistake, root, tmp_path):
    change, message = MISTAKES[mistake]
    change(root)
    with pytest.raises(UserError, match=f"(?s){message}"):
        load(root, tmp_path)


def test_a_class_map_of_two_pictures_is_named(root, tmp_path, caplog):
    edit(root, 2, "mask", "heads/1_mask.png")
    load(root, tmp_path)
    text = "row 4: heads/1_mask.png, the class map of .*segmentation.csv, row 3; of which picture is it"
    assert re.search(f"1 of 16 rows have the class map of another picture; first .*{text}", caplog.text)


def test_the_numbers_of_rows_that_pandas_writes_make_no_other_rows(root, tmp_path):
    """A first column without a name: one picture in two domains is still listed twice."""
    rows = segmentation_folder.read_rows(root)
    twin = [*rows[0][:2], rows[-1][2], *rows[0][3:]]
    numbered = [[str(i), *row] for i, row in enumerate([*rows, twin])]
    segmentation_folder.write_rows(root, numbered, ("", *segmentation_folder.COLUMNS))
    with pytest.raises(UserError, match="was already listed in"):
        load(root, tmp_path)


def test_a_folder_of_landmarks_is_none_of_class_maps(landmark_folder, tmp_path):
    with pytest.raises(UserError, match=r"segmentation.csv: no such file; `data.root` expects a folder with"):
        load(landmark_folder(people=4), tmp_path)
