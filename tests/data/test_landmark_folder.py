"""Landmark folders: what is read, what is refused and how, and the prepared copy (TFDS)."""

import csv
import functools
import json
import logging
import os
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from configs import default
from ctd_jax import data
from ctd_jax.data import builder, folder
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.data.points import read_folder
from ctd_jax.data.prefetch import map_in_threads
from ctd_jax.errors import UserError
from ctd_jax.metrics import definitions

REAL = pathlib.Path(__file__).parents[2] / "../shared/data"
HEADER = ["image", "subject", "split", "left_x", "left_y", "right_x", "right_y", "tip_x", "tip_y"]
ROWS = [
    ["a.png", "ann", "train", "10", "12.5", "30", "13", "20", "25"],
    ["b.png", "bob", "train", "11", "12", "31.25", "13", "", ""],
    ["c.png", "cat", "test1", "9", "11", "29", "12", "19", "24"],
    ["d.png", "dan", "test2", "9.5", "11", "29", "12.75", "19", "24"],
]
JSON = {"name": "tiny", "landmarks": ["left", "right", "tip"], "flip_pairs": [["left", "right"]], "normalizer": None}
WIDTH, HEIGHT = 40, 30


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "tiny"
    root.mkdir()
    write_csv(root)
    (root / "dataset.json").write_text(json.dumps(JSON))
    pictures = np.random.default_rng(0).integers(0, 256, (len(ROWS), HEIGHT, WIDTH, 3), dtype=np.uint8)
    for row, picture in zip(ROWS, pictures, strict=True):
        Image.fromarray(picture).save(root / row[0])
    return root


def write_csv(root, cells=None, *, name="landmarks.csv", header=HEADER, columns=None, delimiter=","):
    """ROWS, with `cells` {(file row, column): text} changed, and `columns` {name: text of every row} added."""
    rows = [list(row) for row in ROWS]
    for (row, column), text in (cells or {}).items():
        rows[row - 2][HEADER.index(column)] = text
    rows = [row + list((columns or {}).values()) for row in rows]
    with (root / name).open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([[*header, *(columns or {})], *rows])


def append(root, text):
    with (root / "landmarks.csv").open("a") as file:
        file.write(text)


def write_json(root, **changes):
    (root / "dataset.json").write_text(json.dumps(JSON | changes))


def config_of(root, **changes):
    config = default.get_config().data
    config.update({"root": str(root), "image_size": 32, "budget": 0} | changes)
    return config


def load(root, **changes):
    return data.load(config_of(root, **changes), root.parent / "cache")


def records(cache):
    return sorted(cache.rglob("*.array_record*"))


def refused(root):
    """The message with which the folder is refused, by the door that users come through."""
    with pytest.raises(UserError) as caught:
        load(root)
    return str(caught.value)


# What is read


def test_cells_and_gaps(root):
    table = read_folder(root)
    assert table.images == ("a.png", "b.png", "c.png", "d.png")
    assert table.subjects == ("ann", "bob", "cat", "dan")
    assert table.splits == ("train", "train", "test1", "test2")
    np.testing.assert_array_equal(table.xy[0], [[10, 12.5], [30, 13], [20, 25]])
    assert np.isnan(table.xy[1, 2]).all() and not np.isnan(table.xy[1, :2]).any()
    assert np.isnan(table.spacing).all() and np.isnan(table.boxes).all()
    assert table.landmarks.flip_order == (1, 0, 2)
    assert table.landmarks.success_radii_mm == (2.0, 2.5, 3.0, 4.0)


def test_order_and_names_are_those_of_the_json(root):
    write_json(root, landmarks=["tip", "left"], flip_pairs=None, normalizer=["left", "tip"], success_radii_mm=[1, 2.5])
    table = read_folder(root)
    np.testing.assert_array_equal(table.xy[0], [[20, 25], [10, 12.5]])
    assert table.landmarks.flip_order is None
    assert table.landmarks.normalizer == ("left", "tip") and table.landmarks.success_radii_mm == (1, 2.5)
    assert table.landmarks.skeleton == ()


def test_a_line_may_begin_where_another_ends(root):
    write_json(root, skeleton=[["left", "tip"], ["tip", "right"]])
    assert read_folder(root).landmarks.skeleton == (("left", "tip"), ("tip", "right"))


