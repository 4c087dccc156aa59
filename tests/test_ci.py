"""The workflow tries the oldest and the newest versions that setup.cfg promises."""

import configparser
import pathlib
import re

import pytest
import yaml

REPO = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(REPO / "setup.cfg", "utf-8")
    return parser


@pytest.fixture(scope="module")
def pairs():
    """Name of a pair of versions -> its entry in the workflow."""
    content = yaml.safe_load((REPO / ".github/workflows/ci.yml").read_text("utf-8"))
    (job,) = content["jobs"].values()
    assert job["steps"][-1]["run"] == "bash .ci/run"
    assert job["steps"][-1]["env"] == {"PIP_CONSTRAINT": "${{ matrix.constraint }}"}
    return {pair["versions"]: pair for pair in job["strategy"]["matrix"]["include"]}


def test_python_is_the_oldest_and_the_newest(setup, pairs):
    named = re.findall(r"Python :: (3\.\d+)$", setup["metadata"]["classifiers"], re.M)
    versions = sorted(named, key=lambda version: int(version[2:]))
    assert setup["options"]["python_requires"] == f">={versions[0]}"
    assert (pairs["oldest"]["python"], pairs["newest"]["python"]) == (versions[0], versions[-1])


def test_jax_is_the_oldest_and_the_newest(setup, pairs):
    (oldest,) = re.findall(r"^jax>=(\S+)$", setup["options"]["install_requires"], re.M)
    constraint = (REPO / pairs["oldest"]["constraint"]).read_text("utf-8")
    assert re.findall(r"^jax==(\S+)$", constraint, re.M) == [f"{oldest}.0"]
    assert re.findall(r"^jaxlib==(\S+)$", constraint, re.M) == [f"{oldest}.0"]
    assert pairs["newest"]["constraint"] == "/dev/null"
