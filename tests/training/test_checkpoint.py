"""Which checkpoints stay, what comes back, and what a damaged one does: a clear word, and never other numbers."""

import functools
import itertools
import json
import pathlib
import shutil
import time

import chex
import numpy as np
import pytest

from configs import ft
from ctd_jax.errors import UserError
from ctd_jax.training import checkpoint, finite, step

META = {"landmarks": ["chin"], "encoder": {"name": "resnet8"}}


def state(number):
    values = np.random.default_rng(number).normal(size=(20, 30)).astype(np.float32)
    return step.TrainState(
        np.int32(number), {"encoder": {"kernel": values}}, {"encoder": {"mean": -values}}, (values, {"count": values})
    )


def write(folder, errors, meta=META):
    """A run with a checkpoint for each step -> validation error; the paths of those that stay."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(ft.get_config().to_dict()))
    with checkpoint.manager(folder) as checkpoints:
        for number, error in errors.items():
            checkpoint.save(checkpoints, number, state(number), meta, error)
        checkpoints.wait_until_finished()
    return folder


def steps(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def kernel(found):
    params = found.params if isinstance(found, step.TrainState) else found["params"]
    return params["encoder"]["kernel"]


def assert_best(run, number):
    """The best checkpoint of a run is that of a step, in every array."""
    variables, meta = checkpoint.best(run)
    want = state(number)
    chex.assert_trees_all_equal(variables, {"params": want.params, "batch_stats": want.batch_stats}, strict=True)
    assert meta == META


@pytest.fixture
def run(tmp_path):
    return write(tmp_path / "run", {})


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A run whose best checkpoint, 10, is not among the two latest, 30 and 40."""
    return write(tmp_path_factory.mktemp("three") / "run", {10: 0.2, 20: 0.5, 30: 0.3, 40: 0.4})


def test_the_two_latest_and_the_best_stay(three):
    assert steps(three) == [10, 30, 40]
    number, found, whole = checkpoint.resume(three, state(0), {"landmarks": ("chin",)})
    assert number == found.step == 40
    chex.assert_trees_all_equal(found, state(40), strict=True)
    assert {one.step: one.val_error for one in whole} == {40: 0.4, 30: 0.3, 10: 0.2}
    assert_best(three, 10)


def test_the_best_stays_in_a_run_that_continues(three, tmp_path):
    run = shutil.copytree(three, tmp_path / "run")
    _, _, whole = checkpoint.resume(run, state(0), META)
    with checkpoint.manager(run, whole) as checkpoints:
        for number, error in ((50, 0.25), (60, 0.3), (70, None)):
            checkpoint.save(checkpoints, number, state(number), META, error)
        checkpoints.wait_until_finished()
    assert steps(run) == [10, 60, 70]
    assert_best(run, 10)
    assert checkpoint.resume(run, state(0), META)[0] == 70


