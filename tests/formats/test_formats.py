"""Networks as files: each format in its own runtime against the network in JAX. TF-Lite is tested here alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exported import NETWORKS, POINTS, N, S, form_of, network, noise
from jax import export

from ctd_jax import formats

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("to", formats.FORMATS)
def test_every_network_in_every_format(to, name):
    form, (body, variables) = form_of(to), network(name)
    (b,) = export.symbolic_shape("b") if formats.FORMATS[to].any_batch else (1,)
    content = form.write(body, variables, jax.ShapeDtypeStruct((b, S, S, 3), jnp.uint8), POINTS, {})
    call = form.load(content, POINTS)
    pictures = noise(N)
    want = jax.jit(body)(variables, pictures)
    for n in (1, N):
        found = call(pictures[:n])
        assert [x.shape for x in found] == [(n, 5, 2), (n, 5)]
        assert np.ptp(want[0][:n]) > 10 and np.ptp(want[1][:n]) > 0.01
        for x, y in zip(found, want, strict=True):
            np.testing.assert_allclose(x, y[:n], atol=2e-3, err_msg=name)
    weights = sum(x.nbytes for x in jax.tree.leaves(variables))
    assert 0.9 * weights < len(content) < 1.3 * weights + 300_000  # each of them once
