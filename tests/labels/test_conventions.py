"""Where each format has the dot of a hand-drawn picture: y from the bottom, half pixels, pixels from 1, percent, mm.

The picture has 12 columns and 8 rows, and one white pixel: the eighth column from the left, the third row from the top.
The numbers in the files are by hand, from what each program shows where one clicks on the middle of that pixel."""

import dataclasses
import io
import json
import shutil
import struct
import sys
import zipfile
from xml.etree import ElementTree

import label_tables
import numpy as np
import openpyxl
import pytest
from PIL import Image

from ctd_jax.errors import UserError
from ctd_jax.labels import FORMATS, by_name, importing
from ctd_jax.labels.context import Context, Pictures
from ctd_jax.labels.table import Point

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
def context(tmp_path):
    rows = PICTURE.split()
    dark = np.array([[0 if cell == "." else 255 for cell in row] for row in rows], np.uint8)
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(dark).save(folder / "dot.png")
    return Context(Pictures(folder), ("dot",), (0.5, 0.25))


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


def label_studio(image="/data/upload/1/0a1b2c3d-dot.png", **changes):
    """Percent of the whole width, from the corner: the middle of the eighth of twelve columns is 7.5 / 12."""
    value = {"x": 62.5, "y": 31.25, "width": 0.5, "keypointlabels": ["dot"]}
    result = {"type": "keypointlabels", "from_name": "kp", "to_name": "img", "value": value, "image_rotation": 0}
    result |= {"original_width": WIDTH, "original_height": HEIGHT} | changes
    return json.dumps([{"id": 1, "data": {"img": image}, "annotations": [{"completed_by": 1, "result": [result]}]}])


def slicer(system="LPS", position=(3.5, 0.5, 0.0), status="defined", **changes):
    """0.5 mm a column and 0.25 mm a row, from the centre of the first pixel: 7 columns and 2 rows further."""
    point = {"id": "1", "label": "dot", "position": list(position), "positionStatus": status}
    markups = {"type": "Fiducial", "coordinateSystem": system, "controlPoints": [point]} | changes
    return json.dumps({"markups": [markups]})


def fcsv(system="LPS", row="1,3.5,0.5,0,0,0,0,1,1,1,0,dot,,"):
    columns = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
    return f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n# columns = {columns}\n{row}\n"


