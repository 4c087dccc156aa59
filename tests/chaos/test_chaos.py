"""A run that is killed, or finds its disk full, its files damaged, its data changed or its folder in use, ends as one
that was left alone, or says what to do. `python -m tests.chaos --long` does the same many times."""

import random
import re

import pytest

from tests.chaos import trials
from tests.chaos.command import Place

pytestmark = pytest.mark.slow

KILLS = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return trials.whole_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def before(whole, tmp_path_factory):
    """A run that was killed while it wrote its third checkpoint."""
    return trials.midway(whole, tmp_path_factory.mktemp("midway") / "run")


def test_every_file_that_a_run_leaves_is_among_the_places(whole):
    """All but what TensorStore and ArrayRecord write, inside of folders that take their name when they are whole."""
    names = {re.sub("[.]partial", "", place.name) for place in whole.places}
    written = {path.name for path in whole.run.glob("*") if path.is_file()}
    assert written <= names and len(written) >= 12
    assert {"checkpoints/", "checkpoints//state", "checkpoints//meta/metadata", "tfds"} <= names
    assert Place("os.rmdir", "checkpoints/") in whole.places  # a checkpoint that is not kept
    trials.assert_same(whole, whole.run)


def test_a_run_killed_again_and_again_ends_as_one_that_was_left_alone(whole, tmp_path):
    """At places spread over its life, and at random moments."""
    assert trials.kill_often(whole, tmp_path / "run", KILLS, random.Random(0)) <= KILLS


def test_sigterm_loses_nothing(whole, tmp_path):
    assert trials.stop(whole, tmp_path / "run", when=Place("os.rename", "checkpoints//meta", 2)) == "stopped"


def test_two_processes(whole, tmp_path):
    trials.start_twice(whole, tmp_path / "run")


def test_data_that_changed_are_refused_and_restored_ones_go_on(whole, before, tmp_path):
    trials.change_data(whole, before, tmp_path / "run")


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_full_disk(whole, tmp_path, share):
    if not trials.can_mount(tmp_path / "disk"):
        pytest.skip("a small disk (tmpfs) can be mounted by root alone")
    trials.fill_disk(whole, tmp_path / "small", int(share * trials.size_kib(whole.run)))


def test_a_damaged_file(whole, before, tmp_path):
    """`training/test_checkpoint.py` has those of checkpoints."""
    assert trials.damage(whole, before, tmp_path / "run", "log.csv", "torn", seed=0) == "same"
