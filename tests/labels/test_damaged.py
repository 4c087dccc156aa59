"""Damaged label files, through the command: exit code 2, one message, and nothing written."""

import json
import os
import re

import label_tables
import numpy as np
import pytest

from ctd_jax.labels import FORMATS
from ctd_jax.labels.table import Point

BINARY = ("imagej", "xlsx", "sleap")
TEXT = [name for name in label_tables.HERE if name not in BINARY]
NAMED = [name for name in TEXT if "names" not in FORMATS[name].loses]
SIZELESS = ("pts", "tps", "slicer", "fcsv", "imagej", "imagej_results", "deeplabcut", "morphoj", "sleap")
# don't say the size of a picture
CALLED = ("pts", "slicer", "fcsv", "imagej")  # say the picture by their own name


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return label_tables.draw(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def refused(cli, pictures, tmp_path):
    """Imports a label file by the command, which must end with one message that says `said`."""

    def check(path, name, said, names=label_tables.NAMES):
        before = everything(tmp_path)
        flags = [f"--from={name}", f"--images={pictures}", "--spacing=0.5"]
        flags += [f"--names={','.join(names)}"] * bool(names)
        code, out, error = cli("ctd_jax.label_files", "import", path, f"--out={tmp_path / 'out'}", *flags)
        assert (code, out) == (2, "") and everything(tmp_path) == before
        _, *messages = re.split("^error: ", error, flags=re.MULTILINE)
        assert len(messages) == 1 and "Traceback" not in error
        assert re.search(said, messages[0]), messages[0]
        return messages[0]

    return check


def everything(root):
    return sorted(os.path.join(folder, name) for folder, below, names in os.walk(root) for name in below + names)


def first_file(path):
    return path if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())[0]


def put(place, name, **changes):
    return label_tables.put(place, label_tables.labels(**changes), name)


# ---------------------------------------------------------------- labels that are wrong, in every format


@pytest.mark.parametrize("name", [name for name in label_tables.HERE if name not in CALLED])
def test_a_picture_that_is_missing(name, refused, tmp_path):
    refused(put(tmp_path, name, image="gone.png"), name, "gone")


@pytest.mark.parametrize("name", CALLED)
def test_a_picture_that_is_called_as_its_file_and_is_missing(name, refused, tmp_path):
    refused(put(tmp_path, name, image="gone.png"), name, "expected one picture gone.* in .*, found none")


@pytest.mark.parametrize("name", [name for name in TEXT if name not in (*CALLED, "labelme")])
@pytest.mark.parametrize("path", ["../a.png", "sub/../../a.png", "..\\\\a.png"])
def test_a_path_out_of_the_folder(path, name, refused, tmp_path):
    """In LabelMe such a path is usual: its pictures may lie beside the folder of its files."""
    file = put(tmp_path, name)
    path = path if file.suffix == ".json" else path.replace("\\\\", "\\")
    file.write_text(file.read_text().replace("a.png", path))
    refused(file, name, "leads out of its folder")


@pytest.mark.parametrize("name", [name for name in label_tables.HERE if name not in SIZELESS])
def test_a_picture_of_another_size(name, refused, tmp_path):
    refused(put(tmp_path, name, size=(41, 30)), name, "expected a.png of 41 x 30 pixels.*found 40 x 30")


@pytest.mark.parametrize("name", [name for name in label_tables.HERE if name != "imagej"])
@pytest.mark.parametrize("x", [1e30, 41.0, -30.0, -1e300])
def test_huge_and_negative_numbers(x, name, refused, tmp_path):
    """A point may lie a tenth of a picture outside of it."""
    points = {point: Point(45.0 if x == 41 else x, 1.0) for point in label_tables.NAMES}
    refused(put(tmp_path, name, points=points), name, "outside the picture|expected coordinates of 0 or more")


@pytest.mark.parametrize("name", [name for name in label_tables.HERE if "subject" not in FORMATS[name].loses])
@pytest.mark.parametrize("subject", ["<b>anna</b>", "=cmd()"])
def test_subjects(subject, name, refused, tmp_path):
    """They reach reports and spreadsheets."""
    refused(put(tmp_path, name, subject=subject), name, r"no < or >, no control characters, and no = \+ @ at the start")


@pytest.mark.parametrize("name", label_tables.HERE)
@pytest.mark.parametrize("name_of_point", ["<img src=x onerror=alert(1)>", "=1+1", "two\nlines", "x" * 101, " "])
def test_names_of_points(name_of_point, name, refused, tmp_path):
    """They too."""
    path, names = put(tmp_path, name), (name_of_point, *label_tables.NAMES[1:])
    if name not in NAMED:
        if "names" not in FORMATS[name].loses:
            pytest.skip("not text")
        refused(path, name, "name|1 to 100 characters", names)
        return
    for file in [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]:
        escaped = {"<": "&lt;", "\n": "&#10;"} if file.suffix == ".xml" else {}
        text = "".join(escaped.get(c, c) for c in name_of_point)
        text = json.dumps(text)[1:-1] if file.suffix == ".json" else text
        file.write_text(file.read_text().replace("tip", f'"{text}"' if file.suffix == ".csv" else text))
    refused(path, name, "", ())


@pytest.mark.parametrize("name", NAMED)
def test_a_point_twice(name, refused, tmp_path):
    path = put(tmp_path, name)
    file = first_file(path)
    file.write_text(file.read_text().replace("base", "tip"))
    refused(path, name, "tip'?,? (stands twice|found a second one|is named twice)|one point 'tip'|one [xy] of 'tip'")


# ---------------------------------------------------------------- files that are damaged as a whole

