"""Prepared pictures: damaged, left half, or prepared by another process at the same time."""

import contextlib
import pathlib
import shutil
import subprocess
import sys

import pytest

from ctd_jax import lock
from ctd_jax.data import builder
from ctd_jax.data.points import read_folder
from ctd_jax.errors import UserError

REPO = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prepared(landmark_folder, tmp_path_factory):
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


@pytest.mark.parametrize("what", ["*.array_record*", "dataset_info.json", "features.json"])
@pytest.mark.parametrize("how", [damage, lambda file: file.write_bytes(b""), pathlib.Path.unlink])
def test_damaged_prepared_pictures_are_named_with_the_remedy(prepared, tmp_path, what, how):
    root, cache = prepared
    cache = shutil.copytree(cache, tmp_path / "cache")
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


def test_what_a_killed_process_left_half_is_taken_away(prepared, tmp_path):
    root, cache = prepared
    cache = shutil.copytree(cache, tmp_path / "cache")
    (place,) = cache.glob("*/*/1.0.0")
    half = place.rename(place.with_name("incomplete.ABC_1.0.0"))
    assert read_all(root, cache) == read_all(*prepared)
    assert place.exists() and not half.exists()
    assert [p.name for p in place.parent.iterdir()] == ["1.0.0"]


PREPARE = """
import pathlib, sys
from ctd_jax import lock
from ctd_jax.data import builder
from ctd_jax.data.points import read_folder
root, cache = map(pathlib.Path, sys.argv[1:])
print(len(builder.pictures(root, read_folder(root), cache)[0]))
"""


def test_two_processes_prepare_the_same_at_once(prepared, tmp_path):
    root, _ = prepared
    command = [sys.executable, "-c", PREPARE, str(root), str(tmp_path)]
    both = [subprocess.Popen(command, cwd=REPO, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    ended = [(process.communicate(timeout=100), process.returncode) for process in both]
    assert [(out, code) for (out, _), code in ended] == [("8\n", 0)] * 2, [error for (_, error), _ in ended]
    assert [p.name for p in next(tmp_path.glob("*/*")).iterdir()] == ["1.0.0"]


def test_another_process_has_prepared_while_this_one_waited(prepared, tmp_path, monkeypatch):
    root, cache = prepared
    real = lock.held

    @contextlib.contextmanager
    def held(place, **how):
        with real(place, **how):
            shutil.copytree(next(cache.glob("*/*/1.0.0")), place / "1.0.0")
            yield

    monkeypatch.setattr(lock, "held", held)
    assert read_all(root, tmp_path) == read_all(root, cache)
