"""What a rater is shown: blinded or not, and pictures that come twice."""

import json
from urllib.parse import urlencode

import pytest
from review_server import serving

from ctd_jax.errors import UserError
from ctd_jax.review import blinding, folder, journal

OPENED = {"id": "open", "kind": "open", "landmarks": ["tip"]}
EDIT = {"id": "a", "kind": "edit", "image": "0.png", "points": {}}


def write(root, rater, *entries):
    path = journal.path_of(root, rater)
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.fixture
def root(landmark_folder):
    return landmark_folder(people=8, shots=1, size=16)


def test_others_are_those_who_edited_here_and_the_raters_of_the_folder(root):
    write(root, "anna", OPENED, EDIT)
    write(root, "ben", OPENED)
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(content | {"raters": ["senior"]}))
    (root / "landmarks_senior.csv").write_text((root / "landmarks.csv").read_text())
    reviewed = folder.read(root)
    assert blinding.others(root, "ben", reviewed) == ["anna", "senior"]
    assert blinding.others(root, "anna", reviewed) == ["senior"]
    assert blinding.others(root, "senior", reviewed) == ["anna"]


def test_pictures_without_labels_have_only_the_raters_who_edited_here(root):
    (root / "landmarks.csv").unlink()
    (root / "dataset.json").unlink()
    assert blinding.others(root, "ben", folder.read(root, ["tip"])) == []
    write(root, "anna", OPENED, EDIT)
    assert blinding.others(root, "ben", folder.read(root, ["tip"])) == ["anna"]


@pytest.mark.parametrize(
    ("asked", "entries", "others", "repeat", "want"),
    [
        (None, [], [], 0.0, False),  # the first, also where landmarks.csv has points
        (None, [], ["anna"], None, True),
        (None, [OPENED, EDIT], ["anna"], None, False),  # began before the other, or in an older version
        (None, [OPENED | {"blinded": True}, EDIT], [], 0.0, True),
        (None, [OPENED | {"blinded": True}, EDIT, OPENED | {"blinded": False}], ["anna"], 0.0, False),
        (None, [], [], 0.1, True),
        (None, [OPENED, EDIT], [], 0.1, True),  # who has begun without
        (None, [OPENED | {"blinded": False, "repeat": 0.1}, EDIT], [], None, False),  # --noblinded holds on
        (False, [OPENED, EDIT], [], 0.1, False),
        (False, [], ["anna"], 0.1, False),
        (True, [OPENED, EDIT], [], 0.0, True),
    ],
)
def test_who_is_blinded(asked, entries, others, repeat, want):
    assert blinding.is_blinded(asked, entries, others, repeat) is want


def test_what_is_said():
    assert blinding.said(True, ["anna", "senior"], proposes=True) == (
        "blinded: the points of landmarks.csv, predictions, what anna and senior placed are not shown; --noblinded "
        "shows landmarks.csv and predictions"
    )
    assert blinding.said(True, [], proposes=False).startswith("blinded: the points of landmarks.csv are not shown;")
    for proposes, what in ((True, " and predictions"), (False, "")):
        said = f"not blinded: the points of landmarks.csv{what} are shown; --blinded hides them"
        assert blinding.said(False, ["anna"], proposes=proposes) == said


def test_a_share_of_the_pictures_comes_again_later(root):
    reviewed = folder.read(root)
    found = blinding.shown(reviewed, "anna", blinded=True, repeat=0.4)
    again = [key for key in found.keys if blinding.is_again(key)]
    assert len(again) == 3 and len(set(again)) == 3  # 0.4 of 8, rounded
    assert tuple(key for key in found.keys if not blinding.is_again(key)) == reviewed.images
    for rater in map(str, range(20)):
        keys = blinding.shown(reviewed, rater, blinded=True, repeat=0.4).keys
        for key in filter(blinding.is_again, keys):
            between = keys[keys.index(blinding.picture_of(key)) : keys.index(key)]
            assert sum(not blinding.is_again(one) for one in between) >= 3  # itself, and a quarter of 8
    assert len(set(found.titles)) == len(found.keys) and not any("png" in title for title in found.titles)
    assert blinding.shown(reviewed, "anna", blinded=True, repeat=0.4) == found
    others = {blinding.shown(reviewed, rater, blinded=True, repeat=0.4).keys for rater in ("ben", "cat", "dan")}
    assert len(others | {found.keys}) > 1
    once = blinding.shown(reviewed, "anna", blinded=False, repeat=0)
    assert once.titles == reviewed.images == tuple(map(once.title, once.keys))


