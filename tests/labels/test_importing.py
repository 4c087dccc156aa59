"""Label files become folders that train; whatever is wrong ends with one message and nothing written."""

import json
import os

import label_tables
import numpy as np
import pytest
from PIL import Image

from ctd_jax.data.points import read_folder
from ctd_jax.errors import UserError
from ctd_jax.labels import FORMATS, by_name, importing
from ctd_jax.labels.table import Point


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return label_tables.draw(tmp_path_factory.mktemp("pictures"))


def bring_in(path, name, context, out, **more):
    return importing.write_folder(by_name.read(path, name, context), context, out, title=str(path), **more)


def everything(root):
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)


@pytest.mark.parametrize("name", label_tables.HERE)
def test_a_label_file_becomes_a_folder_that_training_reads(name, pictures, tmp_path):
    given = label_tables.labels(subject="anna")
    path = label_tables.put(tmp_path, given, name)
    said = bring_in(path, name, label_tables.context(pictures), tmp_path / "out")
    assert "2 pictures, 6 points of 3 landmarks" in said
    table = read_folder(tmp_path / "out")
    assert table.landmarks.names == label_tables.NAMES and set(table.images) == set(label_tables.SIZES)
    row = table.images.index("a.png")
    expected = [[20.0, 10.0] if name == "dlib" else [20.25, 10.5]]
    np.testing.assert_allclose(table.xy[row, 1:2], expected, atol=1e-6)
    np.testing.assert_array_equal(table.spacing, 0.5)
    if "subject" not in FORMATS[name].loses:
        assert table.subjects[row] == "anna"
    for i in range(len(table)):
        table.check_picture(i, tmp_path / "out")


# What is damaged in every format that can say it: the labels, and what the message says.
DAMAGES = {
    "an image that is missing": ({"image": "gone.png"}, "gone"),
    "a path out of the folder": ({"image": "../a.png"}, "(leads out of its folder|outside of the folder|expected one)"),
    "a picture of another size": ({"size": (41, 30)}, "expected a.png of 41 x 30 pixels"),
    "a huge number": (
        {"points": {name: Point(1e30, 1.0) for name in label_tables.NAMES}},
        "(outside the picture|holds pixels up to 32766)",
    ),
    "a negative number": ({"points": {name: Point(-30.0, 1.0) for name in label_tables.NAMES}}, "(outside|found -30 )"),
    "html in a subject": ({"subject": "<b>anna</b>"}, "no < or >"),
    "a formula as a subject": ({"subject": "=cmd()"}, "no = \\+ @ at the start"),
}
SIZELESS = ("pts", "tps", "slicer", "fcsv", "imagej", "imagej_results", "deeplabcut", "sleap")  # don't say the size


@pytest.mark.parametrize("name", label_tables.HERE)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_labels_end_with_a_message_and_nothing_written(damage, name, pictures, tmp_path):
    changes, said = DAMAGES[damage]
    silent = name in SIZELESS if damage == "a picture of another size" else "subject" in FORMATS[name].loses
    if silent and damage.split()[-1] in ("size", "subject"):
        pytest.skip("not in such a file")
    with pytest.raises(UserError, match=said):
        bring_in(
            label_tables.put(tmp_path, label_tables.labels(**changes), name),
            name, label_tables.context(pictures), tmp_path / "out",
        )  # fmt: skip
    assert not [file for file in everything(tmp_path) if "out" in file]


@pytest.mark.parametrize("name", label_tables.HERE)
@pytest.mark.parametrize("name_of_point", ["<img src=x onerror=alert(1)>", "=1+1", "two\nlines", "x" * 101, " "])
def test_names_of_points(name_of_point, name, pictures, tmp_path):
    """They reach reports and spreadsheets."""
    names = (name_of_point, *label_tables.NAMES[1:])
    given = label_tables.labels()
    path = label_tables.put(tmp_path, given, name)
    if "names" in FORMATS[name].loses:
        context = label_tables.context(pictures, names)
    else:
        for file in [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]:
            if file.suffix in (".xlsx", ".slp"):
                pytest.skip("not text")
            escaped = {"<": "&lt;", "\n": "&#10;"} if file.suffix == ".xml" else {}
            text = "".join(escaped.get(c, c) for c in name_of_point)
            text = json.dumps(text)[1:-1] if file.suffix == ".json" else text
            quoted = f'"{text}"' if file.suffix == ".csv" else text
            file.write_text(file.read_text().replace("tip", quoted))
        context = label_tables.context(pictures, ())
    with pytest.raises(UserError):
        bring_in(path, name, context, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _first_file(path):
    return path if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())[0]


