"""Who is trained on, who chooses, who is tested on."""

import collections

import numpy as np
import pytest

from ctd_jax.data import splits
from ctd_jax.errors import UserError

PEOPLE, SHOTS = 30, 4
IMAGES = [f"{person}_{shot}.png" for person in range(PEOPLE) for shot in range(SHOTS)]
SUBJECTS = [image.split("_")[0] for image in IMAGES]


def assign(given=None, *, seed=0, budget=0, subjects=SUBJECTS, **more):
    return splits.assign(IMAGES, subjects, given=given, seed=seed, budget=budget, **more)


def people(assigned, split):
    return {subject for subject, name in zip(SUBJECTS, assigned, strict=True) if name == split}


def test_without_a_column_by_subject_and_seed():
    """A fifth of 30 people for test, a fifth of the other 24 for val; nobody on two sides."""
    assigned = assign()
    sides = [people(assigned, split) for split in ("train", "val", "test")]
    assert [len(side) for side in sides] == [20, 4, 6]
    assert set.union(*sides) == set(SUBJECTS)
    assert assign() == assigned
    assert people(assign(seed=1), "test") != sides[2]


def test_val_is_a_fifth_of_the_people_in_train():
    given = ["test" if int(subject) < 5 else "train" for subject in SUBJECTS]
    assigned = assign(given)
    assert len(people(assigned, "val")) == 5 and len(people(assigned, "train")) == 20
    assert people(assigned, "test") == {str(person) for person in range(5)}
    assert not people(assigned, "val") & people(assigned, "train")
    assert assign(given) == assigned != assign(given, seed=1)


@pytest.mark.parametrize("as_file", [False, True])
def test_a_val_that_is_drawn_from_given_splits_is_said(caplog, as_file):
    """A fifth of 25 people, with 4 pictures each; splits that are drawn without any are no news."""
    given = ["test" if int(subject) < 5 else "Train" for subject in SUBJECTS]
    assign(dict(zip(IMAGES, given, strict=True)) if as_file else given)
    assert [r.message for r in caplog.records if "val" in r.message] == [
        "no picture has the split val: 20 training pictures of 5 people are taken for it; to choose them yourself, "
        "give pictures the split val"
    ]
    caplog.clear()
    assign()
    assign(["val" if subject == "3" else "train" for subject in SUBJECTS])
    assert caplog.messages == []


def test_a_given_val_stays():
    given = ["val" if subject == "3" else "train" for subject in SUBJECTS]
    assert assign(given) == given


def test_budgets_are_nested_and_leave_val_and_test_alone():
    kept = [assign(budget=budget) for budget in (0, 40, 10, 1)]
    train = [{i for i, split in enumerate(a) if split == "train"} for a in kept]
    assert [len(t) for t in train] == [80, 40, 10, 1]
    assert train[0] > train[1] > train[2] > train[3]
    for a in kept[1:]:
        assert [s for s in a if s in ("val", "test")] == [s for s in kept[0] if s in ("val", "test")]
        assert [i for i, s in enumerate(a) if s == "val"] == [i for i, s in enumerate(kept[0]) if s == "val"]
    given = ["val" if subject == "3" else "train" for subject in SUBJECTS]
    assert assign(given, budget=10) == assign(given, budget=10, seed=1) != assign(given, budget=10, budget_seed=1)
    assert [s == "test" for s in assign(budget=10, budget_seed=1)] == [s == "test" for s in kept[0]]


def test_a_budget_takes_a_picture_of_everybody_before_a_second_of_anybody():
    """20 people with 4 pictures each are in train."""
    for budget, shots in ((7, {1}), (20, {1}), (25, {1, 2}), (60, {3})):
        train = [s for s, split in zip(SUBJECTS, assign(budget=budget, budget_seed=3), strict=True) if split == "train"]
        counts = collections.Counter(train)
        assert set(counts.values()) == shots
        assert len(counts) == min(budget, 20)


def test_split_file_and_unnamed_pictures():
    given = dict.fromkeys(IMAGES[:8], "train") | dict.fromkeys(IMAGES[8:12], "val") | {IMAGES[20]: "test2"}
    assigned = assign(given)
    assert assigned[:12] == ["train"] * 8 + ["val"] * 4 and assigned[20] == "test2"
    assert set(assigned[12:20] + assigned[21:]) == {"unused"}
    parts = splits.parts(assigned)
    assert list(parts) == ["train", "val", "test2"]
    np.testing.assert_array_equal(parts["val"], [8, 9, 10, 11])