CVAT = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>teeth</name></task></meta>
<image id="0" name="dot.png" width="{WIDTH}" height="{HEIGHT}">
{{}}
</image></annotations>"""
POINTS = '<points label="dot" source="manual" occluded="{}" points="7.50,2.50" z_order="0"></points>'
SKELETON = (
    '<skeleton label="tooth" source="manual" z_order="0"><points label="dot" occluded="0" outside="{}" '
    'points="7.50,2.50"></points></skeleton>'
)
DLIB = f"""<?xml version='1.0' encoding='ISO-8859-1'?>
<?xml-stylesheet type='text/xsl' href='image_metadata_stylesheet.xsl'?>
<dataset><name>teeth</name><images><image file='dot.png' width='{WIDTH}' height='{HEIGHT}'>
<box top='1' left='1' width='9' height='5'><part name='dot' x='7' y='2'/></box></image></images></dataset>"""


def roi(x=7.0, y=2.0, kind=10, floats=True):
    """A .roi of one point, byte by byte as ImageJ's RoiEncoder writes it, big-endian: whole numbers in a box, and the
    floats after them where options (at 50) has 128, SUB_PIXEL_RESOLUTION."""
    head = struct.pack(">4shBxhhhhh", b"Iout", 227, kind, int(y), int(x), int(y) + 1, int(x) + 1, 1)
    head = head.ljust(50, b"\0") + struct.pack(">h", 128 if floats else 0)
    head = head.ljust(64, b"\0") + struct.pack(">hh", 0, 0)
    return head + (struct.pack(">ff", x, y) if floats else b"")


DEEPLABCUT = "scorer,eva,eva\nbodyparts,dot,dot\ncoords,x,y\nlabeled-data/teeth/dot.png,7,2\n"


def workbook(rows=(("image", "point", "x", "y"), ("dot.png", "dot", 7, 2.0))):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


FILES = {
    "imagej": ("dot.roi", roi()),
    "imagej_results": ("Results.csv", " ,Label,Area,X,Y\n1,dot.png,0,7.000,2.000\n"),
    "deeplabcut": ("CollectedData_eva.csv", DEEPLABCUT),
    "long": ("labels.csv", "image,point,x,y\ndot.png,dot,7,2\n"),
    "xlsx": ("labels.xlsx", workbook()),
    "cvat": ("labels.xml", CVAT.format(POINTS.format(0))),
    "cvat_skeleton": ("labels.xml", CVAT.format(SKELETON.format(0))),
    "morphoj": ("labels.txt", "ID\tx1\ty1\ndot\t7\t6\n"),
    "label_studio": ("labels.json", label_studio()),
    "slicer": ("dot.mrk.json", slicer()),
    "fcsv": ("dot.fcsv", fcsv()),
    "dlib": ("labels.xml", DLIB),
    "coco": ("labels.json", coco()),
    "labelme": ("dot.json", labelme()),
    "pts": ("dot.pts", "version: 1\nn_points: 1\n{\n8 3\n}\n"),
    "tps": ("labels.tps", "LM=1\n7 6\nIMAGE=dot.png\nID=1\n"),
}


def test_every_format_has_the_dot():
    assert {*FILES, "sleap"} == set(FORMATS)


def test_the_dot_of_sleap(context, tmp_path):
    """By sleap-io's own objects, where it is installed."""
    sleap_io = pytest.importorskip("sleap_io")
    instance = sleap_io.Instance.from_numpy(np.array([[7.0, 2.0]]), skeleton=sleap_io.Skeleton(nodes=["dot"]))
    video = sleap_io.Video.from_filename([str(context.pictures.root / "dot.png")])
    frame = sleap_io.LabeledFrame(video=video, frame_idx=0, instances=[instance])
    sleap_io.save_slp(sleap_io.Labels(labeled_frames=[frame]), str(tmp_path / "labels.slp"))
    (picture,) = by_name.read(tmp_path / "labels.slp", "sleap", context).pictures
    assert (picture.image, picture.size) == ("dot.png", (WIDTH, HEIGHT))
    assert (picture.points["dot"].x, picture.points["dot"].y) == (7, 2)


