"""`ctd-jax COMMAND`: one table of commands, and configurations by their bare names."""

import pathlib
import subprocess
import sys

import pytest

from configs import ctd_ed
from ctd_jax import __main__ as commands
from ctd_jax import command
from ctd_jax.errors import UserError

REPO = pathlib.Path(__file__).parents[1]


def ctd_jax(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "ctd_jax", *arguments], cwd=REPO, capture_output=True, text=True)


LISTED = """
import runpy, sys
sys.argv = ["ctd-jax", *sys.argv[1:]]
try:
    runpy.run_module("ctd_jax", run_name="__main__")
finally:
    print(sorted({"jax", "absl", "numpy"} & set(sys.modules)))
"""


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_without_a_command_all_are_listed_and_nothing_is_loaded(arguments):
    done = subprocess.run([sys.executable, "-c", LISTED, *arguments], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0
    assert all(f"  ctd-jax {name} " in done.stdout for name in commands.COMMANDS)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("name", [name for name in commands.COMMANDS if name != "convert"])
def test_each_command_is_that_of_its_module(name):
    done = ctd_jax(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    module = commands.COMMANDS[name][0]
    direct = subprocess.run(
        [sys.executable, "-m", f"ctd_jax.{module}", "--help"], cwd=REPO, capture_output=True, text=True
    )
    assert done.stdout == direct.stdout


@pytest.mark.parametrize("name", commands.CONVERTERS)
def test_each_converter_is_found(name):
    done = ctd_jax("convert", name, "no_such_file", "--out=x.safetensors")
    assert done.returncode == 2
    assert "no_such_file" in done.stderr


@pytest.mark.parametrize("arguments", [("trian",), ("convert", "vggface")])
def test_a_mistyped_command_gets_the_nearest(arguments):
    done = ctd_jax(*arguments)
    assert done.returncode == 2
    assert f"nearest is {'train' if arguments == ('trian',) else 'vggface2'}" in done.stderr


def test_a_bare_name_is_a_configuration_that_comes_along(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, want in (("ctd_ed", ctd_ed.get_config()), ("ctd_ed:paper", ctd_ed.get_config("paper"))):
        assert command.configured(name, []).to_dict() == want.to_dict()


@pytest.mark.parametrize("name", ["default", "__init__", "ctd_edd", "configs/ctd_ed", "configs/ctd_ed.py", "../ft"])
def test_another_name_is_none(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="expected a Python file, or one of attention_transfer, .* nearest is"):
        command.configured(name, [])


def test_a_file_of_ones_own_may_import_its_neighbours(tmp_path):
    (tmp_path / "base.py").write_text("SEED = 7\n")
    own = "from . import base\nfrom configs import ft\n\n\ndef get_config(variant='demo'):\n"
    own += "    config = ft.get_config(variant)\n    config.seed = base.SEED\n    return config\n"
    (tmp_path / "own.py").write_text(own)
    assert command.configured(str(tmp_path / "own.py"), []).seed == 7
