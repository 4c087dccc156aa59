"""Landmark folders and predictions become label files; what a format can't hold is said."""

import json
import shutil

import label_tables
import numpy as np
import pytest
import slicerio
from pycocotools.coco import COCO

from ctd_jax.errors import UserError
from ctd_jax.labels import FORMATS, by_name, exporting, importing
from ctd_jax.labels.table import Labels, Point
from ctd_jax.metrics.predictions import Predictions, write_predictions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A landmark folder of the two pictures; a point is absent, one picture has a subject."""
    root = tmp_path_factory.mktemp("folder")
    pictures = label_tables.draw(root / "pictures")
    given = label_tables.labels(subject="anna")
    points = {name: point for name, point in given.pictures[1].points.items() if name != "base"}
    second = type(given.pictures[1])("sub/b.png", points, spacing=(0.5, 0.5), where="b")
    importing.write_folder(
        Labels(given.names, (given.pictures[0], second)), label_tables.context(pictures), root / "out", title="by hand"
    )
    return root / "out"


@pytest.fixture
def predictions(tmp_path):
    xy = np.array([[[1.5, 2.0], [3.0, 4.0]]])
    table = Predictions.from_points(["a.png"], [""], ["tip", "base"], xy, confidence=np.array([[0.25, 1.0]]))
    write_predictions(tmp_path / "predictions.csv", table)
    return tmp_path / "predictions.csv"


def test_a_landmark_folder_is_read_with_sizes_subjects_and_spacing(folder):
    labels = exporting.read(folder, None)
    a, b = labels.pictures
    assert (a.image, a.size, a.subject, a.spacing) == ("a.png", (40, 30), "anna", (0.5, 0.5))
    assert (b.image, b.size, b.subject) == ("sub/b.png", (20, 10), "")
    assert a.points["base"] == pytest.approx(Point(20.25, 10.5), nan_ok=True) or a.points["base"].x == 20.25
    assert set(b.points) == {"tip", "left hinge"}


HIDING = [name for name, one in FORMATS.items() if "hidden" not in one.loses]


@pytest.mark.parametrize("name", HIDING)
def test_hidden_points_stay_hidden(name, tmp_path):
    """From a label file to a folder that trains, and out again."""
    assert {"coco", "cvat", "cvat_skeleton", "long", "xlsx"} <= set(HIDING)
    context = label_tables.context(label_tables.draw(tmp_path / "pictures"))
    points = {"tip": Point(3.0, 4.0, hidden=True), "base": Point(5.0, 6.0)}
    path = label_tables.put(tmp_path, label_tables.labels(points=points), name)
    importing.write_folder(by_name.read(path, name, context), context, tmp_path / "out", title="labels")
    header, first, second = (tmp_path / "out" / "landmarks.csv").read_text().splitlines()
    assert header.endswith(",spacing_x_mm,spacing_y_mm,tip_hidden")
    assert first.endswith(",0.5,0.5,1") and second.endswith(",0.5,0.5,")
    labels = exporting.read(tmp_path / "out", None)
    exporting.write_files(labels, name, tmp_path / f"again{FORMATS[name].suffix}")
    again = by_name.read(tmp_path / f"again{FORMATS[name].suffix}", name, context)
    hidden = {(one.image, point) for one in again.pictures for point, place in one.points.items() if place.hidden}
    assert hidden == {("a.png", "tip")}


@pytest.mark.parametrize("name", [name for name in label_tables.HERE if "names" not in FORMATS[name].loses])
def test_a_folder_goes_out_and_comes_back(name, folder, tmp_path):
    out = tmp_path / f"out{FORMATS[name].suffix}"
    labels = exporting.read(folder, None)
    exporting.write_files(labels, name, out)
    again = by_name.read(out, name, label_tables.context(folder))
    for one, two in zip(labels.pictures, again.pictures, strict=True):
        assert set(one.points) == set(two.points) and one.image == two.image


def test_predictions_go_out_with_sizes_of_the_pictures(predictions, tmp_path):
    pictures = label_tables.draw(tmp_path / "pictures")
    with pytest.raises(UserError, match=r"a\.png: its width and height are unknown.*--images=DIR"):
        exporting.write_files(exporting.read(predictions, None), "coco", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
    exporting.write_files(exporting.read(predictions, pictures), "coco", tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["images"][0]["width"] == 40
    assert content["annotations"][0]["keypoints"] == [1.5, 2.0, 2, 3.0, 4.0, 2]


def test_coco_is_read_by_its_own_tools(folder, tmp_path, capsys):
    exporting.write_files(exporting.read(folder, None), "coco", tmp_path / "out.json")
    coco = COCO(str(tmp_path / "out.json"))
    assert coco.loadCats(coco.getCatIds())[0]["keypoints"] == list(label_tables.NAMES)
    (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=[2]))
    assert annotation["keypoints"] == [1, 2, 2, 0, 0, 0, 5, 9, 2] and annotation["num_keypoints"] == 2
    assert annotation["bbox"] == [1, 2, 4, 7] and annotation["area"] == 28
    assert coco.loadImgs([1])[0]["file_name"] == "a.png"


def test_slicer_points_are_read_by_its_own_tools(folder, tmp_path):
    """slicerio reads our .fcsv; the .mrk.json that it makes of it has the points of ours, and is read by us."""
    labels = exporting.read(folder, None)
    for name in ("fcsv", "slicer"):
        exporting.write_files(labels, name, tmp_path / name)
    points = slicerio.read_markups_fcsv(tmp_path / "fcsv" / "a.fcsv")["markups"][0]["controlPoints"]
    assert [(point["label"], point["position"]) for point in points] == [
        ("tip", [1.5, 2, 0]), ("base", [10.125, 5.25, 0]), ("left hinge", [19.5, 14.5, 0])
    ]  # fmt: skip
    (tmp_path / "theirs" / "sub").mkdir(parents=True)
    for image in ("a", "sub/b"):
        theirs = tmp_path / "theirs" / f"{image}.mrk.json"
        slicerio.fcsv_to_markups_json(tmp_path / "fcsv" / f"{image}.fcsv", theirs)
        one, two = (
            json.loads(file.read_text())["markups"][0] for file in (theirs, tmp_path / "slicer" / f"{image}.mrk.json")
        )
        assert [one[key] for key in ("type", "coordinateSystem")] == [two[key] for key in ("type", "coordinateSystem")]
        places = [[(point["label"], point["position"]) for point in each["controlPoints"]] for each in (one, two)]
        assert places[0] == places[1]
    again = by_name.read(tmp_path / "theirs", "slicer", label_tables.context(folder))
    assert [dict(picture.points) for picture in again.pictures] == [dict(picture.points) for picture in labels.pictures]


@pytest.mark.parametrize(("who", "said"), [("", None), ("eva", None), ("7", 7), ("eva@x.org", {"email": "eva@x.org"})])
def test_who_placed_the_points_for_label_studio(who, said):
    """Its import refuses any other `completed_by` (`tasks/serializers.py`, `_insert_valid_completed_by`)."""
    first, _ = json.loads(by_name.write(label_tables.labels(who=who), "label_studio")[""])
    assert first["annotations"][0].get("completed_by") == said


def test_what_a_format_cannot_hold_is_said():
    points = {"tip": Point(1, 2, hidden=True, confidence=0.5), "base": Point(3, 4), "left hinge": Point(5, 6)}
    labels = label_tables.labels(points=points, subject="anna", who="eva")
    said = exporting.losses(labels, "pts")
    assert [line.partition(":")[0] for line in said] == [
        "1 points are hidden but placed",
        "1 points have a confidence",
        "1 pictures have a subject",
        "2 pictures have a spacing, mm of a pixel",
        "1 pictures say who placed their points",
        "points are known by their order; to read them again",
    ]
    assert said[-1].endswith(": --names='tip,base,left hinge'")
    assert exporting.losses(labels, "coco") == [said[1], said[3], said[4]]
    points = {"tip": Point(1.25, 2.5), "base": Point(3, 0.1), "left hinge": Point(5, 6)}
    labels = label_tables.labels(points=points)
    assert "2 points have fractions of pixels: rounded to whole ones" in exporting.losses(labels, "dlib")
    assert "1 points have more than the 7 digits of its numbers: rounded" in exporting.losses(labels, "imagej")


def test_a_format_of_points_by_order_refuses_an_absent_one(folder, tmp_path):
    with pytest.raises(UserError, match="base is absent, and a .pts file knows points by their order"):
        exporting.write_files(exporting.read(folder, None), "pts", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_overwritten_without_force(name, suffix, tmp_path):
    if name == "sleap":
        pytest.importorskip("sleap_io")
    out = tmp_path / f"out{FORMATS[name].suffix if suffix else ''}"
    labels = label_tables.labels()
    exporting.write_files(labels, name, out)
    with pytest.raises(UserError, match="is there already"):
        exporting.write_files(labels, name, out)
    exporting.write_files(labels, name, out, force=True)
    assert len(list(tmp_path.iterdir())) == 1


def test_force_replaces_nothing_but_label_files(folder, tmp_path):
    labels = exporting.read(folder, None)
    (tmp_path / "thesis.docx").write_text("years")
    with pytest.raises(UserError, match=r"has thesis\.docx, which is no label file of labelme"):
        exporting.write_files(labels, "labelme", tmp_path, force=True)
    with pytest.raises(UserError, match="is a folder; coco is one file"):
        exporting.write_files(labels, "coco", tmp_path, force=True)
    assert (tmp_path / "thesis.docx").read_text() == "years"
    (tmp_path / "thesis.docx").unlink()
    (tmp_path / "results.json").write_text('{"error": 1}')
    with pytest.raises(UserError, match=r"has results\.json, which is no label file of labelme"):
        exporting.write_files(labels, "labelme", tmp_path, force=True)
    with pytest.raises(UserError, match=r"results\.json is not replaced: it is no label file of coco"):
        exporting.write_files(labels, "coco", tmp_path / "results.json", force=True)
    with pytest.raises(UserError, match=r"landmarks\.csv is not replaced: it is no label file of long"):
        exporting.write_files(labels, "long", folder / "landmarks.csv", force=True)
    with pytest.raises(UserError, match=r"results\.json is a file; labelme is a folder"):
        exporting.write_files(labels, "labelme", tmp_path / "results.json", force=True)
    assert (tmp_path / "results.json").read_text() == '{"error": 1}'


def test_two_pictures_do_not_share_a_label_file():
    given = label_tables.labels()
    a, b = given.pictures
    twins = Labels(given.names, (a, type(b)("A.jpg", b.points, b.size)))
    with pytest.raises(UserError, match=r"A\.jpg and a\.png would share the label file A\.pts"):
        by_name.write(twins, "pts")


def test_imagej_has_no_numbers_of_more_than_16_bits():
    points = {name: Point(1e30, 1.0) for name in label_tables.NAMES}
    with pytest.raises(UserError, match=r"a\.png: ImageJ holds pixels up to 32766, found 1e\+30 1"):
        by_name.write(label_tables.labels(points=points), "imagej")


@pytest.mark.parametrize("image", ["../a.png", "/etc/a.png"])
def test_no_label_file_is_written_outside_of_its_folder(image):
    with pytest.raises(UserError, match="outside of the folder"):
        by_name.write(label_tables.labels(image=image), "labelme")


def test_predicted_points_that_are_absent_or_not_predicted_stay_out(tmp_path):
    xy = np.array([[[1.5, 2.0], [3.0, 4.0], [np.nan, np.nan]]])
    table = Predictions.from_points(["a.png"], [""], ["tip", "base", "hinge"], xy, present=[[0.9, 0.4, np.nan]])
    write_predictions(tmp_path / "predictions.csv", table)
    labels = exporting.read(tmp_path / "predictions.csv", None)
    assert set(labels.pictures[0].points) == {"tip"} and labels.names == ("tip", "base", "hinge")


def test_no_picture_gets_the_points_of_another(predictions, tmp_path, caplog):
    """Of two folders, the pictures of one are given, and have the same names."""
    pictures = label_tables.draw(tmp_path / "one")
    text = predictions.read_text()
    predictions.write_text(text.replace("a.png", "one/a.png"))
    assert exporting.read(predictions, pictures).pictures[0].image == "a.png" and not caplog.messages
    predictions.write_text(text.replace("a.png", "two/a.png"))
    (picture,) = exporting.read(predictions, pictures).pictures
    assert picture.image == "a.png" and "1 pictures are found by the last part of their path alone" in caplog.text
    predictions.write_text(text.replace("a.png", "one/a.png") + text.partition("\n")[2].replace("a.png", "two/a.png"))
    with pytest.raises(UserError, match=r"predictions.csv, two/a.png: two/a.png was already listed in .*one/a.png"):
        exporting.read(predictions, pictures)


def test_the_subject_of_a_prediction_is_not_its_picture(predictions, tmp_path):
    """predictions.csv of a folder without subjects has the picture there; Label Studio would have two pictures then."""
    predictions.write_text(predictions.read_text().replace("a.png,,", "a.png,a.png,"))
    pictures = label_tables.draw(tmp_path / "pictures")
    exporting.write_files(exporting.read(predictions, pictures), "label_studio", tmp_path / "out.json")
    again = by_name.read(tmp_path / "out.json", "label_studio", label_tables.context(pictures))
    assert [(picture.image, picture.subject) for picture in again.pictures] == [("a.png", "")]


def test_what_no_label_file_has_of_a_folder_is_said(folder, tmp_path, caplog):
    root = shutil.copytree(folder, tmp_path / "faces")
    exporting.read(root, None)
    assert "label files do not have" not in caplog.text
    header, *rows = (root / "landmarks.csv").read_text().splitlines()
    more = {"split": "train", "rater": "eva", "box_x0": "0", "box_y0": "0", "box_x1": "9", "box_y1": "9"}
    lines = [",".join([header, *more]), *(",".join([row, *more.values()]) for row in rows)]
    (root / "landmarks.csv").write_text("\n".join(lines))
    exporting.read(root, None)
    said = [message.partition(" do not have its ")[2] for message in caplog.messages if " do not have its " in message]
    assert [words.partition(";")[0] for words in said] == ["splits", "boxes", "points of each rater"]
    assert f"--config.data.split={root / 'landmarks.csv'}" in said[0]


def test_what_tps_says_otherwise_is_said():
    points = {"tip": Point(-0.3, 2), "base": Point(3, 29.9), "left hinge": Point(3, 30.2)}
    labels = label_tables.labels(points=points, spacing=(0.5, 0.25))
    said = [line.partition(":")[0] for line in exporting.losses(labels, "tps")[:2]]
    assert said == [
        "1 pictures have another spacing along x than along y",
        "2 points lie beyond the left or the lower edge",
    ]
    assert len(exporting.losses(label_tables.labels(), "tps")) == 1