WHOLE = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) * 2 // 5],
    "zero bytes": lambda content: bytes(len(content)),
    "random bytes": lambda content: np.random.default_rng(0).bytes(len(content)),
    "text of another kind": lambda content: b"dear colleague,\nthe labels are attached\n",
}
IN_TEXT = {
    "UTF-16 without its mark": lambda content: content.decode().encode("utf-16-le"),
    "letters of DOS": lambda content: (
        content.replace(b"a.png", b"Zahn-\x84.png").replace(b"tip", b"Z\x84hne") + b"\n\x84"
    ),
    "decimal commas": lambda content: re.sub(rb"(\d)\.(\d)", rb"\1,\2", content),
    "semicolons and decimal commas": lambda content: re.sub(rb"(\d)\.(\d)", rb"\1,\2", content.replace(b",", b";")),
}


@pytest.mark.parametrize("name", label_tables.HERE)
@pytest.mark.parametrize("damage", WHOLE)
def test_files(damage, name, refused, tmp_path):
    path = put(tmp_path, name)
    file = first_file(path)
    file.write_bytes(WHOLE[damage](file.read_bytes()))
    assert file.name in refused(path, name, "")


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("damage", IN_TEXT)
def test_files_of_text(damage, name, refused, tmp_path):
    if (name, damage) == ("long", "semicolons and decimal commas"):
        pytest.skip("read as a German Excel saves it, see test_conventions")
    path = put(tmp_path, name)
    file = first_file(path)
    damaged = IN_TEXT[damage](file.read_bytes())
    if damaged == file.read_bytes():
        pytest.skip("no such character in it")
    file.write_bytes(damaged)
    assert file.name in refused(path, name, "", label_tables.NAMES if name not in NAMED else ())


# ---------------------------------------------------------------- entries that are wrong

TEXTS = {
    "cvat": [
        ('points="3.5,4.5"', 'points="3.5"', "expected one point, X,Y"),
        ('points="3.5,4.5"', 'points="3.5,inf"', "expected a number"),
        ('width="40"', 'width="40 px"', "expected a number"),
        ('name="sub/b.png"', 'name="a.png"', "already listed"),
        ('name="a.png"', f'name="{"a" * 9000}"', r"the picture's name, 'a{50}'\.\.\., has 9000 characters; expected"),
        ("</image>", "", "not XML .*; is the file cut short"),
    ],
    "dlib": [
        ('x="3"', 'x="three"', "expected a number"),
        ('x="3"', "", "expected a number"),
        ('file="sub/b.png"', 'file="a.png"', "already listed"),
        ('file="a.png"', "", "the picture has no name"),
    ],
    "label_studio": [
        ('        "tip"\n', '        "tip", "base"\n', "expected one name"),
        ('"original_width": 40', '"original_width": -40', "whole pixels"),
        ('"image": "a.png"', '"image": "a.txt"', "expected one picture in `data`, found 0"),
        ('"image": "sub/b.png"', '"image": "a.png"', "already listed"),
        ('"x": ', '"x": "left", "x1": ', "expected a number"),
    ],
    "slicer": [
        ("1.5,", "null,", "expected a number"),
        ("1.5,", "1.5, 7, 7,", "expected a position of three numbers, found 5"),
        ('"LPS"', '"XYZ"', "expected the coordinate system LPS or RAS"),
        ('"markups": [', '"markups": [{}, ', "expected one list of points in `markups`, found 2"),
    ],
    "fcsv": [
        ("1.5,2.0,0.0", "1,5,2,0,0,0", "expected 14 cells with x, y, z and label, or 16, found 17"),
        ("1.5,2.0,0.0", "1.5,2.0", "expected 14 cells with x, y, z and label, or 16, found 13"),
        ("1.5,2.0,0.0", "1,5,2,0,0", "expected 0, 1, 2 or 3 as the status of the point, found '0.5 x"),
        ("1.5,2.0,0.0", "1.5,2.0,7", "expected a point in the plane z = 0"),
        ("1.5,2.0,0.0", "1" * 200_000, "expected cells with commas between"),
    ],
    "deeplabcut": [
        ("a.png,3.0", "a.png,3.0,7", "expected 7 cells, found 8"),
        ("a.png,3.0", "a.png,", "expected both x and y, or neither"),
        ("sub/b.png", "a.png", "already listed"),
        ("coords,x,y", "coords,x,x", "found a second one"),
        ("coords", "c" * 9000, r"and of pictures, found \['scorer', 'bodyparts', 'c{170,190}$"),
    ],
    "imagej_results": [
        ("1,a.png,3.0", "1,a.png,3.0,7", "expected 4 cells, found 5"),
        ("6,sub/b.png", "6,a.png", "expected 3 points, as --names has names, found 4"),
        ("1,a.png,3.0", "1,a.png,NaN", "expected a number"),
        (" ,Label,X,Y", " ,Label,x,y", "expected a header with X and Y"),
    ],
    "long": [
        ("a.png,40,30,,tip,3.0", "a.png,40,30,,tip,1e999", "expected a number"),
        ("a.png,40,30,,tip,3.0", "a.png,40,30,,tip,", "expected both x and y, or neither"),
        ("a.png,40,30,,tip,3.0", "a.png,41,30,,tip,3.0", "expected width '41' as in"),
        ("a.png,40,30,,tip,3.0", "a.png,40,30,tip,3.0", "cells, but the header has"),
        ("image,", "file,", "no column `image`"),
        ("placed", "lost", "expected a state of placed"),
    ],
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
def test_entries(name, old, new, said, refused, tmp_path):
    path = put(tmp_path, name)
    file = first_file(path)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    assert str(path) in refused(path, name, said)
