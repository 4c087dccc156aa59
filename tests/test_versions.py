"""What a result says about what made it."""

import platform
import subprocess
import sys

import jax
import numpy as np

import ctd_jax
from ctd_jax import versions


def test_the_versions_and_the_devices_are_named():
    found = versions.describe()
    assert found["ctd_jax"] == ctd_jax.__version__
    assert (found["jax"], found["numpy"]) == (jax.__version__, np.__version__)
    assert found["python"] == platform.python_version()
    assert {"jaxlib", "flax", "orbax", "platform"} <= found.keys()
    assert found["device"] == "4 x cpu"  # of conftest.py
    assert all(isinstance(value, str) and value for value in found.values())


def test_they_cost_nothing_where_jax_is_not_needed():
    code = "import sys; from ctd_jax import versions; print('device' in versions.describe(), 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_line_and_what_has_changed():
    old = {"ctd_jax": "1", "jax": "2", "platform": "Linux x86_64", "device": "2 x cpu"}
    assert versions.line(old) == "ctd_jax 1, jax 2, Linux x86_64, 2 x cpu"
    assert versions.changes(old, old) == []
    assert versions.changes(old, old | {"jax": "3"}) == ["jax 2, now 3"]


def test_a_package_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setitem(versions.PACKAGES, "orbax", "of-nobody")
    assert "orbax" not in versions.describe()
