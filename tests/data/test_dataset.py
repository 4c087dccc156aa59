"""What the network is given, and in which order."""

import dataclasses
import itertools
import time

import numpy as np
import pytest
from PIL import Image

from configs import default
from ctd_jax import data
from ctd_jax.data import Dataset, Frame, Identities, Landmarks, Points
from ctd_jax.data.prefetch import THREADS
from ctd_jax.tasks.landmarks import evaluate, heatmaps
from ctd_jax.training.parallel import Parallel

SIZE = 32


def config_of(**changes):
    config = default.get_config().data
    config.update({"image_size": SIZE, "budget": 0} | changes)
    return config


@pytest.fixture
def load_folder(landmark_folder, tmp_path):
    def load(**changes):
        return data.load(config_of(root=str(root), **changes), tmp_path / "cache")

    root = landmark_folder()
    return load


def unusual(cache_mib=10):
    """Seven pictures of as many shapes; picture i is of grey 30 i, and has a gap at landmark i % 3."""
    rng = np.random.default_rng(0)
    shapes = [(20 + 7 * i, 60 - 5 * i) for i in range(7)]  # height, width
    xy = rng.uniform(0, 20, (7, 3, 2))
    xy[np.arange(7), np.arange(7) % 3] = np.nan
    return Dataset(
        images=tuple(f"{i}.png" for i in range(7)),
        subjects=("x", "y", "y", "x", "z", "z", "x"),
        targets=Points(Landmarks(("a", "b", "c")), xy),
        spacing=np.full((7, 2), np.nan),
        boxes=np.array([[np.nan] * 4] * 5 + [[2.0, 3.0, 12.0, 23.0]] * 2),
        original=lambda i: np.full((*shapes[i], 3), 30 * i + 40, np.uint8),
        size=SIZE,
        margin=0.1,
        cache_mib=cache_mib,
    )


def same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def take(dataset, number, *, batch_size=3, seed=0, start=0):
    return list(itertools.islice(dataset.training_batches(batch_size=batch_size, seed=seed, start=start), number))


def test_a_batch():
    """Shapes, types, gaps, and frames that lead back to the original pixels."""
    dataset, indices = unusual(), np.array([5, 0, 1])
    batch = dataset.batch(indices)
    kinds = {key: (value.shape, value.dtype.name) for key, value in batch.items()}
    assert kinds == {
        "picture": ((3, SIZE, SIZE, 3), "uint8"), "xy": ((3, 3, 2), "float32"), "mask": ((3, 3), "bool"),
        "scale": ((3,), "float32"), "offset": ((3, 2), "float32"),
    }  # fmt: skip
    np.testing.assert_array_equal(batch["mask"], [[True, True, False], [False, True, True], [True, False, True]])
    assert (batch["xy"][~batch["mask"]] == 0).all()
    back = (batch["xy"] - batch["offset"][:, None]) / batch["scale"][:, None, None]
    np.testing.assert_allclose(back[batch["mask"]], dataset.targets.xy[indices][batch["mask"]], atol=1e-3)
    # a box of 20 with a tenth on each side: 24; a picture of 60 x 20; one of 55 x 27
    np.testing.assert_allclose(batch["scale"], [SIZE / 24, SIZE / 60, SIZE / 55])
    np.testing.assert_array_equal(batch["picture"].max((1, 2, 3)), [190, 40, 70])


def test_streaming_equals_cached():
    cached, streamed = unusual(), unusual(cache_mib=0)
    assert cached.decode() is not None and streamed.decode() is None
    for indices in (np.arange(7), np.array([3, 3, 0])):
        same(cached.batch(indices), streamed.batch(indices))
    for one, other in zip(take(cached, 6), take(streamed, 6), strict=True):
        same(one, other)


def test_memory_is_kept_to():
    """1 MiB holds 341 pictures of 32 x 32 x 3 bytes."""
    original = np.zeros((SIZE, SIZE, 3), np.uint8)
    for number, held in ((341, True), (342, False)):
        boxes = np.full((number, 4), np.nan)
        dataset = Dataset.unlabelled(["x"] * number, lambda i: original, boxes=boxes, size=SIZE, margin=0)
        assert dataset.cache_mib == 0
        object.__setattr__(dataset, "cache_mib", 1)
        assert (dataset.decode() is not None) == dataset.cached == held


class Counted:
    """200 black pictures that count how often they are read."""

    def __init__(self, cache_mib):
        self.reads = itertools.count()
        self.dataset = dataclasses.replace(unusual(cache_mib), **self.rows(200), original=self.original)

    def rows(self, n):
        empty = np.full((n, 4), np.nan)
        targets = Points(Landmarks(tuple("abc")), np.zeros((n, 3, 2)))
        return {"images": ("x",) * n, "subjects": ("x",) * n, "targets": targets, "boxes": empty}

    def original(self, index):
        next(self.reads)
        return np.zeros((SIZE, SIZE, 3), np.uint8)

    def settled(self):
        """The number of reads, once nobody reads any more."""
        before, now = -1, int(repr(self.reads)[6:-1])
        while now > before:
            time.sleep(0.2)
            before, now = now, int(repr(self.reads)[6:-1])
        return now