@pytest.mark.parametrize(
    ("given", "absent"),
    [(["tip", "left"], ("left", "tip")), (True, ("left", "right", "tip")), (False, ()), ([], ()), (None, ())],
)
def test_landmarks_that_may_be_absent(root, given, absent):
    assert read_folder(root).landmarks.absent == ()
    write_json(root, absent=given)
    assert read_folder(root).landmarks.absent == absent


def test_measurements(root):
    content = {"width": ["left", "right"], "at_tip": ["left", "tip", "right"]}
    write_json(root, measurements=content)
    assert {one.name: one.definition for one in read_folder(root).landmarks.measurements} == content
    write_json(root, measurements=None)
    assert read_folder(root).landmarks.measurements == ()


def test_measurements_that_come_along_and_points_that_are_made(root):
    write_json(root, measurements="fas_face")
    with pytest.raises(UserError, match="fas_face.json: .*names 'left_eye_outer', which is not one of the landmarks"):
        read_folder(root)
    write_json(root, measurements={"m": ["middle", "tip"]}, derived_points={"middle": {"midpoint": ["left", "right"]}})
    (one,) = read_folder(root).landmarks.measurements
    assert one.definition == [{"midpoint": ["left", "right"]}, "tip"]
    write_json(root, measurements="fas_face", derived_points={"Sn": "tip", "inner canthus, left": "left"})
    with pytest.raises(UserError, match="dataset.json, fas_face.json: .*names 'left_eye_outer', which is not one"):
        read_folder(root)
    points = json.loads(definitions.ready("fas_face").read_text())["derived_points"]
    others = dict(zip(points, ["left", "right", "tip", "left", "tip", "left", "right"], strict=True))
    write_json(root, measurements="fas_face", derived_points=others)
    of = {one.name: one.definition for one in read_folder(root).landmarks.measurements}
    assert of["palpebral fissure, left"] == ["left", "right"]
    write_json(root, measurements="fas_face", derived_points=["Sn"])
    with pytest.raises(UserError, match="derived_points is .*expected an object, each name with a point"):
        read_folder(root)
    write_json(root, measurements="ceph")
    with pytest.raises(UserError, match="ceph: no such file of definitions; those that come along are ceph_basic"):
        read_folder(root)


def test_no_pairs_is_not_never(root):
    """`[]`: every landmark is its own mirror image; null: never mirror."""
    write_json(root, flip_pairs=[])
    assert read_folder(root).landmarks.flip_order == (0, 1, 2)


def test_what_spreadsheets_write(root):
    """A byte order mark, blanks about the cells, empty lines and CRLF."""
    text = (root / "landmarks.csv").read_text().replace(",", " , ")
    (root / "landmarks.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    (root / "dataset.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(JSON).encode())
    table = read_folder(root)
    assert table.images[0] == "a.png" and table.xy[1, 1, 0] == 31.25 and np.isnan(table.xy[1, 2]).all()


def test_spacing_and_boxes(root):
    box = {"box_x0": "5", "box_y0": "6.5", "box_x1": "35", "box_y1": "28"}
    write_csv(root, columns={"spacing_x_mm": "0.1", "spacing_y_mm": "0.25", "remark": "x"} | box)
    pictures = load(root, margin=0.0)
    np.testing.assert_array_equal(pictures.everything.spacing, [[0.1, 0.25]] * 4)
    batch = pictures.split("train").batch(np.array([0]))
    assert batch["scale"][0] == pytest.approx(32 / 30)  # the box's longer side fills the picture
    whole = load_whole(root)
    assert whole["scale"][0] == pytest.approx(32 / 40)


def load_whole(root):
    write_csv(root)
    return load(root).split("train").batch(np.array([0]))


