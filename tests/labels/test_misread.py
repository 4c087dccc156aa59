"""Label files that would come in as something else than they mean: read as they mean, refused, or said."""

import json
import os
import re
import struct
import sys
import types
import zipfile

import label_tables
import numpy as np
import openpyxl
import pytest
from PIL import Image

from ctd_jax.data.landmark_folder import read
from ctd_jax.errors import UserError
from ctd_jax.labels import by_name, exporting, importing
from ctd_jax.labels.context import Context, Pictures
from ctd_jax.labels.table import Labelled, Labels, Point


@pytest.fixture
def pictures(tmp_path):
    """dot.png, anna/dot.png and ben.png, of 12 x 8 pixels, and stack.tif of two pages."""
    folder = tmp_path / "pictures"
    (folder / "anna").mkdir(parents=True)
    grey = Image.new("L", (12, 8), 90)
    for name in ("dot.png", "anna/dot.png", "ben.png", "12:30.png"):
        grey.save(folder / name)
    grey.save(folder / "stack.tif", save_all=True, append_images=[grey])
    return folder


def one_dot(name, image="dot.png", x=7.0):
    """The file of a format with a point at (x, 2) of a picture, 0.5 mm a column."""
    picture = Labelled(image, {"dot": Point(x, 2.0)}, (12, 8), spacing=(0.5, 0.25))
    (content,) = by_name.write(Labels(("dot",), (picture,)), name).values()
    return content


def slicer(point="dot"):
    """As Slicer writes it, without a spacing."""
    content = json.loads(one_dot("slicer"))
    content["markups"][0]["controlPoints"][0] |= {"label": point, "description": ""}
    return json.dumps(content)


def labelme(image="dot.png"):
    return json.dumps(json.loads(one_dot("labelme")) | {"imagePath": image})


def found(name, path, pictures, *names, spacing=None):
    return by_name.read(path, name, Context(Pictures(pictures), names, spacing))


def xs(labels):
    return {one.image: {name: point.x for name, point in one.points.items()} for one in labels.pictures}


# ---------------------------------------------------------------- 3D Slicer


@pytest.mark.parametrize("name", ["slicer", "fcsv"])
def test_pictures_of_different_spacings_come_back_from_slicer(name, tmp_path, caplog):
    given, pictures = label_tables.labels(spacing=(0.25, 0.125)), label_tables.draw(tmp_path / "pictures")
    path = label_tables.put(tmp_path, given, name)
    again, said = found(name, path, pictures), "points of 1 pictures say another spacing than --spacing, which is taken"
    assert xs(again) == xs(given) and [one.spacing for one in again.pictures] == [(0.25, 0.125), (0.5, 0.5)]
    assert said not in caplog.text
    again = found(name, path, pictures, spacing=(0.5, 0.5))
    assert xs(again)["a.png"]["tip"] == xs(given)["a.png"]["tip"] / 2 and again.pictures[0].spacing == (0.5, 0.5)
    assert said in caplog.text
    file = next(path.glob("a.*"))
    file.write_text(file.read_text().replace("0.25 x 0.125 mm", "0.4 x 0.125 mm", 1))
    with pytest.raises(
        UserError, match="expected one spacing in the descriptions .* found 0.25 x 0.125, 0.4 x 0.125 mm .* --spacing"
    ):
        found(name, path, pictures)
    assert xs(found(name, path, pictures, spacing=(0.5, 0.5))) == xs(again)
    file.write_text(
        file.read_text().replace("0.25 x 0.125 mm", "0.0 x 0.125 mm").replace("0.4 x 0.125 mm", "0.0 x 0.125 mm")
    )
    with pytest.raises(UserError, match="above 0 in the descriptions of points, found 0 x 0.125"):
        found(name, path, pictures)


