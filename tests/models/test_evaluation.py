"""A network in evaluation mode."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ctd_jax import models
from ctd_jax.models.batch_norm import batch_norm


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return {"y": batch_norm(train=train, dtype=jnp.float32, axis_name=None, name="norm")(x)}


def test_batch_norm_takes_its_running_statistics():
    """(7 - 3) / sqrt(3.99999 + 1e-5) * 5 + 1 = 11, whatever else is in the batch."""
    leaves = {"scale": 5.0, "bias": 1.0}, {"mean": 3.0, "var": 3.99999}
    params, batch_stats = ({"norm": {key: jnp.array([value]) for key, value in one.items()}} for one in leaves)
    variables = {"params": params, "batch_stats": batch_stats}
    found = models.apply_in_evaluation(Norm(), variables, jnp.array([[7.0], [-90.0]]))
    np.testing.assert_allclose(found["y"][0], [11], rtol=1e-6)
