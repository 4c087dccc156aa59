"""What is said where JAX lacks the devices that were wanted."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from ctd_jax.training import devices

REPO = pathlib.Path(__file__).parents[2]
CODE = "from ctd_jax import command; import jax; command.run(jax.devices, '')"


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["cuda", "quantum"])
def test_a_device_that_is_not_there(platform):
    environment = os.environ | {"JAX_PLATFORMS": platform}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=REPO, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: JAX_PLATFORMS is '{platform}', and JAX can't start on it: ")
    assert "unset it" in last and "Traceback" not in done.stderr


def test_an_assertion_of_ours_is_no_missing_device():
    try:
        raise AssertionError
    except AssertionError as error:
        assert devices.explain(error) is None


@pytest.mark.parametrize(
    ("platforms", "driver", "said"),
    [
        ("", True, "seems to have an NVIDIA GPU, but JAX computes on the CPU"),
        ("", False, None),
        ("cpu", True, None),
        ("cuda,cpu", False, "JAX_PLATFORMS is cuda,cpu, but JAX found no cuda and computes on the CPU"),
    ],
)
def test_a_fall_back_to_the_cpu(tmp_path, monkeypatch, capsys, caplog, platforms, driver, said):
    (tmp_path / "version").touch()
    path = str(tmp_path / "version") if driver else str(tmp_path / "nothing")
    monkeypatch.setattr(devices, "DRIVERS", {path: ("an NVIDIA GPU", "pip install 'jax[cuda12]'")})
    before = jax.config.jax_platforms
    try:
        jax.config.update("jax_platforms", platforms)
        devices.report()
    finally:
        jax.config.update("jax_platforms", before)
    assert capsys.readouterr().err.count("\n") == 1
    assert (said in caplog.text) if said else not caplog.text


@pytest.mark.parametrize("platforms", ["quantum,cpu", "cpu"])
def test_what_comes_once_is_computed_on_the_host(platforms, monkeypatch):
    here = jax.local_devices(backend="cpu")
    monkeypatch.setattr(jax, "default_backend", lambda: platforms.partition(",")[0])
    monkeypatch.setattr(jax, "local_devices", lambda backend: here[-1:])
    with devices.host():
        (found,) = jax.numpy.ones(3).devices()
    assert found == (here[0] if platforms == "cpu" else here[-1])


def test_there_may_be_no_host_for_jax(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "quantum")
    monkeypatch.setattr(jax, "local_devices", lambda backend: jax.devices("quantum"))
    with devices.host():
        assert jax.numpy.ones(3).sum() == 3