@pytest.mark.parametrize("name", FILES)
def test_the_dot_is_where_the_picture_is_white(name, context, tmp_path):
    file, text = FILES[name]
    (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    (picture,) = by_name.read(tmp_path / file, name, context).pictures
    x, y = picture.points["dot"].x, picture.points["dot"].y
    white = np.argwhere(np.asarray(Image.open(context.pictures.root / picture.image)) == 255)
    np.testing.assert_allclose([[y, x]], white, atol=1e-9)


@pytest.mark.parametrize(("v", "state"), [(0, None), (1, True), (2, False)])
def test_v_of_coco(v, state, context, tmp_path):
    (tmp_path / "labels.json").write_text(coco(v))
    (picture,) = by_name.read(tmp_path / "labels.json", "coco", context).pictures
    assert (picture.points["dot"].hidden if "dot" in picture.points else None) is state


def test_labelme_may_lie_in_another_folder(context, tmp_path):
    (tmp_path / "dot.json").write_text(labelme("..\\pictures\\dot.png"))
    (picture,) = by_name.read(tmp_path / "dot.json", "labelme", context).pictures
    assert picture.image == "dot.png"


CURVES = "LM=1\n1 1\nCURVES=2\nPOINTS=2\n2 2\n3 3\nPOINTS=1\n4 4\nIMAGE=dot.png\nID=anna\nSCALE=0.125\n"


def test_curves_of_tps_are_further_points(context, tmp_path):
    (tmp_path / "labels.tps").write_text(CURVES)
    named = Context(context.pictures, ("a", "b", "c", "d"))
    (picture,) = by_name.read(tmp_path / "labels.tps", "tps", named).pictures
    assert [(name, point.x, point.y) for name, point in picture.points.items()] == [
        ("a", 1, 7), ("b", 2, 6), ("c", 3, 5), ("d", 4, 4)
    ]  # fmt: skip
    assert (picture.subject, picture.spacing) == ("anna", (0.125, 0.125))


def test_a_blank_scale_is_no_spacing(context, tmp_path, caplog):
    (tmp_path / "labels.tps").write_text("LM=1\n1 1\nIMAGE=dot.png\nSCALE=\n" + "LM=1\n1 1\nIMAGE=dot.png\nSCALE=2\n")
    found = by_name.read(tmp_path / "labels.tps", "tps", Context(context.pictures))
    assert [picture.spacing for picture in found.pictures] == [None, (2, 2)]
    assert "SCALE is given for 1 of 2 specimens" in caplog.text


@pytest.mark.parametrize("missing", ["-1 -1", "NA NA"])
def test_missing_points_of_tps(missing, context, tmp_path):
    (tmp_path / "labels.tps").write_text(f"LM=2\n{missing}\n7 6\nIMAGE=dot.png\n")
    given = Context(context.pictures, ("gone", "dot"), negative_missing=True)
    (picture,) = by_name.read(tmp_path / "labels.tps", "tps", given).pictures
    assert set(picture.points) == {"dot"}


def the_dot(name, text, context, tmp_path):
    """The dot as a file of another text has it; None: absent."""
    file = tmp_path / FILES[name][0]
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    (picture,) = by_name.read(file, name, context).pictures
    return picture.points.get("dot")


@pytest.mark.parametrize("occluded", [0, 1])
def test_occluded_points_of_cvat(occluded, context, tmp_path):
    assert the_dot("cvat", CVAT.format(POINTS.format(occluded)), context, tmp_path).hidden == bool(occluded)


@pytest.mark.parametrize("outside", [0, 1])
def test_skeletons_of_cvat(outside, context, tmp_path):
    dot = the_dot("cvat", CVAT.format(SKELETON.format(outside)), context, tmp_path)
    assert dot is None if outside else (dot.x, dot.y) == (7, 2)


def test_an_attribute_of_a_skeleton_is_no_point(context, tmp_path):
    skeleton = SKELETON.format(0).replace("</skeleton>", '<attribute name="quality">good</attribute></skeleton>')
    assert "quality" in skeleton
    dot = the_dot("cvat", CVAT.format(skeleton), context, tmp_path)
    assert (dot.x, dot.y) == (7, 2)


def test_what_is_written_as_a_skeleton_of_cvat():
    """As in a file that CVAT exports: each point of the skeleton is there, and `outside` where it is absent."""
    given = label_tables.labels(points={"tip": Point(3.0, 4.0, hidden=True)})
    root = ElementTree.fromstring(by_name.write(given, "cvat_skeleton")[""])
    first = root.findall("image/skeleton")[0]
    said = [[element.get(key) for key in ("label", "occluded", "outside")] for element in first]
    assert said == [["tip", "1", "0"], ["base", "0", "1"], ["left hinge", "0", "1"]]
    assert (first[0].get("points"), first.get("label")) == ("3.5,4.5", "landmarks")


def cvat_zip(path, context, **more):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(context.pictures.root / "dot.png", "images/dot.png")
        file.writestr("annotations.xml", CVAT.format(SKELETON.format(0)))
        for name, content in more.items():
            file.writestr(name, content)
    return path


def test_a_zip_of_cvat_has_its_pictures(context, tmp_path, cli):
    path = cvat_zip(tmp_path / "cvat.zip", context)
    assert by_name.guess(path) == "cvat"
    (picture,) = by_name.read(path, "cvat", context).pictures
    assert (picture.points["dot"].x, picture.points["dot"].y) == (7, 2)
    code, out, error = cli("ctd_jax.label_files", "import", path, f"--out={tmp_path / 'out'}")
    assert code == 0 and "1 pictures, 1 points of 1 landmarks" in out
    assert (tmp_path / "out" / "dot.png").read_bytes() == (context.pictures.root / "dot.png").read_bytes()
    assert (tmp_path / "out" / "landmarks.csv").read_text() == "image,dot_x,dot_y\ndot.png,7.0,2.0\n"


def test_zips_of_cvat_that_are_wrong(context, tmp_path, cli):
    """A path out of the folder, no annotations, no pictures, more than there may be, and cut short."""
    path = tmp_path / "cvat.zip"

    def said(*flags):
        code, out, error = cli("ctd_jax.label_files", "import", path, f"--out={tmp_path / 'out'}", *flags)
        assert (code, out) == (2, "") and not (tmp_path / "out").exists() and not (tmp_path / "evil.png").exists()
        return error.splitlines()[-1]

    cvat_zip(path, context, **{"../evil.png": b""})
    assert "picture '../evil.png' leads out of the folder" in said()
    whole = cvat_zip(path, context).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "no .zip that can be read" in said()
    path.write_bytes(whole.replace(b"annotations.xml", b"annotations.txt"))
    assert "is in no format that is known here" in said()
    assert "expected annotations.xml in it, found images/dot.png" in said("--from=cvat")
    path.write_bytes(whole.replace(b"dot.png", b"dot.txt"))
    assert "has no pictures; give the folder" in said()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("annotations.xml", bytes(65 * 2**20))
        file.writestr("a.png", b"")
    assert "annotations.xml: 65 MiB; 64 MiB or less are read" in said("--from=cvat")


@pytest.mark.parametrize(
    ("system", "position"), [("RAS", (-3.5, -0.5, 0)), ("0", (-3.5, -0.5, 0)), ("1", (3.5, 0.5, 0))]
)
def test_the_systems_of_slicer(system, position, context, tmp_path):
    dot = the_dot("slicer", slicer(system, position), context, tmp_path)
    assert (dot.x, dot.y) == (7, 2)
    dot = the_dot("fcsv", fcsv(system, "1,{},{},{},0,0,0,1,1,1,0,dot,,".format(*position)), context, tmp_path)
    assert (dot.x, dot.y) == (7, 2)


def test_points_that_slicer_has_not_placed(context, tmp_path):
    assert the_dot("slicer", slicer(status="missing"), context, tmp_path) is None
    assert the_dot("fcsv", fcsv(row="1,3.5,0.5,0,0,0,0,1,1,1,0,dot,,,2,0"), context, tmp_path).x == 7
    assert the_dot("fcsv", fcsv(row="1,3.5,0.5,0,0,0,0,1,1,1,0,dot,,,0,0"), context, tmp_path) is None


@pytest.mark.parametrize(
    "image",
    [
        "dot.png", "s3://bucket/teeth/dot.png", "/data/local-files/?d=teeth/dot.png", "https://x.org/dot.png",
        "http://localhost:8080/data/local-files/?d=teeth/dot.png", "https://x.org/dot.png?id=7&name=a.png",
    ],
)  # fmt: skip
def test_pictures_of_label_studio(image, context, tmp_path):
    assert the_dot("label_studio", label_studio(image), context, tmp_path).x == pytest.approx(7)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("label_studio", label_studio(image_rotation=90), "expected image_rotation 0, found 90"),
        ("label_studio", label_studio(original_width=0), "whole pixels"),
        ("label_studio", label_studio("dot.mp4"), "expected one picture in `data`, found 0"),
        ("label_studio", "{}", "expected a list of tasks, found dict"),
        ("slicer", slicer(position=(3.5, 0.5, 4)), "expected a point in the plane z = 0, found 4"),
        ("slicer", slicer(position=(3.5, 0.5)), "expected a position of three numbers, found 2"),
        ("slicer", slicer("XYZ"), "expected the coordinate system LPS or RAS, found 'XYZ'"),
        ("slicer", slicer(type="Line"), "expected markups of the type Fiducial, points, found 'Line'"),
        ("slicer", slicer(coordinateUnits="um"), "expected coordinateUnits mm, found 'um'"),
        ("fcsv", fcsv("XYZ"), "expected the coordinate system LPS or RAS"),
        ("fcsv", "1,3.5,0.5,0,0,0,0,1,1,1,0,dot,,\n", "expected a line `# CoordinateSystem = LPS`"),
        ("fcsv", fcsv(row="1,3.5,0.5"), "expected 14 cells"),
        ("fcsv", fcsv(row="1,3;5,0.5,0,0,0,0,1,1,1,0,dot,,"), "expected a number"),
        ("cvat", CVAT.format(POINTS.format(0).replace("7.50,2.50", "7.50,2.50;1,1")), "expected one point, X,Y"),
        ("cvat", CVAT.format(POINTS.format(0) * 2), "expected one point 'dot', found a second one"),
        ("cvat", CVAT.format(SKELETON.format(0) * 2), "expected one skeleton, found 2"),
        ("cvat", "<annotations><track/></annotations>", "has a <track>, of a video"),
        ("cvat", DLIB, "expected the element <annotations>, found <dataset>"),
        ("imagej", roi(kind=1), "expected points .multi-point tool., found rect"),
        ("imagej", roi()[:66], "no ROI of ImageJ that can be read"),
        ("imagej", roi().replace(struct.pack(">f", 7), struct.pack(">f", float("nan"))), "expected points"),
        ("imagej_results", "Label,X,Y\ndot.png,7\n", "expected 3 cells, found 2"),
        ("imagej_results", "Label,X\ndot.png,7\n", "expected a header with X and Y, found Label, X"),
        ("imagej_results", "Label;X;Y\ndot.png;7,5;2\n", "expected a number with a decimal point, found '7,5'"),
        ("imagej_results", "Label,X,Y\ndot.png,1,1\ndot.png,2,2\n", "expected 1 points"),
        ("deeplabcut", DEEPLABCUT.replace("bodyparts", "individuals,a,a\nbodyparts", 1), "has several animals"),
        ("deeplabcut", DEEPLABCUT.replace("coords,x,y", "coords,x,x"), "expected one x of 'dot'"),
        ("deeplabcut", DEEPLABCUT.replace("coords,x,y", "coords,x,z"), "expected x, y or likelihood"),
        ("deeplabcut", DEEPLABCUT.replace("coords,x,y", "coords,x,likelihood"), "expected x and y of 'dot'"),
        ("deeplabcut", DEEPLABCUT.replace(",7,2", ",7"), "expected 3 cells, found 2"),
        ("deeplabcut", DEEPLABCUT.replace(",7,2", ",7,"), "expected both x and y, or neither"),
        ("deeplabcut", DEEPLABCUT.partition("labeled")[0], "expected rows of scorer, bodyparts, coords, and of"),
        ("morphoj", "ID\tx1\ty1\ndot\t7\n", "expected 3 cells, found 2"),
        ("morphoj", "ID\tx1\ty1\ndot\t7\tNA\n", "expected a number"),
        ("morphoj", "ID\tx1\ty1\n", "expected a row for each specimen"),
        ("morphoj", "ID\tx1\ty1\tz1\ndot\t7\t6\t0\n", "expected a header of ID, x1, y1, x2, y2"),
        ("morphoj", "ID\tx1\ty1\nspot\t7\t6\n", "expected one picture spot"),
        ("long", "image,point,x\ndot.png,dot,7\n", "expected the columns image, point, x, y"),
        ("long", "image,point,x,y\ndot.png,dot,7,\n", "expected both x and y, or neither"),
        ("long", "image,point,x,y\ndot.png,dot,7,2\ndot.png,dot,7,2\n", "found a second one"),
        ("long", "image,point,x,y,state\ndot.png,dot,7,2,absent\n", "or neither where 'dot' is absent"),
        ("long", "image,point,x,y,state\ndot.png,dot,7,2,blurred\n", "expected a state of placed"),
        ("long", "image,point,x,y\ndot.png,dot,7 px,2\n", "x is '7 px'; expected a number"),
        ("long", "image,point,x,y,subject\ndot.png,dot,7,2,a\ndot.png,b,7,2,c\n", "expected subject 'a'"),
        ("xlsx", workbook([("image", "point", "x")]), "expected the columns image, point, x, y"),
        ("xlsx", workbook([("image", "point", "x", "y", "Y")]), "column 'y' stands twice"),
        ("xlsx", workbook([("image", "point", "x", "y"), ("dot.png", "dot", "seven", 2)]), "expected a number"),
        ("coco", coco(3), "expected 0, 1 or 2 as v, found 3"),
        ("tps", "LM=2\n1 1\n", "expected 1 more points of LM=2, found the end of the file"),
        ("tps", "LM=1\n1 1\nIMAGE=dot.png\nCURVES=1\n", "expected 1 more curves, found the end of the file"),
        ("tps", "", "expected specimens that begin with LM=NUMBER, found none"),
        ("dlib", DLIB.replace("x='7'", "x=''"), "expected a number"),
        ("dlib", DLIB.replace("</box>", "<part name='dot' x='1' y='1'/></box>"), "found a second one"),
        ("dlib", DLIB.replace("</image>", "<box><part name='dot' x='1' y='1'/></box></image>"), "expected one box"),
    ],
)
def test_what_these_files_can_have_wrong(name, text, said, context, tmp_path):
    with pytest.raises(UserError, match=said):
        the_dot(name, text, context, tmp_path)


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]>'
FOREIGN = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("declaration", [BOMB, FOREIGN])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("name", ["cvat", "dlib"])
def test_xml_can_neither_grow_nor_name_other_files(name, encoding, declaration, context, tmp_path):
    head, _, rest = FILES[name][1].partition("?>\n")
    text = f"<?xml version='1.0'?>\n{declaration}\n{rest.replace('teeth', '&x;')}"
    (tmp_path / "labels.xml").write_text(text, encoding)
    with pytest.raises(UserError, match="has a <!DOCTYPE>"):
        by_name.read(tmp_path / "labels.xml", name, context)


