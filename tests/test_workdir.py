"""Whose folder it is: nothing in a stranger's is touched."""

import json

import pytest

from configs import ctd_ed, ft
from ctd_jax import workdir as workdirs
from ctd_jax.errors import UserError

ROWS = [("a.png", "anna", "train", "00"), ("b.png", "berta", "test", "11")]


def content(folder):
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(ctd_ed.get_config().to_dict()))
    workdirs.claim_split(folder, ROWS)
    return folder


def test_flatten():
    flat = workdirs.flatten(ctd_ed.get_config())
    assert flat["constraints.ed.layers"] == ["encoder"]
    assert flat["seed"] == 0
    assert not any(isinstance(value, dict) for value in flat.values())


def test_hash_changes_with_what_changes_the_result():
    config = ctd_ed.get_config()
    before = workdirs.config_hash(config)
    assert before == workdirs.config_hash(ctd_ed.get_config())
    assert len(before) == 12
    config.parallel, config.eval.batch_size, config.data.cache_mib = "pmap", 7, 1
    assert workdirs.config_hash(config) == before
    config.train.decoder_lr *= 2
    assert workdirs.config_hash(config) != before
    assert workdirs.config_hash(ft.get_config()) != before


def test_a_new_folder_and_the_same_run_are_claimed(run, tmp_path):
    before = content(tmp_path)
    (tmp_path / "empty").mkdir()
    config = ctd_ed.get_config()
    for folder in (tmp_path / "new", tmp_path / "empty", run):
        workdirs.claim(folder, config)
    config.parallel = "pmap"
    workdirs.claim(run, config)
    workdirs.claim_split(run, ROWS)
    assert content(tmp_path) == before


def test_another_configuration_is_refused(run):
    before = content(run)
    config = ctd_ed.get_config()
    config.train.steps = 77
    with pytest.raises(UserError, match="train.steps was 800, is 77"):
        workdirs.claim(run, config)
    assert content(run) == before


def test_a_strangers_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    before = content(tmp_path)
    with pytest.raises(UserError, match=r"is not a run .*thesis.tex.*--workdir"):
        workdirs.claim(tmp_path, ctd_ed.get_config())
    with pytest.raises(UserError, match=r"thesis.tex is a file.*--workdir"):
        workdirs.claim(tmp_path / "thesis.tex", ctd_ed.get_config())
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "rows", [[ROWS[0]], [ROWS[0], ("b.png", "berta", "test", "22")], [ROWS[0], ("b.png", "berta", "val", "11")]]
)
def test_other_pictures_are_refused(run, rows):
    before = content(run)
    with pytest.raises(UserError, match=r"split.csv.*not those that this run began with"):
        workdirs.claim_split(run, rows)
    assert content(run) == before


def test_split_csv_is_the_contract(run):
    assert (run / "split.csv").read_text().splitlines() == [
        "image,subject,split,sha256",
        "a.png,anna,train,00",
        "b.png,berta,test,11",
    ]


def test_a_damaged_or_missing_config_json(run):
    (run / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json: not JSON"):
        workdirs.read_config(run)
    (run / "config.json").unlink()
    with pytest.raises(UserError, match="config.json: no such file"):
        workdirs.read_config(run)
