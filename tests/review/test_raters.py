"""Several raters of one folder: compared, and their mean as a folder that trains."""

import json

import numpy as np
import pytest

from ctd_jax.data import landmark_folder
from ctd_jax.errors import UserError
from ctd_jax.review import journal, raters


def review(root, rater, images, shift, *, again=()):
    """A journal in which `images` are done, every point `shift` px to the right of (5, 5)."""
    names = json.loads((root / "dataset.json").read_text())["landmarks"]
    point = {"x": 5.0 + shift, "y": 5.0, "state": "placed", "how": "hand"}
    second = point | {"x": point["x"] + 1}
    edits = [(image, point) for image in images] + [(f"again:{image}", second) for image in again]
    entries = [{"id": "open", "kind": "open", "landmarks": names, "blinded": True}]
    for i, (image, one) in enumerate(edits):
        entries.append(
            {"id": str(i), "kind": "edit", "image": image, "points": dict.fromkeys(names, one), "done": True}
        )
    journal.Journal(journal.path_of(root, rater)).append(entries)


@pytest.fixture
def root(landmark_folder):
    return landmark_folder(people=4, shots=1, size=16)


IMAGES = [f"images/{i:03d}.png" for i in range(4)]


def test_their_mean_is_a_folder_that_trains_and_the_page_says_how_far_they_are(root, tmp_path, cli):
    review(root, "anna", IMAGES[:3], 0.0, again=IMAGES[:1])
    review(root, "ben", IMAGES[1:], 2.0)
    code, out, error = cli("ctd_jax.label_files", "raters", root, f"--out={tmp_path / 'both'}")
    assert code == 0, error
    assert "anna and ben: 2.00 px apart" in out and "anna, the second time: 1.00 px apart" in out
    table = landmark_folder.read(tmp_path / "both")
    assert table.images == tuple(IMAGES) and table.landmarks.raters == ("anna", "ben")
    np.testing.assert_array_equal(table.xy[:, 0, 0], [5, 6, 6, 7])
    assert table.splits == ("train", "train", "val", "test")
    page = (tmp_path / "both/raters.html").read_text("utf-8")
    assert "2.00 px" in page and page.count("<figure>") == 3 and "images/001.png" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_second_time_counts_points_that_were_left_as_they_stood(root):
    """Of a rater who sees labels, one point is moved by 2 px the second time."""
    names = json.loads((root / "dataset.json").read_text())["landmarks"]
    labels = landmark_folder.read(root).xy[0]
    moved = {"x": labels[0, 0] + 2, "y": labels[0, 1], "state": "placed", "how": "hand"}
    entries = [{"id": "open", "kind": "open", "landmarks": names, "blinded": False, "repeat": 0.1}]
    for key, points in ((IMAGES[0], {}), (f"again:{IMAGES[0]}", {names[0]: moved})):
        entries.append({"id": key, "kind": "edit", "image": key, "points": points, "done": True})
    journal.Journal(journal.path_of(root, "anna")).append(entries)
    review(root, "ben", IMAGES[:1], 2.0)
    _, found = raters.read(root)
    expected = labels + np.array([[2, 0], *[[0, 0]] * (len(names) - 1)])
    np.testing.assert_array_equal(found["anna"].again[0], expected)


def test_a_landmark_that_was_added_later_is_of_nobody(root):
    """`anna` began without it, and `ben` was blinded: its labels are neither's."""
    for rater, blinded in (("anna", False), ("ben", True)):
        review(root, rater, IMAGES[:1], 0.0)
        path = journal.path_of(root, rater)
        opened, done = map(json.loads, path.read_text().splitlines())
        for names in (done["points"], opened["landmarks"]) if rater == "anna" else (done["points"],):
            names.pop("chin") if isinstance(names, dict) else names.remove("chin")
        path.write_text(
            "".join(json.dumps(entry) + "\n" for entry in (opened | {"blinded": blinded, "current": True}, done))
        )
    reviewed, found = raters.read(root)
    chin = reviewed.names.index("chin")
    assert [np.isnan(said.xy[0]).all(-1).nonzero()[0].tolist() for said in found.values()] == [[chin], [chin]]