@pytest.mark.parametrize(("mm", "spacing"), [(1.0, None), (0.5, (0.5, 0.5))])
def test_the_spacing_that_slicer_takes_where_there_is_none_is_none(mm, spacing, context, tmp_path, caplog):
    given = dataclasses.replace(context, spacing=(mm, mm))
    row = f"1,{7 * mm},{2 * mm},0,0,0,0,1,1,1,0,dot,,"
    for name, text in (("slicer", slicer(position=(7 * mm, 2 * mm, 0))), ("fcsv", fcsv(row=row))):
        file = tmp_path / FILES[name][0]
        file.write_text(text)
        (picture,) = by_name.read(file, name, given).pictures
        assert picture.spacing == spacing and (picture.points["dot"].x, picture.points["dot"].y) == (7, 2)
    assert ("no spacing, so none is written" in caplog.text) == (spacing is None)


def test_slicer_without_spacing_is_refused(context, tmp_path):
    without = Context(context.pictures, ("dot",))
    for name in ("slicer", "fcsv"):
        (tmp_path / FILES[name][0]).write_text(FILES[name][1])
        with pytest.raises(UserError, match="positions are in mm; give the mm of a pixel .* --spacing=MM"):
            by_name.read(tmp_path / FILES[name][0], name, without)
    bare = label_tables.labels(spacing=None)
    with pytest.raises(UserError, match=r"a\.png: Slicer's positions are in mm, but its spacing is unknown"):
        by_name.write(bare, "slicer")


