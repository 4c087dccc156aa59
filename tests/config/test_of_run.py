"""The configuration of a run, also of one that an older version made."""

import json

import older
import pytest
from ml_collections import ConfigDict

from configs import ctd_ed, default
from ctd_jax.config import config_of_run, differences, flatten, notes_of_run
from ctd_jax.config.of_run import ADDED
from ctd_jax.errors import UserError


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
    sections = (
        "data",
        "model",
        "domains",
        "teacher",
        "coordinates",
        "presence",
        "recognition",
        "segmentation",
        "train",
    )
    for section in sections:
        assert set(old[section]) == set(today[section]), section


def test_the_pictures_of_a_first_version_were_chosen_by_the_seed_of_the_data(run):
    (run / "config.json").write_text(
        json.dumps(older.CONFIGS["first"] | {"data": older.CONFIGS["first"]["data"] | {"seed": 3}})
    )
    assert config_of_run(run).data.budget_seed == 3


def test_every_key_is_one_of_the_first_version_or_has_a_default_of_then():
    """Who adds a key to configs/default.py adds it to `ADDED`, with its default; a new term needs no row."""
    first = set(flatten(ConfigDict(older.CONFIGS["first"])))
    today = flatten(default.get_config())
    added = {key for key in set(today) - first if not key.startswith("constraints.")}
    added |= {key for key in set(today) - first if key.startswith(("constraints.ed.", "constraints.hint.form"))}
    assert set(ADDED) == added


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