def test_few_pictures_are_decoded_ahead():
    """No more than twice the threads' batches are, and one in the hands of each thread; the reads of the last batch
    taken show that some are."""
    stream = Counted(cache_mib=0)
    batches = stream.dataset.training_batches(batch_size=3, seed=0, start=0)
    next(batches), next(batches)
    assert 6 < stream.settled() <= 3 * (2 + 3 * THREADS) < 200
    evaluation = Counted(cache_mib=0)
    parts = np.array_split(np.arange(200), 67)
    batches = evaluation.dataset.batches(parts)
    next(batches)
    assert 3 < evaluation.settled() <= 3 * 2 * THREADS
    assert len(list(batches)) == 66 and evaluation.settled() == 200
    cached = Counted(cache_mib=10)
    for _ in range(2):
        assert len(list(cached.dataset.batches(parts))) == 67 and cached.settled() == 200


def test_batches_come_in_order():
    parts = [np.array(part) for part in ([0, 4, 2], [6], [1, 3])]
    for cache_mib in (0, 10):
        dataset = unusual(cache_mib)
        for part, batch in zip(parts, dataset.batches(parts), strict=True):
            same(batch, dataset.batch(part))


def test_unlabelled():
    original = np.zeros((40, 50, 3), np.uint8)
    dataset = Dataset.unlabelled(["x", "y"], lambda i: original, boxes=np.full((2, 4), np.nan), size=SIZE, margin=0.0)
    batch = dataset.batch(np.arange(2))
    assert batch.keys() == {"picture", "scale", "offset"}
    assert batch["scale"][0] == np.float32(Frame.fit(50, 40, SIZE).scale)


@pytest.mark.parametrize(("most", "indices"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (100, list(range(10)))])
def test_some_pictures_evenly_spread(most, indices):
    blank = np.zeros((4, 4, 3), np.uint8)
    boxes = np.full((10, 4), np.nan)
    dataset = Dataset.unlabelled([str(i) for i in range(10)], lambda i: blank, boxes=boxes, size=SIZE, margin=0.0)
    assert dataset.spread(most).tolist() == indices


def test_people_are_numbered_within_their_split():
    people = Identities.of(Landmarks((), ()), np.zeros((5, 0, 2)), ["zoe", "anna", "zoe", "ben", "anna"])
    assert people.person.tolist() == [2, 0, 2, 1, 0] and people.mirrored
    rows = np.array([2, 3, 0])
    assert people.take(rows).person.tolist() == [1, 0, 1]
    dataset = dataclasses.replace(unusual(), targets=Identities.of(Landmarks(()), None, unusual().subjects))
    batch = dataset.take(np.array([4, 5, 1, 0])).batch(np.array([0, 2, 3]))
    assert batch["subject"].tolist() == [2, 1, 0] and batch["subject"].dtype == np.int32


@pytest.mark.parametrize("start", [1, 4, 11])
def test_order_resumes(start):
    """Batch n depends on the seed and n alone."""
    whole = take(unusual(), start + 3)
    for one, other in zip(whole[start:], take(unusual(), 3, start=start), strict=True):
        same(one, other)


def greys(batches):
    return np.concatenate([batch["picture"].max((1, 2, 3)) for batch in batches]).tolist()


def test_everybody_once_in_each_round():
    """Three rounds of seven in batches of three: each round another order of all, other seeds other orders."""
    seen = greys(take(unusual(), 7))
    rounds = [seen[:7], seen[7:14], seen[14:]]
    assert all(sorted(r) == [40 + 30 * i for i in range(7)] for r in rounds)
    assert len({tuple(r) for r in rounds}) == 3
    assert seen != greys(take(unusual(), 7, seed=1))
    assert seen == greys(take(unusual(), 7))


def test_a_batch_larger_than_the_split():
    seen = greys(take(unusual(), 2, batch_size=16))
    assert len(seen) == 32 and sorted(seen[:7]) == sorted(seen[7:14]) == [40 + 30 * i for i in range(7)]


