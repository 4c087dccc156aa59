"""A configuration: loaded, changed, checked, hashed, and read from the folder of an earlier run."""

import json
import pathlib
import re

import older
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from configs import ctd_ed, default, ft
from ctd_jax import config as room
from ctd_jax.config import check_config, config_hash, config_of_run, differences, flatten, load_config, notes_of_run
from ctd_jax.errors import UserError

REPO = pathlib.Path(__file__).parents[1]
FT = str(REPO / "configs" / "ft.py")

# ---------------------------------------------------------------- loading


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.steps=12", 12),
        ("train.encoder_lr=1e-4", 1e-4),
        ("train.encoder_lr=1", 1.0),
        ("data.root=a=b", "a=b"),
        ("data.split=", ""),
        ("teacher.start=False", False),
        ("teacher.start=true", True),
        ("model.decoder_channels=(8, 16)", (8, 16)),
        ("model.decoder_channels=[8]", (8,)),
        ("constraints.ed.layers=('stage1', 'stage2')", ("stage1", "stage2")),
        ("grid=()", ()),
        ('grid=("train.encoder_lr=1e-3 seed=1","seed=2")', ("train.encoder_lr=1e-3 seed=1", "seed=2")),
    ],
)
def test_a_value_has_the_type_of_the_one_before(override, value):
    node = load_config(FT, [override])
    for key in override.partition("=")[0].split("."):
        node = node[key]
    assert node == value and type(node) is type(value)


def test_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    config = load_config(FT, ["data.root=~/faces,~/hands", "teacher.weights=~/t.safetensors", "data.split=~x"])
    assert config.data.root == "/home/anna/faces,/home/anna/hands"
    assert config.teacher.weights == "/home/anna/t.safetensors"
    assert config.data.split == "~x"


def test_the_last_override_and_the_variant_hold():
    config = load_config(f"{FT}:paper", ["train.steps=3", "train.steps=4"])
    assert (config.train.steps, config.variant) == (4, "paper")
    assert load_config(FT, []).variant == "demo"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=1.5", "--config.train.steps=1.5: expected a whole number below 2147483648, like 800"),
        ("train.encoder_lr=fast", "--config.train.encoder_lr=fast: expected a number, like 0.001"),
        ("train.encoder_lr=nan", "--config.train.encoder_lr=nan: expected a number"),
        ("train.encoder_lr=1e400", "--config.train.encoder_lr=1e400: expected a number"),
        ("seed=99999999999999999999", "--config.seed=9+: expected a whole number below"),
        ("teacher.start=perhaps", "--config.teacher.start=perhaps: expected true or false, like True"),
        (
            "model.decoder_channels=8",
            r"--config.model.decoder_channels=8: expected brackets and commas, like \(64, 64\)",
        ),
        ("model.decoder_channels=(8", "expected brackets and commas"),
        ("model.decoder_channels=" + "(" * 3000, "expected brackets and commas"),
        ("constraints.ed.layers=stage1", "--config.constraints.ed.layers=stage1: expected brackets and commas"),
        ("constraints.ed.layers=('stage1')", "expected brackets and commas"),
        ("data.root=https://zenodo.org/a.zip", "--config.data.root: https://zenodo.org/a.zip is a URL; fetch it first"),
        ("data.root=faces,s3://bucket/a", "--config.data.root: s3://bucket/a is a URL"),
        ("train.stps=3", "--config.train.stps: no such key; the nearest is train.steps"),
        ("train=3", "--config.train: no such key"),
        ("train.steps", "--config.train.steps: expected a value"),
    ],
)
def test_what_cannot_be_read(override, message):
    with pytest.raises(UserError, match=message):
        load_config(FT, [override])


@pytest.mark.parametrize("name", ["nowhere.py", "README.md", f"{FT}:papre"])
def test_no_such_configuration(name):
    with pytest.raises(UserError, match="--config"):
        load_config(name, [])


def test_a_configuration_that_is_no_program(tmp_path):
    (tmp_path / "a.py").write_text("def get_config(:")
    (tmp_path / "b.py").write_text("x = 1")
    for name, found in (("a", "SyntaxError"), ("b", "AttributeError")):
        with pytest.raises(UserError, match=rf"--config=.*{name}.py: its get_config can't be called \({found}"):
            load_config(str(tmp_path / f"{name}.py"), [])


