"""A whole run where JAX's backend calls itself a GPU: the forms for accelerators, bfloat16, pictures on the device, and
a compiler that does not count operations. Only the kernels are a CPU's."""

import json
import pathlib

import jax
import numpy as np
import pytest
import tiny

from ctd_jax.predictor import Predictor

pytestmark = pytest.mark.slow
REPO = pathlib.Path(__file__).parents[2]


def test_a_run_on_another_backend(teacher_file, tmp_path, monkeypatch, cli):
    count = jax.stages.Lowered.cost_analysis
    monkeypatch.setattr(
        jax.stages.Lowered, "cost_analysis", lambda self: count(self) if jax.config.jax_default_device else None
    )
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    workdir, exported = tmp_path / "run", tmp_path / "landmarks.stablehlo"
    config = f"--config={REPO / 'configs' / 'recipe.py'}"
    small = tiny.arguments(teacher_file, constraints__delta__layers=("stage1",))
    code, _, err = cli("ctd_jax.main", config, f"--workdir={workdir}", *small)
    assert code == 0, err
    assert json.loads((workdir / "metrics.json").read_text())["gflops"] > 0
    code, _, err = cli("ctd_jax.export", f"--workdir={workdir}", "--to=stablehlo", f"--out={exported}")
    assert code == 0, err
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    found = Predictor(workdir)([picture]).xy
    monkeypatch.undo()
    np.testing.assert_allclose(found, Predictor(workdir)([picture]).xy, atol=0.5)  # of 40 px, in bfloat16
