"""Pictures that are trained on without labels: which they are, and that none is of val or test."""

import csv
import itertools
import math

import numpy as np
import pytest
from PIL import Image

from configs import default
from ctd_jax import data
from ctd_jax.data import CLASS_MAPS, IDENTITIES, schedule
from ctd_jax.errors import UserError

SIZE = 32


def config_of(root, **changes):
    config = default.get_config().data
    config.update({"root": str(root), "image_size": SIZE, "budget": 0} | changes)
    return config


def load(root, tmp_path, **changes):
    return data.load(config_of(root, **changes), tmp_path / "cache")


def edit(root, change):
    """Rewrites landmarks.csv with `change(rows)`, a function of a list of dicts that changes them in place."""
    with (root / "landmarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with (root / "landmarks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def empty(row):
    """Takes the points of a row away."""
    for column in row:
        if column.endswith(("_x", "_y")):
            row[column] = ""


def unlabelled(pictures):
    return [pictures.everything.images[i] for i in pictures.unlabelled]


@pytest.fixture
def folder(landmark_folder):
    """Eight people with two pictures each, half of them in train; pictures 1, 3 and 5 have no points."""
    root = landmark_folder()
    edit(root, lambda rows: [empty(rows[i]) for i in (1, 3, 5)])
    return root


def test_without_the_key_they_take_no_part(folder, tmp_path):
    pictures = load(folder, tmp_path)
    assert pictures.unlabelled == () and pictures.trained_on is pictures.split("train")
    assert len(pictures.trained_on) == 5 and not pictures.trained_on.has_unlabelled
    assert "labelled" not in pictures.trained_on.batch(np.arange(2))


def test_rows_without_points(folder, tmp_path, caplog):
    pictures = load(folder, tmp_path, unlabelled="rows")
    assert unlabelled(pictures) == ["images/001.png", "images/003.png", "images/005.png"]
    assert "3 pictures are trained on without labels, beside 5 with labels; none is left out" in caplog.text
    assert "take no part" not in caplog.text
    train = pictures.trained_on
    np.testing.assert_array_equal(train.labelled, [True] * 5 + [False] * 3)
    np.testing.assert_array_equal(train.known, range(5))
    np.testing.assert_array_equal(train.take(np.array([7, 0])).labelled, [False, True])
    batch = train.batch(np.array([7, 0]))
    np.testing.assert_array_equal(batch["labelled"], [False, True])
    assert not batch["mask"][0].any() and batch["mask"][1].all()
    with Image.open(folder / "images/005.png") as picture:
        want = np.asarray(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX), float)
    assert np.abs(batch["picture"][0] - want).mean() < 12 < np.abs(batch["picture"][1] - want).mean()


def test_the_rest_of_a_budget_is_seen_and_its_labels_are_not(folder, tmp_path, caplog):
    pictures = load(folder, tmp_path, unlabelled="rest", budget=2)
    assert len(pictures.split("train")) == 2 and len(pictures.unlabelled) == 6
    assert pictures.split_of.count("unlabelled") == 6 and pictures.split_of.count("unused") == 0
    assert np.isnan(pictures.everything.targets.xy[list(pictures.unlabelled)]).all()
    assert not np.isnan(pictures.everything.targets.xy[[i for i in range(16) if i not in pictures.unlabelled]]).any()
    assert "6 pictures are trained on without labels, beside 2 with labels" in caplog.text
    fewer = load(folder, tmp_path, unlabelled="rows", budget=2)
    assert len(fewer.unlabelled) == 3 and fewer.split_of.count("unused") == 3
    assert fewer.split("train").images == pictures.split("train").images


def test_nobody_of_val_or_test_is_among_the_rows(folder, tmp_path, caplog):
    """Row 1 gets the subject of a val picture, spelt otherwise; row 3 the picture of a test row, made brighter."""

    def plant(rows):
        rows[1]["subject"] = f" {rows[8]['subject'].upper()}"
        with Image.open(folder / rows[14]["image"]) as picture:
            brighter = np.asarray(picture.convert("RGB")) * 0.8 + 40
        Image.fromarray(brighter.astype(np.uint8)).save(folder / rows[3]["image"])
        assert rows[8]["split"] == "val" and rows[14]["split"] == "test"

    edit(folder, plant)
    pictures = load(folder, tmp_path, unlabelled="rows")
    assert unlabelled(pictures) == ["images/005.png"]
    assert [pictures.split_of[i] for i in (1, 3, 5)] == ["unused", "unused", "unlabelled"]
    for part in (
        "1 pictures are trained on without labels",
        "2 are left out: ",
        "1 of a subject of val or test (first images/001.png)",
        "1 near-identical to one of val or test (first images/003.png)",
    ):
        assert part in caplog.text


