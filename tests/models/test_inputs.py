"""What goes into a network, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from ctd_jax import models
from ctd_jax.errors import UserError


@pytest.mark.parametrize(
    ("channels", "want"),
    [
        ("RGB", [(0.4 - 0.1) / 0.5, (0.6 - 0.2) / 1.0, (1.0 - 0.3) / 2.0]),
        ("BGR", [(1.0 - 0.1) / 0.5, (0.6 - 0.2) / 1.0, (0.4 - 0.3) / 2.0]),
    ],
)
def test_a_pixel_by_hand(channels, want):
    spec = {"channels": channels, "scale": 250.0, "mean": [0.1, 0.2, 0.3], "std": [0.5, 1.0, 2.0]}
    found = models.normalize(np.uint8([[100, 150, 250]]), spec)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, [want], rtol=1e-5)


def test_activations(monkeypatch):
    assert models.activation_dtype("auto") == jnp.float32  # on a CPU
    assert models.activation_dtype("bfloat16") == jnp.bfloat16
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert models.activation_dtype("auto") == jnp.bfloat16
    with pytest.raises(UserError, match="dtype is 'float16'; expected auto, float32 or bfloat16"):
        models.activation_dtype("float16")
