"""Labels in another unit or convention are named before training, and right ones never."""

import dataclasses
import logging
import pathlib

import numpy as np
import pytest
from PIL import Image
from scipy import spatial

from ctd_jax.data import annotation_checks, pictures, shapes, synthetic, twins
from ctd_jax.data.about import Landmarks
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.data.points import read_folder
from ctd_jax.errors import UserError

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"
SIZE = 320


def table_of(xy, landmarks, size, splits, **changes):
    n = len(xy)
    table = LandmarkTable(
        landmarks=landmarks,
        images=tuple(f"{i}.png" for i in range(n)),
        subjects=tuple(map(str, range(n))),
        splits=tuple(splits),
        xy=xy,
        spacing=np.full((n, 2), np.nan),
        boxes=np.full((n, 4), np.nan),
        sha256=tuple(map(str, range(n))),
        where=tuple(f"landmarks.csv, row {i + 2}" for i in range(n)),
        title="landmarks.csv",
    )
    looks = np.zeros(n, twins.LOOK)
    looks["size"] = size
    looks["thumbnail"] = np.random.default_rng(0).integers(0, 256, (n, 64, 64))
    return dataclasses.replace(table, **changes), looks


@pytest.fixture(scope="module")
def drawn():
    faces = synthetic.faces(range(30), 2, size=64, seed=0)
    xy = (faces["xy"].astype(float) + 0.5) * SIZE / 64 - 0.5
    splits = ["train"] * 40 + ["val"] * 8 + ["test"] * 12
    landmarks = Landmarks(synthetic.LANDMARKS, synthetic.FLIP_PAIRS)
    return table_of(xy, landmarks, (SIZE, SIZE), splits)


@pytest.fixture
def said(caplog):
    def say(table, looks):
        caplog.clear()
        annotation_checks.check(table, table.splits, looks)
        return [record.message for record in caplog.records if record.levelno == logging.WARNING]

    return say


def planted(drawn, change, rows=slice(None)):
    table, looks = drawn
    xy = table.xy.copy()
    xy[rows] = change(xy[rows], table)
    return dataclasses.replace(table, xy=xy), looks


def swapped(xy, table):
    return xy[..., ::-1]


def upwards(xy, table):
    return np.stack([xy[..., 0], SIZE - 1 - xy[..., 1]], -1)


def exchanged(xy, table):
    return xy[:, list(table.landmarks.flip_order)]


def fractions(xy, table):
    return (xy + 0.5) / SIZE


def percent(xy, table):
    return 100 * fractions(xy, table)


ROWS = np.sort(np.random.default_rng(1).choice(60, 6, replace=False))
IN_ROWS = {
    swapped: "x and y are swapped",
    upwards: "y is turned: counted from below",
    exchanged: "left and right are exchanged",
    fractions: "closer together than in most pictures",
    percent: "if they are percentages",
}


@pytest.mark.slow
def test_right_labels_are_not_warned_of(drawn, said):
    assert said(*drawn) == []


@pytest.mark.parametrize("change", IN_ROWS)
def test_rows_are_named(drawn, said, change):
    (message,) = said(*planted(drawn, change, ROWS))
    assert message.startswith(f"6 rows, first landmarks.csv, row {ROWS[0] + 2}: ") and IN_ROWS[change] in message


@pytest.mark.parametrize("change", [swapped, upwards, exchanged])
def test_so_is_a_whole_split(drawn, said, change):
    (message,) = said(*planted(drawn, change, slice(48, None)))
    assert message.startswith("12 rows, first landmarks.csv, row 50 (all of test): ") and IN_ROWS[change] in message


def test_one_row_and_some_landmarks_are_enough(drawn, said):
    table, looks = planted(drawn, exchanged, [7])
    missing = np.random.default_rng(2).random(table.xy.shape[:2]) < 0.5
    xy = np.where(missing[..., None], np.nan, table.xy)
    xy[20] = np.nan
    xy[21, 1:] = np.nan
    (message,) = said(dataclasses.replace(table, xy=xy), looks)
    assert message.startswith("landmarks.csv, row 9: ") and "exchanged" in message


@pytest.mark.parametrize("rows", [[7], slice(0, 40)], ids=["one", "most"])
def test_points_in_one_place_divide_nothing(drawn, said, rows):
    """Rows that seem copied are not looked for."""
    table, looks = planted(drawn, lambda xy, table: np.full_like(xy, 32), rows)
    looks = looks.copy()
    looks["thumbnail"] = 0
    assert all("closer" in message or "further" in message for message in said(table, looks))