def test_a_drawn_split_leaves_out_other_pictures_of_its_people(landmark_folder, tmp_path):
    """The second picture of everybody has no points; the people of val and test are drawn."""
    root = landmark_folder(split=False)
    edit(root, lambda rows: [empty(row) for row in rows[1::2]])
    pictures = load(root, tmp_path, unlabelled="rows")
    people = {name: {*pictures.split(name).subjects} for name in pictures.names}
    seen = {pictures.everything.subjects[i] for i in pictures.unlabelled}
    assert seen == people["train"] and not seen & (people["val"] | people["test"])
    assert len(pictures.unlabelled) == len(people["train"]) == pictures.split_of.count("unlabelled")
    assert pictures.split_of.count("unused") == len(people["val"] | people["test"])


def test_a_folder(folder, tmp_path, caplog):
    """All pictures of the landmark folder are in it, beside two others, one of them in a subfolder and not square. So
    are a run and a study, whose charts are none."""
    more = tmp_path / "more"
    for name in ("deeper", "run/domain", "curve/runs", "curve/tfds"):
        (more / name).mkdir(parents=True)
    for name in ("run/config.json", "run/split.csv", "run/ced.png", "run/domain/overlays.png", "curve/curve.png"):
        (more / name).write_bytes(b"image,subject,split,sha256\n")
    for path in (folder / "images").iterdir():
        (more / path.name).write_bytes(path.read_bytes())
    noise = np.random.default_rng(0).integers(0, 255, (40, 20, 3), np.uint8)
    Image.fromarray(noise).save(more / "deeper/a.png")
    Image.fromarray(noise[:20]).save(more / "b.png")
    (more / "._b.png").write_bytes(b"not a picture")
    pictures = load(folder, tmp_path, unlabelled=str(more))
    rows = [f"images/{i:03d}.png" for i in (1, 3, 5)]
    assert unlabelled(pictures) == rows + [
        *[f"unlabelled/{i:03d}.png" for i in range(8)], "unlabelled/b.png", "unlabelled/deeper/a.png",
    ]  # fmt: skip
    assert "13 pictures are trained on without labels, beside 5 with labels; 8 are left out: 8 of a subject" in (
        caplog.text
    )
    batch = pictures.trained_on.batch(np.array([len(pictures.trained_on) - 1]))
    assert batch["scale"] == SIZE / 40 and not batch["mask"].any()
    assert batch["picture"][0, :, :8].max() == 0 == batch["picture"][0, :, -8:].max() < batch["picture"][0, 4, 16].max()
    assert pictures.rows()[-1][:3] == ("unlabelled/deeper/a.png", "unlabelled/deeper/a.png", "unlabelled")
    assert len(pictures.split("val")) == 4 and not np.isnan(pictures.split("val").targets.xy).any()


def test_a_picture_of_an_unused_row_of_a_test_subject(folder, tmp_path):
    """The file says who is on it, by the row that has the same."""
    more = tmp_path / "more"
    more.mkdir()
    edit(folder, lambda rows: rows[15].update(split="unused"))
    (more / "x.png").write_bytes((folder / "images/015.png").read_bytes())
    (more / "y.png").write_bytes((folder / "images/000.png").read_bytes())
    assert unlabelled(load(folder, tmp_path, unlabelled=str(more)))[3:] == ["unlabelled/y.png"]


