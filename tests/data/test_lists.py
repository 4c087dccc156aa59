"""Pictures and points in Python: the same `SplitPictures` as from a folder, and the same complaints."""

import csv
import logging
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from configs import default
from ctd_jax import data
from ctd_jax.data import synthetic
from ctd_jax.errors import UserError

NAMES = ("tip", "left", "right")


def config_of(**changes):
    config = default.get_config().data
    config.update({"image_size": 32, "budget": 0} | changes)
    return config


def pictures_of(n=6, height=30, width=40):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(n)]


def points_of(n=6):
    return np.random.default_rng(1).uniform((5, 5), (35, 25), (n, 3, 2))


SPLITS = ["train", "train", "train", "val", "test", "test"]


def lists(pictures=None, points=None, names=NAMES, config=None, **others):
    pictures = pictures_of() if pictures is None else pictures
    points = points_of(len(pictures)) if points is None else points
    others = {"splits": SPLITS, "subjects": list("abcdef")} | others
    return data.from_lists(config or config_of(), pictures, points, names, **others)


def refused(*arguments, **others):
    with pytest.raises(UserError) as error:
        lists(*arguments, **others)
    return str(error.value)


def warnings(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture(scope="module")
def folder(landmark_folder):
    """A folder, and what a notebook would have read from it."""
    root = landmark_folder()
    with (root / "landmarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    xy = [[[float(row[f"{name}_{axis}"]) for axis in "xy"] for name in synthetic.LANDMARKS] for row in rows]
    known = {
        "subjects": [row["subject"] for row in rows],
        "splits": [row["split"] for row in rows],
        "flip_pairs": synthetic.FLIP_PAIRS,
        "normalizer": synthetic.NORMALIZER,
        "measurements": synthetic.MEASUREMENTS,
    }
    return root, [root / row["image"] for row in rows], xy, known


def test_paths_stay_where_they_were_listed_and_words_may_come_one_by_one(folder, tmp_path, monkeypatch):
    root, paths, xy, known = folder
    monkeypatch.chdir(root)
    relative = [path.relative_to(root) for path in paths]
    known = known | {"subjects": iter(known["subjects"]), "splits": (split for split in known["splits"])}
    pictures = data.from_lists(config_of(), relative, xy, synthetic.LANDMARKS, **known)
    monkeypatch.chdir(tmp_path)
    with Image.open(paths[3]) as picture:
        np.testing.assert_array_equal(pictures.everything.original(3), picture.convert("RGB"))
    assert pictures.rows()[3][0] == relative[3].as_posix()


def test_paths_give_what_their_folder_does(folder, tmp_path):
    root, paths, xy, known = folder
    for changes in ({}, {"budget": 3}):
        want = data.load(config_of(root=str(root), **changes), tmp_path)
        found = data.from_lists(config_of(**changes), paths, xy, synthetic.LANDMARKS, **known)
        assert found.split_of == want.split_of and found.sha256 == want.sha256 and found.names == want.names
        assert (
            found.targets.landmarks == want.targets.landmarks and found.everything.subjects == want.everything.subjects
        )
        assert found.everything.images == tuple(map(str, paths))
        for name in found.names:
            every = np.arange(len(want.split(name)))
            jax.tree.map(np.testing.assert_array_equal, found.split(name).batch(every), want.split(name).batch(every))


def test_arrays_give_what_their_files_do(folder):
    _, paths, xy, known = folder
    arrays = [np.asarray(Image.open(path)) for path in paths]
    files, found = (
        data.from_lists(config_of(), pictures, xy, synthetic.LANDMARKS, **known) for pictures in (paths, arrays)
    )
    assert found.everything.images[:2] == ("array 0", "array 1") and len(set(found.sha256)) == len(arrays)
    every = np.arange(len(arrays))
    jax.tree.map(np.testing.assert_array_equal, found.everything.batch(every), files.everything.batch(every))
    np.testing.assert_array_equal(found.picture("array 3"), arrays[3])


def test_a_mix_of_shapes_types_and_paths(tmp_path):
    """16-bit values and fractions share a grey range each: 4095 and 1 are white in all of them."""
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 4096, (30, 50)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    mix = [deep, tmp_path / "deep.png", rng.random((20, 20)), rng.random((20, 24, 3)).astype("f"), *pictures_of(2)]
    pictures = lists(mix, np.full((6, 3, 2), 5.0) + rng.uniform(0, 9, (6, 3, 2)))
    assert pictures.grey_of_run == {"": {"integer": (0.0, 4095.0), "float": (0.0, 1.0)}}
    np.testing.assert_array_equal(pictures.picture("array 0"), pictures.picture(str(tmp_path / "deep.png")))
    np.testing.assert_array_equal(pictures.picture("array 0")[..., 1], np.rint(deep * (255 / 4095)))
    np.testing.assert_array_equal(pictures.picture("array 3"), np.rint(mix[3].astype(float) * 255))
    assert pictures.picture("array 2").shape == (20, 20, 3) and pictures.picture("array 4").shape == (30, 40, 3)


def test_what_is_not_given_is_unknown(caplog):
    pictures = lists(points=None, subjects=None, splits=None)
    everything = pictures.everything
    assert everything.subjects == everything.images and "every picture counts as a person of its own" in caplog.text
    assert sorted(pictures.split_of) == ["test", "train", "train", "train", "train", "val"]
    assert np.isnan(everything.spacing).all() and np.isnan(everything.boxes).all()
    assert pictures.targets.landmarks.flip_order is None and pictures.targets.landmarks.normalizer is None


def test_gaps_spacing_and_boxes():
    xy = [[[None, None], [20, 10], [float("nan"), float("nan")]]] * 3 + points_of(3).tolist()
    boxes = np.array([[2, 3, 30, 25.5]] * 6)
    boxes[1] = np.nan
    pictures = lists(points=xy, spacing=(0.5, 0.25), boxes=boxes)
    batch = pictures.split("train").batch(np.arange(2))
    np.testing.assert_array_equal(batch["mask"], [[False, True, False]] * 2)
    np.testing.assert_array_equal(pictures.everything.spacing, [[0.5, 0.25]] * 6)
    np.testing.assert_array_equal(pictures.everything.boxes, boxes)
    frames = [data.Frame.fit(40, 30, 32, boxes[0], 0.25), data.Frame.fit(40, 30, 32)]
    np.testing.assert_allclose(batch["scale"], [frame.scale for frame in frames])
    np.testing.assert_allclose(batch["xy"][:, 1], [frame.to_network(np.array([20, 10])) for frame in frames], rtol=1e-6)
    spacing = np.full((6, 2), np.nan)
    np.testing.assert_array_equal(lists(spacing=spacing).everything.spacing, spacing)


def test_what_is_masked_is_unknown():
    hidden = np.zeros((6, 3, 2), bool)
    hidden[::2, 1] = True
    points = np.ma.masked_array(points_of(), hidden)
    spacing, boxes = np.ma.masked_equal(np.ones((6, 2)), 1), np.ma.masked_equal(np.tile([0, 0, 9, 9.0], (6, 1)), 9)
    for given in (points, list(points), [list(one) for one in points]):
        pictures = lists(points=given, spacing=spacing, boxes=np.ma.masked_array(boxes, True))
        np.testing.assert_array_equal(np.isnan(pictures.targets.xy), hidden)
        assert np.isnan(pictures.everything.spacing).all() and np.isnan(pictures.everything.boxes).all()
    assert np.isnan(lists(spacing=spacing[0]).everything.spacing).all()


class NotAvailable:
    """As pandas has it: it can't be compared."""

    def __eq__(self, other):
        raise TypeError("boolean value of NA is ambiguous")

    def __repr__(self):
        return "<NA>"


@pytest.mark.parametrize(
    "nobody", [None, "", float("nan"), np.float32("nan"), np.ma.masked, np.datetime64("NaT"), NotAvailable()]
)
def test_a_picture_of_nobody_is_one_of_its_own(nobody):
    assert lists(subjects=[nobody, "nan", *"cdef"]).everything.subjects == ("array 0", "nan", *"cdef")


def test_whole_subjects_are_chosen_and_pictures_without_landmarks_left_out(caplog):
    points = points_of(10)
    points[7] = np.nan
    pictures = lists(pictures_of(10), points, splits=None, subjects=list("aabbccddee"))
    by_subject = {}
    for subject, split in zip("aabbccddee", pictures.split_of, strict=True):
        by_subject.setdefault(subject, set()).add(split)
    assert by_subject["d"] == {"train", "unlabelled"} or "unlabelled" in pictures.split_of
    assert all(len(found - {"unlabelled"}) == 1 for found in by_subject.values())
    assert {"train", "val", "test"} <= set(pictures.split_of)


def test_a_split_file_is_of_the_names(tmp_path):
    rows = [f"array {i},{split}" for i, split in enumerate(["test", "val", "train", "train", "train", "test2"])]
    (tmp_path / "split.csv").write_text("\n".join(["image,split", *rows]))
    pictures = lists(config=config_of(split=str(tmp_path / "split.csv")))
    assert pictures.split_of == ["test", "val", "train", "train", "train", "test2"]


def test_twins_and_gaps_are_warned_of(caplog):
    shown = pictures_of(6)
    shown[4] = shown[0].copy()
    points = points_of(6)
    points[:3, 2] = np.nan
    pictures = lists(shown, points)
    (twin,) = pictures.twins.pairs
    assert (twin.image_a, twin.split_a, twin.image_b, twin.split_b) == ("array 0", "train", "array 4", "test")
    assert "the lists: no training picture has the landmark right" in caplog.text
    assert "1 pair of near-identical pictures" in caplog.text


def test_labels_in_another_unit():
    assert refused(points=points_of() / 40).startswith("the lists: all landmarks of all pictures lie within the first")


def test_all_faults_are_one_message(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    points = points_of(8)
    points[1, 0, 0] = np.nan
    points[2, 1] = 200, 10
    points[3, 1, 1] = np.inf
    spacing = np.full((8, 2), np.nan)
    spacing[4, 0] = 1.0
    boxes = np.full((8, 4), np.nan)
    boxes[5] = 30, 0, 10, 9
    shown = [*pictures_of(6), tmp_path / "broken.png", "nowhere.png"]
    others = {"splits": None, "subjects": None, "spacing": spacing, "boxes": boxes, "flip_pairs": [("tip", "ti")]}
    message = refused(shown, points, **others)
    first, *lines = message.splitlines()
    assert first == "the lists: 8 faults; the first of each kind:"
    for line, words in zip(
        lines,
        (
            "1 x dataset.json: the lists: flip_pairs names 'ti', which is not one of the landmarks; the nearest is",
            "1 x not a number: picture 3: points has an infinite number",
            "1 x half a point: picture 1: tip has only one of its two coordinates",
            "1 x spacing: picture 4: spacing is [ 1. nan] mm; expected two positive numbers",
            "1 x box: picture 5: box is [30.  0. 10.  9.]; expected x0 < x1 and y0 < y1",
            "1 x landmark outside its picture: picture 2, array 2: left lies at (200.0, 10.0), outside the picture",
            f"1 x unreadable picture: picture 6, {tmp_path / 'broken.png'}: not a readable picture",
            "1 x missing picture: picture 7: picture nowhere.png does not exist",
        ),
        strict=True,
    ):
        assert line.startswith(f"- {words}")


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"points": np.zeros((6, 2, 2))}, "points has the shape [6, 2, 2]; expected [6, 3, 2]"),
        ({"points": [["a"]]}, "points: not numbers of the shape [6, 3, 2]"),
        ({"pictures": []}, "no pictures: the list is empty"),
        ({"pictures": "faces/a.png"}, "pictures is one path, faces/a.png; expected a list"),
        (
            {"pictures": [*pictures_of(5), np.zeros((30, 40, 4))]},
            "picture 5 has the shape (30, 40, 4); expected [H, W]",
        ),
        ({"pictures": [*pictures_of(5), 7]}, "picture 5 is a int; expected a file, a folder or an array"),
        ({"pictures": [*pictures_of(5), "https://a.b/c.png"]}, "picture 5: picture https://a.b/c.png is a URL"),
        ({"pictures": [*pictures_of(5), pathlib.Path(__file__).parent]}, "can't be read (a folder)"),
        ({"subjects": ["a"]}, "subjects has 1; expected one of each of the 6 pictures"),
        ({"subjects": np.full((6, 2), "a")}, "subjects has several of a picture; expected one of each of the 6"),
        ({"splits": "train"}, "splits has one word; expected one of each of the 6 pictures"),
        ({"splits": ["test"] * 6}, "no training pictures: expected rows whose split is `train`, found test"),
        ({"splits": [*SPLITS[:5], "test/2"]}, "picture 5: split is 'test/2', and files are named after it"),
        ({"names": ("tip", "tip", "left")}, "the lists: a landmark is named twice in `landmarks`, 'tip'"),
        ({"names": ("", "tip", "left")}, "the lists: '' is no name of a landmark"),
        ({"names": range(3)}, "the lists: 0 is no name of a landmark; expected text of 1 to 100 characters"),
        ({"names": ("tip", ["left"], None)}, "the lists: ['left'] is no name of a landmark"),
        ({"names": None}, "names is None; expected a list of names, one of each landmark"),
        ({"names": "tip"}, "names is 'tip'; expected a list of names"),
        ({"normalizer": ("tip", "tip")}, "the lists: normalizer has ['tip', 'tip']; expected two different names"),
        ({"measurements": {"a": ("tip", "lef")}}, "the lists: measurement 'a' names 'lef'"),
        ({"success_radii_mm": (2, -1)}, "the lists: success_radii_mm is [2, -1]; expected a list of positive numbers"),
        ({"spacing": np.zeros((6, 3))}, "spacing has the shape [6, 3]; expected [6, 2]"),
        ({"spacing": ("a", "b")}, "spacing: not numbers of the shape [6, 2]"),
        ({"boxes": np.tile([50, 50, 60, 60], (6, 1))}, "lies outside the picture of 40 x 30 pixels"),
        ({"config": config_of(domains=("a",))}, "data.domains names 'a', but pictures in lists have no domains"),
        ({"config": config_of(budget=9)}, "data.budget asks for 9 training pictures, but there are 3"),
    ],
)
def test_mistakes(others, message):
    assert message in refused(**others)


def test_a_file_twice(tmp_path):
    Image.fromarray(pictures_of(1)[0]).save(tmp_path / "a.png")
    twice = [*pictures_of(4), tmp_path / "a.png", f"{tmp_path}/./a.png"]
    assert f"picture 5: {tmp_path}/./a.png was already listed in picture 4" in refused(twice)


def test_a_command_has_no_lists():
    with pytest.raises(UserError, match="data.root is 'python': the pictures were lists in Python.*give a folder"):
        data.load(config_of(root=data.IN_PYTHON), None)