def test_two_people_of_label_studio(context, tmp_path):
    tasks = json.loads(label_studio())
    tasks[0]["annotations"].append(tasks[0]["annotations"][0] | {"completed_by": {"id": 2, "email": "eva@x.org"}})
    tasks[0]["annotations"].append(tasks[0]["annotations"][0] | {"was_cancelled": True})
    (tmp_path / "labels.json").write_text(json.dumps(tasks))
    found = by_name.read(tmp_path / "labels.json", "label_studio", context)
    assert [picture.who for picture in found.pictures] == ["1", "eva@x.org"]
    said = r"dot.png was already listed in .*, there by 1 and here by eva@x\.org; --who=NAME takes one"
    with pytest.raises(UserError, match=said):
        importing.write_folder(found, context, tmp_path / "out", title="labels.json")
    importing.write_folder(found, context, tmp_path / "out", title="labels.json", who="eva@x.org")
    assert (tmp_path / "out" / "landmarks.csv").read_text() == (
        "image,dot_x,dot_y,spacing_x_mm,spacing_y_mm\ndot.png,7.0,2.0,0.5,0.25\n"
    )


def test_whole_numbers_of_an_older_roi(context, tmp_path):
    dot = the_dot("imagej", roi(floats=False), context, tmp_path)
    assert (dot.x, dot.y) == (7, 2)


