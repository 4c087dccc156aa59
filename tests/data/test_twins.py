"""Near-identical pictures: found whatever was done to the copy, never between two people."""

import csv
import io
import pathlib

import numpy as np
import pytest
import segmentation_folder
import tiny
from PIL import Image

from ctd_jax import data, tasks, training_run
from ctd_jax.data import builder, drawn_anatomies, pictures, split_file, synthetic, twins
from ctd_jax.data.points import read_folder
from ctd_jax.data.prefetch import map_in_threads
from ctd_jax.data.segmentation_folder import read as read_segmentation_folder
from ctd_jax.report import parts

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"
CEPH = """
001=275 007=293 010=295 014=287 028=296 038=283 056=280 062=288 080=282 088=297
103=201 108=289 118=285 123=276 126=299 132=291 137=292 138=281 141=279 144=173
"""


def find(pictures_, splits, subjects=None, sha256=None):
    n = len(pictures_)
    images = [f"{i}.png" for i in range(n)]
    looks = np.array([twins.look(picture) for picture in pictures_], twins.LOOK)
    return twins.find(images, subjects or images, splits, sha256 or images, looks["thumbnail"])


def named(found):
    return {(twin.image_a, twin.image_b) for twin in found.pairs}


@pytest.fixture(scope="module")
def faces():
    return synthetic.faces(range(24), 2, size=144, seed=0)


def darker(picture):
    return np.rint(255 * (picture / 255) ** 1.5 * 0.7 + 12).astype(np.uint8)


def smaller(picture):
    return np.asarray(Image.fromarray(picture).resize((70, 64)))


def compressed(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file))