@pytest.mark.parametrize("name", label_tables.HERE)
@pytest.mark.parametrize("damage", ["empty", "cut short", "zero bytes", "random bytes", "text of another kind"])
def test_damaged_files_end_with_a_message_and_nothing_written(damage, name, pictures, tmp_path):
    path = label_tables.put(tmp_path, label_tables.labels(), name)
    file = _first_file(path)
    content = file.read_bytes()
    file.write_bytes(
        {
            "empty": b"",
            "cut short": content[: len(content) * 2 // 5],
            "zero bytes": bytes(len(content)),
            "random bytes": np.random.default_rng(0).bytes(len(content)),
            "text of another kind": b"dear colleague,\nthe labels are attached\n",
        }[damage]
    )
    with pytest.raises(UserError) as caught:
        bring_in(path, name, label_tables.context(pictures), tmp_path / "out")
    assert file.name in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


TEXTS = {
    "coco": [
        ('"keypoints": [\n', '"keypoints": [\n 5,\n', "expected 3 x 3 numbers"),
        ('"image_id": 1', '"image_id": 99', "expected the id of one of the images, found 99"),
        ('"image_id": 2', '"image_id": 1', "expected one annotation of image 1, found a second one"),
        ('"id": 2,\n   "file_name"', '"id": 1,\n   "file_name"', "expected an id of its own, found 1 again"),
        ('"base",', '"tip",', "(point twice|found a second one|named twice)"),
        ('"width": 40', '"width": -40', "expected a width and a height of whole pixels"),
        ('"width": 40', '"width": "forty"', "expected a number"),
        ("3.0,", "NaN,", "NaN is no number of JSON"),
        ("3.0,", "1e999,", "expected a number"),
        ("3.0,", "null,", "expected a number"),
        ('"keypoints": [\n    "tip"', '"points": [\n    "tip"', "expected one category with `keypoints`"),
    ],
    "labelme": [
        ('"label": "base"', '"label": "tip"', "expected one point 'tip', found a second one"),
        ('"group_id": null', '"group_id": 1', "expected one group_id, found 2"),
        ("3.5,", '"three",', "expected a number"),
        ('"imagePath"', '"path"', "expected the key 'imagePath'"),
        ('"imageWidth": 40', '"imageWidth": 0', "whole pixels"),
        ("[\n     3.5,", "[\n     3.5, 7,", "expected `points` with one point"),
    ],
    "pts": [
        ("n_points: 3", "n_points: 4", "n_points says 4, found 3 points"),
        ("4.0 5.0", "4.0", "expected x and y with a blank between"),
        ("4.0 5.0", "4,0 5,0", "expected a number with a decimal point, found '4,0'"),
        ("4.0 5.0", "inf 5.0", "expected a number"),
        ("}", "", "found no }"),
        ("n_points: 3\n{\n4.0 5.0", "n_points: 2\n{", "expected 3 points, as --names has names, found 2"),
    ],
    "tps": [
        ("LM=3", "LM=4", "expected 1 more points of LM=4"),
        ("LM=3", "LM=2", "expected KEY=VALUE"),
        ("LM=3", "LM3=3", "LM3 has points in space"),
        ("LM=3", "LM=three", "expected a whole number"),
        ("3.0 26.0", "3,0 26,0", "expected a number with a decimal point"),
        ("3.0 26.0", "-1 -1", "add --negative_missing"),
        ("3.0 26.0", "3.0;26.0", "expected x and y with a blank between"),
        ("SCALE=0.5", "SCALE=-0.5", "expected a SCALE above 0"),
        ("SCALE=0.5", "SCALE=0,5", "expected a number"),
        ("IMAGE=a.png", "IMAGE=", "the picture has no name"),
        ("IMAGE=a.png", "IMAGE=a.png\nIMAGE=a.png", "expected one IMAGE"),
        ("IMAGE=sub/b.png", "IMAGE=a.png", "already listed"),
        ("IMAGE=a.png", "IMAGE=https://x.org/q.png", "is a URL"),
        ("IMAGE=a.png", "POINTS=1\nIMAGE=a.png", "expected CURVES=NUMBER before its POINTS"),
        ("IMAGE=a.png", "CURVES=1\nIMAGE=a.png", "expected 1 more curves"),
    ],
}


@pytest.mark.parametrize(
    ("name", "old", "new", "said"), [(name, *case) for name, cases in TEXTS.items() for case in cases]
)
def test_entries_that_are_wrong(name, old, new, said, pictures, tmp_path):
    path = label_tables.put(tmp_path, label_tables.labels(), name)
    file = _first_file(path)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=said) as caught:
        bring_in(path, name, label_tables.context(pictures), tmp_path / "out")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name in label_tables.HERE if name not in ("imagej", "xlsx", "sleap")])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_with_a_byte_order_mark_are_read(encoding, name, pictures, tmp_path):
    path = label_tables.put(tmp_path, label_tables.labels(), name)
    file = _first_file(path)
    file.write_bytes(file.read_bytes().decode().encode(encoding))
    bring_in(path, name, label_tables.context(pictures), tmp_path / "out")
    assert (tmp_path / "out" / "landmarks.csv").exists()


