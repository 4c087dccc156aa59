"""What benchmarks/step.py times is a step that trains and a prediction."""

import jax
import numpy as np
import pytest

from benchmarks import step


@pytest.fixture(scope="module")
def ours():
    cached = jax.config.values["jax_enable_compilation_cache"]
    yield step.Ours(
        batch=4, size=32, landmarks=3, teacher=True, encoder="resnet8", **{"model.decoder_channels": (8, 8)}
    )
    jax.config.update("jax_enable_compilation_cache", cached)


@pytest.mark.slow
def test_a_call_is_a_training_step_or_a_prediction(ours):
    before = jax.device_get(ours._state)
    ours.train()
    after = jax.device_get(ours._state)
    assert after.step == before.step + ours.steps_per_call
    different = jax.tree.map(lambda a, b: bool(np.any(a != b)), before.params, after.params)
    assert all(jax.tree.leaves(different["decoder"]))
    ours.predict()