def test_no_subject_column(root, caplog):
    header = [name for name in HEADER if name != "subject"]
    with (root / "landmarks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *([row[0], *row[2:]] for row in ROWS)])
    assert read_folder(root).subjects == ("a.png", "b.png", "c.png", "d.png")
    assert "no column `subject`: every picture counts as a person of its own" in caplog.text


@pytest.mark.parametrize("rows", [(3,), (2, 3, 4, 5)])
def test_rows_without_a_subject_are_counted(root, caplog, rows):
    """Be it some or all; a picture that is called as its subject has one."""
    write_csv(root, {(row, "subject"): "" for row in rows})
    assert read_folder(root).subjects[1] == "b.png"
    said = f"{len(rows)} of 4 rows have no subject: each picture of theirs counts as a person of its own"
    assert [message for message in caplog.messages if "subject" in message] == [f"{root / 'landmarks.csv'}: {said}"]
    caplog.clear()
    write_csv(root, {(row, "subject"): name for row, name in enumerate(("a.png", "b.png", "c.png", "d.png"), 2)})
    assert read_folder(root).subjects == ("a.png", "b.png", "c.png", "d.png")
    assert caplog.messages == []


# What is refused. Each: how the folder is spoilt, and what the message must say.

BAD = {
    "no csv": (lambda r: (r / "landmarks.csv").unlink(), ["landmarks.csv: no such file"]),
    "no json": (
        lambda r: (r / "dataset.json").unlink(),
        ["dataset.json: no such file", '"landmarks": ["left", "right", "tip"]'],
    ),
    "empty csv": (lambda r: (r / "landmarks.csv").write_text(""), ["landmarks.csv: no column `image`, found an empty"]),
    "header only": (
        lambda r: (r / "landmarks.csv").write_text(",".join(HEADER) + "\n"),
        ["landmarks.csv: a header but no rows; expected one row per picture"],
    ),
    "bars": (
        lambda r: write_csv(r, delimiter="|"),
        ["landmarks.csv: no column `image`, found image|subject", "expected a header of image, subject"],
    ),
    "not text": (lambda r: (r / "landmarks.csv").write_bytes(b"\xff\xfe\x00"), ["landmarks.csv: not a text file"]),
    "column of another name": (
        lambda r: write_csv(r, header=[*HEADER[:3], "lefft_x", *HEADER[4:]]),
        ["landmarks.csv: no column `left_x`, which dataset.json asks for", "the nearest is `lefft_x`"],
    ),
    "column twice": (
        lambda r: write_csv(r, columns={"tip_x ": "3"}),
        ["landmarks.csv: column `tip_x` stands twice in the header"],
    ),
    "row too long": (
        lambda r: append(r, "e.png,eve,train,1,2,3,4,5,6,7,8\n"),
        ["landmarks.csv, row 6: 11 cells, but the header has 9 columns"],
    ),
    "row too short": (
        lambda r: append(r, "e.png,eve\n"),
        ["landmarks.csv, row 6: 2 cells, but the header has 9 columns"],
    ),
    "same picture twice": (
        lambda r: write_csv(r, {(4, "image"): "a.png"}),
        ["landmarks.csv, row 4: a.png was already listed in", "row 2; keep one of the rows"],
    ),
    "no picture named": (
        lambda r: write_csv(r, {(3, "image"): " "}),
        ["landmarks.csv, row 3: the cell `image` is empty"],
    ),
    "no such picture": (
        lambda r: write_csv(r, {(5, "image"): "x.png"}),
        ["landmarks.csv, row 5: picture x.png does not exist in"],
    ),
    "a folder for a picture": (
        lambda r: (r / "x.png").mkdir() or write_csv(r, {(5, "image"): "x.png"}),
        ["landmarks.csv, row 5: picture x.png does not exist in"],
    ),
    "half a point": (
        lambda r: write_csv(r, {(3, "right_y"): ""}),
        ["landmarks.csv, row 3: right has only one of its two coordinates; fill both cells or empty both"],
    ),
    "decimal comma": (
        lambda r: write_csv(r, {(3, "right_y"): "12,5"}),
        ["landmarks.csv, row 3: right_y is '12,5'; expected a number (with a decimal point), or an empty cell"],
    ),
    "not a number": (lambda r: write_csv(r, {(2, "tip_x"): "3_0"}), ["row 2: tip_x is '3_0'; expected a number"]),
    "infinite": (lambda r: write_csv(r, {(2, "tip_x"): "1e999"}), ["row 2: tip_x is '1e999'; expected a number"]),
    "spacing of one axis": (
        lambda r: write_csv(r, columns={"spacing_x_mm": "0.1"}),
        ["landmarks.csv, row 2: spacing is", "expected two positive numbers, or two empty cells"],
    ),
    "spacing of nothing": (
        lambda r: write_csv(r, columns={"spacing_x_mm": "0.1", "spacing_y_mm": "0"}),
        ["landmarks.csv, row 2: spacing is", "expected two positive numbers"],
    ),
    "box inside out": (
        lambda r: write_csv(r, columns={"box_x0": "20", "box_y0": "1", "box_x1": "10", "box_y1": "9"}),
        ["landmarks.csv, row 2: box is", "expected x0 < x1 and y0 < y1"],
    ),
    "box elsewhere": (
        lambda r: write_csv(r, columns={"box_x0": "90", "box_y0": "1", "box_x1": "99", "box_y1": "9"}),
        ["landmarks.csv, row 2, a.png: the box", "outside the picture of 40 x 30 pixels"],
    ),
    "point far outside": (
        lambda r: write_csv(r, {(4, "tip_x"): "44"}),
        ["row 4, c.png: tip lies at (44.0, 24.0), outside the picture of 40 x 30 pixels by more than a tenth of it"],
    ),
    "point far below": (
        lambda r: write_csv(r, {(4, "tip_y"): "-3.8"}),
        ["landmarks.csv, row 4, c.png: tip lies at (19.0, -3.8), outside the picture of 40 x 30 pixels"],
    ),
    "not JSON": (lambda r: (r / "dataset.json").write_text('{"landmarks": [}'), ["dataset.json: not JSON (", "line 1"]),
    "JSON of another kind": (
        lambda r: (r / "dataset.json").write_text("[1]"),
        ["dataset.json: expected `landmarks`, a list of names, for instance ['left', 'right', 'tip']"],
    ),
    "landmarks not a list": (lambda r: write_json(r, landmarks="left"), ["dataset.json: expected `landmarks`, a list"]),
    "landmark twice": (
        lambda r: write_json(r, landmarks=["left", "left"]),
        ["dataset.json: a landmark is named twice"],
    ),
    "unknown flip pair": (
        lambda r: write_json(r, flip_pairs=[["left", "rihgt"]]),
        ["dataset.json: flip_pairs names 'rihgt', which is not one of the landmarks; the nearest is 'right'"],
    ),
    "unknown normalizer": (
        lambda r: write_json(r, normalizer=["left", "nose"]),
        ["dataset.json: normalizer names 'nose', which is not one of the landmarks"],
    ),
    "a pair of three": (
        lambda r: write_json(r, flip_pairs=[["left", "right", "tip"]]),
        ["dataset.json: flip_pairs has ['left', 'right', 'tip']; expected two different names"],
    ),
    "a pair with itself": (
        lambda r: write_json(r, flip_pairs=[["tip", "tip"]]),
        ["dataset.json: flip_pairs has ['tip', 'tip']; expected two different names"],
    ),
    "in two pairs": (
        lambda r: write_json(r, flip_pairs=[["left", "right"], ["tip", "right"]]),
        ["dataset.json: 'right' stands in two flip_pairs"],
    ),
    "unknown end of a line": (
        lambda r: write_json(r, skeleton=[["left", "tp"]]),
        ["dataset.json: skeleton names 'tp', which is not one of the landmarks; the nearest is 'tip'"],
    ),
    "a line of three": (
        lambda r: write_json(r, skeleton=[["left", "tip", "right"]]),
        ["dataset.json: skeleton has ['left', 'tip', 'right']; expected two different names"],
    ),
    "lines no list": (
        lambda r: write_json(r, skeleton="left"),
        ["dataset.json: skeleton is left; expected a list of pairs of names, one of each line"],
    ),
    "pairs no list": (lambda r: write_json(r, flip_pairs=True), ["dataset.json: flip_pairs is True; expected a list"]),
    "radii no numbers": (
        lambda r: write_json(r, success_radii_mm=["two"]),
        ["dataset.json: success_radii_mm is ['two']; expected a list of positive numbers"],
    ),
    "absent no list": (
        lambda r: write_json(r, absent="tip"),
        ["dataset.json: absent is 'tip'; expected a list of the landmarks whose empty cells mean", "or true: all"],
    ),
    "absent of an unknown landmark": (
        lambda r: write_json(r, absent=["top"]),
        ["dataset.json: absent names 'top', which is not one of the landmarks; the nearest is 'tip'"],
    ),
    "radii no list": (lambda r: write_json(r, success_radii_mm=2), ["dataset.json: success_radii_mm is 2; expected"]),
    "measurement of an unknown landmark": (
        lambda r: write_json(r, measurements={"width": ["left", "rihgt"]}),
        ["dataset.json: measurement 'width' names 'rihgt', which is not one of the landmarks; the nearest is 'right'"],
    ),
    "a key twice": (
        lambda r: (r / "dataset.json").write_text(
            json.dumps(JSON)[:-1] + ', "measurements": {"w": ["left", "right"], "w": ["left", "tip"]}}'
        ),
        ["dataset.json: the key 'w' stands twice in one object; keep one of them"],
    ),
    "unreadable picture": (
        lambda r: (r / "c.png").write_text("not a picture"),
        ["landmarks.csv, row 4, ", "c.png: not a readable picture (", "replace the file"],
    ),
    "truncated picture": (
        lambda r: (r / "c.png").write_bytes((r / "c.png").read_bytes()[:900]),
        ["landmarks.csv, row 4, ", "c.png: not a readable picture (", "replace the file"],
    ),
    "no training pictures": (
        lambda r: write_csv(r, {(2, "split"): "Trian", (3, "split"): "test1"}),
        ["no training pictures: expected rows whose split is `train`, found Trian, test1, test2"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folder(root, case):
    spoil, expected = BAD[case]
    spoil(root)
    message = refused(root)
    for part in [str(root)] * (case != "no training pictures") + expected:
        assert part in message
    assert not records(root.parent / "cache")


def test_no_folder_and_no_data(root):
    assert f"{root / 'x'}: no such folder" in refused(root / "x")
    with pytest.raises(UserError, match=r"no data: .*--config.data.root=DIR"):
        data.load(config_of(""), root)


def test_a_little_outside_is_a_warning(root, caplog):
    """The picture ends at 39.5; a tenth of 40 more is 43.5."""
    write_csv(root, {(4, "tip_x"): "43.4", (5, "tip_y"): "-3.4", (2, "left_x"): "-0.4"})
    pictures = load(root)
    assert [r.levelno for r in caplog.records if "outside the picture" in r.message] == [logging.WARNING] * 2
    assert "c.png: tip lies at (43.4, 24.0)" in caplog.text and "d.png: tip lies at (19.0, -3.4)" in caplog.text
    assert pictures.split("test1").batch(np.array([0]))["mask"].all()


# The prepared copy


@pytest.fixture
def checked(monkeypatch):
    """Indices of the pictures that were read to be prepared."""
    seen, check = [], LandmarkTable.check_picture

    def spy(table, index, root):
        seen.append(index)
        return check(table, index, root)

    monkeypatch.setattr(LandmarkTable, "check_picture", spy)
    return seen


def test_pictures_come_back_byte_for_byte(root, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(root / "b.png")
    Image.fromarray(np.zeros((WIDTH, HEIGHT, 3), np.uint8)).save(root / "a.png", exif=exif)
    encoded, _ = builder.pictures(root, read_folder(root), tmp_path / "cache")
    for index, row in enumerate(ROWS):
        assert encoded[index]["picture"] == (root / row[0]).read_bytes()
    np.testing.assert_array_equal(load(root).picture("c.png"), np.asarray(Image.open(root / "c.png")))
    assert load(root).picture("a.png").shape == (HEIGHT, WIDTH, 3)


def test_prepared_once_by_content(root, checked):
    load(root)
    assert sorted(checked) == [0, 1, 2, 3]
    for path in root.iterdir():
        os.utime(path, (1, 1))
    load(root)
    assert len(checked) == 4  # another date, the same content


def test_prepared_anew_when_a_picture_changes(root, checked):
    """Same name, size and date, one pixel."""
    before = load(root).picture("c.png")
    picture = np.asarray(Image.open(root / "c.png")).copy()
    dates = (root / "c.png").stat()
    picture[3, 4] ^= 255
    Image.fromarray(picture).save(root / "c.png")
    os.utime(root / "c.png", ns=(dates.st_atime_ns, dates.st_mtime_ns))
    after = load(root)
    assert sorted(checked) == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_array_equal(after.picture("c.png"), picture)
    assert (before != picture).any()


def test_prepared_anew_when_a_point_changes(root, checked):
    load(root)
    write_csv(root, {(4, "tip_x"): "99"})
    assert "c.png: tip lies at (99.0, 24.0)" in refused(root)
    assert {0, 1, 2} <= set(checked[4:])


def test_more_pictures_than_a_file_holds(root, monkeypatch):
    """Two records of two pictures each, in the order of the rows."""
    monkeypatch.setattr(builder, "SHARD", 2)
    pictures = load(root)
    assert len(records(root.parent / "cache")) == 2
    for row in ROWS:
        np.testing.assert_array_equal(pictures.picture(row[0]), np.asarray(Image.open(root / row[0])))


def test_a_record_is_written_before_the_next_is_read(root, monkeypatch):
    """So that no more than one is in memory, however large the folder."""
    read, read_before, check = [], [], LandmarkTable.check_picture
    write = tfds.core.writer.ExampleWriter.write

    def spy(self, path, examples):
        done = write(self, path, examples)
        read_before.append(len(read))
        return done

    monkeypatch.setattr(builder, "SHARD", 1)
    monkeypatch.setattr(folder, "map_in_threads", functools.partial(map_in_threads, max_ahead=1))

    def read_one(*args):
        read.append(check(*args))
        return read[-1]

    monkeypatch.setattr(LandmarkTable, "check_picture", read_one)
    monkeypatch.setattr(tfds.core.writer.ExampleWriter, "write", spy)
    load(root)
    assert read_before == [1, 2, 3, 4]


def test_the_environment_says_where(root, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    load(root)
    assert records(tmp_path / "elsewhere") and not (tmp_path / "cache").exists()


def test_two_folders_share_a_cache(root, landmark_folder):
    for each in (root, landmark_folder(), root):
        pictures = load(each)
        for image in pictures.everything.images:
            np.testing.assert_array_equal(pictures.picture(image), np.asarray(Image.open(each / image)))


def test_message_is_the_same_within_tfds(root):
    (root / "c.png").write_bytes((root / "c.png").read_bytes()[:900])
    table = read_folder(root)
    with pytest.raises(UserError) as direct:
        table.check_picture(2, root)
    assert refused(root) == str(direct.value)


@pytest.mark.parametrize("error", [UserError("spoilt"), KeyboardInterrupt()])
def test_what_fails_half_way_leaves_nothing_to_be_taken(root, monkeypatch, error):
    """A build that ends at the third picture, twice, then a good one."""
    check = LandmarkTable.check_picture

    def fail(table, index, root):
        if index == 2:
            raise error
        return check(table, index, root)

    monkeypatch.setattr(LandmarkTable, "check_picture", fail)
    for _ in range(2):
        with pytest.raises(type(error)):
            load(root)
        assert not list((root.parent / "cache").rglob("dataset_info.json"))
    monkeypatch.setattr(LandmarkTable, "check_picture", check)
    pictures = load(root)
    for row in ROWS:
        np.testing.assert_array_equal(pictures.picture(row[0]), np.asarray(Image.open(root / row[0])))


# Real folders


def real(name):
    if not (REAL / name).is_dir():
        pytest.skip(f"needs the real pictures of {REAL / name}, which are not part of the repository")
    return REAL / name


@pytest.mark.slow
def test_faces_fgnet(caplog):
    root = real("faces_fgnet")
    table = read_folder(root)
    assert table.xy.shape == (1002, 68, 2) and not np.isnan(table.xy).any()
    assert len(set(table.subjects)) == 82
    assert {name: table.splits.count(name) for name in set(table.splits)} == {"train": 609, "val": 119, "test": 274}
    assert table.landmarks.normalizer == ("left_eye_outer", "right_eye_outer")
    assert [one.name for one in table.landmarks.measurements] == [
        *("palpebral_fissure_left", "palpebral_fissure_right", "philtrum_length", "mouth_width")
    ]
    order = table.landmarks.flip_order
    assert [order[i] for i in order] == list(range(68))
    for index in range(len(table)):
        table.check_picture(index, root)
    assert len([r for r in caplog.records if "outside the picture" in r.message]) == 1


def test_ceph_isbi2015():
    table = read_folder(real("ceph_isbi2015"))
    assert table.xy.shape == (400, 19, 2) and table.landmarks.flip_order is None
    assert {name: table.splits.count(name) for name in set(table.splits)} == {"train": 150, "test1": 150, "test2": 100}
    np.testing.assert_allclose(table.spacing, 0.6047, rtol=1e-3)
    assert table.landmarks.success_radii_mm == (2, 2.5, 3, 4)
    assert [(one.name, one.kind) for one in table.landmarks.measurements] == [
        ("SNA_angle_deg", "angle"),
        ("SNB_angle_deg", "angle"),
    ]


def test_fetal_head_us():
    root = real("multidomain/fetal_head_us")
    table = read_folder(root)
    assert table.xy.shape == (620, 4, 2) and np.isfinite(table.spacing).all()
    assert table.landmarks.names == ("ofd_left", "ofd_right", "bpd_top", "bpd_bottom")
    assert table.landmarks.flip_order == (1, 0, 2, 3)
    assert [(one.name, one.kind) for one in table.landmarks.measurements] == [
        ("OFD_mm", "distance"),
        ("BPD_mm", "distance"),
    ]
    assert {name: table.splits.count(name) for name in set(table.splits)} == {"train": 408, "val": 49, "test": 163}
    for index in range(0, 620, 20):
        table.check_picture(index, root)


@pytest.mark.slow
def test_faces_ytf(caplog):
    """Its split `teacher`, where some frames repeat, takes no part; a few points lie a little outside."""
    root = real("faces_ytf")
    table = read_folder(root)
    assert table.xy.shape == (4232, 68, 2) and len(set(table.subjects)) == 347
    assigned = data.splits.assign(table.images, table.subjects, given=table.splits, seed=0, budget=0)
    parts = data.splits.parts(assigned)
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 558, "val": 251, "test": 366}
    assert [r.message.rpartition(".csv: ")[2] for r in caplog.records] == [
        "columns that mean nothing here: udacity_part",
        "split 'teacher' takes no part: 3057 pictures",
    ]
    for index in range(len(table.images)):
        if table.xy[index].min() < 0 or table.xy[index].max() > 140:
            table.check_picture(index, root)
    assert 0 < len([r for r in caplog.records if "outside the picture" in r.message]) <= 6


def test_an_unknown_key_of_dataset_json_is_named(landmark_folder, caplog):
    root = landmark_folder(people=4)
    content = json.loads((root / "dataset.json").read_text())
    content["normaliser"] = content.pop("normalizer")
    (root / "dataset.json").write_text(json.dumps(content))
    read_folder(root)
    assert "the key 'normaliser' means nothing here; is it 'normalizer'?" in caplog.text


@pytest.mark.parametrize(
    "outside", ["../away/a.png", "..\\away\\a.png", "deep/../../away/a.png", "/ABSOLUTE/a.png", "C:\\a.png"]
)
def test_a_picture_outside_of_its_folder_is_refused(root, outside):
    """A folder that is moved or published would miss it; a link in the folder is one way in."""
    (root.parent / "away").mkdir()
    (root / "deep").mkdir()
    (root / "a.png").rename(root.parent / "away" / "a.png")
    name = outside.replace("/ABSOLUTE", str(root.parent / "away"))
    write_csv(root, {(2, "image"): name})
    with pytest.raises(UserError, match=r"csv, row 2: picture .* lies outside of the folder; name a file inside"):
        read_folder(root)
    (root / "a.png").symlink_to(root.parent / "away" / "a.png")
    write_csv(root, {(2, "image"): "deep/../a.png", (3, "image"): "./b.png"})
    assert read_folder(root).images == ("a.png", "b.png", "c.png", "d.png")


def test_hidden_landmarks(root):
    """1 where one is hidden but placed; the points are those of a table without such columns."""
    bare = read_folder(root)
    assert not bare.hidden.any()
    with (root / "landmarks.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    for cells, said in (
        (["1", "", "", "0"], None),
        (["1.0", "", "", "0.0"], None),  # as pandas writes a column with empty cells
        (["", "1", "", ""], "row 3: tip is hidden but placed, and has no place"),
        (["yes", "", "", ""], "row 2: tip_hidden is 'yes'; expected 1 where the landmark is hidden"),
    ):
        with (root / "landmarks.csv").open("w", newline="") as file:
            more = zip(rows, cells, ["", "", "1", "0"], strict=True)
            csv.writer(file).writerows([[*header, "tip_hidden", "Left_hidden"], *([*row, *two] for row, *two in more)])
        if said:
            with pytest.raises(UserError, match=said):
                read_folder(root)
        else:
            found = read_folder(root)
            np.testing.assert_array_equal(np.argwhere(found.hidden), [[0, 2], [2, 0]])
            np.testing.assert_array_equal(found.xy, bare.xy)
