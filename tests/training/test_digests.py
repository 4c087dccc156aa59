"""Digests of trees: by hand, and changed by any bit."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest

from ctd_jax.training import digests

TREE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": {"c": np.float64(0.5)}}


def test_a_digest_by_hand():
    """Name, type, shape and bytes of one array after the other; `tobytes` is C order, also of a transposed array."""
    content = b"a float32 (2, 3)\n" + TREE["a"].tobytes() + b"b/c float64 ()\n" + np.float64(0.5).tobytes()
    assert digests.of_tree(TREE) == hashlib.sha256(content).hexdigest()
    transposed = {"a": np.ascontiguousarray(TREE["a"].T).T, "b": TREE["b"]}
    assert digests.of_tree(transposed) == digests.of_tree(TREE)


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.nextafter(TREE["a"], np.float32(9)), "b": TREE["b"]},
        {"a": TREE["a"].reshape(3, 2), "b": TREE["b"]},
        {"a": TREE["a"].view(np.int32), "b": TREE["b"]},
        {"a": TREE["a"], "b": {"d": np.float64(0.5)}},
        {"a": TREE["a"], "b": {"c": np.float32(0.5)}},
    ],
    ids=["value", "shape", "type", "name", "precision"],
)
def test_any_difference_changes_it(other):
    assert digests.of_tree(other) != digests.of_tree(TREE)


def test_types_that_numpy_lacks():
    """bfloat16 of ml_dtypes."""
    ones = np.asarray(jnp.ones(3, jnp.bfloat16))
    assert digests.of_tree({"x": ones}) == hashlib.sha256(b"x bfloat16 (3,)\n" + b"\x80\x3f" * 3).hexdigest()
