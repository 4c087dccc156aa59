"""Which pictures and landmarks are reviewed."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

from ctd_jax.errors import UserError
from ctd_jax.review import folder


def pictures(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(root / name)
    return root


def labelled(root, rows, landmarks=("a", "b")):
    with (root / "landmarks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "a_x", "a_y", "b_x", "b_y"], *rows])
    (root / "dataset.json").write_text(json.dumps({"name": "x", "landmarks": landmarks}))


def test_a_landmark_folder_with_further_pictures(tmp_path):
    pictures(tmp_path, "1.png", "2.png", "0.png", "sub/3.png")
    labelled(tmp_path, [["2.png", 1, 2, "", ""], ["1.png", "", "", "", ""]])
    found = folder.read(tmp_path)
    assert found.names == ("a", "b") and found.images == ("2.png", "1.png", "0.png", "sub/3.png")
    placed = {"x": 1.0, "y": 2.0, "state": "placed", "how": "label"}
    absent = {"x": None, "y": None, "state": "absent", "how": "label"}
    assert found.labels == {"2.png": {"a": placed, "b": absent}}


def test_a_picture_of_another_spelling_is_there_once(tmp_path, monkeypatch):
    """Also on a disk that ignores capitals, where the name of the row leads to the file."""
    pictures(tmp_path, "a.png", "sub/IMG.jpg", "other.png")
    labelled(tmp_path, [["./a.png", 1, 2, "", ""], ["sub/../sub/IMG.jpg", 1, 2, "", ""]])
    assert folder.read(tmp_path).images == ("a.png", "sub/IMG.jpg", "other.png")
    labelled(tmp_path, [["A.png", 1, 2, "", ""], ["sub/IMG.JPG", 1, 2, "", ""]])
    there = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: there(path) or there(os.fspath(path).replace("A.png", "a.png"))
                        or there(os.fspath(path).replace(".JPG", ".jpg")))  # fmt: skip
    assert folder.read(tmp_path).images == ("A.png", "sub/IMG.JPG", "other.png")


def test_two_pictures_whose_names_differ_in_capitals_are_two(tmp_path):
    pictures(tmp_path, "IMG.JPG", "IMG.jpg")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this disk ignores capitals")
    labelled(tmp_path, [["IMG.JPG", 1, 2, "", ""]])
    assert folder.read(tmp_path).images == ("IMG.JPG", "IMG.jpg")


def test_a_folder_of_pictures_with_names(tmp_path):
    pictures(tmp_path, "1.png", "2.png")
    assert folder.read(tmp_path, ["tip", "base"]).names == ("tip", "base")
    begun = [{"id": "open", "kind": "open", "landmarks": ["tip"]}]
    assert folder.read(tmp_path, proposed=lambda: ("chin",)).names == ("chin",)
    found = folder.read(tmp_path, (), begun, lambda: ("chin",))
    assert (found.names, found.images, found.labels, found.table) == (("tip",), ("1.png", "2.png"), {}, None)
    (tmp_path / "dataset.json").write_text('{"landmarks": ["x"]}')
    assert folder.read(tmp_path).names == ("x",)


@pytest.mark.parametrize(
    ("names", "begun", "about", "said"),
    [
        ((), (), None, "--landmarks=a,b,c"),
        (("a", "a"), (), None, "named twice"),
        (("a", " "), (), None, "no name of a landmark"),
        (("a",), (), '{"landmarks": ["b"]}', "has its own, b; leave out the flag"),
        (("a",), ("b",), None, "this review began with b"),
        ((), (), '{"names": ["b"]}', "expected `landmarks`"),
    ],
)
def test_names_that_are_lacking_or_contradict(tmp_path, names, begun, about, said):
    pictures(tmp_path, "1.png")
    if about:
        (tmp_path / "dataset.json").write_text(about)
    opened = [{"id": "open", "kind": "open", "landmarks": list(begun)}] if begun else []
    with pytest.raises(UserError, match=said):
        folder.read(tmp_path, names, opened)


def test_no_folder_no_pictures_and_a_faulty_table(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        folder.read(tmp_path / "no")
    with pytest.raises(UserError, match="no pictures in this folder"):
        folder.read(tmp_path, ["a"])
    pictures(tmp_path, "1.png")
    labelled(tmp_path, [["1.png", 1, "", 3, 4]])
    with pytest.raises(UserError, match="row 2: a has only one of its two coordinates"):
        folder.read(tmp_path)
