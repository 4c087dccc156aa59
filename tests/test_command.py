"""A configuration changed by what follows --config. on the command line."""

import pathlib
import subprocess
import sys

import pytest

from ctd_jax import command
from ctd_jax.errors import UserError

FT = str(pathlib.Path(__file__).parents[1] / "configs" / "ft.py")


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
    node = command.configured(FT, [override])
    for key in override.partition("=")[0].split("."):
        node = node[key]
    assert node == value and type(node) is type(value)


def test_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    config = command.configured(FT, ["data.root=~/faces,~/hands", "teacher.weights=~/t.safetensors", "data.split=~x"])
    assert config.data.root == "/home/anna/faces,/home/anna/hands"
    assert config.teacher.weights == "/home/anna/t.safetensors"
    assert config.data.split == "~x"


def test_the_last_override_and_the_variant_hold():
    config = command.configured(f"{FT}:paper", ["train.steps=3", "train.steps=4"])
    assert (config.train.steps, config.variant) == (4, "paper")
    assert command.configured(FT, []).variant == "demo"


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
        command.configured(FT, [override])


@pytest.mark.parametrize("name", ["nowhere.py", "README.md", f"{FT}:papre"])
def test_no_such_configuration(name):
    with pytest.raises(UserError, match="--config"):
        command.configured(name, [])


COMMANDS = ["ctd_jax.main", "ctd_jax.predict", "ctd_jax.compare", "ctd_jax.learning_curve", "convert.vggface2"]
HEAVY = ("jax", "flax", "orbax", "grain", "tensorflow_datasets", "matplotlib", "rich")
HELP = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *(name for name in HEAVY if name in sys.modules))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command):
    """So that it is there at once; with what a training needs it takes seconds."""
    script = f"HEAVY = {HEAVY}{HELP}"
    repo = pathlib.Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script, command], cwd=repo, capture_output=True, text=True, check=True)
    *text, last = done.stdout.splitlines()
    assert len(text) > 5 and last == "imported:"