def test_a_whole_folder_with_y_upwards_is_told_by_its_names(drawn, said):
    (message,) = said(*planted(drawn, upwards))
    assert message.startswith("landmarks.csv, all 60 rows: ") and "y counted from below?" in message


def test_a_whole_folder_in_percent(drawn, said):
    (message,) = said(*planted(drawn, percent))
    assert "all landmarks lie within the first" in message and "percentages?" in message
    table, looks = drawn
    looks = looks.copy()
    looks["size"] = np.random.default_rng(0).integers(80, 240, (60, 1))  # small pictures, of several sizes
    (message,) = said(*planted((table, looks), percent))
    assert "do not move with the size of the pictures" in message
    xy = percent(table.xy, table) / 100 * looks["size"][:, None]
    assert said(dataclasses.replace(table, xy=xy), looks) == []


def test_fractions_of_the_picture_are_refused(drawn):
    table, looks = planted(drawn, fractions)
    with pytest.raises(UserError, match="landmarks.csv: all landmarks of all pictures lie within the first pixels"):
        annotation_checks.check(table, table.splits, looks)


def test_boxes_of_x_y_width_and_height(drawn, said):
    table, looks = drawn
    low, high = table.xy.min(1) - 5, table.xy.max(1) + 5
    assert said(dataclasses.replace(table, boxes=np.concatenate([low, high], 1)), looks) == []
    boxes = np.concatenate([low, high], 1)
    boxes[10:13] = np.concatenate([low, high - low], 1)[10:13]
    (message,) = said(dataclasses.replace(table, boxes=boxes), looks)
    assert message.startswith("3 rows, first landmarks.csv, row 12: landmarks lie outside of their box")
    assert "x, y, width and height" in message
    boxes[10:13] = (0, 0, 20, 20)
    (message,) = said(dataclasses.replace(table, boxes=boxes), looks)
    assert "outside" in message and "width" not in message


def test_spacing_in_another_unit(drawn, said):
    table, looks = drawn
    spacing = np.full((60, 2), 0.7)
    assert said(dataclasses.replace(table, spacing=spacing), looks) == []
    spacing[5] *= 1000
    (message,) = said(dataclasses.replace(table, spacing=spacing), looks)
    assert message.startswith("landmarks.csv, row 7: the spacing is 20 times larger than in most rows")
    (message,) = said(dataclasses.replace(table, spacing=np.full((60, 2), 0.0007)), looks)
    assert (
        message.startswith("landmarks.csv, all 60 rows: from end to end the landmarks span 0.") and "metres" in message
    )


def test_spacing_of_class_maps(caplog):
    looks = np.zeros(20, twins.LOOK)
    looks["size"] = 200
    spacing, domains = np.repeat([[0.5, 0.5], [0.1, 0.1]], 10, 0), ["heads"] * 10 + ["spines"] * 10
    where = [f"segmentation.csv, row {i + 2}" for i in range(20)]
    annotation_checks.check_spacings("segmentation.csv", where, spacing, domains, looks)
    assert not caplog.records
    spacing[12] = 0.0001
    annotation_checks.check_spacings("segmentation.csv", where, spacing, domains, looks)
    spacing[:10] /= 1000
    annotation_checks.check_spacings("segmentation.csv", where, spacing, domains, looks)
    assert [record.message.partition(" than")[0].partition(" mm")[0] for record in caplog.records] == [
        "segmentation.csv, row 14: the spacing is 20 times smaller",
        "10 rows, first segmentation.csv, row 2 (all of heads): from end to end the pictures span 0.1",
        "segmentation.csv, row 14: the spacing is 20 times smaller",
    ]


def test_one_annotation_under_two_pictures(drawn, said):
    table, looks = planted(drawn, lambda xy, table: table.xy[[3, 3]], [30, 31])
    (message,) = said(table, looks)
    assert message.startswith("2 rows, first landmarks.csv, row 32: the same landmarks as in landmarks.csv, row 5")
    looks = looks.copy()
    looks["thumbnail"][30:32] = looks["thumbnail"][3]
    assert said(table, looks) == []  # pictures that are equal have equal landmarks