def test_points_that_slicer_has_called_as_their_picture_are_known_by_their_number(pictures, tmp_path):
    (tmp_path / "labels").mkdir()
    for stem in ("dot", "ben"):
        (tmp_path / f"labels/{stem}.mrk.json").write_text(slicer(f"{stem}-1"))
    labels = found("slicer", tmp_path / "labels", pictures, spacing=(1.0, 1.0))
    assert xs(labels) == {"dot.png": {"1": 3.5}, "ben.png": {"1": 3.5}}
    assert found("slicer", tmp_path / "labels", pictures, "tip", spacing=(1.0, 1.0)).names == ("tip",)


def test_a_list_of_slicer_without_mrk_is_of_the_picture_that_it_is_called_as(pictures, tmp_path):
    (tmp_path / "dot_10012.json").write_text(slicer())
    with pytest.raises(UserError, match=r"expected one picture dot_10012\.\* in"):
        found("slicer", tmp_path / "dot_10012.json", pictures, spacing=(1.0, 1.0))


# ---------------------------------------------------------------- ImageJ


def results(path, *rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([" ,Label,X,Y,Slice", *rows, ""]))
    return path


def test_names_after_the_picture_in_results_of_imagej(pictures, tmp_path):
    rows = ["1,ben.png:tip,10,5,", "2,ben.png:base,4,3,", "3,12.png:base,4,3,", "4,12.png:tip,10,5,"]
    (pictures / "12:30.png").rename(pictures / "12.png")
    path = results(tmp_path / "r.csv", *rows)
    for names in ((), ("tip", "base")):
        assert set(map(str, xs(found("imagej_results", path, pictures, *names)).values())) <= {
            "{'tip': 10.0, 'base': 4.0}", "{'base': 4.0, 'tip': 10.0}"
        }  # fmt: skip
    with pytest.raises(UserError, match="called 'tip'; expected one of --names, Tip, base"):
        found("imagej_results", path, pictures, "Tip", "base")
    results(path, *(re.sub(":tip|:base", lambda name: {":tip": ":1", ":base": ":2"}[name[0]], row) for row in rows))
    assert xs(found("imagej_results", path, pictures))["12.png"] == {"2": 4, "1": 10}
    results(path, *rows[:3], "4,12.png,10,5,")
    with pytest.raises(UserError, match=r"line 5: expected 12\.png:NAME, as other points have names, found none"):
        found("imagej_results", path, pictures)
    for rest in (":0005-0010", ":anna", ""):  # by place, of one ROI for all, none
        results(path, f"1,ben.png{rest},1,5,", f"2,ben.png{rest.replace('10', '11')},2,3,")
        assert xs(found("imagej_results", path, pictures, "tip", "base")) == {"ben.png": {"tip": 1, "base": 2}}


@pytest.mark.parametrize(
    ("of_ben", "of_dot", "said"),
    [
        ("1 2", "1 2", False),
        ("A1 A2", "B1 B2", True),  # ROIs that are called anew in each picture
        ("p1 p2", "0012-0034 0012-0034-1", True),
        ("tip base", "0012-0034 0012-0034-1", False),
        ("c:1/3 c:1/3", "c:1/3 c:2/3", False),
        ("Tip Base", "Tip Base", None),
        ("tip Base", "tip base", None),
    ],
)
def test_what_is_no_name_of_a_point_in_results_of_imagej(of_ben, of_dot, said, pictures, tmp_path, caplog):
    labels = [f"ben.png:{rest}" for rest in of_ben.split()] + [f"anna/dot.png:{rest}" for rest in of_dot.split()]
    path = results(tmp_path / "r.csv", *(f"{i},{label},{i},2," for i, label in enumerate(labels, 1)))
    if said is None:
        with pytest.raises(UserError, match="a point is called .*; expected one of --names, tip, base"):
            found("imagej_results", path, pictures, "tip", "base")
        return
    both = {"ben.png": {"tip": 1, "base": 2}, "anna/dot.png": {"tip": 3, "base": 4}}
    assert xs(found("imagej_results", path, pictures, "tip", "base")) == both
    assert ("is taken for no name of a point; points are known by their order" in caplog.text) == said
    if of_ben == "A1 A2":
        assert found("imagej_results", path, pictures).names == ("1", "2")
    if of_ben == "tip base":
        path.write_text(path.read_text().replace("0012-0034-1", "tip"))
        with pytest.raises(UserError, match=r"line 4: expected anna/dot\.png:NAME, .* found 0012-0034"):
            found("imagej_results", path, pictures, "tip", "base")