def test_parts_in_order():
    assigned = ["test2", "train", "teacher", "test1", "", "val", "train"]
    parts = splits.parts(assigned)
    assert {name: rows.tolist() for name, rows in parts.items()} == {
        "train": [1, 6], "val": [5], "test1": [3], "test2": [0],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "budget", "message"),
    [
        (["test"] * len(IMAGES), 0, "no training pictures: expected rows whose split is `train`, found test"),
        (["Trian"] * len(IMAGES), 0, "expected rows whose split is `train`, found Trian"),
        (None, 81, "data.budget asks for 81 training pictures, but there are 80"),
        (
            {"0_0.png": "train", "nobody.png": "train"},
            0,
            "names 1 pictures that the data do not have, first nobody.png",
        ),
    ],
)
def test_what_cannot_be(given, budget, message):
    with pytest.raises(UserError, match=message):
        assign(given, budget=budget)


def test_one_person_only(caplog):
    assigned = assign(subjects=["the same"] * len(IMAGES))
    assert set(assigned) == {"train"}
    assert "all training pictures are of one subject: none is left for test" in caplog.text


def test_leaks_are_warned_of(caplog):
    given = ["train"] * 60 + ["val"] * 30 + ["test"] * 30
    assign(given)
    assert "the same subject is in more than one split" in caplog.text and "2, first" not in caplog.text
    assert "first 22_0.png (val) and 22_2.png (test)" in caplog.text


def test_a_helper_trains_on_every_split_but_unused_and_unlabelled():
    given, annotated = ["test", "Unused", "", "val", "unlabelled"], [True, True, True, False, True]
    found = splits.all_train(list("abcde"), given=given, annotated=annotated)
    assert found == ["train", "unused", "train", "unlabelled", "unlabelled"]
    assert splits.all_train(list("abcd"), given=None, annotated=None) == ["train"] * 4


def test_unused_pictures_leak_nothing(caplog):
    assign(["train"] * 58 + ["unused"] * 2 + ["val"] * 28 + ["test"] * 32)
    assert not caplog.records


def test_split_csv_comes_back(tmp_path):
    rows = [("a,b.png", 'subject "7"', "train", "00ff"), ("ü.png", "", "test", "aa")]
    (tmp_path / "split.csv").write_text(splits.text(rows))
    assert splits.read(tmp_path / "split.csv") == rows


def test_several_tests_may_share_a_subject(caplog):
    splits.assign("abcd", ["anna", "ben", "cem", "cem"], given=["train", "val", "test1", "test2"], seed=0, budget=0)
    assert not caplog.records


def test_empty_cells_of_the_split_column(caplog):
    assert splits.assign("abcd", "stuv", given=["train", "val", "", "test"], seed=0, budget=0)[2] == "unused"
    assert [r.message for r in caplog.records] == ["1 rows have an empty split: they take no part"]
    caplog.clear()
    without = assign(None)
    assert caplog.messages == []
    assert assign([""] * 120) == without and {"train", "val", "test"} == set(without)
    assert caplog.messages == ["the split of all 120 rows is empty: test and val are drawn"]


@pytest.mark.parametrize("after", ["set", " set", "-Set", "_SET"])
def test_words_with_set_after_them(after):
    words = {"train": ("train", "Training", "trn"), "val": ("val", "validation", "valid", "dev", "development")}
    words |= {"test": ("test", "testing", "tst")}
    for split, mine in words.items():
        assert [splits.word(word + after) for word in mine] == [split] * len(mine)
        assert all(splits.is_known(word + after) for word in mine)
    assert [splits.word(other) for other in ("set", "Data set", "test2 set")] == ["set", "Data set", "test2 set"]


def test_a_mistyped_split_is_named(caplog):
    splits.assign("abcd", "stuv", given=["train", "val", "test", "trian"], seed=0, budget=0)
    assert [r.message for r in caplog.records] == ["split 'trian' takes no part: 1 pictures; is it `train`?"]
    caplog.clear()
    splits.assign("abcd", "stuv", given=["train", "val", "test", "Trian set"], seed=0, budget=0)
    assert caplog.messages == ["split 'Trian set' takes no part: 1 pictures; is it `train`?"]


def test_two_spellings_of_one_picture_have_one_split():
    images = ["a.png", "sub/b.png"]
    assert splits.of_images({"./A.png": "train", "a.png": "train", "Sub\\b.png": "test"}, images) == ["train", "test"]
    with pytest.raises(UserError, match=r"gives a\.png two splits, test and, as \./A\.png, train; keep one"):
        splits.of_images({"a.png": "test", "./A.png": "train"}, images)


def test_pictures_that_a_split_file_leaves_out_are_counted(caplog):
    given = {"a": "train", "b": "val", "c": "test", "d": ""}
    assert splits.assign("abcde", "stuvw", given=given, seed=0, budget=0)[3:] == ["unused", "unused"]
    assert [r.message for r in caplog.records] == [
        "the split file names no split of 2 of 5 pictures, first d: they take no part"
    ]