def test_a_bare_name_is_a_configuration_that_comes_along(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, want in (("ctd_ed", ctd_ed.get_config()), ("ctd_ed:paper", ctd_ed.get_config("paper"))):
        assert load_config(name, []).to_dict() == want.to_dict()


@pytest.mark.parametrize("name", ["default", "__init__", "ctd_edd", "configs/ctd_ed", "configs/ctd_ed.py", "../ft"])
def test_another_name_is_none(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="expected a Python file, or one of attention_transfer, .* nearest is"):
        load_config(name, [])


def test_a_file_of_ones_own_may_import_its_neighbours(tmp_path):
    (tmp_path / "base.py").write_text("SEED = 7\n")
    text = "from . import base\nfrom configs import ft\n\n\ndef get_config(variant='demo'):\n"
    text += "    config = ft.get_config(variant)\n    config.seed = base.SEED\n    return config\n"
    (tmp_path / "own.py").write_text(text)
    assert load_config(str(tmp_path / "own.py"), []).seed == 7


# ---------------------------------------------------------------- ranges


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.steps", -1, "-1; expected more than 0, or 0: chosen from the training pictures"),
        ("train.steps", "many", "'many'; expected more than 0, or 0: chosen from the training pictures"),
        ("train.decoder_lr", -1e-3, "-0.001; expected more than 0"),
        ("model.hourglass.depth", 0, "0; expected more than 0"),
        ("eval.threshold.mm", 0.0, "0.0; expected more than 0"),
        ("data.seed", -1, "-1; expected 0 or more"),
        ("segmentation.dice", -0.5, "-0.5; expected 0 or more"),
        ("data.share", 0.0, "0.0; expected more than 0, and 1 at most"),
        ("data.share", 1.1, "1.1; expected more than 0, and 1 at most"),
        ("augment.flip", 1.1, "1.1; expected 0 .. 1, and for scale less than 1"),
        ("augment.scale", 1.0, "1.0; expected 0 .. 1, and for scale less than 1"),
        ("model.decoder_channels", (8, 0), "(8, 0); expected whole numbers above 0"),
        ("data.synthetic.shots", (1, 2), "(1, 2); expected three whole numbers: for train, val and test"),
        ("domains.schedule", "balancd", "'balancd'; expected proportional, balanced or temperature"),
        ("domains.temperature", 0.0, "0.0; expected more than 0"),
        ("recognition.loss", "cosface", "'cosface'; expected softmax or arcface"),
        ("recognition.margin", 3.2, "3.2; expected 0 or more, and less than pi (radians)"),
        ("coordinates.weight", float("inf"), "inf; expected 0 (off) or more"),
        ("coordinates.weight", float("nan"), "nan; expected 0 (off) or more"),
        ("coordinates.weight", -1.0, "-1.0; expected 0 (off) or more"),
        ("train.average", 1.0, "1.0; expected 0 (off) .. 1, and less than 1"),
        ("train.batch_norm", "local", "'local'; expected global or device"),
        ("train.encoder_layers", "first", "'first'; expected all, last or none"),
    ],
)
def test_a_value_out_of_range(key, value, words):
    config = default.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=f"^{re.escape(f'{key} is {words}')}$"):
        check_config(config)


def test_share_and_budget_exclude_each_other():
    config = default.get_config()
    config.data.share, config.data.budget = 0.5, 7
    with pytest.raises(UserError, match="data.share is 0.5 and data.budget 7; give one of them"):
        check_config(config)


def test_every_range_is_of_a_key_that_there_is():
    keys = flatten(default.get_config())
    assert not [pattern for pattern in room.RANGES if not any(room.fnmatchcase(key, pattern) for key in keys)]


@pytest.mark.parametrize("variant", default.VARIANTS)
def test_what_is_checked_is_frozen_and_the_same(variant):
    config = ctd_ed.get_config(variant)
    frozen = check_config(config)
    assert isinstance(frozen, FrozenConfigDict)
    assert frozen.to_dict() == config.to_dict() and config_hash(frozen) == config_hash(config)
    with pytest.raises(AttributeError):
        frozen.train.steps = 3
    config.train.steps = 3
    assert frozen.train.steps != 3


# ---------------------------------------------------------------- as keys and values


def test_flatten():
    flat = flatten(ctd_ed.get_config())
    assert flat["constraints.ed.layers"] == ["encoder"]
    assert flat["seed"] == 0
    assert not any(isinstance(value, dict) for value in flat.values())


def test_hash_changes_with_what_changes_the_result():
    config = ctd_ed.get_config()
    before = config_hash(config)
    assert before == config_hash(ctd_ed.get_config())
    assert len(before) == 12
    config.parallel, config.eval.batch_size, config.data.cache_mib = "pmap", 7, 1
    assert config_hash(config) == before
    config.train.decoder_lr *= 2
    assert config_hash(config) != before
    assert config_hash(ft.get_config()) != before


# ---------------------------------------------------------------- of an earlier run


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(ctd_ed.get_config().to_dict()))
    return tmp_path


def test_a_run_of_today_is_read_as_it_is(run):
    assert config_of_run(run).to_dict() == ctd_ed.get_config().to_dict()


