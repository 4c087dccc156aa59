"""Files of other tools give the table that was written into them."""

import csv
import json

import numpy as np
import pytest

from ctd_jax import metrics
from ctd_jax.errors import UserError
from ctd_jax.metrics import foreign

NAN = float("nan")
XY = np.array([[[10.5, 20], [30, 40]], [[11, 21], [31, 41]], [[12, 22], [32, 42.25]]])
TRUE = np.array([[[10, 20], [NAN, NAN]], [[14, 25], [31, 42]], [[12, 22], [32, 42]]])
CONFIDENCE = np.array([[0.5, 0.25], [0.75, 1], [0.5, 0.5]])


def check(table, names, landmarks=("eye", "chin"), confidence=CONFIDENCE):
    """In the order of the annotations; errors by hand: 0.5 and none; 5 and 1; 0 and 0.25 px."""
    assert (table.images.tolist(), table.landmarks.tolist()) == (list(names), list(landmarks))
    np.testing.assert_array_equal(table.xy, XY)
    np.testing.assert_array_equal(table.true_xy, TRUE)
    np.testing.assert_allclose(table.error_px, [[0.5, NAN], [5, 1], [0, 0.25]])
    np.testing.assert_array_equal(table.confidence, np.full((3, 2), NAN) if confidence is None else confidence)


def coco():
    """Results in another order than the pictures, and annotations with a point that has visibility 0."""
    results = [
        {"image_id": 7 - i, "category_id": 1, "score": 1, "keypoints": np.c_[XY[i], CONFIDENCE[i]].ravel().tolist()}
        for i in (2, 0, 1)
    ]
    seen = np.where(np.isnan(TRUE[..., :1]), 0, 2)
    points = np.concatenate([np.nan_to_num(TRUE), seen], axis=-1)
    annotations = {
        "images": [{"id": 7 - i, "file_name": f"{i}.png"} for i in range(3)],
        "annotations": [{"image_id": 7 - i, "keypoints": points[i].ravel().tolist()} for i in (1, 2, 0)],
        "categories": [{"id": 1, "name": "face", "keypoints": ["eye", "chin"]}],
    }
    return results, annotations


def dlc(points, kinds, *, names=("a/0.png", "a/1.png", "a/2.png"), split=True, parts=("eye", "chin")):
    """The rows of DeepLabCut's csv; its newer ones have the path in three columns."""
    width = len(parts) * len(kinds)
    places = [["labeled-data", *name.split("/")] if split else [f"labeled-data/{name}"] for name in names]
    blank = [""] * (len(places[0]) - 1)
    rows = [["scorer", *blank, *["me"] * width], ["bodyparts", *blank, *np.repeat(parts, len(kinds))]]
    rows.append(["coords", *blank, *list(kinds) * len(parts)])
    values = [["" if np.isnan(v) else f"{v}" for v in picture.ravel()] for picture in points]
    return rows + [[*place, *cells] for place, cells in zip(places, values, strict=True)]


def write(path, content):
    if path.suffix == ".json":
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(content)
    return path


def test_coco_keypoint_results(tmp_path):
    results, annotations = coco()
    paths = write(tmp_path / "r.json", results), write(tmp_path / "a.json", annotations)
    found = foreign.read(*paths, 0.5)
    check(found.predictions, ["0.png", "1.png", "2.png"])
    np.testing.assert_allclose(found.predictions.error_mm, [[0.25, NAN], [2.5, 0.5], [0, 0.125]])
    assert "third number is taken as its confidence" in found.taken[0]


