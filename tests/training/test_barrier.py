"""An order within a compiled program. That it saves memory: test_step.py, the tests whose names end in `memory`."""

import jax
import jax.numpy as jnp
import numpy as np

from ctd_jax.training.barrier import after


def test_the_numbers_are_the_same():
    tree = {"x": jnp.arange(3.0), "n": jnp.arange(2, dtype=jnp.uint8)}
    found = jax.jit(after)({"done": jnp.ones(4), "and": jnp.array(jnp.inf)}, tree)
    for key, want in tree.items():
        np.testing.assert_array_equal(found[key], want, strict=True)


def test_every_array_depends_on_all_that_is_done():
    """XLA keeps the dependence: a compiled program of the result alone reads both arrays of `done`."""
    tree = {"x": jnp.arange(3.0), "n": jnp.arange(2, dtype=jnp.uint8)}
    for key in tree:
        one = {key: tree[key]}
        text = jax.jit(after).lower((jnp.ones(4), jnp.ones(5)), one).compile().as_text()
        entry = text[text.index("ENTRY") :]
        assert "f32[4]" in entry and "f32[5]" in entry, key
