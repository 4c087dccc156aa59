"""A configuration from a file, and the keys that the command line changes."""

import pathlib

import pytest

from configs import ctd_ed
from ctd_jax.config import load_config
from ctd_jax.errors import UserError

FT = str(pathlib.Path(__file__).parents[2] / "configs" / "ft.py")


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
    config = load_config(FT, ["data.root=faces, ~/hands"])
    assert config.data.root == "faces,/home/anna/hands"


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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.train.stpes = 4", "own.py: train.stpes: no such key; the nearest is train.steps"),
        ("del config.data.margin", "own.py: data.margin is missing from the configuration; begin with get_config"),
        ("config = None", "own.py: its get_config gives a NoneType; expected a ConfigDict"),
        ("config.data.root = '~/faces'", ""),
    ],
)
def test_the_keys_of_a_file_of_ones_own(line, message, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/anna")
    text = "from configs import ft\n\n\ndef get_config():\n    config = ft.get_config()\n"
    (tmp_path / "own.py").write_text(f"{text}    {line}\n    return config\n")
    if not message:
        assert load_config(str(tmp_path / "own.py")).data.root == "/home/anna/faces"
        return
    with pytest.raises(UserError, match=message):
        load_config(str(tmp_path / "own.py"), ["train.steps=3"])
