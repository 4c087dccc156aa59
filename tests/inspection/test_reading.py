"""A folder is read as far as it can be, and all its faults are told."""

import json
import logging
import shutil

import landmark_rows
import numpy as np
import pytest
import segmentation_folder
from PIL import Image

from ctd_jax.data import drawn_anatomies, synthetic
from ctd_jax.errors import UserError
from ctd_jax.inspection import reading

CELLS = [f"{name}_{axis}" for name in synthetic.LANDMARKS for axis in "xy"]


@pytest.fixture(scope="module")
def sound(landmark_folder):
    return landmark_folder(people=8, shots=1)


@pytest.fixture
def root(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "faces")


def test_a_sound_folder_has_no_faults(root):
    found = reading.read(root)
    assert len(found) == 8 and found.faults == {} and found.units == () and found.remarks == ()
    assert found.split_of == ("train",) * 4 + ("val",) * 2 + ("test",) * 2
    assert found.looks[0].twin["size"].tolist() == [64, 64]


def test_all_faults_are_told_and_the_rest_is_read(root):
    landmark_rows.change(
        root,
        {
            0: {"chin_x": ""},
            1: {"chin_x": "abc"},
            2: {"image": "nowhere.png"},
            3: {"nose_tip_x": "900"},
            5: {"chin_y": ""},
        },
    )
    (root / "images/004.png").write_bytes(b"no picture")
    found = reading.read(root)
    assert {kind: len(messages) for kind, messages in found.faults.items()} == {
        "half a point": 2,
        "not a number": 1,
        "missing picture": 1,
        "landmark outside its picture": 1,
        "unreadable picture": 1,
    }
    assert "row 2: " in found.faults["half a point"][0] and "row 7: " in found.faults["half a point"][1]
    assert found.table.images == tuple(f"images/{i:03}.png" for i in (0, 1, 3, 5, 6, 7))
    chin = found.table.landmarks.names.index("chin")
    assert np.isnan(found.table.xy[:4, chin, 0]).tolist() == [True, True, False, True]


def test_what_reading_says_is_told_once_and_not_logged(root, caplog):
    landmark_rows.change(root, {0: {"colour": "red"}}, drop=("subject",))
    caplog.set_level(logging.WARNING)
    found = reading.read(root)
    assert any("colour" in text for text in found.remarks) and any("`subject`" in text for text in found.remarks)
    assert caplog.messages == []


def test_a_landmark_that_nobody_annotated_is_named_without_a_split_too(root):
    landmark_rows.change(root, {row: {"chin_x": "", "chin_y": ""} for row in range(8)}, drop=("split",))
    assert any("no training picture has the landmark chin" in text for text in reading.read(root).remarks)


def test_points_in_another_unit_are_told_apart(root):
    table = landmark_rows.read(root)
    cells = {name: f"{float(cell) / 10}" for name, cell in table[0].items() if name.endswith(("_x", "_y"))}
    landmark_rows.change(root, {0: cells})
    found = reading.read(root)
    assert len(found.units) == 1 and "closer together" in found.units[0] and "row 2" in found.units[0]


def test_a_folder_of_which_nothing_can_be_read_is_refused(root):
    shutil.rmtree(root / "images")
    with pytest.raises(UserError, match="no row has a picture that can be read; the first fault: .*images/000.png"):
        reading.read(root)
    with pytest.raises(UserError, match="no such folder"):
        reading.read(root / "nowhere")


def test_a_segmentation_folder_is_read_too(tmp_path):
    root = segmentation_folder.write(tmp_path / "organs", people=4)
    domain = next(iter(drawn_anatomies.CLASSES))
    segmentation_folder.change(root / domain / "0_mask.png", lambda classes: classes[:-1])
    segmentation_folder.change(root / domain / "1_mask.png", np.zeros_like)
    found = reading.read(root)
    assert len(found) == 4 * len(drawn_anatomies.CLASSES)
    assert set(found.faults) == {"class map of another size", "empty class map"}
    assert found.regions[0] == found.regions[1] == {}
    classes = np.array(Image.open(root / domain / "2_mask.png"))
    assert {one: pixels for one, (pixels, _) in found.regions[2].items()} == {
        one: int((classes == one).sum()) for one in range(1, classes.max() + 1) if (classes == one).any()
    }