def test_numbers_after_the_picture_are_those_of_names(pictures, tmp_path):
    path = results(tmp_path / "r.csv", "1,ben.png:2,10,5,", "2,ben.png:1,4,3,")
    assert xs(found("imagej_results", path, pictures, "tip", "base")) == {"ben.png": {"base": 10, "tip": 4}}


def test_a_picture_whose_name_has_a_colon_comes_back_from_imagej(pictures, tmp_path):
    given = Labels(("tip",), (Labelled("12:30.png", {"tip": Point(1.0, 2.0)}, (12, 8)),))
    path = label_tables.put(tmp_path, given, "imagej_results")
    assert xs(found("imagej_results", path, pictures, "tip")) == xs(given)


def test_two_tables_of_a_picture_are_not_one(pictures, tmp_path):
    for who in ("anna", "ben"):
        results(tmp_path / f"labels/{who}.csv", "1,ben.png,1,2,")
    with pytest.raises(UserError, match=r"ben.csv, line 2: ben.png has points in .*anna.csv, too; give one of them"):
        found("imagej_results", tmp_path / "labels", pictures)


@pytest.mark.parametrize("row", ["1,stack.tif:2,1,2,", "1,stack.tif,1,2,2", "1,stack.tif:tip:2,1,2,"])
def test_a_later_page_is_not_the_first(row, pictures, tmp_path):
    first = found("imagej_results", results(tmp_path / "r.csv", "1,stack.tif:tip:1,1,2,1"), pictures)
    assert xs(first) == {"stack.tif": {"tip": 1}}
    with pytest.raises(UserError, match="points on the first page of stack.tif, the only one that is read, .* page 2"):
        found("imagej_results", results(tmp_path / "r.csv", row), pictures)
    content = bytearray(one_dot("imagej"))
    content[56:60] = struct.pack(">i", 2)  # position
    for stem in ("stack", "ben"):
        (tmp_path / f"{stem}.roi").write_bytes(content)
    with pytest.raises(UserError, match="first page of stack.tif, .* found page 2"):
        found("imagej", tmp_path / "stack.roi", pictures)
    assert xs(found("imagej", tmp_path / "ben.roi", pictures)) == {"ben.png": {"1": 7}}
    grey = Image.open(pictures / "ben.png")  # two channels are one picture
    said = {"append_images": [grey], "tiffinfo": {270: "ImageJ=1.54f\nimages=2\nchannels=2\n"}}
    grey.save(pictures / "stack.tif", save_all=True, **said)
    assert xs(found("imagej", tmp_path / "stack.roi", pictures)) == {"stack.tif": {"1": 7}}


def test_rois_that_are_called_by_their_places_are_known_by_their_order(pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "ben.zip", "w") as file:
        for x, name in ((7, "0002-0007"), (1, "0002-0001")):
            file.writestr(f"{name}.roi", one_dot("imagej", x=float(x)))
    assert xs(found("imagej", tmp_path / "ben.zip", pictures, "tip", "base")) == {"ben.png": {"tip": 7, "base": 1}}


# ---------------------------------------------------------------- pictures of one name