def test_points_of_a_landmark_of_another_name_are_said(root, caplog):
    for rater in ("anna", "ben"):
        review(root, rater, IMAGES[:1], 0.0)
    raters.read(root)
    assert "points of" not in caplog.text
    path = journal.path_of(root, "ben")
    path.write_text(path.read_text().replace('"chin"', '"jaw"'))
    raters.read(root)
    assert "ben has points of jaw in pictures marked done, which are none of the landmarks here (" in caplog.text
    assert "anna has" not in caplog.text


def test_marks_of_hidden_points_are_said_to_be_left_out(root, tmp_path, caplog):
    header, *rows = (root / "landmarks.csv").read_text().splitlines()
    lines = [f"{header},chin_hidden,rater", *(f"{row},1,{rater}" for row in rows for rater in ("senior", "junior"))]
    (root / "landmarks.csv").write_text("\n".join(lines) + "\n")
    raters.write(*raters.read(root), tmp_path / "both")
    assert "4 points are hidden but placed, and are written as placed in the rows of its raters" in caplog.text


def test_a_journal_that_a_mac_left_and_one_without_an_edit_are_passed_over(root, tmp_path):
    """The names of the points are those of the first who has begun."""
    (root / "landmarks.csv").unlink()
    for rater in ("ben", "eva"):
        review(root, rater, IMAGES[:1], 0.0)
    (root / "dataset.json").unlink()
    (root / "review/anna.jsonl").touch()
    (root / "review/._ben.jsonl").write_bytes(b"\0\5Mac OS X\n")
    assert list(raters.read(root)[1]) == ["ben", "eva"]


def test_raters_of_the_folder_are_among_them(root):
    for name in ("senior", "junior"):
        (root / f"landmarks_{name}.csv").write_text((root / "landmarks.csv").read_text())
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(content | {"raters": ["senior", "junior"]}))
    review(root, "anna", IMAGES[:1], 0.0)
    _, found = raters.read(root)
    assert list(found) == ["anna", "senior", "junior"] and found["senior"].done.all()
    assert list(raters.read(root, ["junior", "anna"])[1]) == ["junior", "anna"]
    review(root, "senior", IMAGES[:1], 0.0)
    with pytest.raises(UserError, match="senior is a rater of the folder and has a journal"):
        raters.read(root)


def test_who_is_not_there_and_nothing_to_compare(root, tmp_path):
    review(root, "anna", IMAGES[:1], 0.0)
    with pytest.raises(UserError, match="expected two raters .* found anna"):
        raters.read(root)
    review(root, "ben", IMAGES[1:], 0.0)
    with pytest.raises(UserError, match="--raters names eva; expected some of anna, ben"):
        raters.read(root, ["eva"])
    with pytest.raises(UserError, match="no picture that two of anna, ben are done with"):
        raters.write(*raters.read(root), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_picture_without_the_box_that_others_have_is_left_out(root, tmp_path, caplog):
    header, *rows = (root / "landmarks.csv").read_text().splitlines()
    header = header.replace("subject", "note")
    lines = [f"{header},box_x0,box_y0,box_x1,box_y1", *(f"{row},0,0,15,15" for row in rows[:3])]
    (root / "landmarks.csv").write_text("\n".join(lines) + "\n")
    review(root, "anna", IMAGES, 0.0)
    review(root, "ben", IMAGES[2:], 2.0)
    raters.write(*raters.read(root), tmp_path / "both")
    assert f"{tmp_path / 'both'}/landmarks.csv has no column `subject`" in caplog.text
    assert landmark_folder.read(tmp_path / "both").images == tuple(IMAGES[:3])
    assert f"left out: {IMAGES[3]}" in caplog.text