def test_what_is_written_for_imagej(tmp_path):
    """Its bytes, at the places of ImageJ's RoiDecoder."""
    content = by_name.write(label_tables.labels(), "imagej")["a.roi"]
    assert content[:4] == b"Iout" and content[6] == 10
    (number,) = struct.unpack(">h", content[16:18])
    (options,) = struct.unpack(">h", content[50:52])
    floats = np.frombuffer(content, ">f4", 2 * number, 64 + 4 * number).reshape(2, number)
    assert number == 3 and options & 128
    np.testing.assert_array_equal(floats.T, [[3, 4], [20.25, 10.5], [39, 29]])


def archive(path, **contents):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in contents.items():
            file.writestr(f"{name}.roi", content)


def test_a_zip_of_the_roi_manager_names_the_points_of_its_picture(context, tmp_path):
    archive(tmp_path / "dot.zip", dot=roi(), other=roi(x=1.0, y=1.0))
    (picture,) = by_name.read(tmp_path / "dot.zip", "imagej", Context(context.pictures)).pictures
    assert {name: (point.x, point.y) for name, point in picture.points.items()} == {"dot": (7, 2), "other": (1, 1)}


def test_a_zip_of_pictures_with_one_point_each(context, tmp_path):
    shutil.copy(context.pictures.root / "dot.png", context.pictures.root / "other.png")
    archive(tmp_path / "RoiSet.zip", dot=roi(), other=roi(x=1.0, y=1.0))
    found = by_name.read(tmp_path / "RoiSet.zip", "imagej", context).pictures
    assert {one.image: one.points["dot"].x for one in found} == {"dot.png": 7, "other.png": 1}