@pytest.mark.parametrize(
    ("place", "image", "file"),
    [
        ("labels/x.json", "../images/anna/dot.png", "anna/dot.png"),
        ("labels/anna/dot.json", "../dot.png", "dot.png"),
        ("pictures/anna/dot.json", "dot.png", "anna/dot.png"),
        ("labels/x.json", "..\\pictures\\dot.png", "dot.png"),
        ("labels/x.json", "D:\\images\\anna\\dot.png", "anna/dot.png"),
        ("labels/x.json", "../other/dot.png", None),
        ("labels/x.json", "dot.png", "dot.png"),
        ("other/anna/x.json", "dot.png", None),
        ("other/anna/dot.json", "dot.png", None),
    ],
)
def test_labelme_names_one_of_two_pictures(place, image, file, pictures, tmp_path):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(labelme(image))
    source = {"labels/anna/dot.json": tmp_path / "labels", "other/anna/dot.json": path.parent}.get(place, path)
    if file:
        assert [one.image for one in found("labelme", source, pictures).pictures] == [file]
    else:
        with pytest.raises(UserError, match=r"dot\.png may be anna/dot\.png, dot\.png"):
            found("labelme", source, pictures)


@pytest.mark.parametrize(
    ("name", "text"), [("labelme", labelme("a" * 3000)), ("morphoj", f"ID\tx1\ty1\n{'a' * 3000}\t7\t6\n")]
)
def test_a_name_longer_than_any_file_has_is_no_traceback(name, text, pictures, tmp_path):
    (tmp_path / "labels").write_text(text)
    with pytest.raises(UserError, match="picture a{3000}"):
        found(name, tmp_path / "labels", pictures)


def test_label_studio_names_one_of_two_pictures(pictures, tmp_path):
    path = tmp_path / "labels.json"
    for url in ("https://x.org/pics/anna/dot.png", "s3://bucket/anna/dot.png", "/data/local-files/?d=x/anna/dot.png"):
        path.write_bytes(one_dot("label_studio", url))
        assert [one.image for one in found("label_studio", path, pictures).pictures] == ["anna/dot.png"]
    path.write_bytes(one_dot("label_studio", "/data/upload/1/0a1b2c3d-dot.png"))
    with pytest.raises(UserError, match=r"dot\.png may be anna/dot\.png, dot\.png"):
        found("label_studio", path, pictures)


def test_pictures_without_an_ending_are_found_by_label_files_called_as_they(pictures, tmp_path):
    (pictures / "ben.png").rename(pictures / "ben")
    (tmp_path / "ben.roi").write_bytes(one_dot("imagej"))
    assert xs(found("imagej", tmp_path / "ben.roi", pictures)) == {"ben": {"1": 7}}


# ---------------------------------------------------------------- what nobody has placed


def test_predictions_are_no_annotations(pictures, tmp_path, caplog):
    (first,), (second,) = (json.loads(one_dot("label_studio", image)) for image in ("dot.png", "ben.png"))
    second |= {
        "annotations": [],
        "predictions": [{"model_version": "net", "result": second["annotations"][0]["result"]}],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([first, second]))
    assert xs(found("label_studio", path, pictures)) == {"dot.png": {"dot": pytest.approx(7)}, "ben.png": {}}
    assert "1 pictures have predictions alone, which are left out: others have points by somebody" in caplog.text
    path.write_text(json.dumps([second]))
    assert xs(found("label_studio", path, pictures)) == {"ben.png": {"dot": pytest.approx(7)}}
    assert "1 pictures have predictions that nobody has confirmed" in caplog.text
    first |= {"annotations": [{"was_cancelled": True, "result": []}], "predictions": second["predictions"]}
    path.write_text(json.dumps([first, second]))  # a skipped picture has no points
    caplog.clear()
    assert xs(found("label_studio", path, pictures)) == {"dot.png": {}, "ben.png": {"dot": pytest.approx(7)}}
    assert "1 pictures have predictions that nobody has confirmed" in caplog.text