@pytest.mark.parametrize(
    ("version", "changed"),
    [
        # what was another default then: see `git log configs/default.py`
        (
            "first",
            {
                "data.budget": (20, 0),
                "data.synthetic.identities": ([40, 20, 60], [20, 20, 60]),
                "data.synthetic.shots": ([5, 5, 5], [1, 5, 5]),
                "eval.every": (50, 100),
                "train.steps": (400, 800),
            },
        ),
        *((version, {}) for version in list(older.CONFIGS)[1:]),
    ],
)
def test_a_key_that_a_run_lacks_has_its_default_of_then(run, version, changed):
    (run / "config.json").write_text(json.dumps(older.CONFIGS[version]))
    old = config_of_run(run)
    assert "bootstrap" not in old.eval
    assert differences(old, default.get_config()) == changed
    today = default.get_config()
    for section in ("data", "model", "domains", "teacher", "coordinates", "recognition", "segmentation", "train"):
        assert set(old[section]) == set(today[section]), section


def test_the_pictures_of_a_first_version_were_chosen_by_the_seed_of_the_data(run):
    (run / "config.json").write_text(
        json.dumps(older.CONFIGS["first"] | {"data": older.CONFIGS["first"]["data"] | {"seed": 3}})
    )
    assert config_of_run(run).data.budget_seed == 3


def test_every_key_is_one_of_the_first_version_or_has_a_default_of_then():
    """Who adds a key to configs/default.py adds it to `config.ADDED`, with its default; a new term needs no row."""
    first = set(flatten(ConfigDict(older.CONFIGS["first"])))
    today = flatten(default.get_config())
    added = {key for key in set(today) - first if not key.startswith("constraints.")}
    added |= {key for key in set(today) - first if key.startswith(("constraints.ed.", "constraints.hint.form"))}
    assert set(room.ADDED) == added


def test_a_term_that_only_one_has_is_a_difference_where_it_is_on():
    old, new = ctd_ed.get_config(), ctd_ed.get_config()
    del old.constraints["kd"]
    assert differences(old, new) == differences(new, old) == {}
    new.constraints.kd.weight = 0.5
    assert differences(old, new) == {
        "constraints.kd.layers": (None, ["heatmaps"]),
        "constraints.kd.weight": (None, 0.5),
    }
    new = ctd_ed.get_config()
    new.constraints.cd.form = "l2"  # of a term that both have
    assert differences(old, new) == {"constraints.cd.form": ("kl", "l2")}


def test_keys_of_ones_own_are_kept(run):
    config = ctd_ed.get_config()
    config.note = "with the new microscope"
    config.constraints.mine = ConfigDict({"weight": 0.5})
    (run / "config.json").write_text(json.dumps(config.to_dict()))
    assert config_of_run(run).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.image_size", None, "it has no data.image_size, so it is damaged"),
        ("data.image_size", "large", "data.image_size is 'large'; expected a whole number below 2147483648"),
        ("data.image_size", 9.5, "data.image_size is 9.5; expected a whole number"),
        ("data.margin", True, "data.margin is True; expected a number"),
        ("model.decoder_channels", 64, "model.decoder_channels is 64; expected brackets and commas"),
        ("teacher.start", 1, "teacher.start is 1; expected true or false"),
        ("dtype", ["float32"], "dtype is .*; expected text"),
        ("domains", 3, "domains is 3; expected keys in braces"),
        ("eval.threshold", 3, "eval.threshold is 3; expected keys in braces"),
        ("versions", "0.1.0", "its versions and contents can't be read, so it is damaged"),
        ("contents", ["a"], "its versions and contents can't be read, so it is damaged"),
    ],
)
def test_a_value_of_another_kind(run, key, value, message):
    content = json.loads((run / "config.json").read_text())
    *parents, last = key.split(".")
    node = content
    for part in parents:
        node = node[part]
    node[last] = value
    if value is None:
        del node[last]
    (run / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"config.json: {message}.*; restore the file, or start again"):
        (notes_of_run if key in ("versions", "contents") else config_of_run)(run)


def test_a_damaged_or_missing_config_json(run):
    (run / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json: not JSON"):
        config_of_run(run)
    (run / "config.json").unlink()
    with pytest.raises(UserError, match="config.json: no such file"):
        config_of_run(run)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[1]", "expected a JSON object, found list"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"task": "landmarks", "data": {}, "model": 3}', "no model, teacher, train, eval, so it is damaged"),
        (b'{"data": {}, "model": {}, "teacher": {}, "train": {}, "eval": {}}', "no task, so it is damaged"),
    ],
)
def test_every_damage_of_config_json_has_a_message(run, text, message):
    (run / "config.json").write_bytes(text)
    with pytest.raises(UserError, match=rf"config.json: .*{message}.*restore the file, or start again"):
        config_of_run(run)