def test_a_zip_of_pictures(context, tmp_path):
    archive(tmp_path / "RoiSet.zip", dot=roi())
    (picture,) = by_name.read(tmp_path / "RoiSet.zip", "imagej", context).pictures
    assert (picture.image, picture.points["dot"].x) == ("dot.png", 7)


def test_a_zip_that_would_unpack_to_too_much_is_refused(context, tmp_path):
    with zipfile.ZipFile(tmp_path / "dot.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("dot.roi", bytes(2**24 + 1))
    with pytest.raises(UserError, match="expected a list of points"):
        by_name.read(tmp_path / "dot.zip", "imagej", context)


def test_rows_of_deeplabcut_in_three_columns_with_likelihood(context, tmp_path):
    text = "scorer,,,net,net,net,net,net,net\nbodyparts,,,dot,dot,dot,b,b,b\ncoords,,,x,y,likelihood,x,y,likelihood\n"
    (tmp_path / "labels.csv").write_text(text + "labeled-data,teeth,dot.png,7,2,0.5,,,\n")
    (picture,) = by_name.read(tmp_path / "labels.csv", "deeplabcut", Context(context.pictures)).pictures
    assert picture.points == {"dot": Point(7, 2, confidence=0.5)} and picture.who == "net"


@pytest.mark.parametrize("name", ["long", "xlsx"])
def test_a_subject_that_is_no_word_is_none(name, context, tmp_path):
    header, row = ("image", "point", "x", "y", "subject"), ("dot.png", "dot", "7", "2", "-")
    path = tmp_path / f"labels{FORMATS[name].suffix}"
    if name == "long":
        path.write_text("\n".join(map(",".join, (header, row))))
    else:
        book = openpyxl.Workbook()
        book.active.append(header)
        book.active.append(row)
        book.save(path)
    (picture,) = by_name.read(path, name, context).pictures
    assert picture.subject == ""


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_a_long_table_as_a_german_excel_saves_it(encoding, context, tmp_path, caplog):
    (tmp_path / "labels.csv").write_text("Image;point;x;y;subject\ndot.png;dot;7,5;2,0;Jörg\n", encoding)
    (picture,) = by_name.read(tmp_path / "labels.csv", "long", context).pictures
    assert (picture.points["dot"].x, picture.points["dot"].y, picture.subject) == (7.5, 2, "Jörg")
    assert "decimal comma" in caplog.text


def test_no_word_of_a_table_is_a_formula(tmp_path):
    given = label_tables.labels(subject="=cmd()")
    text = by_name.write(given, "long")[""].decode()
    assert ",'=cmd()," in text
    (sheet,) = openpyxl.load_workbook(io.BytesIO(by_name.write(given, "xlsx")[""])).worksheets
    assert sheet["D2"].value == "'=cmd()" and sheet["D2"].data_type == "s" and sheet["F2"].value == 3.0


def test_sleap_without_its_package_is_refused_by_name(context, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sleap_io", None)
    (tmp_path / "labels.slp").write_bytes(b"")
    with pytest.raises(UserError, match="SLEAP's .slp needs the package sleap-io, .* by `pip install sleap-io`"):
        by_name.read(tmp_path / "labels.slp", "sleap", context)


def test_a_package_that_is_missing_is_named(context, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "roifile", None)
    with pytest.raises(UserError, match=r"needs the package roifile, .* `pip install -e '\.\[labels\]'`"):
        the_dot("imagej", roi(), context, tmp_path)
