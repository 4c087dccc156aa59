"""Pictures marked done become a folder that trains: the points as they were placed, val and test where they were."""

import csv
import hashlib
import json
import shlex
import types

import numpy as np
import pytest
import tiny

from ctd_jax.config import load_config
from ctd_jax.data import landmark_folder as reader
from ctd_jax.data import splits
from ctd_jax.errors import UserError
from ctd_jax.review import folder, journal, training_folder
from ctd_jax.review.edits import Review
from ctd_jax.tasks.trained import Run

WORDS = ["train", "train", "val", "test"]


def point(x, y, state="placed", how="hand"):
    return {"x": x, "y": y, "state": state, "how": how}


def edit(image, points=None, **more):
    return {"id": "i", "kind": "edit", "image": image, "points": points or {}, **more}


@pytest.fixture
def root(landmark_folder):
    """8 people with a picture each, four of them `train`, then two `val` and two `test`; 001 has no label, and neither
    a row nor a label has 007."""
    place = landmark_folder(people=8, shots=1, size=32)
    with (place / "landmarks.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    rows[2][3:] = [""] * len(rows[2][3:])
    with (place / "landmarks.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows[:-1])
    return place


def test_done_and_labelled_pictures_are_written(root, tmp_path, caplog):
    reviewed = folder.read(root)
    before = (root / "landmarks.csv").read_bytes()
    places = {name: point(1.5 + i / 8, 2.25) for i, name in enumerate(reviewed.names)}
    nowhere = {"x": None, "y": None, "state": "absent", "how": "hand"}
    entries = [
        edit("images/001.png", places | {"chin": nowhere, "nasion": point(30.1234, 3.5, "hidden but placed")}),
        edit("images/001.png", done=True),
        edit("images/007.png", places, done=True),
        edit("images/000.png", {"chin": point(7.0, 8.0)}),  # not marked done
        edit("images/002.png", {"chin": point(7.0, 8.0)}, done=True),
        edit("images/003.png", done=False),
        edit("images/004.png", {"chin": point(9.0, 9.0)}, done=True),
        edit("images/005.png", {"chin": point(9.0, 9.0)}, done=True),
        {"id": "u", "kind": "undo"},
        edit("gone.png", done=True),
    ]
    said = training_folder.write(reviewed, entries, tmp_path / "new one")
    table = reader.read(tmp_path / "new one")
    assert table.images == tuple(f"images/00{i}.png" for i in (0, 1, 2, 4, 5, 6, 7))
    assert table.splits == ("train", "train", "train", "val", "val", "test", "train")
    assert table.subjects[:2] == reviewed.table.subjects[:2] and table.subjects[-1] == "images/007.png"
    assert "1 of 7 rows have no subject" in caplog.text  # of a picture without a row
    chin, nasion = map(table.landmarks.names.index, ("chin", "nasion"))
    expected = reviewed.table.xy[[0, 1, 2, 4, 5, 6, 6]].copy()
    expected[[1, 6]] = [[one["x"], one["y"]] for one in places.values()]
    expected[1, chin], expected[1, nasion] = np.nan, (30.1234, 3.5)
    expected[2, chin], expected[3, chin] = (7, 8), (9, 9)
    np.testing.assert_array_equal(table.xy, expected)
    assert (root / "landmarks.csv").read_bytes() == before
    assert (tmp_path / "new one/images/007.png").read_bytes() == (root / "images/007.png").read_bytes()
    assert "4 pictures marked done, 3 as they were labelled before" in said and "1 test, 4 train, 2 val" in said
    assert "--config.data.root='" in said or "'--config.data.root=" in said
    hidden = np.argwhere(table.hidden)
    assert hidden.tolist() == [[1, nasion]]
    again = folder.read(tmp_path / "new one").labels["images/001.png"]
    assert (again["nasion"]["state"], again["chin"]["state"]) == ("hidden but placed", "absent")
    assert "1 pictures have edits but are not marked done; their edits are left out: images/000.png" in caplog.text
    assert "1 pictures marked done are no longer" in caplog.text


def test_rows_of_several_raters_become_one_and_that_is_said(root, tmp_path, caplog):
    with (root / "landmarks.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    first = header.index("subject") + 2  # behind image, subject and split
    moved = [[*row[:first], *(cell and str(float(cell) + 2) for cell in row[first:])] for row in rows]
    with (root / "landmarks.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [[*header, "rater"], *([*row, "anna"] for row in rows), *([*row, "ben"] for row in moved)]
        )
    reviewed = folder.read(root)
    places = {name: point(1.5, 2.25) for name in reviewed.names}
    training_folder.write(reviewed, [edit("images/001.png", places, done=True)], tmp_path / "new")
    table = reader.read(tmp_path / "new")
    assert table.images.count("images/001.png") == 1 and not table.landmarks.raters
    of_first = np.array(rows[0][first:], float).reshape(-1, 2)
    np.testing.assert_allclose(table.xy[table.images.index("images/000.png")], of_first + 1, atol=1e-3)
    assert "has a row for each of its raters (anna, ben)" in caplog.text


def run_of(place, rows, **changes):
    """A workdir with these rows in its split.csv."""
    place.mkdir()
    config = load_config("recipe:own")
    config.data.update(changes)
    (place / "config.json").write_text(json.dumps(config.to_dict()))
    with (place / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([splits.COLUMNS, *rows])
    return place


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("changes", [{}, {"budget": 4}, {"share": 0.5}])
def test_the_split_of_a_run_goes_before_the_column(root, tmp_path, changes):
    """By the digest of the picture, where it is known, else by its name. What only a budget left out is free to go to
    train."""
    rows = [["elsewhere.png", "x", "test", digest(root / "images/000.png")], ["x.png", "images/007.png", "val", "0"]]
    rows += [["images/002.png", "person_00002", "unused", digest(root / "images/002.png")]]
    rows += [["images/004.png", "y", "test1", ""]]
    reviewed = folder.read(root)
    found = training_folder.split_of(reviewed, reviewed.images, run_of(tmp_path / "run", rows, **changes))
    unused = "train" if changes else "unused"
    assert list(found.values()) == ["test", "train", unused, "train", "test1", "val", "test", "val"]


def test_a_column_without_any_split_says_none(root):
    """The training chooses val and test then."""
    with (root / "landmarks.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    for row in rows[1:]:
        row[2] = ""
    with (root / "landmarks.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    reviewed = folder.read(root)
    assert training_folder.split_of(reviewed, reviewed.images, None) is None


def test_a_labelled_picture_without_the_split_that_others_have_takes_no_part(root, tmp_path):
    """Also where others of its person do; but a row whose points are new goes to train."""
    with (root / "landmarks.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    rows[1][2] = rows[2][2] = ""
    rows[3][1] = rows[1][1]
    with (root / "landmarks.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    reviewed = folder.read(root)
    places = {name: point(1.5, 2.25) for name in reviewed.names}
    training_folder.write(reviewed, [edit("images/001.png", places, done=True)], tmp_path / "new")
    assert reader.read(tmp_path / "new").splits[:4] == ("unused", "train", "train", "train")


@pytest.mark.parametrize("has_test", [True, False])
def test_a_folder_without_test_pictures_is_told_what_it_lacks(root, tmp_path, caplog, has_test):
    with (root / "landmarks.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    rows[-1][3:] = rows[-1][3:] if has_test else [""] * len(rows[-1][3:])  # the only row of test
    with (root / "landmarks.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    training_folder.write(folder.read(root), [edit("images/002.png", done=True)], tmp_path / "new")
    assert ("no picture that is written has the split test" in caplog.text) != has_test


def test_new_pictures_with_the_names_of_a_run_are_new(landmark_folder, tmp_path):
    """Their rows are without subjects, as those of the run."""
    root = landmark_folder(people=4, shots=1, size=16)
    with (root / "landmarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (root / "landmarks.csv").open("w", newline="") as file:
        columns = [name for name in rows[0] if name not in ("subject", "split")]
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    names = [row["image"] for row in rows]
    old = [[name, name, split, f"{i:064}"] for i, (name, split) in enumerate(zip(names, WORDS, strict=True))]
    run = run_of(tmp_path / "run", old)
    reviewed = folder.read(root)
    assert training_folder.split_of(reviewed, names, run) is None  # the training chooses val and test among them
    same = [[*row[:3], digest(root / name)] for row, name in zip(old, names, strict=True)]
    run = run_of(tmp_path / "same", same)
    assert list(training_folder.split_of(reviewed, names, run).values()) == WORDS


def test_a_folder_says_who_is_on_the_pictures_of_a_run_that_had_no_names(root, tmp_path):
    """Also by pictures that are not written: the new ones of people in val or test go there, too."""
    with (root / "landmarks.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    for row, subject in zip(rows[1:], ["anna", "Anna", "ben", "ben", "ben", "eva", "eva"], strict=True):
        row[1] = subject
    with (root / "landmarks.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    old = zip(["000", "002", "003", "005"], ["val", "train", "test", "train"], strict=True)
    known = [[f"{name}.png", f"{name}.png", split, digest(root / f"images/{name}.png")] for name, split in old]
    run, reviewed = run_of(tmp_path / "run", known), folder.read(root)
    expected = ["val", "val", "train", "test", "test", "train", "train", "train"]
    found = training_folder.split_of(reviewed, reviewed.images, run)
    assert [found[f"images/00{i}.png"] for i in range(8)] == expected
    new = ["images/004.png"]
    assert training_folder.split_of(reviewed, new, run) == {new[0]: "test"}


def test_a_run_of_two_domains_keeps_val_and_test(root, tmp_path):
    """Pictures are told by their digests, people without their domain, and not by those of the other one."""
    kept = [f"images/00{i}.png" for i in (0, 1, 4)]
    people = [f"faces/person_0000{i}" for i in (0, 1, 4)]
    splits_of = ["test", "train", "val"]
    rows = [
        [f"faces/{image}", person, split, digest(root / image)]
        for image, person, split in zip(kept, people, splits_of, strict=True)
    ]
    rows += [
        ["faces/a.png", "faces/Person_00002", "test", "0"],
        ["faces/images/003.png", "faces/images/003.png", "val", "1"],
    ]
    rows += [["hands/a.png", "hands/person_00005", "test", "2"], ["hands/b.png", "hands/person_00002", "train", "3"]]
    reviewed = folder.read(root)
    found = training_folder.split_of(reviewed, reviewed.images, run_of(tmp_path / "run", rows))
    assert [found[image] for image in kept] == splits_of
    assert [found[f"images/00{i}.png"] for i in (2, 3, 5)] == ["test", "train", "val"], "the last by its column"
    others = ["images/002.png", "images/005.png"]  # nothing of these says which domain they are of
    assert training_folder.split_of(reviewed, others, tmp_path / "run") == dict.fromkeys(others, "test")


@pytest.mark.parametrize("word", ["unused", "teacher"])
def test_a_split_that_takes_no_part_stays(root, tmp_path, caplog, word):
    """But not `unlabelled`, which a label ends."""
    with (root / "landmarks.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    for row, split in ((1, word), (2, "Unlabelled"), (6, word)):
        rows[row][2] = split
    with (root / "landmarks.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    reviewed = folder.read(root)
    places = {name: point(1.5, 2.25) for name in reviewed.names}
    marked = [edit(f"images/00{i}.png", places, done=True) for i in (0, 1)]
    said = training_folder.write(reviewed, marked, tmp_path / "new")
    warned = "1 pictures marked done have the split `unused`, and are not trained on: images/000.png"
    assert (warned in caplog.text) == (word == "unused")
    table = reader.read(tmp_path / "new")
    assert table.splits == (word, "train", "train", "train", "val", word, "test")
    assert f"2 {word}" in said


def test_a_folder_of_pictures_becomes_a_landmark_folder(root, tmp_path, caplog):
    reviewed = folder.read(root / "images", ["tip", "base"])
    entries = [edit("003.png", {"tip": point(1.0, 2.0), "base": point(3.0, 4.0)}, done=True)]
    said = training_folder.write(reviewed, entries, tmp_path / "new")
    assert f"{tmp_path / 'new'}/landmarks.csv has no column `subject`" in caplog.text
    table = reader.read(tmp_path / "new")
    assert (table.images, table.splits, table.landmarks.names) == (("003.png",), None, ("tip", "base"))
    np.testing.assert_array_equal(table.xy, [[[1, 2], [3, 4]]])
    assert "the training chooses them" in said


def test_what_nobody_has_said_is_left_empty_and_said(root, tmp_path, caplog):
    reviewed = folder.read(root / "images", ["tip", "base"])
    entries = [edit("003.png", {"tip": point(1.0, 2.0), "base": None}, done=True)]
    training_folder.write(reviewed, entries, tmp_path / "new")
    np.testing.assert_array_equal(reader.read(tmp_path / "new").xy, [[[1, 2], [np.nan, np.nan]]])
    assert (
        "1 points of pictures marked done are neither placed nor absent, and left empty: base of 003.png" in caplog.text
    )


@pytest.mark.parametrize(
    ("opened", "kept"),
    [
        ({"landmarks": ["chin"], "current": True}, ["chin"]),
        ({"landmarks": ["chin", "nasion"], "blinded": True}, []),
        ({"landmarks": ["chin"]}, None),  # of an older version, which named those of the first edit
    ],
)
def test_labels_that_a_rater_was_not_shown_are_not_the_raters(root, opened, kept):
    """Landmarks of later, and all where the rater was blinded; what holds afterwards changes nothing."""
    reviewed, image = folder.read(root), "images/000.png"
    later = {"kind": "open", "landmarks": reviewed.names}
    entries = [{"kind": "open", **opened}, edit(image, {"left_ala": point(7.0, 8.0)}, done=True), later]
    found = training_folder.points_of(image, Review(entries), reviewed)
    assert [name for name, one in found.items() if one["x"] is not None] == sorted(
        {*(reviewed.names if kept is None else kept), "left_ala"}, key=reviewed.names.index
    )


def test_points_of_a_landmark_that_was_renamed_are_said(root, tmp_path, caplog):
    reviewed = folder.read(root)
    opened = {"kind": "open", "landmarks": ["jaw", *reviewed.names[1:]], "current": True}
    done = [opened, edit("images/000.png", {"jaw": point(7.0, 8.0)}, done=True)]
    training_folder.write(reviewed, done, tmp_path / "new")
    assert "pictures marked done have points of jaw, which" in caplog.text
    assert f"left empty: {reviewed.names[0]} of images/000.png" in caplog.text


def test_nothing_is_written_of_what_the_reader_refuses(root, tmp_path):
    reviewed = folder.read(root / "images", ["tip", "base"])
    with pytest.raises(UserError, match="no picture is marked done"):
        training_folder.write(reviewed, [edit("003.png", {"tip": point(1.0, 2.0)})], tmp_path / "new")
    with pytest.raises(UserError, match="no picture is marked done"):
        training_folder.write(reviewed, [edit("gone.png", done=True)], tmp_path / "new")
    far = [edit("003.png", {"tip": point(40.0, 2.0), "base": point(3.0, 4.0)}, done=True)]
    with pytest.raises(UserError, match=r"/new/landmarks.csv, .* tip lies at \(40.0, 2.0\), outside the picture of"):
        training_folder.write(reviewed, far, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="--out: .* has the folder that is reviewed"):
        training_folder.write(folder.read(root), [edit("images/003.png", done=True)], root, force=True)


def test_force_replaces_a_landmark_folder_and_nothing_else(root, tmp_path):
    reviewed, out = folder.read(root), tmp_path / "new"
    done = [edit("images/000.png", done=True)]
    training_folder.write(reviewed, done, out)
    for name in ("landmarks_eva.csv", "raters.html", "images/other.PNG"):
        (out / name).touch()
    training_folder.write(reviewed, done, out, force=True)
    assert not (out / "raters.html").exists() and not (out / "images/other.PNG").exists()
    for name in ("notes.txt", "runs/landmarks.csv", "landmarks_eva/notes.csv", "review/eva.jsonl"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).touch()
        with pytest.raises(UserError, match=f"is not replaced: it has {name}, which is no part of a landmark folder"):
            training_folder.write(reviewed, done, out, force=True)
        (out / name).unlink()
    (out / "landmarks.csv").unlink()
    with pytest.raises(UserError, match="it has no landmarks.csv, so is no landmark folder"):
        training_folder.write(reviewed, done, out, force=True)


def test_points_of_an_older_journal_are_written(root, tmp_path):
    """Its pictures are called as landmarks.csv spells them, `./images/000.png`."""
    table = root / "landmarks.csv"
    table.write_text(table.read_text().replace("images/", "./images/"))
    (tmp_path / "anna.jsonl").write_text(
        json.dumps(edit("./images/000.png", {"chin": point(7.0, 8.0)}, done=True)) + "\n"
    )
    training_folder.write(folder.read(root), journal.read(tmp_path / "anna.jsonl"), tmp_path / "new")
    found = reader.read(tmp_path / "new")
    assert found.xy[0, found.landmarks.names.index("chin")].tolist() == [7, 8]


def test_whose_review_and_where_to(root):
    with pytest.raises(UserError, match="nobody has reviewed it"):
        training_folder.rater_of(root, "")
    (root / "review").mkdir()
    (root / "review/anna.jsonl").touch()
    assert training_folder.rater_of(root, "") == "anna"
    (root / "review/._anna.jsonl").write_bytes(b"\0\5Mac OS X\n")
    assert training_folder.rater_of(root, "") == "anna"
    (root / "review/ben.jsonl").touch()
    with pytest.raises(UserError, match="reviewed by anna, ben; say whose"):
        training_folder.rater_of(root, "")
    with pytest.raises(UserError, match="eva has not reviewed"):
        training_folder.rater_of(root, "eva")
    assert training_folder.rater_of(root, "ben") == "ben"
    assert training_folder.free_place(root).name == f"{root.name}_reviewed"
    (root.parent / f"{root.name}_reviewed").mkdir()
    assert training_folder.free_place(root).name == f"{root.name}_reviewed_2"


@pytest.mark.slow
def test_what_is_written_trains(root, tmp_path, teacher_file, cli):
    reviewed = folder.read(root)
    entries = [edit("images/001.png", reviewed.labels["images/000.png"] | {}, done=True)]
    said = training_folder.write(reviewed, entries, tmp_path / "new")
    words = shlex.split(said.splitlines()[-1].removeprefix("Train on it: "))
    assert words == ["ctd-jax", "train", "--config=recipe:own", "--workdir=runs/new",
                     f"--config.data.root={tmp_path / 'new'}", "--config.teacher.weights=embedded"]  # fmt: skip
    small = tiny.arguments(teacher_file, train__steps=2, data__root=str(tmp_path / "new"))
    code, _, error = cli("ctd_jax.main", "--config=ctd_ed", f"--workdir={tmp_path / 'run'}", *small)
    assert code == 0, error


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["--config.model.start=", "--config.teacher.weights=weights.safetensors"]),
        ({"model.decoder": "separable", "model.decoder_channels": (8,), "data.margin": 0.5, "model.sigma": 3.0},
         ["--config.model.decoder=separable", "--config.model.decoder_channels=8,", "--config.data.margin=0.5",
          "--config.model.start="]),
        ({"data.root": "python"}, ["--config.model.start="]),  # from lists
        ({"model.network": "hourglass"}, []),
        ({"task": "segmentation"}, ["--config.teacher.weights=embedded"]),
        ({"data.root": "faces,hands"}, []),
    ],
)  # fmt: skip
def test_the_command_goes_on_from_the_network_of_the_run(root, tmp_path, monkeypatch, changes, words):
    config, run = load_config("recipe:own"), tmp_path / "a run"
    config.update_from_flattened_dict({"data.root": "faces", "teacher.weights": "weights.safetensors"} | changes)
    run.mkdir()
    (run / "config.json").write_text(json.dumps(config.to_dict()))
    (run / "split.csv").write_text("image,subject,split,sha256\n")
    done, reviewed = [edit("images/000.png", done=True)], folder.read(root)
    monkeypatch.setattr(Run, "read", lambda _: types.SimpleNamespace(meta={"landmarks": list(reviewed.names)}))
    said = training_folder.write(reviewed, done, tmp_path / "new", workdir=run)
    command = shlex.split(said.splitlines()[-1].partition(": ")[2])
    first = ["ctd-jax", "train", "--config=recipe:own", "--workdir=runs/new", f"--config.data.root={tmp_path / 'new'}"]
    assert command[:5] == first
    start = [f"{word}{run}" if word == "--config.model.start=" else word for word in words]
    assert set(start) <= set(command) and ("--config.model.start" in said) == ("--config.model.start=" in words)
    made = load_config("recipe:own", [word.removeprefix("--config.") for word in command[4:]])
    if "--config.model.start=" in words:
        made.model.start = ""
        assert (made.model, made.data.margin) == (config.model, config.data.margin)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["tip"], "No training goes on from {run}, which has other landmarks: 1 only in the data (base)"),
        (["base", "tip"], "which has other landmarks: another order: base, tip in {run}, tip, base in the data"),
        (None, "{run} has no whole checkpoint"),
        (["tip", "base"], "Train on, from the network of {run}: "),
    ],
)
def test_a_run_of_other_landmarks_is_no_start(root, tmp_path, monkeypatch, names, said):
    """A run of the same ones says what dataset.json does, where there is none."""
    run = run_of(tmp_path / "run", [], root="faces")
    meta = {"landmarks": names, "flip_pairs": [["tip", "base"]], "normalizer": None, "absent": ["tip"]}
    if names:
        monkeypatch.setattr(Run, "read", lambda _: types.SimpleNamespace(meta=meta))
    done = [edit("003.png", {"tip": point(1.0, 2.0), "base": point(3.0, 4.0)}, done=True)]
    found = training_folder.write(folder.read(root / "images", ["tip", "base"]), done, tmp_path / "new", workdir=run)
    assert said.format(run=run) in found and ("model.start" in found) == (names == ["tip", "base"])
    about = reader.read(tmp_path / "new").landmarks
    same = (("tip", "base"),), ("tip",)
    assert (about.flip_pairs, about.absent) == (same if names == ["tip", "base"] else (None, ()))


def with_boxes(root):
    """Every row of landmarks.csv gets the box of the whole picture."""
    header, *rows = (root / "landmarks.csv").read_text().splitlines()
    lines = [f"{header},box_x0,box_y0,box_x1,box_y1", *(f"{row},0,0,31,31" for row in rows)]
    (root / "landmarks.csv").write_text("\n".join(lines) + "\n")


def test_a_picture_without_the_box_that_others_have_is_left_out_and_said(root, tmp_path, caplog):
    with_boxes(root)
    reviewed = folder.read(root)
    places = {name: point(1.5, 2.25) for name in reviewed.names}
    marked = [edit("images/007.png", places, done=True)]  # it has no row
    with pytest.raises(UserError, match="no picture is marked done and has a box"):
        training_folder.write(reviewed, marked, tmp_path / "alone")
    caplog.clear()
    training_folder.write(reviewed, [*marked, edit("images/001.png", places, done=True)], tmp_path / "new")
    assert reader.read(tmp_path / "new").images == tuple(f"images/00{i}.png" for i in range(7))
    said = "1 pictures have no box, as the others of the folder have, and are left out: images/007.png"
    assert said in caplog.text and not (tmp_path / "new/images/007.png").exists()
