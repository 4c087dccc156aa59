"""The csv file that comes back from a page that was sent."""

import csv
import json
import shutil

import numpy as np
import pytest

from ctd_jax.data import landmark_folder as reader
from ctd_jax.errors import UserError
from ctd_jax.review import folder, journal, mailed, portable, proposals, training_folder
from ctd_jax.review.edits import Review

HEADER = ["picture", "done"]


@pytest.fixture(scope="module")
def sent(landmark_folder, tmp_path_factory):
    """The folder, the key of the page that was sent, and the names of the points."""
    root = landmark_folder(people=4, shots=1, size=64)
    out = tmp_path_factory.mktemp("sent") / "page.html"
    reviewed = folder.read(root)
    portable.write(reviewed, proposals.nothing, out, 32)
    return root, portable.key_of(out), reviewed


@pytest.fixture
def saved(sent, tmp_path):
    """A csv file as the page saves it: the first picture done, but for its last point, which is absent; the second has
    one point."""
    _, key, reviewed = sent
    header = [*HEADER, *(f"{name}_{end}" for name in reviewed.names for end in ("x", "y", "state"))]
    numbers = [row["picture"] for row in csv.DictReader(key.read_text().splitlines())]
    places = [[f"{20.25 + i}", f"{30 + i / 2}", "placed"] for i in range(len(reviewed.names))]
    places[1][2], places[-1] = "hidden", ["", "", "absent"]
    nothing = ["", "", ""]
    rows = [[numbers[0], "1", *sum(places, [])], [numbers[1], "", *places[0], *nothing * (len(places) - 1)],
            *([number, "", *nothing * len(places)] for number in numbers[2:])]  # fmt: skip
    path = tmp_path / "page_points.csv"
    path.write_text("\ufeff" + "\n".join(",".join(row) for row in [header, *rows]) + "\n", "utf-8")
    return path


def test_the_points_are_those_of_the_pictures_that_the_key_names(sent, saved):
    root, key, reviewed = sent
    again, entries = mailed.read(saved, key, root)
    found = Review(entries)
    first, second = reviewed.images[:2]
    assert again.images == reviewed.images and found.done == {first: True}
    names = reviewed.names
    assert found.points[first][names[0]] == {"x": 20.25, "y": 30.0, "state": "placed", "how": "hand"}
    assert found.points[first][names[1]]["state"] == "hidden but placed"
    assert found.points[first][names[-1]]["state"] == "absent" and list(found.points[second]) == [names[0]]


def test_what_was_accepted_as_proposed_is_known(sent, saved):
    """An older page does not say it."""
    root, key, reviewed = sent
    text = saved.read_text("utf-8")
    name = reviewed.names[0]
    header, first, *rest = text.splitlines()
    lines = [f"{header},{name}_how", f"{first},accepted", *(f"{line}," for line in rest)]
    saved.write_text("\n".join(lines) + "\n", "utf-8")
    points = Review(mailed.read(saved, key, root)[1]).points[reviewed.images[0]]
    assert points[name]["how"] == "accepted" and points[reviewed.names[1]]["how"] == "hand"


def test_who_saw_no_proposal_was_blinded(sent, saved, tmp_path):
    """As the key says; an older one does not."""
    root, key, _ = sent
    opened = mailed.read(saved, key, root)[1][0]
    assert opened["kind"] == "open" and opened["blinded"] is True
    rows = list(csv.reader(key.read_text().splitlines()))
    for change, expected in ((lambda row: [*row[:2], "1"], False), (lambda row: row[:2], None)):
        other = tmp_path / "key.csv"
        other.write_text("\n".join(",".join(row) for row in [rows[0][: len(change(rows[1]))], *map(change, rows[1:])]))
        assert mailed.read(saved, other, root)[1][0].get("blinded") is expected


def test_import_writes_the_folder_and_the_review_of_the_rater(sent, saved, cli, tmp_path):
    root, key, reviewed = sent
    flags = [f"--key={key}", f"--images={root}", f"--out={tmp_path / 'out'}", "--rater=eva"]
    code, out, error = cli("ctd_jax.label_files", "import", saved, *flags)
    assert code == 0 and "1 pictures marked done" in out and "1 pictures have edits but are not marked done" in error
    table = reader.read(tmp_path / "out")
    row = table.images.index(reviewed.images[0])
    expected = [[20.25 + i, 30 + i / 2] for i in range(len(reviewed.names) - 1)]
    np.testing.assert_array_equal(table.xy[row, :-1], expected)
    assert np.isnan(table.xy[row, -1]).all() and table.hidden[row].tolist().count(True) == 1
    entries = journal.read(journal.path_of(root, "eva"))
    assert Review(entries).done[reviewed.images[0]] is True
    code, _, error = cli("ctd_jax.label_files", "import", saved, *flags, "--force")
    assert code == 2 and "eva.jsonl is there already" in error
    code, _, error = cli("ctd_jax.label_files", "import", saved, flags[0], flags[2])
    assert code == 2 and "--images is missing" in error