def test_a_corrected_prediction_of_sleap_is_its_correction(pictures, tmp_path, monkeypatch, caplog):
    def instance(x):
        points = np.array([([x, 2.0], True)], [("xy", float, 2), ("visible", bool)])
        return types.SimpleNamespace(points=points)

    def frame(name, predicted, by_hand=()):
        video = types.SimpleNamespace(filename=[name], shape=(1, 8, 12, 1))
        return types.SimpleNamespace(
            video=video, frame_idx=0, instances=[*predicted, *by_hand], user_instances=[*by_hand]
        )

    frames = [frame("ben.png", [instance(1.0)], [instance(7.0)]), frame("stack.tif", [])]
    loaded = types.SimpleNamespace(labeled_frames=frames, skeletons=[types.SimpleNamespace(node_names=["dot"])])
    monkeypatch.setitem(sys.modules, "sleap_io", types.SimpleNamespace(load_slp=lambda *_, **__: loaded))
    (tmp_path / "labels.slp").write_bytes(b"")
    assert xs(found("sleap", tmp_path / "labels.slp", pictures)) == {"ben.png": {"dot": 7}, "stack.tif": {}}
    frames += [frame("12:30.png", [instance(3.0)])]
    assert xs(found("sleap", tmp_path / "labels.slp", pictures))["12:30.png"] == {}
    assert "1 pictures have predictions alone, which are left out" in caplog.text


def test_a_person_without_key_points_is_no_second_one(pictures, tmp_path):
    content = json.loads(one_dot("coco"))
    empty = content["annotations"][0] | {"id": 2, "keypoints": [0, 0, 0], "num_keypoints": 0}
    for annotations in ([*content["annotations"], empty], [empty, *content["annotations"]]):
        (tmp_path / "labels.json").write_text(json.dumps(content | {"annotations": annotations}))
        assert xs(found("coco", tmp_path / "labels.json", pictures)) == {"dot.png": {"dot": 7}}


@pytest.mark.parametrize("name", ["coco", "labelme", "label_studio"])
def test_subject_0_is_one(name, pictures, tmp_path):
    path = tmp_path / "dot.json"
    content = json.loads(one_dot(name, "ben.png"))
    has = {"coco": lambda: content["images"][0], "labelme": lambda: content, "label_studio": lambda: content[0]["data"]}
    for subject, read_as in ((0, "0"), (None, "")):
        has[name]()["subject"] = subject
        path.write_text(json.dumps(content))
        assert found(name, path, pictures).pictures[0].subject == read_as


# ---------------------------------------------------------------- Excel


def test_a_workbook_with_a_wrong_dimension_or_a_formula_without_its_value(pictures, tmp_path):
    book = openpyxl.Workbook()
    for row in (("image", "point", "x", "y"), ("dot.png", "dot", 7, 2), ("ben.png", "dot", 6, 2)):
        book.active.append(row)
    book.active["E1"], book.active["E2"] = "note", '=IF(C2>50,"check","")'  # has a value, the empty text
    book.save(tmp_path / "whole.xlsx")
    with zipfile.ZipFile(tmp_path / "whole.xlsx") as whole, zipfile.ZipFile(tmp_path / "a.xlsx", "w") as wrong:
        for one in whole.namelist():
            content = whole.read(one).replace(b'<dimension ref="A1:E3"', b'<dimension ref="A1:D2"')
            wrong.writestr(one, content.replace(b'<c r="E2"', b'<c r="E2" t="str"'))
    assert xs(found("xlsx", tmp_path / "a.xlsx", pictures)) == {
        "dot.png": {"dot": 7}, "ben.png": {"dot": 6}
    }  # fmt: skip
    book.active["E2"] = None
    book.active["C3"] = book.active["D3"] = "=2*3"
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(UserError, match=r"a\.xlsx, row 3: expected values, found the formula '=2\*3' without one"):
        found("xlsx", tmp_path / "a.xlsx", pictures)


# ---------------------------------------------------------------- the folder that is written


def imported(labels, pictures, out, **more):
    return importing.write_folder(labels, Context(Pictures(pictures)), out, title="labels", **more)


def labels_of(pictures, *names):
    points = [{name: Point(1.0, 2.0) for name in names} for _ in pictures]
    return Labels(names, tuple(Labelled(one, own, where=one) for one, own in zip(pictures, points, strict=True)))


