"""Whose folder it is: nothing in a stranger's is touched."""

import json
import os
import shutil

import pytest

from configs import ctd_ed
from ctd_jax import run_folder, versions
from ctd_jax.config import config_hash, config_of_run, content_of, flatten
from ctd_jax.errors import UserError

ROWS = [("a.png", "anna", "train", "00"), ("b.png", "berta", "test", "11")]


def content(folder):
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(ctd_ed.get_config().to_dict()))
    run_folder.claim_split(folder, ROWS)
    return folder


def test_a_new_folder_and_the_same_run_are_claimed(run, tmp_path):
    before = content(tmp_path)
    (tmp_path / "empty").mkdir()
    config = ctd_ed.get_config()
    for folder in (tmp_path / "new", tmp_path / "empty", run):
        run_folder.claim(folder, config)
    config.parallel = "pmap"
    run_folder.claim(run, config)
    run_folder.claim_split(run, ROWS)
    assert content(tmp_path) == before


def test_another_configuration_is_refused(run):
    before = content(run)
    config = ctd_ed.get_config()
    config.train.steps = 77
    with pytest.raises(UserError, match="train.steps was 800, is 77"):
        run_folder.claim(run, config)
    assert content(run) == before


def test_a_strangers_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    before = content(tmp_path)
    with pytest.raises(UserError, match=r"is not a run .*thesis.tex.*--workdir"):
        run_folder.claim(tmp_path, ctd_ed.get_config())
    with pytest.raises(UserError, match=r"thesis.tex is a file.*--workdir"):
        run_folder.claim(tmp_path / "thesis.tex", ctd_ed.get_config())
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "rows", [[ROWS[0]], [ROWS[0], ("b.png", "berta", "test", "22")], [ROWS[0], ("b.png", "berta", "val", "11")]]
)
def test_other_pictures_are_refused(run, rows):
    before = content(run)
    with pytest.raises(UserError, match=r"split.csv.*not those that this run began with"):
        run_folder.claim_split(run, rows)
    assert content(run) == before


def test_split_csv_is_the_contract(run):
    assert (run / "split.csv").read_text().splitlines() == [
        "image,subject,split,sha256",
        "a.png,anna,train,00",
        "b.png,berta,test,11",
    ]


# ---------------------------------------------------------------- what a killed process leaves behind


@pytest.mark.parametrize(
    "names", [["config.json.partial"], ["split.csv", "config.json.partial"], ["split.csv.partial"]]
)
def test_a_run_that_was_killed_before_it_began_begins_again(tmp_path, names):
    """It may even have had other pictures: nothing has been trained on them."""
    for name in names:
        (tmp_path / name).write_text("image,subject,split,sha256\nz.pn")
    config = ctd_ed.get_config()
    with run_folder.held(tmp_path, config):
        run_folder.begin(tmp_path, config, ROWS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "split.csv"]
    assert flatten(config_of_run(tmp_path)) == flatten(config)
    assert (tmp_path / "split.csv").read_text().count("\n") == 3


def test_left_overs_of_a_domain_are_taken_away_too(run):
    (run / "hands").mkdir()
    for path in (run / "metrics.json.partial", run / "hands" / "report.html.partial"):
        path.touch()
    with run_folder.held(run, ctd_ed.get_config()):
        assert not list(run.rglob("*.partial"))


def test_a_run_in_use_is_refused(run):
    config = ctd_ed.get_config()
    with (
        run_folder.held(run, config),
        pytest.raises(UserError, match=f"in use by process {os.getpid()} on "),
        run_folder.held(run, config),
    ):
        pass


# ---------------------------------------------------------------- versions


def test_config_json_names_what_made_the_run(tmp_path, caplog, monkeypatch):
    config = ctd_ed.get_config()
    run_folder.begin(tmp_path, config, ROWS)
    first = json.loads((tmp_path / "config.json").read_text())["versions"]
    assert first == [versions.describe()]
    run_folder.begin(tmp_path, config, ROWS)
    assert json.loads((tmp_path / "config.json").read_text())["versions"] == first
    assert not caplog.text
    monkeypatch.setattr(versions, "describe", lambda: first[0] | {"jax": "9.9"})
    run_folder.claim(tmp_path, config)
    run_folder.begin(tmp_path, config, ROWS)
    assert f"other versions than before (jax {first[0]['jax']}, now 9.9)" in caplog.text
    assert [one["jax"] for one in json.loads((tmp_path / "config.json").read_text())["versions"]][1:] == ["9.9"]


# ---------------------------------------------------------------- where the files lie