def test_pictures_of_more_than_8_bits_are_as_bright_as_a_training_sees_them(root):
    """A dark one stays dark beside the others, though its own brightest pixel would make it bright."""
    names = [row["image"] for row in landmark_rows.read(root)]
    for name in names:
        grey = np.asarray(Image.open(root / name).convert("L")).astype(np.uint16)
        Image.fromarray(grey * (1 if name == names[0] else 16)).save(root / name)
    found = reading.read(root)
    assert found.grey[0] == {"integer": (0.0, 4095.0)}
    original = np.asarray(Image.open(root / names[0])).astype(float)
    assert np.abs(found.picture(0)[..., 0] - original * 255 / 4095).max() <= 0.5
    assert found.looks[0].brightness < min(one.brightness for one in found.looks[1:]) / 4


def test_grey_ranges_are_looked_at_domain_by_domain(tmp_path):
    """Of 10 bits in one, of 16 in the other, as a training has them: no picture is dark for its domain."""
    root = segmentation_folder.write(tmp_path / "organs", people=4)
    for domain, brighter in zip(drawn_anatomies.CLASSES, (4, 257), strict=True):
        for file in (root / domain).glob("?.png"):
            grey = np.asarray(Image.open(file).convert("L")).astype(np.uint16)
            Image.fromarray(grey * brighter).save(file)
    found = reading.read(root)
    assert found.remarks == () and len(set(found.subjects)) == 4 * len(drawn_anatomies.CLASSES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({6: {"split": "train"}, 7: {"split": "val"}}, "eval.split is test, but the splits are train, val; give some"),
        ({row: {"split": "train", "subject": "one"} for row in (4, 5)} | {row: {"subject": "one"} for row in range(4)},
         "no pictures in split val: there are too few subjects"),
        ({row: dict.fromkeys(CELLS, "") for row in (6, 7)},
         "none of the 2 pictures of split test has an annotated landmark"),
        ({row: {"chin_x": "", "chin_y": ""} for row in range(4)} | {
            row: dict.fromkeys(set(CELLS) - {"chin_x", "chin_y"}, "") for row in (6, 7)
        }, "none of the 2 pictures of split test has a landmark that is annotated in train"),
    ],
)  # fmt: skip
def test_splits_that_a_training_refuses_are_faults(root, changes, said):
    landmark_rows.change(root, changes)
    (message,) = reading.read(root).faults["split"]
    assert message.startswith(said)


def test_splits_drawn_at_random_can_be_faults_too(root):
    landmark_rows.change(root, {row: {"subject": f"person {row % 2}"} for row in range(8)}, drop=("split",))
    (message,) = reading.read(root).faults["split"]
    assert message.startswith("no pictures in split val: there are too few subjects")


def test_splits_are_asked_about_domain_by_domain(tmp_path):
    root = segmentation_folder.write(tmp_path / "organs", people=4)
    assert "split" not in reading.read(root).faults
    first, *_ = drawn_anatomies.CLASSES
    rows = segmentation_folder.read_rows(root)
    segmentation_folder.write_rows(
        root, [[*row[:4], "train" if row[2] == first and row[4] == "test" else row[4], *row[5:]] for row in rows]
    )
    (message,) = reading.read(root).faults["split"]
    assert message.startswith(f"domain {first}: eval.split is test, but the splits are train, val;")


def test_a_folder_of_people_without_landmarks_is_judged_by_val(root):
    """As `configs/source.py` has it: who is on a picture is learned."""
    (root / "dataset.json").write_text(json.dumps({"landmarks": []}))
    landmark_rows.change(root, {6: {"split": "train"}, 7: {"split": "val"}}, drop=tuple(CELLS))
    assert "split" not in reading.read(root).faults