def test_boxes_beside_the_keypoints_are_not_read(tmp_path):
    results, annotations = coco()
    annotations["categories"].append({"id": 2, "name": "box"})
    annotations["annotations"].insert(0, {"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4]})
    results.insert(1, {"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 1})
    paths = write(tmp_path / "r.json", results), write(tmp_path / "a.json", annotations)
    check(foreign.read(*paths, None).predictions, ["0.png", "1.png", "2.png"])


def windows(rows):
    return [[cell.replace("/", "\\") for cell in row] for row in rows]


@pytest.mark.parametrize("split", [True, False])
def test_deeplabcut(tmp_path, split):
    """The predictions have body parts and rows in another order, and a row without annotation."""
    shown = np.concatenate([XY, CONFIDENCE[..., None]], axis=-1)[[2, 0, 1, 1]][:, ::-1]
    names = ("a/2.png", "a/0.png", "a/1.png", "a/9.png")
    rows = dlc(shown, ["x", "y", "likelihood"], names=names, parts=("chin", "eye"), split=split)
    paths = write(tmp_path / "p.csv", rows), write(tmp_path / "CollectedData.csv", dlc(TRUE, "xy", split=split))
    check(foreign.read(*paths, None).predictions, [f"labeled-data/a/{i}.png" for i in range(3)])
    write(paths[0], windows(rows))
    found = foreign.read(*paths, None)
    check(found.predictions, [f"labeled-data/a/{i}.png" for i in range(3)])
    assert np.isnan(found.predictions.error_mm).all()
    assert "1 predicted rows without annotation are left out" in found.taken


def test_arrays_of_landmarker_are_y_x(tmp_path):
    paths = tmp_path / "p.csv", tmp_path / "t.csv"
    for path, points in zip(paths, (XY, TRUE), strict=True):
        np.savetxt(path, points[..., ::-1].reshape(3, 4), delimiter=",")
    found = foreign.read(*paths, None)
    check(found.predictions, ["row 0", "row 1", "row 2"], ["landmark 0", "landmark 1"], None)
    assert "y, x, y, x" in found.taken[0]


def test_a_table_of_a_run(tmp_path):
    table = metrics.Predictions.from_points(["a", "b", "c"], ["", "", ""], ["eye", "chin"], XY, true_xy=TRUE)
    metrics.write_predictions(tmp_path / "predictions.csv", table)
    for path in (tmp_path, tmp_path / "predictions.csv"):
        check(foreign.read(path, None, None).predictions, "abc", confidence=None)
    for arguments, flag in (((tmp_path / "t.csv", None), "--truth"), ((None, 1.0), "--spacing")):
        with pytest.raises(UserError, match=f"{flag}: .* is a table of a run"):
            foreign.read(tmp_path, *arguments)


def changed(results=None, annotations=None):
    """COCO files of which a part is changed."""
    files = coco()
    for content, change in zip(files, (results, annotations), strict=True):
        if change:
            change(content)
    return files


POINTS = [1, 2, 0.5, 3, 4, 0.5]


@pytest.mark.parametrize(
    "results, annotations, message",
    [
        ("{", coco()[1], "r.json: expected JSON"),
        ("[" * 99999, coco()[1], "r.json: expected JSON"),
        (
            {"images": []},
            coco()[1],
            "r.json: expected a list of COCO keypoint results, found an object of 1; these look",
        ),
        (*changed(lambda r: r[1].update(image_id=3)), "r.json, entry 1, image_id: expected the id of a picture in"),
        (
            *changed(lambda r: r[1].pop("image_id")),
            "r.json, entry 1, image_id: expected a number or a name, found none",
        ),
        (
            *changed(lambda r: r[1].update(image_id=5)),
            "r.json, entry 1: expected one result of '2.png', found a second",
        ),
        (*changed(lambda r: r.pop()), "expected a result of each of the 3 pictures"),
        (
            *changed(lambda r: r[2].update(keypoints=POINTS[:5])),
            "entry 2, keypoints: expected 6 numbers, x, y and a thir",
        ),
        (
            *changed(lambda r: r[2].update(keypoints=[*POINTS[:5], "x"])),
            "entry 2, keypoints: expected numbers, found 'x'",
        ),
        (
            *changed(lambda r: r[2].update(keypoints=[*POINTS[:5], NAN])),
            "entry 2, keypoints: expected numbers, found nan",
        ),
        (*changed(lambda r: r.append(3)), "r.json, entry 3, image_id: expected a number or a name"),
        ([], [], "a.json: expected COCO annotations, an object, found a list of 0"),
        (*changed(None, lambda a: a.pop("images")), "a.json, images: expected a list, found none"),
        (
            *changed(None, lambda a: a.update(categories=[])),
            "a.json, categories: expected one with a list of keypoints",
        ),
        (*changed(None, lambda a: a["categories"][0].update(keypoints=["eye", "eye"])), "different names, found one"),
        (
            *changed(None, lambda a: a["annotations"].append(a["annotations"][0])),
            "entry 3: expected one object in '1.png'",
        ),
        (
            *changed(None, lambda a: a["images"].append(a["images"][0])),
            "images, entry 3: expected pictures with differ",
        ),
        (*changed(None, lambda a: a["annotations"][0].update(image_id=99)), "annotations, entry 0, image_id: expected"),
    ],
)
def test_coco_files_that_do_not_fit(tmp_path, results, annotations, message):
    paths = write(tmp_path / "r.json", results), write(tmp_path / "a.json", annotations)
    with pytest.raises(UserError) as error:
        foreign.read(*paths, None)
    assert message in str(error.value)


SHOWN = dlc(np.concatenate([XY, CONFIDENCE[..., None]], axis=-1), ["x", "y", "likelihood"])
TRUTH = dlc(TRUE, "xy")


def with_cell(rows, i, j, cell):
    rows = [list(row) for row in rows]
    rows[i][j] = cell
    return rows


@pytest.mark.parametrize(
    "predictions, truth, message",
    [
        (SHOWN, SHOWN, "t.csv: expected annotations with x and y, found a likelihood"),
        (SHOWN, with_cell(with_cell(TRUTH, 1, 3, "nose"), 1, 4, "nose"), "found 'eye' only in"),
        (SHOWN[:-1], TRUTH, "found none of 1 (first: 'labeled-data/a/2.png')"),
        ([*SHOWN, SHOWN[-1]], TRUTH, "p.csv: expected one row a picture, found the same picture twice"),
        (with_cell(SHOWN, 3, 3, ""), TRUTH, "'eye' has only one of its two coordinates"),
        (with_cell(with_cell(SHOWN, 3, 3, ""), 3, 4, ""), TRUTH, "expected x and y of 'eye', found an empty cell"),
        (with_cell(SHOWN, 4, 5, "sure"), TRUTH, "p.csv, row 5, column 6: expected a number, found 'sure'"),
        (with_cell(SHOWN, 2, 4, "z"), TRUTH, "p.csv, column 5: expected y of 'eye', found 'z' of 'eye'"),
        ([SHOWN[0], ["individuals", *SHOWN[0][1:]], *SHOWN[1:]], TRUTH, "expected one animal a picture"),
        (SHOWN[:3], TRUTH, "p.csv: expected one row a picture, found no rows"),
        ([SHOWN[0], *SHOWN[3:]], TRUTH, "expected three rows of header, scorer, bodyparts and coords, found 'scorer'"),
        ([*SHOWN[:3], SHOWN[3][:-1]], TRUTH, "p.csv, row 4: expected 9 cells, found 8"),
        ([["1", "2"], ["3", "4"]], [["1", "2"]], "expected the shape of"),
        ([["1", "2"], ["3"]], [["1", "2"]], "p.csv, row 2: expected 2 numbers, two of each landmark, found 1"),
        ([["1", "2", "3"]], [["1", "2"]], "p.csv, row 1: expected 4 numbers, two of each landmark, found 3"),
        ([["1", "nan"]], [["1", "2"]], "p.csv, row 1: landmark 0 has only one of its two coordinates"),
        ([["nan", "nan"]], [["1", "2"]], "p.csv, row 1, column 1: expected a number, found 'nan'"),
        ([["1", "2"]], [["1", "inf"]], "t.csv, row 1, column 2: expected a number, found 'inf'"),
        (
            [["name", "px"]],
            [["1", "2"]],
            "p.csv, row 1: expected a table of a run (image,subject,landmark,x,...), Deep",
        ),
        ([], [], "found nothing"),
        ([["1", "2"]], None, "--truth is missing: "),
    ],
)
def test_csv_files_that_do_not_fit(tmp_path, predictions, truth, message):
    path = write(tmp_path / "p.csv", predictions)
    with pytest.raises(UserError) as error:
        foreign.read(path, None if truth is None else write(tmp_path / "t.csv", truth), None)
    assert message in str(error.value)


def test_a_file_that_is_no_text_or_not_there(tmp_path):
    (tmp_path / "p.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="p.csv: expected a file of text in UTF-8"):
        foreign.read(tmp_path / "p.csv", None, None)
    with pytest.raises(UserError, match="none.csv: no such file"):
        foreign.read(tmp_path / "none.csv", None, None)
