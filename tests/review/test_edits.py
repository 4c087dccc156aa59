"""What edits add up to: points and done, back and forth without end; and what a page may send."""

import pytest

from ctd_jax.errors import UserError
from ctd_jax.review import edits


def at(x, how="hand"):
    return {"x": x, "y": 0.5, "state": "placed", "how": how}


def edit(image, points, **more):
    return {"id": "i", "kind": "edit", "image": image, "points": points, **more}


UNDO, REDO = {"id": "u", "kind": "undo"}, {"id": "r", "kind": "redo"}


def test_the_last_word_counts():
    review = edits.Review([{"id": "open", "kind": "open", "landmarks": ["a"]}, edit("1", {"a": at(1.0), "b": at(2.0)}),
                           edit("1", {"a": at(3.0)}), edit("2", {"a": None}, done=True)])  # fmt: skip
    assert review.points == {"1": {"a": at(3.0), "b": at(2.0)}, "2": {"a": None}}
    assert review.done == {"2": True}


def test_undo_and_redo_go_over_pictures_and_a_new_edit_ends_redo():
    steps = [edit("1", {"a": at(1.0)}), edit("1", {"a": at(2.0), "b": at(2.0)}), edit("2", {"a": at(3.0)}, done=True)]
    review = edits.Review(steps)
    seen = []
    for entry in (UNDO, UNDO, UNDO, UNDO, REDO, REDO, REDO, REDO, UNDO):
        review.apply(entry)
        one, two = review.points.get("1", {}), review.points.get("2", {})
        values = [point and point["x"] for point in (one.get("a"), one.get("b"), two.get("a"))]
        seen.append((*values, review.done.get("2")))
    assert seen == [(2.0, 2.0, None, None), (1.0, None, None, None), (None, None, None, None), (None,) * 4,
                    (1.0, None, None, None), (2.0, 2.0, None, None), (2.0, 2.0, 3.0, True), (2.0, 2.0, 3.0, True),
                    (2.0, 2.0, None, None)]  # fmt: skip
    review.apply(edit("1", {"a": at(9.0)}))
    review.apply(REDO)
    assert review.points["2"]["a"] is None and review.points["1"]["a"]["x"] == 9.0


def test_an_edit_is_kept_as_it_is_allowed():
    given = edit("1", {"a": at(1) | {"more": 1}, "b": None}, done=None, other=3)
    assert edits.of_page(given) == edit("1", {"a": at(1.0), "b": None}, done=None)
    absent = {"x": 3, "y": None, "state": "absent", "how": "hand"}
    found = edits.of_page(edit("1", {"a": absent}))
    assert found["points"]["a"] == absent | {"x": None}
    assert edits.of_page(UNDO | {"image": "1"}) == UNDO


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ([], "a kind"),
        ({"id": "a", "kind": "open", "landmarks": []}, "edits, undo and redo alone"),
        ({"id": "a", "kind": "open", "landmarks": [1]}, "a list of names"),
        ({"id": "", "kind": "undo"}, "and an id"),
        ({"id": "a" * 65, "kind": "undo"}, "and an id"),
        (edit("1", []), "an image and points"),
        (edit(1, {}), "an image and points"),
        (edit("1", {"a": at(float("nan"))}), "no point"),
        (edit("1", {"a": at(1e7)}), "no point"),
        (edit("1", {"a": at(True)}), "no point"),
        (edit("1", {"a": at("1")}), "no point"),
        (edit("1", {"a": at(1.0) | {"state": "gone"}}), "no point"),
        (edit("1", {"a": at(1.0, "predicted")}), "no point"),
        (edit("1", {"a": 3}), "no point"),
        (edit("1", {}, done=1), "done is"),
        (edit("1", {"a": at(1.0) | {"moved": -1}}), "moved is a number of 0 or more"),
        (edit("1", {}, seconds="2"), "seconds is a number of 0 or more"),
        ({"id": "a", "kind": "open", "landmarks": [], "blinded": 1}, "blinded is true or false"),
        ({"id": "a", "kind": "open", "landmarks": [], "repeat": 2}, "repeat is a share"),
    ],
)
def test_anything_else_is_refused(entry, said):
    with pytest.raises(UserError, match=said):
        edits.of_page(entry)