def noisy(picture):
    return np.clip(picture + np.random.default_rng(0).normal(0, 8, picture.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [darker, smaller, compressed, noisy])
def test_a_changed_copy_is_found_and_nobody_else(faces, change):
    shown = [*faces["pictures"], change(faces["pictures"][20])]
    found = find(shown, ["train"] * 40 + ["test"] * 9)
    assert named(found) == {("20.png", "48.png")} and found.pairs[0].correlation > 0.97
    assert dict(found.counts) == {("train", "test", False): 1}


def test_the_correlation_is_numpys(faces):
    first, second = faces["pictures"][3], darker(faces["pictures"][3])
    found = find([first, second], ["val", "train"])
    grey = [Image.fromarray(picture).convert("L") for picture in (first, second)]
    small = [np.asarray(picture.resize((64, 64), Image.Resampling.BOX)).ravel() for picture in grey]
    assert found.pairs[0].correlation == pytest.approx(np.corrcoef(small)[0, 1], abs=1e-4)
    assert (found.pairs[0].image_a, found.pairs[0].split_a, found.pairs[0].split_b) == ("1.png", "train", "val")


def test_frames_of_one_subject_in_one_split_are_not_worth_a_word(faces):
    shown = [faces["pictures"][0], darker(faces["pictures"][0]), faces["pictures"][0], faces["pictures"][8]]
    splits, sha256 = ["train", "train", "train", "unused"], ["a", "b", "a", "a"]
    assert named(find(shown, splits, ["anna"] * 4, sha256)) == {("0.png", "2.png")}  # the same file, once more
    assert len(find(shown, splits, ["anna", "ben", "anna", "anna"], sha256).pairs) == 3
    assert dict(find(shown, ["train", "test", "val", "unused"], ["anna"] * 4, sha256).counts) == {
        ("train", "val", True): 1,
        ("train", "test", True): 1,
        ("val", "test", True): 1,
    }


def test_blank_pictures_are_twins_only_as_files():
    blank = [np.zeros((8, 8, 3), np.uint8)] * 3
    assert named(find(blank, ["train"] * 3, sha256=["a", "b", "a"])) == {("0.png", "2.png")}


def test_blocks_find_what_one_finds(faces, monkeypatch):
    shown = [picture for picture in faces["pictures"][:20] for picture in (picture, noisy(picture))]
    whole = find(shown, ["train", "test"] * 20)
    monkeypatch.setattr(twins, "BLOCK", 7)
    assert find(shown, ["train", "test"] * 20) == whole and whole.counts[("train", "test", False)] == 20
    monkeypatch.setattr(twins, "MAX_PAIRS", 3)
    few = find(shown, ["train", "test"] * 20)
    assert len(few.pairs) == 3 and few.counts == whole.counts


@pytest.mark.slow
def test_no_drawn_people_are_twins():
    drawn = [kind.draw(range(40), 1, size=64, seed=1)["pictures"] for kind in synthetic.KINDS.values()]
    shown = [picture for of_kind in drawn for picture in of_kind]
    for name in drawn_anatomies.CLASSES:
        shown += [drawn_anatomies.draw(name, i, 0, size=64, seed=1)[0] for i in range(20)]
    assert not find(shown, ["train"] * len(shown)).pairs


@pytest.mark.slow
def test_many_are_compared_block_by_block(monkeypatch):
    """A thousand that all have the same large shapes, so that every pair is looked at closely: two blocks, so three
    comparisons, one for each pair of blocks."""
    calls, compare = [], twins._compare
    monkeypatch.setattr(twins, "_compare", lambda *both: calls.append(len(both[0])) or compare(*both))
    shape = 127 * (1 + np.sin(np.arange(64) / 9))
    noise = np.random.default_rng(0).normal(0, 20, (1000, 64, 64))
    small = np.clip((shape + shape[:, None]) / 2 + noise, 0, 255).astype(np.uint8)
    names = [str(i) for i in range(1000)]
    assert not twins.find(names, names, ["train"] * 1000, names, small).pairs
    assert len(calls) == 3 and max(calls) <= twins.BLOCK


def test_one_warning_with_the_first_of_each_kind(faces, caplog):
    shown = [*faces["pictures"][:4], darker(faces["pictures"][0]), noisy(faces["pictures"][0]), faces["pictures"][3]]
    twins.warn(find(shown, ["train"] * 4 + ["test"] * 2 + ["train"], list("abcdaba")))
    assert len(caplog.records) == 1
    message = caplog.records[0].message
    assert message.startswith(
        "4 pairs of near-identical pictures: 1 of train and test, of one subject, first 0.png and 4"
    )
    for words in (
        "1 within train, under two subjects, first 3.png and 6.png (correlation 1.000)",
        "twins.csv",
        "flatters",
    ):
        assert words in message
    caplog.clear()
    twins.warn(find(shown[:4], ["train"] * 4))
    assert not caplog.records


def test_written_and_read(faces, tmp_path):
    shown = [faces["pictures"][0], darker(faces["pictures"][0])]
    looks = np.array([twins.look(picture) for picture in shown], twins.LOOK)
    found = twins.find(["=a.png", "ü,b.png"], ["anna", "-ben"], ["test1", "train"], ["1", "2"], looks["thumbnail"])
    twins.write(tmp_path, found)
    (row,) = parts.rows(tmp_path / "twins.csv")
    assert twins.Twin(**row | {"correlation": float(row["correlation"])}) == found.pairs[0]
    with (tmp_path / "twins.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image_a", "split_a", "subject_a", "image_b", "split_b", "subject_b", "correlation"]
    assert rows[1][:6] == ["ü,b.png", "train", "'-ben", "'=a.png", "test1", "anna"]
    twins.write(tmp_path / "none", twins.Twins())  # no file where there is nothing to say
    assert not (tmp_path / "none").exists()


def test_of_one_domain():
    pair = twins.Twin("a/1.png", "train", "a/x", "a/2.png", "test", "a/y", 0.99)
    other = twins.Twin("a/1.png", "train", "a/x", "ab/2.png", "test", "ab/y", 0.99)
    found = twins.Twins((pair, other), {pair.kind: 2}).within("a")
    assert found.pairs == (twins.Twin("1.png", "train", "x", "2.png", "test", "y", 0.99),)
    assert dict(found.counts) == {("train", "test", False): 1}


# A folder


def test_looks_are_kept_beside_the_prepared_pictures(landmark_folder, tmp_path, monkeypatch):
    root = landmark_folder(people=4)
    table = read_folder(root)
    _, first = builder.pictures(root, table, tmp_path)
    assert first["size"].tolist() == [[64, 64]] * 8
    decoded = []
    monkeypatch.setattr(builder, "decode", lambda *args: decoded.append(args) or pictures.decode(*args))
    _, second = builder.pictures(root, table, tmp_path)
    np.testing.assert_array_equal(first, second)
    assert not decoded
    (path,) = tmp_path.rglob("looks.npy")
    for damaged in (path.read_bytes()[:500], b"", None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        decoded.clear()
        np.testing.assert_array_equal(builder.pictures(root, table, tmp_path)[1], first)
        assert len(decoded) == 8
    decoded.clear()
    builder.pictures(root, table, tmp_path)
    assert not decoded


def copied(root, source, copy):
    """Writes a darker copy of a picture over another, as of an exposure of its own."""
    Image.fromarray(darker(np.asarray(Image.open(root / source).convert("RGB")))).save(root / copy)


def test_twins_of_several_folders(landmark_folder, tmp_path, caplog):
    roots = [landmark_folder(people=8, shots=1, size=144, name=name) for name in ("north", "south")]
    for image in (roots[1] / "images").iterdir():  # south's people are others, but for one
        Image.fromarray(np.asarray(Image.open(image))[:, ::-1]).save(image)
    (roots[1] / "images" / "006.png").write_bytes((roots[0] / "images" / "000.png").read_bytes())
    copied(roots[0], "images/001.png", "images/007.png")
    config = tiny.config("none", data__root=f"{roots[0]},{roots[1]}").data
    loaded = data.load(config, tmp_path)
    assert {(twin.image_a, twin.image_b) for twin in loaded.twins.pairs} == {
        ("north/images/000.png", "south/images/006.png"),
        ("north/images/001.png", "north/images/007.png"),
    }
    assert named(loaded.parts["north"].twins) == {("images/001.png", "images/007.png")}
    assert not loaded.parts["south"].twins.pairs and loaded.looks is None
    assert "2 pairs of near-identical pictures: 2 of train and test, under two subjects, first north/" in caplog.text
    one = data.load(tiny.config("none", data__root=str(roots[0])).data, tmp_path)
    assert named(one.twins) == {("images/001.png", "images/007.png")}


def test_twins_of_a_segmentation_folder(tmp_path):
    root = segmentation_folder.write(tmp_path / "anatomies")
    copied(root, "heads/0.png", "heads/7.png")
    config = tiny.config("none", data__root=str(root)).data
    loaded = data.load(config, tmp_path / "cache", targets=data.CLASS_MAPS)
    assert named(loaded.twins) == {("heads/0.png", "heads/7.png")}


def test_a_run_lists_them_where_it_begins(landmark_folder, tmp_path, teacher_file):
    root = landmark_folder(people=8, shots=1, size=144)
    copied(root, "images/001.png", "images/007.png")
    config = tiny.config(teacher_file, data__root=str(root))
    loaded = data.load(config.data, tmp_path / "tfds")
    training_run._begin(tmp_path, tasks.of(config)(config, loaded))
    (row,) = parts.rows(tmp_path / "twins.csv")
    assert (row["image_a"], row["split_a"], row["image_b"], row["split_b"]) == (
        *("images/001.png", "train"),
        *("images/007.png", "test"),
    )


# Real pictures


def real(name):
    if not (SHARED / name).is_dir():
        pytest.skip(f"needs ../shared/data/{name}")
    return SHARED / name


def thumbnails(root, images):
    looks = map_in_threads(lambda image: twins.look(pictures.decode((root / image).read_bytes(), image)), images)
    return np.array(list(looks), twins.LOOK)["thumbnail"]


@pytest.fixture(scope="module")
def ceph():
    root = real("ceph_isbi2015")
    table = read_folder(root)
    return table, thumbnails(root, table.images)


def number(image):
    return pathlib.Path(image).stem


@pytest.mark.slow
def test_ceph_isbi2015(ceph):
    table, small = ceph
    found = twins.find(table.images, table.subjects, table.splits, table.sha256, small)
    across = {f"{number(twin.image_a)}={number(twin.image_b)}" for twin in found.pairs if twin.split_a == "train"}
    assert across == set(CEPH.split())
    within = {(number(twin.image_a), number(twin.image_b)) for twin in found.pairs if twin.split_a == "test1"}
    assert within == {("159", "278"), ("188", "294"), ("196", "277")}
    assert dict(found.counts) == {("train", "test1", False): 20, ("test1", "test1", False): 3}


@pytest.mark.slow
def test_our_cephalogram_split_has_none_across(ceph):
    table, small = ceph
    given = split_file.read(pathlib.Path(__file__).parents[2] / "experiments" / "splits" / "ceph_isbi2015.csv")
    splits = [given.get(image, "unused") for image in table.images]
    found = twins.find(table.images, table.subjects, splits, table.sha256, small)
    assert dict(found.counts) == {("test1", "test1", False): 3}


@pytest.mark.slow
def test_multidomain():
    """Two patients of ACDC are one, in both phases; nerve_us repeats a picture, and has two in succession."""
    root = real("multidomain")
    table = read_segmentation_folder(root)
    small = thumbnails(root, table.images)
    found = twins.find(table.names, table.subjects, table.splits, table.sha256, small)
    assert {(number(twin.image_a), number(twin.image_b)) for twin in found.pairs} == {
        ("074_frame01_s04", "076_frame01_s04"),
        ("074_frame12_s04", "076_frame12_s04"),
        ("a0043", "a0077"),
        ("a0055", "a0058"),
        ("392_2hc", "392_hc"),  # the same file twice
    }


@pytest.mark.slow
def test_faces_fgnet():
    root = real("faces_fgnet")
    table = read_folder(root)
    small = thumbnails(root, table.images)
    assert not twins.find(table.images, table.subjects, table.splits, table.sha256, small).pairs