def test_marks_for_missing_points(caplog):
    xy = np.array([[[-1, -1], [5, 6]], [[0, 0], [-1, 3]], [[-1, -1], [0, 4]]], float)
    taken = annotation_checks.without_marks(xy, ["nose", "chin"], ["row 2", "row 3", "row 4"])
    np.testing.assert_array_equal(np.isnan(taken).all(-1), [[True, False], [True, False], [True, False]])
    np.testing.assert_array_equal(taken[:, 1], xy[:, 1])
    assert [record.message.partition(";")[0] for record in caplog.records] == [
        "2 points at (-1, -1) are taken as not annotated, first row 2: nose",
        "1 points at (0, 0) are taken as not annotated, first row 3: nose",
    ]


# Shapes


def test_residuals_are_scipys():
    rng = np.random.default_rng(0)
    shape, rows = rng.normal(size=(7, 2)), rng.normal(size=(20, 7, 2))
    rows[:10] = shape + rng.normal(0, 0.2, (10, 7, 2))
    rows, shape = rows @ [1, 1j], shape @ [1, 1j]
    both = [shapes.fit(points, shape, turned=True)[0] ** 2 for points in (rows, rows.conj())]
    plane = [np.stack([points.real, points.imag], -1) for points in (shape, *rows)]
    for i, row in enumerate(plane[1:]):
        assert min(both[0][i], both[1][i]) == pytest.approx(spatial.procrustes(plane[0], row)[2], abs=1e-12)


def test_a_fit_is_exact_without_the_missing_points():
    rng = np.random.default_rng(0)
    shape = rng.normal(size=6) + 1j * rng.normal(size=6)
    row = (shape - 2 + 1j) / (3 * np.exp(0.5j))
    row[2] = np.nan
    residual, factor = shapes.fit(row[None], shape, turned=True)
    assert residual[0] == pytest.approx(0, abs=1e-7) and factor[0] == pytest.approx(3 * np.exp(0.5j))
    assert shapes.fit(row[None], shape, turned=False)[0][0] == pytest.approx(np.sqrt(1 - np.cos(0.5) ** 2))
    assert np.isnan(shapes.fit(np.array([[1, *[np.nan] * 5]]), shape, turned=True)[0][0])


@pytest.mark.parametrize("turned", [False, True])
def test_the_median_shape_survives_many_wrong_rows(turned):
    rng = np.random.default_rng(0)
    shape = rng.normal(size=8) + 1j * rng.normal(size=8)
    rows = shape + 0.02 * (rng.normal(size=(40, 8)) + 1j * rng.normal(size=(40, 8)))
    rows = rows * rng.uniform(0.5, 2, (40, 1)) * np.exp(1j * rng.uniform(0, 6, (40, 1)) * turned) + 9
    rows[::3] = rows[::3].conj()
    rows[rng.random(rows.shape) < 0.2] = np.nan
    assert shapes.fit(shapes.median_shape(rows, turned=turned)[None], shape, turned=turned)[0][0] < 0.03


# Real labels


@pytest.fixture(scope="module", params=["ceph_isbi2015", "faces_fgnet", "multidomain/fetal_head_us", "faces_ytf"])
def real(request):
    root = SHARED / request.param
    if not root.is_dir():
        pytest.skip(f"needs ../shared/data/{request.param}")
    table = read_folder(root)
    looks = np.zeros(len(table.images), twins.LOOK)
    seen: dict[bytes, int] = {}
    for i, image in enumerate(table.images):
        with Image.open(root / image) as picture:
            looks["size"][i] = picture.size
        first = seen.setdefault(table.xy[i].tobytes(), i)
        for j in {first, i} if first != i else ():  # thumbnails are looked at where rows are equal
            looks[j] = twins.look(pictures.decode((root / table.images[j]).read_bytes(), image))
    return table, looks


@pytest.mark.slow
def test_real_labels_are_not_warned_of(real, said):
    assert said(*real) == []


@pytest.mark.slow
@pytest.mark.parametrize("change", [swapped, exchanged])
def test_errors_planted_in_real_labels_are_found(real, said, change):
    if change is exchanged and not real[0].landmarks.flip_order:
        pytest.skip("has no flip_pairs")
    rows = np.sort(np.random.default_rng(3).choice(len(real[0].xy), 20, replace=False))
    (message,) = said(*planted(real, change, rows))
    assert message.startswith("20 rows, first ") and f"row {rows[0] + 2}: the landmarks lie unlike" in message
