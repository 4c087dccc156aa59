"""Label files become folders that train; `test_damaged` has what is refused."""

import os

import label_tables
import numpy as np
import pytest
from PIL import Image

from ctd_jax.data import landmark_folder
from ctd_jax.data.points import read_folder
from ctd_jax.errors import UserError
from ctd_jax.labels import FORMATS, by_name, importing
from ctd_jax.labels.table import Labelled, Labels, Point


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


@pytest.fixture
def namesakes(tmp_path):
    """Labels of three pictures b.png: of one person, of another, and in the folder itself; a point at x = 0, 1, 2."""
    pictures = []
    for x, image in enumerate(("b.png", "ben/b.png", "sub/b.png")):
        (tmp_path / "pictures" / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 10)).save(tmp_path / "pictures" / image)
        pictures.append(Labelled(image, {"tip": Point(x, 3.0)}, (20, 10), spacing=(0.5, 0.5)))
    return Labels(("tip",), tuple(pictures))


@pytest.mark.parametrize("name", ["pts", "slicer", "fcsv", "imagej"])
def test_label_files_called_as_their_pictures_come_back(name, namesakes, tmp_path):
    path = label_tables.put(tmp_path, namesakes, name)
    found = by_name.read(path, name, label_tables.context(tmp_path / "pictures", ("tip",)))
    assert {one.image: one.points["tip"].x for one in found.pictures} == {"b.png": 0, "ben/b.png": 1, "sub/b.png": 2}


def test_results_of_imagej_without_labels_are_of_the_pictures_that_they_are_called_as(namesakes, tmp_path):
    for picture in namesakes.pictures:
        file = tmp_path / "labels" / picture.image.replace(".png", ".csv")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"X,Y\n{picture.points['tip'].x},3\n")
    found = by_name.read(tmp_path / "labels", "imagej_results", label_tables.context(tmp_path / "pictures", ("tip",)))
    assert {one.image: one.points["tip"].x for one in found.pictures} == {"b.png": 0, "ben/b.png": 1, "sub/b.png": 2}


def _first_file(path):
    return path if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())[0]


@pytest.mark.parametrize("name", [name for name in label_tables.HERE if name not in ("imagej", "xlsx", "sleap")])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_with_a_byte_order_mark_are_read(encoding, name, pictures, tmp_path):
    path = label_tables.put(tmp_path, label_tables.labels(), name)
    file = _first_file(path)
    file.write_bytes(file.read_bytes().decode().encode(encoding))
    bring_in(path, name, label_tables.context(pictures), tmp_path / "out")
    assert (tmp_path / "out" / "landmarks.csv").exists()


ROWS = ("tps", "fcsv", "imagej_results", "deeplabcut", "morphoj", "long")


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_last_row_without_its_end_is_said(encoding, name, pictures, tmp_path, caplog):
    """`SCALE=0.5` may have been 0.55."""
    context = label_tables.context(pictures)
    path = label_tables.put(tmp_path, label_tables.labels(), name)
    file, said = _first_file(path), "its last row has no end, as in a file that is cut short"
    text = file.read_text()
    file.write_text(text, encoding)
    by_name.read(path, name, context)
    assert said not in caplog.text
    file.write_text(text[:-1], encoding)
    by_name.read(path, name, context)
    assert said in caplog.text


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


def test_names_that_a_spreadsheet_would_run_come_back(tmp_path):
    """In landmarks.csv they have a ' before them, and the reader takes it off."""
    pictures = label_tables.draw(tmp_path / "pictures")
    (pictures / "a.png").rename(pictures / "-a.png")
    labels = label_tables.labels(image="-a.png", subject="-7")
    importing.write_folder(labels, label_tables.context(pictures), tmp_path / "out", title="labels")
    assert "\n'-a.png,'-7," in (tmp_path / "out" / "landmarks.csv").read_text()
    table = landmark_folder.read(tmp_path / "out")
    assert table.images == ("-a.png", "sub/b.png") and table.subjects == ("-7", "sub/b.png")
