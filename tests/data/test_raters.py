"""Several raters: their files or rows, their mean, and the one that a training draws."""

import dataclasses
import json
import logging
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image

from configs import ft
from ctd_jax import data
from ctd_jax.data import Landmarks, about, landmark_folder, raters
from ctd_jax.data.faults import Faults
from ctd_jax.data.points import Points
from ctd_jax.errors import UserError
from ctd_jax.tasks.landmarks import LandmarkTask

LANDMARKS = Landmarks(("eye", "chin"), raters=("ann", "bob"))
NAN = float("nan")
HEADER = "image,rater,subject,eye_x,eye_y,chin_x,chin_y\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "landmarks_ann.csv").write_text("image,eye_x,eye_y,chin_x,chin_y\nb.png,1,2,3,4\na.png,5,6,,\n")
    (tmp_path / "landmarks_bob.csv").write_text(
        "Image;chin_x;chin_y;eye_x;eye_y;note\nz.png;0;0;0;0;\nb.png;3,5;4;1;2;x\n"
    )
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def describe(root, **keys):
    (root / "dataset.json").write_text(json.dumps({"landmarks": ["eye", "chin"], **keys}))


def read_rows(root, rows, **keys):
    """The table of a landmarks.csv with these rows."""
    (root / "landmarks.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows))
    describe(root, **keys)
    return landmark_folder.read(root)


# ---------------------------------------------------------------- files


def of_files(root, images):
    faults = Faults("here")
    found = raters.of_files(root, LANDMARKS, images, faults)
    faults.raise_if_any()
    return found


def test_points_come_in_the_order_of_the_pictures_and_landmarks(root, caplog):
    found = of_files(root, ["a.png", "b.png"])
    ann = [[[5, 6], [NAN, NAN]], [[1, 2], [3, 4]]]
    bob = [[[NAN, NAN], [NAN, NAN]], [[1, 2], [3.5, 4]]]
    np.testing.assert_array_equal(found, np.stack([ann, bob], axis=1))
    assert "landmarks_bob.csv: pictures that landmarks.csv lacks are left out: z.png" in caplog.text
    assert "landmarks_ann.csv" not in caplog.text


def test_a_name_that_is_spelt_otherwise_is_found(root, caplog):
    """As landmarks.csv may spell it; one that fits two pictures is none."""
    (root / "landmarks_bob.csv").write_text("image,eye_x,eye_y\nSub\\B.PNG,1,2\n./a.png,3,4\nC.png,5,6\n")
    found = of_files(root, ["a.png", "sub/b.png", "c.png", "c.PNG"])
    np.testing.assert_array_equal(found[:, 1, 0], [[3, 4], [1, 2], [NAN, NAN], [NAN, NAN]])
    assert "landmarks_bob.csv: pictures that landmarks.csv lacks are left out: C.png" in caplog.text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.png,1,two,3,4", "landmarks_ann.csv, row 2: eye_y is 'two'"),
        ("b.png,1,,3,4", "landmarks_ann.csv, row 2: eye has only one of its two coordinates"),
        ("b.png,1,2,3,4\n./b.png,1,2,3,4", "landmarks_ann.csv, row 3: ./b.png was already listed in .*row 2"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(root, row, message):
    (root / "landmarks_ann.csv").write_text(f"image,eye_x,eye_y,chin_x,chin_y\n{row}\n")
    with pytest.raises(UserError, match=message):
        of_files(root, ["b.png"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("eye_x,eye_y,chin_x,chny", "no column `chin_y`, which dataset.json asks for; the nearest is `chny`"),
        ("eye_x,eye_y,chin_x,note", "no column `chin_y`, which dataset.json asks for$"),
        ("eye_x,eye_y,chim_x,chim_y", "no column `chin_x`, which dataset.json asks for; the nearest is `chim_x`"),
        ("a_x,a_y,b_x,b_y", "no column `eye_x`, which dataset.json asks for$"),
    ],
)
def test_columns_that_a_raters_file_must_have(root, columns, message):
    """One of two, and those of a landmark whose name is misspelt; one landmark at least."""
    (root / "landmarks_bob.csv").write_text(f"image,{columns}\nb.png,1,2,3,4\n")
    faults = Faults("here")
    found = raters.of_files(root, LANDMARKS, ["b.png"], faults)
    assert list(faults.by_kind()) == ["missing column"]
    assert re.search(f"landmarks_bob.csv: {message}", faults.by_kind()["missing column"][0])
    assert np.isnan(found[0, 1, 1]).all()


def test_a_landmark_that_a_rater_did_not_look_for(root, caplog):
    """It is said; where it may be absent, it would be so by that rater, and is refused."""
    (root / "landmarks_bob.csv").write_text("image,eye_x,eye_y,chin_hidden,chin2_x,chin2_y\nb.png,1,2,1,3,4\n")
    of_files(root, ["a.png", "b.png"])  # with another number it is another landmark
    assert "landmarks_bob.csv: no columns of chin: as if this rater had not looked for them; add" in caplog.text
    assert "landmarks_ann.csv" not in caplog.text
    faults = Faults("here")
    raters.of_files(root, dataclasses.replace(LANDMARKS, absent=("chin",)), ["a.png", "b.png"], faults)
    asked = "as if chin were absent for this rater; add it, or take chin out of `absent` in dataset.json"
    path = root / "landmarks_bob.csv"
    assert faults.by_kind() == {"missing column": tuple(f"{path}: no column `chin_{axis}`, {asked}" for axis in "xy")}


def named(root: pathlib.Path, raters):
    describe(root, raters=raters)
    return about.read(root / "dataset.json", ["image", "eye_x", "eye_y"], Faults("here")).raters


def test_raters_are_those_whose_file_is_there(root, caplog):
    with caplog.at_level(logging.WARNING):
        assert named(root, ["ann", "cat"]) == ("ann",)
    assert "no landmarks_cat.csv, which `raters` names" in caplog.text
    assert named(root, None) == ()
    for wrong in ("ann", [1], ["../ann"]):
        with pytest.raises(UserError, match="raters is .*expected a list of names"):
            named(root, wrong)


def test_landmarks_csv_without_points_is_the_mean_of_the_files(root):
    (root / "landmarks.csv").write_text("image,subject\na.png,a\nb.png,b\n")
    describe(root, raters=["ann", "bob"])
    table = landmark_folder.read(root)
    np.testing.assert_array_equal(table.xy, [[[5, 6], [NAN, NAN]], [[1, 2], [3.25, 4]]])
    assert {"landmarks_ann.csv", "landmarks_bob.csv"} <= set(table.files)
    (root / "landmarks.csv").write_text("image,subject,eye_x,eye_y,chin_x,chin_y\na.png,a,7,7,7,7\nb.png,b,,,,\n")
    np.testing.assert_array_equal(landmark_folder.read(root).xy, [[[7, 7], [7, 7]], np.full((2, 2), NAN)])


def test_a_raters_point_outside_the_picture_is_refused(root):
    (root / "landmarks.csv").write_text("image,subject,eye_x,eye_y,chin_x,chin_y\nb.png,b,1,1,1,1\n")
    (root / "landmarks_bob.csv").write_text("image,eye_x,eye_y,chin_x,chin_y\nb.png,1,2,300,4\n")
    describe(root, raters=["ann", "bob"])
    table = landmark_folder.read(root)
    with pytest.raises(UserError, match=r"b.png, rater bob: chin lies at \(300.0, 4.0\), outside the picture"):
        table.check_picture(0, root)


# ---------------------------------------------------------------- rows


def test_rows_of_a_picture_become_one_with_the_mean(root):
    table = read_rows(root, ["b.png,ann,b,1,2,3,4", "a.png,bob,a,10,10,,", "b.png,bob,b,2,4,,"])
    assert table.images == ("b.png", "a.png") and table.subjects == ("b", "a")
    assert table.landmarks.raters == ("ann", "bob")
    np.testing.assert_array_equal(table.xy, [[[1.5, 3], [3, 4]], [[10, 10], [NAN, NAN]]])
    ann, bob = table.of_raters[:, 0], table.of_raters[:, 1]
    np.testing.assert_array_equal(ann, [[[1, 2], [3, 4]], np.full((2, 2), NAN)])
    np.testing.assert_array_equal(bob, [[[2, 4], [NAN, NAN]], [[10, 10], [NAN, NAN]]])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.png,ann,b,2,4,5,5", "row 3: b.png was already listed in .*row 2; keep one"),
        ("b.png,bob,c,2,4,5,5", "row 3: b.png has another subject than in .*row 2; write the same in all rows"),
        ("b.png,,b,2,4,5,5", "row 3: rater is ''; expected who annotated the row"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(root, row, message):
    with pytest.raises(UserError, match=message):
        read_rows(root, ["b.png,ann,b,1,2,3,4", row])


def test_rows_may_say_nothing_of_a_picture_alike(root):
    rows = ("a.png,ann,c,1,2,3,4,0.5,0.5", "b.png,ann,c,1,2,3,4,,", "b.png,bob,c,1,2,5,4,,")
    header = HEADER.strip() + ",spacing_x_mm,spacing_y_mm\n"
    (root / "landmarks.csv").write_text(header + "".join(f"{row}\n" for row in rows))
    describe(root)
    np.testing.assert_array_equal(landmark_folder.read(root).spacing, [[0.5, 0.5], [NAN, NAN]])


def test_dataset_json_need_not_name_the_raters_of_a_column(root, caplog):
    assert read_rows(root, ["b.png,cat,b,1,2,3,4"], raters=["ann"]).landmarks.raters == ("cat",)
    assert "`raters` is not read, since landmarks.csv has a column `rater`" in caplog.text


# ---------------------------------------------------------------- the mean


def test_a_point_that_may_be_absent_is_so_where_more_than_half_say_it():
    point, none = [4.0, 8.0], [NAN, NAN]
    one_of_three = [[point, point], [[7, 8], none], [[7, 8], none]]
    one_of_two = [[point, point], [point, none], [none, none]]  # the third annotated nothing, and says nothing
    found = raters.mean(np.array([one_of_three, one_of_two]), np.array([False, True]))
    np.testing.assert_array_equal(found, [[[6, 8], none], [point, point]])
    found = raters.mean(np.array([one_of_three]), np.array([False, False]))
    np.testing.assert_array_equal(found, [[[6, 8], point]])


def test_hidden_is_what_half_of_those_say_who_placed_it():
    said = np.array([[[True, True], [False, True], [False, False]]])
    everywhere = np.zeros((1, 3, 2, 2))
    np.testing.assert_array_equal(raters.most(said, everywhere), [[False, True]])
    everywhere[0, 2, 0] = NAN
    np.testing.assert_array_equal(raters.most(said, everywhere), [[True, True]])


# ---------------------------------------------------------------- draws


def test_a_rater_is_drawn_among_those_who_annotated_the_picture():
    n = 400
    xy = np.tile([[[0.0, 0], [0, 0]]], (n, 1, 1))
    theirs = np.stack([np.full((n, 2, 2), r + 1.0) for r in range(3)], axis=1)
    mask = np.ones((n, 3, 2), bool)
    mask[:, 1] = False  # the second has annotated nothing, the third the first point alone
    mask[:, 2, 1] = False
    mask[0] = False  # nobody has annotated the first picture
    batch = {"xy": xy, "mask": np.ones((n, 2), bool), "raters_xy": theirs, "raters_mask": mask}
    draw = jax.jit(raters.draw)
    found = jax.device_get(draw(jax.random.split(jax.random.key(0), n), batch))
    drawn = found["xy"][:, 0, 0]
    assert drawn[0] == 0 and found["mask"][0].all()
    assert set(drawn[1:]) == {1, 3} and abs((drawn == 1).sum() - n / 2) < 60  # six standard deviations
    np.testing.assert_array_equal(found["mask"][1:, 1], drawn[1:] == 1)
    again = draw(jax.random.split(jax.random.key(1), n), batch)["xy"]
    assert (np.asarray(again) != found["xy"]).any()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Drawn faces that two annotated, the second 4 px to the right of the first; landmarks.csv has the first."""
    root = tiny.write_folder(tmp_path_factory.mktemp("raters") / "faces")
    header, *rows = (root / "landmarks.csv").read_text().splitlines()
    moved = []
    for row in rows:
        (*first,) = row.split(",")
        moved.append(",".join([*first[:3], *(f"{float(x) + 4}" if i % 2 == 0 else x for i, x in enumerate(first[3:]))]))
    for name, lines in (("one", rows), ("two", moved)):
        (root / f"landmarks_{name}.csv").write_text("\n".join([header, *lines]))
    return root


def task(root, teacher_file, named, **changes):
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(content | {"raters": named}))
    config = tiny.config(teacher_file, ft, data__root=str(root), **changes)
    return LandmarkTask(config, data.load(config.data, root.parent / "tfds"))


def seen(made, *steps):
    """`[steps, 4, S, S, 3]` and `[steps, 4, K, 2]`: 4 pictures and their places, at each of the steps."""

    @jax.jit
    def see(step):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), step), 4)
        picture, (_, _, xy) = made.augmented(batch, keys)
        return picture, xy

    batch = jax.tree.map(jnp.asarray, made.train.batch(np.arange(4)))
    return [np.stack(found) for found in zip(*map(see, steps), strict=True)]


@pytest.mark.slow
def test_a_training_sees_one_rater_or_the_other(pair, teacher_file):
    still = tiny.STILL | {"data__raters": "draw"}
    _, mean = seen(task(pair, teacher_file, ["one", "two"], **tiny.STILL), 0)
    drawn = task(pair, teacher_file, ["one", "two"], **still)
    scale = drawn.train.batch(np.arange(4))["scale"]
    xy = seen(drawn, *range(8))[1]
    off = xy - mean
    np.testing.assert_allclose(off[..., 1], 0, atol=1e-4)
    share = (off[..., 0] / (4 * scale[:, None])).round(3)
    assert set(share.ravel().tolist()) == {0.0, 1.0}  # whole pictures of one or of the other
    assert (share == share[..., :1]).all() and 8 < share[..., 0].sum() < 24
    np.testing.assert_array_equal(seen(drawn, 3)[1][0], xy[3])


@pytest.mark.slow
def test_what_is_drawn_moves_nothing_else(pair, teacher_file, caplog):
    """Pictures are changed as without a draw; with one rater, nothing is drawn."""
    plain = task(pair, teacher_file, [])
    drawn = task(pair, teacher_file, ["one", "one"], data__raters="draw")
    assert "one is the only rater: nothing is drawn" in caplog.text
    pictures, places = seen(plain, 0)
    np.testing.assert_array_equal(seen(drawn, 0)[1], places)
    drawn = task(pair, teacher_file, ["one", "two"], data__raters="draw")
    np.testing.assert_array_equal(seen(drawn, 0)[0], pictures)


@pytest.mark.slow
def test_other_raters_are_another_run(pair, teacher_file):
    drawn = task(pair, teacher_file, ["one", "two"], data__raters="draw")
    assert drawn.meta["annotations"] != task(pair, teacher_file, ["one", "two"]).meta["annotations"]


@pytest.mark.slow
def test_what_no_rater_has_is_not_learned_where_they_are_drawn(pair, teacher_file, tmp_path):
    """The second picture is annotated by none of them, and is taken as landmarks.csv has it: the nose is learned."""
    root = shutil.copytree(pair, tmp_path / "faces")
    for file in root.glob("landmarks_*.csv"):
        header, *rows = (line.split(",") for line in file.read_text().splitlines())
        kept = [i for i, column in enumerate(header) if not column.startswith(("chin", "nose_tip"))]
        lines = [",".join(row[i] for i in kept) for n, row in enumerate([header, *rows]) if n != 2]
        file.write_text("\n".join(lines))
    assert task(root, teacher_file, ["one", "two"]).meta["never_annotated"] is None
    header, *rows = (line.split(",") for line in (root / "landmarks.csv").read_text().splitlines())
    rows[1][header.index("chin_x")] = rows[1][header.index("chin_y")] = ""
    (root / "landmarks.csv").write_text("\n".join(map(",".join, [header, *rows])))
    assert task(root, teacher_file, ["one", "two"], data__raters="draw").meta["never_annotated"] == ["chin"]


def test_in_several_domains_each_picture_has_its_own_raters():
    one = Points(Landmarks(("a",), raters=("x", "y")), np.zeros((1, 1, 2)), np.ones((1, 2, 1, 2)), draws=True)
    two = Points(Landmarks(("a", "b")), np.full((2, 2, 2), 5.0))
    both = Points.joined({"one": one, "two": two}, [1, 2])
    batch = both.batch(np.arange(3), np.empty(0), np.ones(3), np.zeros((3, 2)))
    np.testing.assert_array_equal(batch["raters_mask"][0], [[True, False, False]] * 2)
    assert not batch["raters_mask"][1:].any() and (batch["raters_xy"][0, :, 0] == 1).all()
    assert "raters_xy" not in Points.joined({"two": two}, [2]).batch(
        np.arange(2), np.empty(0), np.ones(2), np.zeros((2, 2))
    )
    hidden = both.hidden([0]).batch(np.arange(3), np.empty(0), np.ones(3), np.zeros((3, 2)))
    assert not hidden["raters_mask"].any()