@pytest.fixture
def elsewhere(tmp_path):
    """A run of a folder, a split, weights and a teacher's run, and copies of all of them in another place."""
    first, second, config = tmp_path / "first", tmp_path / "second", ctd_ed.get_config()
    (first / "faces" / "images").mkdir(parents=True)
    (first / "faces" / "images" / "a.png").write_bytes(b"picture")
    (first / "faces" / "landmarks.csv").write_text("image,chin_x,chin_y\n")
    (first / "split.csv").write_text("image,split\n")
    (first / "teacher.safetensors").write_bytes(b"weights")
    (first / "teacher").mkdir()
    (first / "teacher" / "config.json").write_text("{}")
    shutil.copytree(first, second)
    paths = {"data.root": "faces", "data.split": "split.csv", "teacher.weights": "teacher.safetensors"}
    paths |= {"teacher.run": "teacher"}

    def of(place, **others):
        config.update_from_flattened_dict({key: f"{place}/{name}" for key, name in paths.items()} | others)
        return config

    run_folder.begin(tmp_path / "run", of(first), ROWS)
    return tmp_path / "run", first, second, of


def test_contents_decide_not_where_they_lie(elsewhere, monkeypatch):
    run, first, second, of = elsewhere
    code = config_hash(of(first))
    run_folder.claim(run, of(second))
    assert config_hash(of(second)) == code
    monkeypatch.chdir(first)
    run_folder.claim(run, of("."))
    assert config_hash(of(".")) == code
    shutil.rmtree(first)
    run_folder.claim(run, of(second))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("faces/landmarks.csv", "data.root"),
        ("faces/images/a.png", "data.root"),
        ("split.csv", "data.split"),
        ("teacher.safetensors", "teacher.weights"),
        ("teacher/config.json", "teacher.run"),
    ],
)
def test_other_contents_are_refused(elsewhere, name, key):
    run, first, second, of = elsewhere
    before = content(run)
    (second / name).write_bytes(b"something else")
    with pytest.raises(UserError, match=rf"another configuration: {key} was .*first.*, is .*second.*holds differs"):
        run_folder.claim(run, of(second))
    (second / name).unlink()
    with pytest.raises(UserError, match=f"another configuration: {key} was"):
        run_folder.claim(run, of(second))
    shutil.rmtree(second)
    with pytest.raises(UserError, match=rf"another .*{key} was \S+ is '{second}\S*' \(which is not there\)"):
        run_folder.claim(run, of(second))
    assert content(run) == before


def test_what_changed_in_its_place_is_named(elsewhere):
    run, first, _, of = elsewhere
    assert run_folder.changed(run, of(first)) == []
    (first / "faces/landmarks.csv").write_text("image,chin_x,chin_y\nimages/a.png,1,2\n")
    assert run_folder.changed(run, of(first)) == [f"{first}/faces"]
    (first / "split.csv").unlink()
    (first / "teacher.safetensors").write_bytes(b"other weights")
    (first / "teacher/new.csv").write_text("")  # the predictions of that run on other pictures
    changed = [f"{first}/{name}" for name in ("faces", "split.csv", "teacher.safetensors")]
    assert run_folder.changed(run, of(first)) == changed
    content = json.loads((run / "config.json").read_text())
    del content["contents"]
    (run / "config.json").write_text(json.dumps(content))
    assert run_folder.changed(run, of(first)) == [], "an older run does not know"


def test_runs_among_the_data_are_none_of_them(elsewhere):
    _, first, _, of = elsewhere
    faces, config = first / "faces", of(first)
    before = content_of(str(faces))
    for run in (faces / "runs" / "a", faces / "curve" / "runs" / "ft" / "b"):
        (run / "tfds").mkdir(parents=True)
        (run / "tfds" / "pictures.zip").write_bytes(b"prepared")
        run_folder.begin(run, config, ROWS)
        (run / "metrics.json").write_text("{}")
    (faces / "curve" / "tfds").mkdir()
    (faces / "curve" / "curve.csv").write_text("run\n")
    assert content_of(str(faces)) == before
    assert run_folder.changed(faces / "runs" / "a", config) == []
    (faces / "runs" / "a.json").write_text("{}")
    assert run_folder.changed(faces / "runs" / "a", config) == [str(faces)]
    of_run = content_of(str(faces / "runs" / "a"))
    (faces / "runs" / "a" / "metrics.json").write_text("[]")
    assert content_of(str(faces / "runs" / "a")) != of_run, "a run that is named itself, as a teacher"


def test_a_word_is_not_a_path(run):
    config = ctd_ed.get_config()
    config.teacher.weights = "none"
    with pytest.raises(UserError, match="teacher.weights was 'embedded', is 'none'"):
        run_folder.claim(run, config)
    assert config_hash(config) != config_hash(ctd_ed.get_config())


@pytest.mark.parametrize("damage", [b"", b"\xff\0", b"image,subject,split,sha256\na.png,an", b"\0" * 200])
def test_every_damage_of_split_csv_has_a_message(run, damage):
    (run / "split.csv").write_bytes(damage)
    with pytest.raises(UserError, match=r"split.csv is damaged \(.*restore it, or start again in a new folder"):
        run_folder.claim_split(run, ROWS)
