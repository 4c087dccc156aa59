"""Prepared pictures: damaged, left half, or prepared by another process at the same time; with array_record, and
without it as on Windows."""

import contextlib
import pathlib
import shutil
import subprocess
import sys

import pytest
import segmentation_folder

from ctd_jax import lock
from ctd_jax.data import archive, builder
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.data.points import read_folder
from ctd_jax.data.segmentation_folder import read as read_segmentation_folder
from ctd_jax.errors import UserError

REPO = pathlib.Path(__file__).parents[2]
HIDDEN = "array_record.python.array_record_module"
FILES = {"array_record": ("*.array_record*", "dataset_info.json", "features.json"), "zip": ("pictures.zip",)}
PLACE = {"array_record": "1.0.0", "zip": "zip"}


@pytest.fixture(scope="module", params=["array_record", "zip"])
def road(request):
    """How pictures are prepared."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "zip":
            patch.setitem(sys.modules, HIDDEN, None)
        yield request.param


@pytest.fixture(scope="module")
def prepared(road, landmark_folder, tmp_path_factory):
    root, cache = landmark_folder(people=4, size=16), tmp_path_factory.mktemp("cache")
    builder.pictures(root, read_folder(root), cache)
    return root, cache


def read_all(root, cache):
    source, _ = builder.pictures(root, read_folder(root), cache)
    return [source[i]["picture"] for i in range(len(source))]


def damage(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    file.write_bytes(content)


@pytest.mark.parametrize("how", [damage, lambda file: file.write_bytes(b""), pathlib.Path.unlink])
def test_damaged_prepared_pictures_are_named_with_the_remedy(road, prepared, tmp_path, how):
    root, whole = prepared
    for i, what in enumerate(FILES[road]):
        cache = shutil.copytree(whole, tmp_path / str(i))
        (file,) = cache.rglob(what)
        how(file)
        try:
            found = read_all(root, cache)
        except UserError as error:
            assert "prepared pictures" in str(error) and "remove this folder" in str(error)
            place = pathlib.Path(str(error).partition(": ")[0])
            assert cache in place.parents
            shutil.rmtree(place)
            found = read_all(root, cache)
        assert found == read_all(*prepared)


def test_one_changed_byte_of_a_picture_in_an_archive_is_damage(landmark_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, HIDDEN, None)
    root = landmark_folder(people=4, size=16)
    read_all(root, tmp_path)
    (file,) = tmp_path.rglob("pictures.zip")
    content = bytearray(file.read_bytes())
    picture = (root / read_folder(root).images[3]).read_bytes()
    content[content.index(picture) + len(picture) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged .*; remove this folder"):
        read_all(root, tmp_path)


def test_pictures_are_those_of_the_folder_to_the_bit(road, prepared):
    root, cache = prepared
    assert [one.name for one in cache.glob("*/*/*")] == [PLACE[road]]
    assert read_all(root, cache) == [(root / image).read_bytes() for image in read_folder(root).images]


def test_a_picture_may_be_kept_as_bytes(road, prepared, tmp_path, monkeypatch):
    """As that of a DICOM file, without its header."""
    root, _ = prepared
    whole = LandmarkTable.example
    other = (root / read_folder(root).images[0]).read_bytes()
    monkeypatch.setattr(LandmarkTable, "example", lambda *row: whole(*row) | {"picture": other})
    assert read_all(root, tmp_path) == [other] * 8


def test_class_maps_too(road, tmp_path):
    root = segmentation_folder.write(tmp_path / "hearts")
    table = read_segmentation_folder(root)
    source, _ = builder.pictures(root, table, tmp_path / "cache")
    assert [one.name for one in tmp_path.glob("cache/*/*/*")] == [PLACE[road]]
    for i in range(len(table)):
        assert source[i]["picture"] == (root / table.images[i]).read_bytes()
        assert source[i]["mask"] == (root / table.masks[i]).read_bytes()


@pytest.mark.parametrize(
    ("lost", "said"),
    [(lambda source: source[:-1], "7 of 8 pictures"), (lambda source: [source[1], *source[1:]], "images/000.png")],
)
def test_what_is_not_read_back_as_it_was_written_is_removed_and_said(road, prepared, tmp_path, monkeypatch, lost, said):
    """As TFDS's Parquet files, which lose examples without a word."""
    root, _ = prepared
    for store in (builder.PictureFolder, archive.PictureArchive):
        whole = store.source
        monkeypatch.setattr(store, "source", lambda self, whole=whole: lost([*map(whole(self).__getitem__, range(8))]))
    with pytest.raises(UserError) as told:
        read_all(root, tmp_path)
    for part in (f"{PLACE[road]}: what was written there is not read back", said, "has been removed; start again"):
        assert part in str(told.value)
    assert not list(tmp_path.glob("*/*/*"))


def test_fewer_prepared_pictures_than_rows_are_damage(road, prepared, monkeypatch):
    for store in (builder.PictureFolder, archive.PictureArchive):
        monkeypatch.setattr(store, "source", lambda self: [{}] * 7)
    with pytest.raises(UserError, match=r"damaged \(7 of 8 pictures\)"):
        read_all(*prepared)


def test_what_a_killed_process_left_half_is_taken_away(road, prepared, tmp_path):
    root, cache = prepared
    cache = shutil.copytree(cache, tmp_path / "cache")
    (place,) = cache.glob(f"*/*/{PLACE[road]}")
    half = place.rename(place.with_name(f"incomplete.{place.name}"))
    assert read_all(root, cache) == read_all(*prepared)
    assert place.exists() and not half.exists()
    assert [p.name for p in place.parent.iterdir()] == [PLACE[road]]


PREPARE = """
import pathlib, sys
if sys.argv.pop() == "zip":
    sys.modules["array_record.python.array_record_module"] = None
from ctd_jax.data import builder
from ctd_jax.data.points import read_folder
root, cache = map(pathlib.Path, sys.argv[1:])
print(len(builder.pictures(root, read_folder(root), cache)[0]))
"""


@pytest.mark.slow
def test_two_processes_prepare_the_same_at_once(road, prepared, tmp_path):
    root, _ = prepared
    command = [sys.executable, "-c", PREPARE, str(root), str(tmp_path), road]
    both = [subprocess.Popen(command, cwd=REPO, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    ended = [(process.communicate(timeout=100), process.returncode) for process in both]
    assert [(out, code) for (out, _), code in ended] == [("8\n", 0)] * 2, [error for (_, error), _ in ended]
    assert [p.name for p in next(tmp_path.glob("*/*")).iterdir()] == [PLACE[road]]


def test_another_process_has_prepared_while_this_one_waited(road, prepared, tmp_path, monkeypatch):
    root, cache = prepared
    real = lock.held

    @contextlib.contextmanager
    def held(place, **how):
        with real(place, **how):
            shutil.copytree(next(cache.glob(f"*/*/{PLACE[road]}")), place / PLACE[road])
            yield

    monkeypatch.setattr(lock, "held", held)
    assert read_all(root, tmp_path) == read_all(root, cache)
