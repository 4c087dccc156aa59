"""Segmentation folders: what is read, what is refused, and the network's frame of a class map."""

import jax
import numpy as np
import pytest
import segmentation_folder
from PIL import Image
from scipy import ndimage
from segmentation_folder import load

from ctd_jax import data
from ctd_jax.data import augment, drawn_anatomies


@pytest.fixture
def root(tmp_path):
    return segmentation_folder.write(tmp_path / "anatomies")


# ---------------------------------------------------------------- what is read


def test_a_batch_has_pictures_classes_and_domains(root, tmp_path):
    pictures = load(root, tmp_path)
    train = pictures.split("train")
    assert (pictures.everything.domains, len(train), len(pictures.split("val"))) == (("heads", "spines"), 8, 4)
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


@pytest.mark.parametrize("cache_mib", [0, 1])
def test_a_class_that_is_too_small_to_be_seen(cache_mib):
    """At half the size every second pixel is seen, the odd ones: 1 is seen in two pictures, 2 in one of its three."""
    maps = np.zeros((3, 16, 16), np.uint8)
    maps[:2, 1, 1] = 1
    maps[0, 2, 2] = maps[1, 4:8, 4:8] = maps[2, 5, 8] = 2
    names = ("a.png", "b.png", "c.png")
    pictures = data.Dataset(
        images=names, subjects=names, spacing=np.full((3, 2), np.nan), boxes=np.full((3, 4), np.nan),
        original=lambda i: np.zeros((16, 16, 3), np.uint8), size=8, margin=0.0, cache_mib=cache_mib,
        targets=data.ClassMaps({"hips": ("none",), "eyes": ("none", "lens", "spot", "rim")}, lambda i: maps[i]),
        domains=("hips", "eyes"), domain=np.ones(3, np.int32),
    )  # fmt: skip
    found = data.class_maps.shown(pictures)
    assert found == {("eyes", "lens"): (2, 0), ("eyes", "spot"): (1, 2), ("eyes", "rim"): (0, 0)}


def test_restored_maps_are_those_of_the_picture():
    """Coordinates of the network's pixels, restored, are the network coordinates of the picture's pixels."""
    frame = data.Frame.fit(30, 20, 16)
    rows, columns = np.mgrid[:16, :16]
    found = frame.restore(np.stack([columns, rows], -1), 30, 20)
    y, x = np.mgrid[:20, :30]
    want = np.clip(frame.to_network(np.stack([x, y], -1)), 0, 15)
    np.testing.assert_allclose(found, want, atol=1e-4)


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


def moved_together(key, picture, classes, **options):
    affine = augment.random_affine(key, data.Augmentation(**options))
    return augment.move_picture(affine, picture), augment.move_classes(affine, classes, outside=255)


@pytest.mark.slow
def test_classes_move_with_their_picture():
    """The picture is its own class map: at full pixels both agree wherever no edge is near."""
    classes = np.kron(np.arange(16).reshape(4, 4) % 3, np.ones((8, 8))).astype(np.uint8)
    keys = jax.random.split(jax.random.key(0), 20)
    agree, gone = [], []
    for key in keys:
        picture = np.repeat(classes[..., None], 3, 2).astype(np.float32) + 1
        moved, found = moved_together(key, picture, classes, flip=0.5, scale=0.3, shift=0.2)
        seen, found = np.asarray(moved)[..., 0] - 1, np.asarray(found)
        inside = found != 255
        flat = np.abs(seen - np.round(seen)) < 1e-3
        whole = ndimage.binary_erosion(inside, np.ones((3, 3)), border_value=1)  # the outermost are mixed with black
        agree.append((seen.round() == found)[whole & flat].mean())
        gone.append((seen[~inside] <= 1.01).mean() if (~inside).any() else 1.0)
    np.testing.assert_allclose(agree, 1)
    assert min(gone) > 0.8


@pytest.mark.slow
def test_a_move_of_whole_pixels_by_hand():
    """factor 1, moved: every class is found that many pixels on; mirrored where the key says so."""
    classes = np.arange(64, dtype=np.uint8).reshape(8, 8)
    picture = classes[..., None].astype(np.float32)
    mirrored = 0
    for key in jax.random.split(jax.random.key(1), 12):
        moved, found = moved_together(key, picture, classes, flip=0.5)
        np.testing.assert_allclose(moved[..., 0], found, atol=1e-3)
        mirrored += int(found[0, 0] == 7)
    assert 0 < mirrored < 12