def test_pictures_of_a_folder(load_folder):
    """Eight people with two pictures each: half train, a quarter val, a quarter test."""
    faces = load_folder()
    assert faces.names == ["train", "val", "test"]
    assert [len(faces.split(name)) for name in faces.names] == [8, 4, 4]
    val = faces.split("val")
    assert val.images == tuple(f"images/{i:03d}.png" for i in range(8, 12))
    np.testing.assert_array_equal(val.original(2), faces.picture("images/010.png"))
    np.testing.assert_array_equal(val.targets.xy, faces.everything.targets.xy[8:12])
    image, subject, split, sha256 = faces.rows()[9]
    assert (image, subject, split, len(sha256)) == ("images/009.png", "person_00004", "val", 64)


def test_pictures_stream_and_keep_a_budget(load_folder):
    cached, streamed = load_folder(budget=5).split("train"), load_folder(budget=5, cache_mib=0).split("train")
    assert len(cached) == 5
    for one, other in zip(take(cached, 3), take(streamed, 3), strict=True):
        same(one, other)


@pytest.mark.parametrize("boxes", [False, True])
def test_from_file_to_original_pixels(tmp_path, boxes):
    """Each landmark is a blob in a colour of its own; "network": the picture is its own heatmap. Pictures of all
    shapes, one lying on its side in the file, come back as points in the upright picture's pixels."""
    rng = np.random.default_rng(0)
    lines = ["image,box_x0,box_y0,box_x1,box_y1,r_x,r_y,g_x,g_y,b_x,b_y,split"]
    lines[0] = lines[0] if boxes else lines[0].replace("box", "other")
    for i, (width, height) in enumerate([(121, 83), (64, 151), (97, 97), (203, 60)]):
        xy = rng.uniform(20, (width - 20, height - 20), (3, 2)).round(2)
        rows, columns = np.mgrid[:height, :width][..., None]
        blobs = 250 * np.exp(-((columns - xy[:, 0]) ** 2 + (rows - xy[:, 1]) ** 2) / (2 * 5**2))
        exif = Image.Exif()
        if i == 1:
            blobs, exif[0x0112] = blobs[:, ::-1].swapaxes(0, 1), 6
        Image.fromarray(np.rint(blobs).astype(np.uint8)).save(tmp_path / f"{i}.png", exif=exif)
        box = [*(xy.min(0) - 10), *(xy.max(0) + 13)]
        lines.append(",".join(map(str, [f"{i}.png", *box, *xy.ravel(), "train"])))
    (tmp_path / "landmarks.csv").write_text("\n".join(lines))
    (tmp_path / "dataset.json").write_text('{"landmarks": ["r", "g", "b"]}')
    dataset = data.load(config_of(root=str(tmp_path), image_size=96), tmp_path / "cache").everything
    assert np.isfinite(dataset.boxes).all() == boxes

    def forward(variables, batch):
        return heatmaps.decode(batch["picture"] / 255, stride=1)

    parallel = Parallel("shard_map")
    table = evaluate.predict(parallel.compile(forward, sharded=True), {}, dataset, parallel, batch_size=4)
    np.testing.assert_allclose(table.xy, dataset.targets.xy, atol=0.1)


@pytest.mark.slow
def test_drawn_faces_have_no_leak(caplog):
    config = config_of(root="synthetic")
    pictures = data.load(config, cache=None)
    assert pictures.names == ["train", "val", "test"]
    people = [set(pictures.split(name).subjects) for name in pictures.names]
    assert not people[0] & people[1] | people[0] & people[2] | people[1] & people[2]
    assert not caplog.records
    same(pictures.split("test").batch(np.arange(3)), data.load(config, cache=None).split("test").batch(np.arange(3)))


def test_test1_is_not_test10():
    pictures = data.SplitPictures(None, ["train", "val", "test1", "test10", "test2"], ())
    assert pictures.splits_called("test1") == ["test1"]
    assert pictures.splits_called("test") == ["test1", "test10", "test2"]
    assert pictures.splits_called("nothing") == []


@pytest.mark.slow
@pytest.mark.parametrize(("pictures", "batch_size"), [(1, 1), (13, 1), (1, 4), (3, 4), (4, 4)])
@pytest.mark.parametrize("domains", [(), ("a", "b")])
def test_batches_of_one_and_sets_of_less_than_one_batch(pictures, batch_size, domains):
    """Every picture is seen once before any is seen again."""
    images, boxes = tuple(map(str, range(pictures))), np.full((pictures, 4), np.nan)
    dataset = data.Dataset.unlabelled(images, None, boxes=boxes, size=8, margin=0.0)
    if domains:
        dataset = dataclasses.replace(dataset, domains=domains, domain=np.arange(pictures, dtype=np.int32) % 2)
    order = dataset.training_order(batch_size=batch_size, seed=0)
    seen = np.concatenate([order[n] for n in range(3 * pictures)])
    assert len(seen) == 3 * pictures * batch_size
    assert set(seen.tolist()) == set(range(pictures))
    if not domains:
        assert sorted(seen[:pictures].tolist()) == list(range(pictures))