def test_a_name_like_that_of_a_repeated_picture_is_refused(root):
    import dataclasses

    strange = dataclasses.replace(folder.read(root), images=("again:a.png",))
    with pytest.raises(UserError, match="again:a.png begins with again:"):
        blinding.shown(strange, "anna", blinded=True, repeat=0.1)


def test_the_share_of_the_journal_holds_on():
    entries = [OPENED | {"blinded": True, "repeat": 0.2}, EDIT]
    assert blinding.repeat_of(None, entries) == 0.2 and blinding.repeat_of(0.0, entries) == 0.0
    assert blinding.repeat_of(None, [OPENED]) == 0.0 == blinding.repeat_of(None, [])
    shown = blinding.Shown((), (), True, 0.2)
    plain = blinding.Shown((), (), False)
    now, as_shown = OPENED | {"current": True}, entries[0] | {"current": True}
    assert blinding.has_changed([], shown, ["tip"]) and not blinding.has_changed([as_shown], shown, ["tip"])
    assert blinding.has_changed([now], shown, ["tip"]) and not blinding.has_changed([now], plain, ["tip"])
    assert blinding.has_changed([now], plain, ["tip", "base"]) and blinding.has_changed([OPENED], plain, ["tip"])


# ---------------------------------------------------------------- the server


def test_a_blinded_page_gets_no_points_and_no_names(root):
    point = {"x": 1.0, "y": 2.0, "state": "placed", "how": "hand", "moved": 0.5}
    with serving(root, blinded=True, repeat=0.4, predict=lambda _: {"chin": point}) as running:
        status, _, found = running.ask("POST", "/api/open", {"window": "w"})
        assert status == 200 and found["labelled"] == [] and found["rater"] == "anna, blinded"
        assert len(found["images"]) == 11 == len(found["spacing"])
        text = json.dumps(found)
        assert not any(image in text for image in running.reviewed.images)
        for title, key in zip(found["images"], running.shown.keys, strict=True):
            first = running.shown.title(blinding.picture_of(key))
            asked = [urlencode({"image": one}) for one in (title, first)]
            assert running.ask("GET", f"/api/proposed?{asked[0]}")[2] == {}
            pictures = [running.ask("GET", f"/api/picture?{one}") for one in asked]
            assert pictures[0][0] == 200 and pictures[0][2] == pictures[1][2]
        again = next(i for i, key in enumerate(running.shown.keys) if blinding.is_again(key))
        edit = {"id": "a", "kind": "edit", "image": found["images"][again], "points": {"chin": point}, "seconds": 2.5}
        assert running.ask("POST", "/api/edits", {"window": "w", "edits": [edit]})[0] == 200
        opened, kept = journal.read(running.path)
        assert opened["blinded"] is True and opened["repeat"] == 0.4
        assert kept["image"] == running.shown.keys[again] and kept["image"].startswith("again:images/")
        assert kept["points"]["chin"] == point and kept["seconds"] == 2.5
        found = running.ask("POST", "/api/open", {"window": "w"})[2]
        assert found["entries"][1]["image"] == edit["image"]


def test_what_holds_is_in_the_journal_when_it_changes(root):
    for number, is_blinded in enumerate((False, True, True)):
        with serving(root, blinded=is_blinded) as running:
            running.ask("POST", "/api/open", {"window": "w"})
            edit = EDIT | {"id": f"e{number}", "image": running.reviewed.images[0]}
            assert running.ask("POST", "/api/edits", {"window": "w", "edits": [edit]})[0] == 200
    found = [(one["id"], one.get("blinded")) for one in journal.read(running.path)]
    assert found == [("open", False), ("e0", None), ("open 2", True), ("e1", None), ("e2", None)]
