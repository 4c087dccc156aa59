"""Segmentation folders: what is read, what is refused, and the network's frame of a class map."""

import json

import jax
import numpy as np
import pytest
import segmentation_folder
import tiny
from PIL import Image
from scipy import ndimage

from configs import mtmd
from ctd_jax import data
from ctd_jax.data import drawn_anatomies
from ctd_jax.errors import UserError


@pytest.fixture
def root(tmp_path):
    return segmentation_folder.write(tmp_path / "anatomies")


def load(root, tmp_path, **changes):
    config = tiny.config("none", mtmd, data__root=str(root), **changes)
    return data.load(config.data, tmp_path / "tfds", targets=data.CLASS_MAPS)


# ---------------------------------------------------------------- what is read


def test_a_batch_has_pictures_classes_and_domains(root, tmp_path):
    source = load(root, tmp_path)
    train = source.split("train")
    assert (source.everything.domains, len(train), len(source.split("val"))) == (("heads", "spines"), 8, 4)
    batch = train.batch(np.array([0, 7]))
    assert batch["picture"].shape == (2, 32, 32, 3) and batch["picture"].dtype == np.uint8
    assert batch["classes"].shape == (2, 32, 32) and batch["classes"].dtype == np.uint8
    np.testing.assert_array_equal(batch["domain"], [0, 1])
    assert train.images[7] == "spines/3.png" and train.subjects[7] == "spines/person3"
    np.testing.assert_array_equal(train.spacing, [[0.5, 0.25]] * 4 + [[np.nan] * 2] * 4)