@pytest.mark.parametrize("jump", [86400, -86400, 1.7e9, -1.7e9])
def test_a_clock_that_jumps_ends_nothing(run, monkeypatch, jump):
    """To and fro, every few looks at it."""
    now, looks = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: now() + jump * (next(looks) // 3 % 2))
    write(run, {10: 0.5, 20: 0.6})
    assert steps(run) == [10, 20]
    assert checkpoint.resume(run, state(0), META)[0] == 20


def test_of_two_equally_good_the_later_is_used(run):
    write(run, {10: 0.5, 20: 0.5, 30: 0.7})
    assert_best(run, 20)


def test_a_state_with_another_meta_is_not_restored(run):
    """Orbax itself would hand out arrays of other shapes without a word."""
    write(run, {1: 0.1})
    with pytest.raises(UserError, match="1: landmarks of this run have changed.*new --workdir"):
        checkpoint.resume(run, state(0), META | {"landmarks": ("chin", "jaw")})


def test_what_older_versions_did_not_keep_or_concluded_otherwise_is_not_compared(run):
    write(run, {1: 0.1})
    newer = {"annotations": "of boxes", "flip_pairs": True, "boxes": True, "never_annotated": ["chin"]}
    assert checkpoint.resume(run, state(0), META | newer)[0] == 1
    with pytest.raises(UserError, match="1: absent of this run have changed"):
        checkpoint.resume(run, state(0), META | newer | {"absent": ["chin"]})


def test_no_checkpoint_yet(run, tmp_path):
    assert checkpoint.resume(run, state(0), META) == (0, None, [])
    with pytest.raises(UserError, match="no checkpoint yet"):
        checkpoint.best(run)
    with pytest.raises(UserError, match="config.json: no such file"):
        checkpoint.best(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_the_folder_of_a_domain_is_no_run(tmp_path, monkeypatch):
    write(tmp_path / "both", {1: 0.5}, META | {"domains": [{"name": "faces"}]})
    shutil.copytree(tmp_path / "both", tmp_path / "both" / "faces", ignore=shutil.ignore_patterns("checkpoints"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="both/faces is the domain faces of a run; give --workdir=both --domain=faces"):
        checkpoint.best(pathlib.Path("both/faces"))
    (tmp_path / "both" / "faces").rename(tmp_path / "both" / "later")  # a run inside of another
    with pytest.raises(UserError, match="later: no checkpoint yet"):
        checkpoint.best(tmp_path / "both" / "later")


def test_annotations_of_a_finished_run_are_compared(three):
    checkpoint.check_meta(three, META)
    with pytest.raises(UserError, match="landmarks of this run have changed since it began"):
        checkpoint.check_meta(three, META | {"landmarks": ("jaw",)})


# ---------------------------------------------------------------- not finite


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["params", "batch_stats", "opt_state", "val_error"])
def test_nothing_that_is_not_finite_is_saved(run, part, value):
    write(run, {10: 0.5})
    bad = state(20)
    where = {"params": kernel(bad), "batch_stats": bad.batch_stats["encoder"]["mean"], "opt_state": bad.opt_state[0]}
    if part in where:
        where[part][3, 4] = value
    checkpoints = checkpoint.manager(run, checkpoint.resume(run, state(0), META)[2])
    with pytest.raises(finite.NotFinite, match=f"after step 20 .*{part if part in where else value}"), checkpoints:
        checkpoint.save(checkpoints, 20, bad, META, 0.1 if part in where else value)
    assert steps(run) == [10]
    assert_best(run, 10)


def test_a_best_checkpoint_of_before_that_is_not_finite_is_passed_over(run, caplog, monkeypatch):
    bad = state(10)
    kernel(bad)[0, 0] = np.nan
    with monkeypatch.context() as patch, checkpoint.manager(run) as checkpoints:
        patch.setattr(finite, "check_arrays", lambda *_: None)
        checkpoint.save(checkpoints, 10, bad, META, 0.1)
        checkpoint.save(checkpoints, 20, state(20), META, 0.2)
        checkpoints.wait_until_finished()
    assert_best(run, 20)
    assert "10 is damaged (it has NaN or infinite numbers in " in caplog.text


# ---------------------------------------------------------------- damaged


def cut(path, where):
    path.write_bytes(path.read_bytes()[: int(where * path.stat().st_size)])


def flip(path, where):
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 16
    path.write_bytes(content)


DAMAGES = {
    "half": functools.partial(cut, where=0.5),
    "bit": functools.partial(flip, where=0.4),
    "gone": lambda path: path.unlink(),
}


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
# A slow read of a file next to the damaged one may end after Orbax has closed its loop, which nobody waits for.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("number", "next_best", "next_latest"), [(10, 30, 40), (40, 10, 30)])
def test_a_damaged_file_gives_the_same_numbers_or_those_of_another_checkpoint(
    three, tmp_path, caplog, damage, number, next_best, next_latest
):
    """Each file of the best checkpoint, and of the latest, in turn."""
    passed_over = []
    for path in files(three / "checkpoints" / str(number)):
        run = shutil.copytree(three, tmp_path / "run", dirs_exist_ok=True)
        DAMAGES[damage](run / "checkpoints" / str(number) / path)
        caplog.clear()
        latest, found, _ = checkpoint.resume(run, state(0), META)
        best = kernel(checkpoint.best(run)[0])
        said = f"checkpoints/{number} is damaged" in caplog.text
        assert latest in ((40, next_latest) if said else (40,)), path
        chex.assert_trees_all_equal(found, state(latest), custom_message=str(path))
        allowed = [10, next_best] if said else [10]
        assert any(np.array_equal(best, kernel(state(one))) for one in allowed), path
        passed_over.append(said)
        shutil.rmtree(run)
    assert sum(passed_over) >= 4  # meta, _METADATA, the manifest and the arrays at least


def test_where_no_checkpoint_is_whole_nothing_is_used_or_changed(three, tmp_path):
    run = shutil.copytree(three, tmp_path / "run")
    for one in steps(run):
        cut(run / "checkpoints" / str(one) / "meta" / "metadata", 0.5)
    before = {path: (run / path).read_bytes() for path in files(run)}
    for use in (lambda: checkpoint.best(run), lambda: checkpoint.resume(run, state(0), META)):
        with pytest.raises(UserError, match="none of its 3 checkpoints is whole .*new --workdir"):
            use()
    assert before == {path: (run / path).read_bytes() for path in files(run)}


@pytest.mark.parametrize("path", ["sealed", "digest", "val_error"])
def test_a_word_of_the_json_that_changed_is_seen(three, tmp_path, caplog, path):
    """One character; the JSON stays one."""
    run = shutil.copytree(three, tmp_path / "run")
    file = run / "checkpoints" / "10" / "meta" / "metadata"
    changes = {"sealed": ('"sealed"', '"sealee"'), "digest": ('"digest"', '"digesu"'), "val_error": ("0.2", "0.9")}
    assert changes[path][0] in file.read_text()
    file.write_text(file.read_text().replace(*changes[path]))
    assert_best(run, 30)
    assert "10 is damaged" in caplog.text


def test_a_checkpoint_of_before_there_were_digests_is_read(three, tmp_path):
    run = shutil.copytree(three, tmp_path / "run")
    for one in steps(run):
        folder = run / "checkpoints" / str(one)
        sealed = json.loads((folder / "meta" / "metadata").read_text())["sealed"]
        (folder / "meta" / "metadata").write_text(json.dumps(sealed["meta"]))
        (folder / "metrics").mkdir()
        (folder / "metrics" / "metrics").write_text(json.dumps({"val_error": sealed["val_error"]}))
    assert_best(run, 10)
    assert checkpoint.resume(run, state(0), META)[0] == 40


def test_what_a_training_passes_over_it_writes_anew(three, tmp_path):
    run = shutil.copytree(three, tmp_path / "run")
    cut(run / "checkpoints" / "40" / "meta" / "metadata", 0.5)
    number, _, whole = checkpoint.resume(run, state(0), META)
    checkpoint.remove_all_but(run, whole)
    assert steps(run) == [10, 30]
    assert number == 30
    with checkpoint.manager(run, whole) as checkpoints:
        checkpoint.save(checkpoints, 40, state(40), META, 0.4)
        checkpoints.wait_until_finished()
    assert checkpoint.resume(run, state(0), META)[0] == 40


def test_what_was_half_removed_when_a_training_was_killed_is_gone(three, tmp_path):
    run = shutil.copytree(three, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "30" / "meta")
    number, _, whole = checkpoint.resume(run, state(0), META)
    checkpoint.remove_all_but(run, whole)
    assert (number, steps(run)) == (40, [10, 40])


def test_going_on_under_other_versions_is_said(three, caplog, monkeypatch):
    checkpoint.resume(three, state(0), META)
    assert caplog.text == ""
    now = checkpoint.versions.describe()
    monkeypatch.setattr(checkpoint.versions, "describe", lambda: now | {"jax": "99.0"})
    checkpoint.resume(three, state(0), META)
    assert f"goes on with other programs than before: jax {now['jax']}, now 99.0" in caplog.text


@pytest.mark.parametrize("name", ["a[1]", "b*", "c?"])
def test_a_name_that_orbax_takes_for_a_pattern(tmp_path, name):
    with pytest.raises(UserError, match=r"--workdir: .* has one of the characters"):
        checkpoint.check_path(tmp_path / name / "run")
    checkpoint.check_path(tmp_path / "run")