def test_nothing_is_overwritten_without_force(pictures, tmp_path):
    path, context = label_tables.put(tmp_path, label_tables.labels(), "tps"), label_tables.context(pictures)
    bring_in(path, "tps", context, tmp_path / "out")
    before = (tmp_path / "out" / "landmarks.csv").read_text()
    (tmp_path / "labels.tps").write_text((tmp_path / "labels.tps").read_text().replace("3.0 26.0", "5.0 26.0"))
    with pytest.raises(UserError, match="is there already; give another name, or --force"):
        bring_in(path, "tps", context, tmp_path / "out")
    assert (tmp_path / "out" / "landmarks.csv").read_text() == before
    bring_in(path, "tps", context, tmp_path / "out", force=True)
    assert (tmp_path / "out" / "landmarks.csv").read_text() != before
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("file", ["thesis.docx", "deep/thesis.docx"])
def test_force_replaces_nothing_but_a_landmark_folder(file, pictures, tmp_path):
    path, context = label_tables.put(tmp_path, label_tables.labels(), "tps"), label_tables.context(pictures)
    bring_in(path, "tps", context, tmp_path / "out")
    (tmp_path / "out" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / file).write_text("years")
    with pytest.raises(UserError, match="is not replaced"):
        bring_in(path, "tps", context, tmp_path / "out", force=True)
    assert (tmp_path / "out" / file).read_text() == "years"


def test_force_does_not_take_the_pictures_that_are_read(tmp_path):
    label_tables.draw(tmp_path / "out" / "pictures")
    (tmp_path / "out" / "landmarks.csv").write_text("")
    path = label_tables.put(tmp_path, label_tables.labels(), "tps")
    with pytest.raises(UserError, match="has the pictures that are read"):
        bring_in(path, "tps", label_tables.context(tmp_path / "out" / "pictures"), tmp_path / "out", force=True)
    assert (tmp_path / "out" / "pictures" / "a.png").exists()


def test_what_is_left_out_or_guessed_is_said(pictures, tmp_path, caplog):
    given = label_tables.labels()
    one = given.pictures[:1]
    path = label_tables.put(tmp_path, type(given)(given.names, one), "tps")
    bring_in(path, "tps", label_tables.context(pictures, ()), tmp_path / "out")
    assert "points are called 1 to 3 by their order; --names gives them names" in caplog.text
    assert "no subjects: each picture counts as a person of its own" in caplog.text
    assert "1 pictures without labels are left out: sub/b.png" in caplog.text


def test_a_full_disk_leaves_nothing(pictures, tmp_path, monkeypatch):
    path = label_tables.put(tmp_path, label_tables.labels(), "tps")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importing.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        bring_in(path, "tps", label_tables.context(pictures), tmp_path / "out")
    assert os.listdir(tmp_path) == ["labels.tps"]


def test_a_turned_photograph_has_the_size_that_is_seen(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    Image.new("L", (40, 30)).save(pictures / "a.jpg", exif=exif)
    (tmp_path / "a.tps").write_text("LM=1\n2 39\nIMAGE=a.jpg\n")
    (picture,) = by_name.read(tmp_path / "a.tps", "tps", label_tables.context(pictures, ("dot",))).pictures
    assert picture.size == (30, 40) and picture.points["dot"].y == 1