@pytest.mark.parametrize("done", ["", "0"])
def test_a_picture_that_was_only_begun_keeps_the_labels_it_had(sent, saved, done, tmp_path):
    """Not so one that was opened again."""
    root, key, reviewed = sent
    lines = saved.read_text("utf-8").splitlines()
    begun, untouched = (line.split(",") for line in lines[2:4])
    lines[2], lines[3] = (",".join([row[0], done, *row[2:]]) for row in (begun, untouched))
    saved.write_text("\n".join(lines) + "\n", "utf-8")
    training_folder.write(*mailed.read(saved, key, root), tmp_path / "out")
    before, table = reader.read(root), reader.read(tmp_path / "out")
    first, *others = reviewed.images
    assert set(table.images) == {first, *(others if done == "" else others[2:])}
    for image in table.images[1:]:
        np.testing.assert_array_equal(table.xy[table.images.index(image)], before.xy[before.images.index(image)])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text, number: text.replace(number, "zzzzz-9"), "'zzzzz-9' is not in the key"),
        (lambda text, number: text + text.splitlines()[1] + "\n", "stands in the file twice"),
        (lambda text, number: text.replace("20.25,30.0,placed", ",30.0,placed", 1), "is placed, but its x and y"),
        (lambda text, number: text.replace("20.25,30.0,placed", "2o,30.0,placed", 1), "is '2o'; expected a number"),
        (lambda text, number: text.replace("30.0,placed", "30.0,gone", 1), "is 'gone'; expected placed, hidden"),
        (lambda text, number: text.replace(",,,absent", ",,,"), "done is 1, but .*_state is empty; expected placed"),
        (lambda text, number: text.replace(",done,", ",ready,", 1), "expected the columns picture, done"),
        (lambda text, number: text.replace("chin_", "jaw_"), "expected points of .*, found jaw; if one was renamed"),
        (lambda text, number: text.replace("chin_x", "chin_z"), "expected the columns picture, done"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(sent, saved, change, said):
    root, key, _ = sent
    text = saved.read_text("utf-8")
    saved.write_text(change(text, text.splitlines()[1].split(",")[0]), "utf-8")
    with pytest.raises(UserError, match=said):
        mailed.read(saved, key, root)


def test_a_key_of_other_pictures_is_refused(sent, saved, tmp_path):
    root, key, _ = sent
    with pytest.raises(UserError, match="expected the columns picture and image"):
        mailed.read(saved, saved, root)
    other = tmp_path / "other.key.csv"
    other.write_text(key.read_text().replace(".png", ".jpg"))
    with pytest.raises(UserError, match=r"\.jpg.*, of which none is in "):
        mailed.read(saved, other, root)


def test_a_landmark_and_a_picture_of_later_hold_nothing_up(sent, saved, tmp_path, caplog):
    """The landmark that the file lacks is left empty, though the folder has labels of it; and a picture has gone."""
    root, key, reviewed = sent
    here = shutil.copytree(root, tmp_path / "here")
    content = json.loads((here / "dataset.json").read_text())
    (here / "dataset.json").write_text(json.dumps(content | {"landmarks": [*reviewed.names, "brow"]}))
    header, *rows, _ = (here / "landmarks.csv").read_text().splitlines()
    lines = [f"{header},brow_x,brow_y", *(f"{row},3,4" for row in rows)]
    (here / "landmarks.csv").write_text("\n".join(lines) + "\n")
    (here / reviewed.images[-1]).unlink()
    header, first, *others, last = saved.read_text("utf-8").splitlines()
    last = ",".join([*last.split(",")[:1], *first.split(",")[1:]])
    saved.write_text("\n".join([header, first, *others, last]) + "\n", "utf-8")
    training_folder.write(*mailed.read(saved, key, here), tmp_path / "out")
    table = reader.read(tmp_path / "out")
    assert table.images == reviewed.images[:-1]
    np.testing.assert_array_equal(table.xy[:2, -1], [[np.nan, np.nan], [3, 4]])
    assert f"left empty: brow of {reviewed.images[0]}" in caplog.text
    assert f"1 pictures marked done are no longer in {here}: {reviewed.images[-1]}" in caplog.text