def test_a_split_csv_with_pictures_of_a_folder_can_be_given(folder, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    (more / "y.png").write_bytes((folder / "images/000.png").read_bytes())
    (more / "z.png").write_bytes((folder / "images/015.png").read_bytes())  # of test, and left out
    pictures = load(folder, tmp_path, unlabelled=str(more), budget=2)
    assert [row[2] for row in pictures.rows()[-2:]] == ["unlabelled", "unused"]
    (tmp_path / "split.csv").write_text(data.splits.text(pictures.rows()))
    again = load(folder, tmp_path, unlabelled=str(more), split=str(tmp_path / "split.csv"))
    assert again.rows() == pictures.rows()
    assert load(folder, tmp_path, split=str(tmp_path / "split.csv")).split("train").images == (
        pictures.split("train").images
    )


def test_pictures_without_a_box_beside_pictures_with_boxes(folder, tmp_path):
    def with_boxes(rows):
        for row in rows:
            row |= {"box_x0": 2, "box_y0": 2, "box_x1": 60, "box_y1": 60}

    edit(folder, with_boxes)
    more = tmp_path / "more"
    more.mkdir()
    (more / "y.png").write_bytes((folder / "images/000.png").read_bytes())
    pictures = load(folder, tmp_path, unlabelled=str(more))
    assert unlabelled(pictures) == ["images/001.png", "images/003.png", "images/005.png"]
    edit(folder, lambda rows: [rows[i].update(split="unused") for i in (1, 3, 5)])
    with pytest.raises(UserError, match=r"1 are left out: 1 without a box \(first unlabelled/y.png\); expected rows"):
        load(folder, tmp_path, unlabelled=str(more))


def test_domains(folder, landmark_folder, tmp_path):
    """Each picture keeps its domain."""
    other = landmark_folder(name="other", people=4)
    edit(other, lambda rows: empty(rows[0]))
    pictures = load(f"{folder},{other}", tmp_path, unlabelled="rows")
    names = ("faces/images/001.png", "faces/images/003.png", "other/images/000.png")
    assert unlabelled(pictures) == [*names]  # and the third of faces is a person whom the other folder has in val
    assert [split for part in pictures.parts.values() for split in part.split_of] == pictures.split_of
    np.testing.assert_array_equal(pictures.trained_on.domain, [0] * 5 + [1] * 3 + [0, 0, 1])
    order = pictures.trained_on.training_order(batch_size=4, unlabelled_batch_size=4, seed=0, schedule="balanced")
    batch = pictures.trained_on.batch(order[0])
    assert batch["domain"].tolist().count(1) == 4 and set(batch["domain"][~batch["labelled"]]) == {0, 1}
    with pytest.raises(UserError, match="several domains, and a folder does not say"):
        load(f"{folder},{other}", tmp_path, unlabelled=str(folder / "images"))


def test_lists(tmp_path):
    rng = np.random.default_rng(0)
    arrays, points = rng.integers(0, 255, (8, 20, 20), np.uint8), rng.uniform(4, 16, (8, 2, 2))
    points[6:] = np.nan
    words = ["train", "train", "train", "train", "val", "test", "train", "train"]
    config = config_of("python", unlabelled="rest", budget=1)
    pictures = data.from_lists(config, arrays, points, ["a", "b"], splits=words)
    assert len(pictures.unlabelled) == 5 and len(pictures.split("train")) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unlabelled": "row"}, "data.unlabelled is row; expected rows, rest, or a folder of pictures"),
        (
            {"unlabelled": "rows"},
            "data.unlabelled is rows, but there is no picture to train on without labels, and none is left",
        ),
        (
            {"unlabelled": "rest"},
            "data.unlabelled is rest, but there is no picture to train on without labels, and none is left",
        ),
    ],
)
def test_nothing_to_be_had(landmark_folder, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        load(landmark_folder(), tmp_path, **changes)


def test_a_folder_with_files_that_are_no_pictures(folder, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    with pytest.raises(UserError, match="no pictures in this folder"):
        load(folder, tmp_path, unlabelled=str(more))
    (more / "a.png").write_bytes(b"nothing")
    (more / "b.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match="2 faults; the first:\n- 2 x unreadable picture: .*a.png: not a readable"):
        load(folder, tmp_path, unlabelled=str(more))


@pytest.mark.parametrize("targets", [CLASS_MAPS, IDENTITIES])
def test_other_tasks(targets, tmp_path):
    config = config_of("synthetic", unlabelled="rest", budget=2)
    config.synthetic.identities, config.synthetic.shots = (4, 2, 2), (1, 1, 1)
    with pytest.raises(UserError, match="pictures without labels are for the task landmarks; leave it empty"):
        data.load(config, tmp_path, targets=targets)


# ---------------------------------------------------------------- the order


def test_evenly():
    np.testing.assert_array_equal(
        schedule.evenly(np.arange(4), np.arange(10, 16)), [0, 1, 10, 11, 12, 2, 3, 13, 14, 15]
    )
    np.testing.assert_array_equal(schedule.evenly(np.arange(2), np.array([7, 8])), [0, 7, 1, 8])


@pytest.fixture
def drawn():
    config = config_of("synthetic", unlabelled="rest", budget=5)
    config.synthetic.identities, config.synthetic.shots = (16, 2, 2), (1, 1, 1)
    return data.load(config, None).trained_on


SIZES = {"batch_size": 4, "unlabelled_batch_size": 8}


@pytest.mark.slow
def test_every_part_of_a_batch_has_the_same_shares(drawn):
    order = drawn.training_order(**SIZES, seed=3)
    batches = np.array([order[n] for n in range(20)])
    for parts in (1, 2, 4):
        shares = drawn.labelled[batches].reshape(20, parts, -1).sum(-1)
        assert (shares == 4 // parts).all()
    labelled = batches[drawn.labelled[batches]].reshape(-1, 5)
    others = batches[~drawn.labelled[batches]][:154].reshape(-1, 11)
    assert (np.sort(labelled) == np.arange(5)).all()  # all of them before any comes again
    assert (np.sort(others) == np.arange(5, 16)).all()
    want = drawn.take(np.arange(5)).training_order(batch_size=4, seed=3)
    np.testing.assert_array_equal(labelled.reshape(20, 4), [want[n] for n in range(20)])


@pytest.mark.slow
def test_the_order_resumes(drawn):
    whole = list(itertools.islice(drawn.training_batches(start=0, **SIZES, seed=1), 9))
    rest = list(itertools.islice(drawn.training_batches(start=6, **SIZES, seed=1), 3))
    for one, other in zip(whole[6:], rest, strict=True):
        assert one.keys() == other.keys() >= {"labelled", "mask"}
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
        np.testing.assert_array_equal(one["mask"].any(-1), one["labelled"])
    other = next(drawn.training_batches(start=0, **SIZES, seed=2))
    assert not np.array_equal(other["picture"], whole[0]["picture"])
    assert math.gcd(*SIZES.values()) == 4