@pytest.mark.parametrize("size", [32, 64])
def test_the_classes_lie_where_the_picture_does(root, tmp_path, size):
    """A picture that shows its own class map is resampled like it; 40 x 32 pixels leave bands above and below."""
    for row in segmentation_folder.read_rows(root):
        classes = np.array(Image.open(root / row[1]))
        Image.fromarray(np.repeat(classes[..., None] * 100, 3, 2)).save(root / row[0])
    batch = load(root, tmp_path, data__image_size=size).split("test").batch(np.arange(4))
    outside = batch["classes"] == 255
    assert (outside.sum((1, 2)) == size * 2 * (size // 10)).all()  # 3.2 of 32 rows above and below, to the nearest
    assert (batch["picture"][outside] == 0).all()
    for seen, known in zip(batch["picture"][..., 0] / 100, batch["classes"], strict=True):
        for i in range(3):
            inner = ndimage.binary_erosion(known == i, np.ones((3, 3)))  # the picture blurs its edges
            np.testing.assert_allclose(seen[inner], i, atol=0.15)


def test_nearest_by_hand():
    frame = data.Frame.fit(4, 2, 8)  # twice as large; two rows above and below are outside
    classes = np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.uint8)
    want = np.full((8, 8), 255)
    want[2:6] = np.repeat(np.repeat(classes, 2, 0), 2, 1)
    np.testing.assert_array_equal(frame.resample_classes(classes, 255), want)


def test_restored_maps_are_those_of_the_picture():
    """Coordinates of the network's pixels, restored, are the network coordinates of the picture's pixels."""
    frame = data.Frame.fit(30, 20, 16)
    rows, columns = np.mgrid[:16, :16]
    found = frame.restore(np.stack([columns, rows], -1), 30, 20)
    y, x = np.mgrid[:20, :30]
    want = np.clip(frame.to_network(np.stack([x, y], -1)), 0, 15)
    np.testing.assert_allclose(found, want, atol=1e-4)


def test_a_share_of_the_training_pictures_of_each_domain(root, tmp_path):
    """Half of 4 each; a share that rounds to nothing keeps one; a smaller choice is part of a larger one."""
    chosen = {}
    for share, each in ((1.0, 4), (0.5, 2), (0.01, 1)):
        source = load(root, tmp_path, data__share=share)
        train = source.split("train")
        assert np.bincount(train.domain).tolist() == [each, each]
        assert len(source.split("test")) == 4
        chosen[share] = set(train.images)
    assert chosen[0.01] < chosen[0.5] < chosen[1.0]


def test_a_domain_without_val_gives_some_of_its_train(root, tmp_path):
    rows = segmentation_folder.read_rows(root)
    rows = [[*row[:4], "train" if row[2] == "heads" and row[4] == "val" else row[4], *row[5:]] for row in rows]
    segmentation_folder.write_rows(root, rows)
    source = load(root, tmp_path)
    assert np.bincount(source.split("val").domain).tolist() == [1, 2]
    assert np.bincount(source.split("train").domain).tolist() == [5, 4]


def test_some_domains_of_several_folders(root, tmp_path):
    other = segmentation_folder.write(tmp_path / "other", people=4)
    text = (other / "segmentation.csv").read_text().replace(",heads,", ",skulls,").replace(",spines,", ",backs,")
    (other / "segmentation.csv").write_text(text)
    names = {"skulls": ["none", "rim", "inside"], "backs": ["none", "block", "disc"]}
    (other / "classes.json").write_text(json.dumps(names))
    both = f"{root},{other}"
    source = load(both, tmp_path)
    assert source.everything.domains == ("heads", "spines", "skulls", "backs")
    assert np.bincount(source.split("train").domain).tolist() == [4, 4, 2, 2]
    assert source.everything.images[-1] == "backs/spines/3.png"
    source = load(both, tmp_path, data__domains=("backs", "heads"))
    assert source.targets.classes == {"backs": ("none", "block", "disc"), "heads": drawn_anatomies.CLASSES["heads"]}
    train = source.split("train")
    assert train.images[0].startswith("backs/") and np.bincount(train.domain).tolist() == [2, 4]
    np.testing.assert_array_equal(train.targets.class_map(0), np.array(Image.open(other / "spines" / "0_mask.png")))


def test_a_helping_domain_is_trained_on_only(root, tmp_path):
    source = load(root, tmp_path, data__helping=("spines",), data__helped=True)
    assert np.bincount(source.split("train").domain).tolist() == [4, 8]
    assert set(source.split("test").domain.tolist()) == {0}


def test_without_help_a_helping_domain_is_left_out(root, tmp_path):
    source = load(root, tmp_path, data__helping=("spines",), data__helped=False)
    assert source.everything.domains == ("heads",) and source.helping == ()
    assert np.bincount(source.split("train").domain).tolist() == [4]
    assert all(image.startswith("heads/") for image in source.everything.images)


def test_palette_maps_are_indices(root, tmp_path):
    path = root / "heads" / "0_mask.png"
    with Image.open(path) as grey:
        classes = np.array(grey)
    picture = Image.fromarray(classes)
    picture.putpalette([9, 9, 9, 0, 255, 0, 0, 0, 255])
    picture.save(path)
    assert picture.mode == "P"
    train = load(root, tmp_path).split("train")
    np.testing.assert_array_equal(train.targets.class_map(0), classes)


def test_drawn_anatomies_have_every_class_and_are_the_same_again():
    for domain, names in drawn_anatomies.CLASSES.items():
        for subject in range(20):
            picture, classes = drawn_anatomies.draw(domain, subject, 0, size=48, seed=3)
            assert picture.shape == (48, 48, 3) and set(np.unique(classes)) == set(range(len(names)))
        again = drawn_anatomies.draw(domain, 19, 0, size=48, seed=3)
        np.testing.assert_array_equal(picture, again[0])
        assert (picture != drawn_anatomies.draw(domain, 19, 1, size=48, seed=3)[0]).any()


# ---------------------------------------------------------------- moved together


def test_classes_move_with_their_picture():
    """The picture is its own class map: at full pixels both agree wherever no edge is near."""
    classes = np.kron(np.arange(16).reshape(4, 4) % 3, np.ones((8, 8))).astype(np.uint8)
    keys = jax.random.split(jax.random.key(0), 20)
    agree, gone = [], []
    for key in keys:
        picture = np.repeat(classes[..., None], 3, 2).astype(np.float32) + 1
        moved, found = data.augment_classes(key, picture, classes, flip=0.5, scale=0.3, shift=0.2, outside=255)
        seen, found = np.asarray(moved)[..., 0] - 1, np.asarray(found)
        inside = found != 255
        flat = np.abs(seen - np.round(seen)) < 1e-3
        whole = ndimage.binary_erosion(inside, np.ones((3, 3)), border_value=1)  # the outermost are mixed with black
        agree.append((seen.round() == found)[whole & flat].mean())
        gone.append((seen[~inside] <= 1.01).mean() if (~inside).any() else 1.0)
    np.testing.assert_allclose(agree, 1)
    assert min(gone) > 0.8


def test_a_move_of_whole_pixels_by_hand():
    """factor 1, moved: every class is found that many pixels on; mirrored where the key says so."""
    classes = np.arange(64, dtype=np.uint8).reshape(8, 8)
    picture = classes[..., None].astype(np.float32)
    mirrored = 0
    for key in jax.random.split(jax.random.key(1), 12):
        moved, found = data.augment_classes(key, picture, classes, flip=0.5, scale=0.0, shift=0.0, outside=255)
        np.testing.assert_allclose(moved[..., 0], found, atol=1e-3)
        mirrored += int(found[0, 0] == 7)
    assert 0 < mirrored < 12


# ---------------------------------------------------------------- what is refused


def without(root, column):
    rows, i = segmentation_folder.read_rows(root), segmentation_folder.COLUMNS.index(column)
    columns = [name for name in segmentation_folder.COLUMNS if name != column]
    segmentation_folder.write_rows(root, [row[:i] + row[i + 1 :] for row in rows], columns)


def edit(root, number, column, value):
    rows = segmentation_folder.read_rows(root)
    rows[number][segmentation_folder.COLUMNS.index(column)] = value
    segmentation_folder.write_rows(root, rows)


MASK = "heads/2_mask.png"
MISTAKES = {
    "undeclared": (
        lambda r: segmentation_folder.change(r / MASK, lambda m: m + (m == 2)),
        "2_mask.png has the value 3, but classes.json declares 3 classes for 'heads': 0 to 2",
    ),
    "size": (
        lambda r: segmentation_folder.change(r / MASK, lambda m: m[:, 1:]),
        "2_mask.png has 39 x 32 pixels, its picture 40 x 32",
    ),
    "empty": (lambda r: segmentation_folder.change(r / MASK, lambda m: 0 * m), "2_mask.png is empty"),
    "colours": (
        lambda r: segmentation_folder.change(r / MASK, lambda m: np.repeat(m[..., None], 3, 2)),
        "2_mask.png: a class map has one channel of 8 bits, this file has mode RGB",
    ),
    "no map": (lambda r: (r / MASK).unlink(), "row 4: class map heads/2_mask.png does not exist"),
    "not a map": (lambda r: (r / MASK).write_text("x"), "2_mask.png: not a readable class map"),
    "no picture": (lambda r: (r / "heads/2.png").unlink(), "row 4: picture heads/2.png does not exist"),
    "domain": (
        lambda r: edit(r, 2, "domain", "hands"),
        "row 4: domain is 'hands', which classes.json does not have; it has heads, spines",
    ),
    "twice": (lambda r: edit(r, 2, "image", "heads/1.png"), "row 4: heads/1.png was already listed in .*row 3"),
    "half a spacing": (lambda r: edit(r, 2, "spacing_x_mm", ""), "row 4: spacing is .*two positive numbers"),
    "column": (lambda r: without(r, "mask"), "no column `mask`, found image, domain"),
    "some spacing": (
        lambda r: (edit(r, 2, "spacing_x_mm", ""), edit(r, 2, "spacing_y_mm", "")),
        "1 of the 8 pictures of domain 'heads' have no spacing",
    ),
    "one picture": (
        lambda r: segmentation_folder.write_rows(r, segmentation_folder.read_rows(r)[7:]),
        "domain 'heads' of classes.json has one picture",
    ),
    "no classes": (lambda r: (r / "classes.json").unlink(), "classes.json: no such file; expected the names"),
    "no json": (lambda r: (r / "classes.json").write_text("{"), "classes.json: not JSON"),
    "list": (lambda r: (r / "classes.json").write_text("[]"), "classes.json: expected "),
    "one class": (
        lambda r: (r / "classes.json").write_text('{"heads": ["background"], "spines": ["a", "b"]}'),
        "'heads' has .*expected two different names or more",
    ),
    "a domain twice": (
        lambda r: (r / "classes.json").write_text('{"heads": ["a", "b"], "heads": ["a", "b"]}'),
        "the key 'heads' stands twice",
    ),
    "slash": (
        lambda r: (r / "classes.json").write_text('{"he/ads": ["a", "b"]}'),
        "'he/ads' is no name of a domain",
    ),
    "no train": (
        lambda r: [edit(r, i, "split", "test") for i in range(8)],
        "domain heads: no training pictures",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_wrong_with_a_folder(mistake, root, tmp_path):
    change, message = MISTAKES[mistake]
    change(root)
    with pytest.raises(UserError, match=f"(?s){message}"):
        load(root, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data__domains": ("heads", "hands")},
            "data.domains names 'hands'; the domains of data.root are heads, spines",
        ),
        ({"data__helping": ("hands",)}, "data.helping names 'hands'"),
        ({"data__helping": ("heads", "spines")}, "data.helping names all the domains that are used"),
        ({"data__budget": 5}, "domain heads: data.budget asks for 5 training pictures, but there are 4"),
    ],
)
def test_keys_that_do_not_fit(changes, message, root, tmp_path):
    with pytest.raises(UserError, match=message):
        load(root, tmp_path, **changes)


def test_folders_whose_domains_clash(root, tmp_path):
    other = segmentation_folder.write(tmp_path / "other", people=4)
    with pytest.raises(UserError, match="other: domain 'heads' is also one of another folder"):
        load(f"{root},{other}", tmp_path)


def test_a_folder_of_landmarks_is_none_of_class_maps(landmark_folder, tmp_path):
    with pytest.raises(UserError, match=r"segmentation.csv: no such file; `data.root` expects a folder with"):
        load(landmark_folder(people=4), tmp_path)


def test_a_split_file_of_other_pictures(root, tmp_path):
    (tmp_path / "split.csv").write_text("image,split\nheads/0.png,train\nhands/1.png,test\n")
    with pytest.raises(UserError, match="split.csv names hands/1.png; expected <domain>/<image>, of heads, spines"):
        load(root, tmp_path, data__split=str(tmp_path / "split.csv"))