def test_names_that_one_picture_alone_has_are_refused(pictures, tmp_path):
    one, two = labels_of(["dot.png"], "F-1", "F-2"), labels_of(["ben.png"], "G-1", "G-2")
    apart = Labels((*one.names, *two.names), (*one.pictures, *two.pictures))
    with pytest.raises(UserError, match="same names of points in several pictures, .* alone: F-1, F-2, G-1, G-2; give"):
        imported(apart, pictures, tmp_path / "out")
    assert "2 pictures" in imported(labels_of(["dot.png", "ben.png"], "tip"), pictures, tmp_path / "out")
    context = Context(Pictures(pictures), apart.names)
    assert "2 pictures" in importing.write_folder(apart, context, tmp_path / "named", title="labels")


def test_what_somebody_has_written_into_a_folder_survives_a_second_import(pictures, tmp_path, caplog):
    out, both = tmp_path / "out", labels_of(["dot.png", "ben.png"], "left", "right")
    assert "never mirrored" in imported(both, pictures, out)
    plain = sorted(os.listdir(out))
    imported(both, pictures, out, force=True)
    assert sorted(os.listdir(out)) == plain and ".bak" not in caplog.text
    about = json.loads((out / "dataset.json").read_text()) | {"flip_pairs": [["left", "right"]], "note": "mine"}
    (out / "dataset.json").write_text(json.dumps(about))
    mine = "\ufeffimage;Split;stage_x;left_x;left_y;right_x;right_y\ndot.png;val;1;1,5;2;1;2\nben.png;;;1,5;2;1;2\n"
    (out / "landmarks.csv").write_text(mine)
    fewer = labels_of(["dot.png"], "right", "left")
    assert "never mirrored" not in imported(fewer, pictures, out, force=True)
    assert json.loads((out / "dataset.json").read_text()) == about and len(read(out)) == 1
    assert (out / "landmarks.csv.bak").read_text() == mine
    said = f"{out}/landmarks.csv: what was there is kept as landmarks.csv.bak; the new one has none of its "
    assert f"{said}columns Split, stage_x and rows ben.png" in caplog.text
    (out / "landmarks.csv").write_text("no table")
    imported(labels_of(["dot.png"], "left"), pictures, out, force=True)
    assert [(out / f"landmarks.csv.bak{i}").read_text() for i in ("", 1)] == [mine, "no table"]
    assert json.loads((out / "dataset.json.bak").read_text()) == about
    assert "dataset.json: what was there is kept as dataset.json.bak, because it has other landmarks" in caplog.text
    (pictures / "dot.png").unlink()
    with pytest.raises(UserError, match=r"is not replaced: its dot\.png would be lost, not being in .*pictures; move"):
        imported(labels_of(["ben.png"], "left"), pictures, out, force=True)
    assert (out / "dot.png").exists()


def test_turned_photographs_are_said(pictures, tmp_path, caplog):
    exif = Image.Exif()
    (tmp_path / "ben.roi").write_bytes(one_dot("imagej"))
    exif[274] = 0  # as some programs write where it is not known
    Image.new("L", (12, 8)).save(pictures / "ben.png", exif=exif)
    context = Context(Pictures(pictures))
    by_name.read(tmp_path / "ben.roi", "imagej", context)
    context.pictures.say()
    assert "turned" not in caplog.text
    exif[274] = 3  # by a half, so that the size stays
    Image.new("L", (12, 8)).save(pictures / "ben.png", exif=exif)
    said = "1 pictures are turned upright by what their files say (EXIF), first ben.png: points are taken as of"
    context = Context(Pictures(pictures))
    imported_ = by_name.read(tmp_path / "ben.roi", "imagej", context)
    importing.write_folder(imported_, context, tmp_path / "out", title="labels")
    assert said in caplog.text
    caplog.clear()
    exporting.read(tmp_path / "out", None)
    assert said in caplog.text
    assert len(read(tmp_path / "out")) == 1 and os.path.isfile(tmp_path / "out/ben.png")
