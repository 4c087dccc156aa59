"""`ctd-jax COMMAND`: one table of commands."""

import pathlib
import subprocess
import sys

import pytest

from ctd_jax import __main__ as commands
from ctd_jax import converters

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


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in commands.COMMANDS if name != "convert"])
def test_each_command_is_that_of_its_module(name):
    done = ctd_jax(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    module = commands.COMMANDS[name][0]
    direct = subprocess.run(
        [sys.executable, "-m", f"ctd_jax.{module}", "--help"], cwd=REPO, capture_output=True, text=True
    )
    assert done.stdout == direct.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", converters.CONVERTERS)
def test_each_converter_is_found(name):
    done = ctd_jax("convert", name, "no_such_file", "--out=x.safetensors")
    assert done.returncode == 2
    assert "no_such_file" in done.stderr


@pytest.mark.parametrize("arguments", [("trian",), ("convert", "vggface")])
def test_a_mistyped_command_gets_the_nearest(arguments):
    done = ctd_jax(*arguments)
    assert done.returncode == 2
    assert f"nearest is {'train' if arguments == ('trian',) else 'vggface2'}" in done.stderr
