"""Hostile files through every door: one message or the right numbers, and nothing is run, written elsewhere, or takes
long or much memory. `python -m tests.fuzz` sends as many as one likes."""

import itertools
import logging
import math
import random
from collections import Counter

import numpy as np
import pytest
import tiny

from ctd_jax import metrics
from ctd_jax.data import boxes, landmark_folder, pictures
from ctd_jax.errors import UserError
from tests.fuzz import doors, hostile, label_doors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def every_door(tmp_path_factory):
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs what it raises
    return doors.doors(doors.run_folder(tmp_path_factory.mktemp("run"))) | label_doors.doors()


def test_right_files_come_through_every_door(every_door, tmp_path):
    for i, door in enumerate(every_door.values()):
        assert hostile.attack(door, tmp_path / str(i), door.files[door.attacked]) == "accepted"


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_hostile_files(every_door, tmp_path):
    """Orbax leaves coroutines behind that were not awaited when it can't read a file."""
    found = {
        name: hostile.count(name, every_door[name], hostile.NUMBER, 0, tmp_path / str(i))
        for i, name in enumerate(every_door)
    }
    assert [text for _, broken in found.values() for text in broken] == []
    total = sum((counts for counts, _ in found.values()), Counter())
    assert total.total() >= 500 and min(total["refused"], total["accepted"]) > 100
    print(f"{total.total()} hostile files: {dict(total)}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_hostile_files_that_a_draw_seldom_hits(every_door, tmp_path):
    counts = Counter()
    for i, door in enumerate(every_door.values()):
        for content in hostile.known(door.files[door.attacked]):
            counts[hostile.attack(door, tmp_path / str(i), content)] += 1
    assert min(counts["refused"], counts["accepted"]) > 30


# ---------------------------------------------------------------- what is accepted, and as which number

NUMBERS = [
    ("7", 7.0), (" 7 ", 7.0), ("+5", 5.0), ("007", 7.0), (".5", 0.5), ("5.", 5.0), ("1e2", 100.0), ("2.5E-1", 0.25),
    ("'12'", None), ("\u0661\u0662", 12.0), ("\uff17", 7.0), ("1e-400", 0.0), ("-0", 0.0),
    ("inf", None), ("1e999", None), ("0x10", None), ("1_000", None), ('"1,5"', None), ("true", None), ("=1+1", None),
    ("1 000", None), ("1.2.3", None), ("--1", None), ("\u2212" + "1", None), ("9" * 400, None), ("five", None),
]  # fmt: skip
EMPTY = ("", "NA", "nan", "NaN", "null", "None", "n/a", "#N/A", "-", "--")


@pytest.mark.parametrize(("cell", "number"), NUMBERS)
def test_a_number_of_a_table(tmp_path, cell, number):
    """`box_x0`; None: refused."""
    path = tmp_path / "boxes.csv"
    path.write_text(f"image,box_x0,box_y0,box_x1,box_y1\na.png,{cell},0,1000,1000\n", "utf-8")
    if number is None:
        with pytest.raises(UserError, match=r"row 2: .*expected a number|row 2: \d cells"):
            boxes.read_boxes(path)
    else:
        assert boxes.read_boxes(path)["a.png"].box.tolist() == [number, 0, 1000, 1000]


@pytest.mark.parametrize("cell", EMPTY)
def test_no_point(tmp_path, cell):
    write(tmp_path, doors.FOLDER["landmarks.csv"].replace(b"5.5,7", f"{cell},{cell}".encode()))
    assert landmark_folder.read(tmp_path).xy.tolist()[2][0] == [6, 2.125]
    assert np.isnan(landmark_folder.read(tmp_path).xy[2, 1]).all()


ENCODINGS = {
    "commas": lambda text: text.encode(),
    "semicolons and decimal commas": lambda text: text.replace(",", ";").replace("0.5", "0,5").replace(".25", ",25")
    .replace("2.125", "2,125").replace("1.5;", "1,5;").replace("2.5;", "2,5;").replace("5.5;", "5,5;").encode(),
    "tabs": lambda text: text.replace(",", "\t").encode(),
    "a byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "Windows' lines": lambda text: text.replace("\n", "\r\n").encode(),
    "capitals": lambda text: text.replace("image,subject", "Image,SUBJECT").encode(),
    "quotation marks": lambda text: "\n".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines()).encode(),
    "empty lines": lambda text: text.replace("\n", "\n\n,,,,,,,,\n").encode(),
}  # fmt: skip


@pytest.mark.parametrize("kind", ENCODINGS)
def test_a_table_of_another_program(tmp_path, kind):
    write(tmp_path, ENCODINGS[kind](doors.FOLDER["landmarks.csv"].decode()))
    found = landmark_folder.read(tmp_path)
    nan = math.nan
    np.testing.assert_array_equal(found.xy, [[[1.5, 2.25], [3, 4]], [[2.5, 3.25], [nan, nan]], [[6, 2.125], [5.5, 7]]])
    assert (found.subjects, found.splits) == (("anna", "berta", "carla"), ("train", "val", "test"))
    assert found.spacing.tolist() == [[0.5, 0.25]] * 3


def write(folder, table):
    for name, content in (doors.FOLDER | {"landmarks.csv": table}).items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("cell", ["1_000", "nan", "inf", "1e999", "1,0", "0x1"])
def test_numbers_that_an_evaluation_never_writes(tmp_path, every_door, cell):
    for name, read in (("predictions.csv", metrics.read_predictions), ("segmentation_metrics.csv", None)):
        door = every_door[name]
        cell = f'"{cell}"' if "," in cell else cell
        right = door.files[name].decode()
        before = ",0.9" if read else ",0.5"
        assert right.count(before) >= 1
        hostile_one = right.replace(before, f",{cell}", 1).encode()
        assert hostile.attack(door, tmp_path, hostile_one) == "refused"


# ---------------------------------------------------------------- through the commands


@pytest.mark.parametrize("attacked", ["landmarks.csv", "dataset.json", "a.png"])
def test_the_training_command(tmp_path, cli, attacked):
    """Three refused files of each kind."""
    read = (lambda root: pictures.decode((root / "a.png").read_bytes(), "a")) if attacked == "a.png" else None
    door = doors.Door(doors.FOLDER, attacked, read or landmark_folder.read, lambda *_: None)
    contents = (hostile.content(door.files[attacked], random.Random(i)) for i in range(100))
    refused = (one for one in contents if hostile.attack(door, tmp_path / "faces", one) == "refused")
    for content in itertools.islice(refused, 3):
        (tmp_path / "faces" / attacked).write_bytes(content)
        small = tiny.arguments("none", data__root=tmp_path / "faces")
        code, out, error = cli("ctd_jax.main", "--config=ft", f"--workdir={tmp_path / 'run'}", *small)
        assert (code, out) == (2, ""), content
        assert error.count("error: ") == 1 and "Traceback" not in error, error


def test_the_watch_sees(tmp_path, monkeypatch):
    """Programs, files elsewhere, time and memory."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with hostile.watched(folder):
        (folder / "inside").write_text("")
    for deed in (lambda: (tmp_path / "outside").write_text(""), lambda: __import__("os").system("true")):
        with pytest.raises(hostile.Broken), hostile.watched(folder):
            deed()
    monkeypatch.setattr(hostile, "GIB", 0.1)
    with pytest.raises(hostile.Broken, match="GiB"), hostile.watched(folder):
        np.ones(2**28 // 10 * 8, np.uint8)
    monkeypatch.setattr(hostile, "SECONDS", 0.05)
    with pytest.raises(hostile.Broken, match="longer"), hostile.watched(folder):
        while True:
            pass
