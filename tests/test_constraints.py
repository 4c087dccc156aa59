"""The constraints against SciPy's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance

from ctd_jax import constraints
from ctd_jax.errors import UserError


@pytest.mark.parametrize("shape", [(5,), (3, 4, 8)])
def test_encoder_distance_matches_scipy(shape):
    student, teacher = np.random.default_rng(0).normal(size=(2, 2, *shape)).astype(np.float32)
    want = [scipy.spatial.distance.cosine(s.ravel(), t.ravel()) for s, t in zip(student, teacher, strict=True)]
    np.testing.assert_allclose(jax.jit(constraints.encoder_distance)(student, teacher), want, atol=1e-6)


def test_encoder_distance_of_equal_and_opposite_maps():
    maps = np.random.default_rng(0).normal(size=(2, 3, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(constraints.encoder_distance(maps, maps), 0, atol=1e-6)
    np.testing.assert_allclose(constraints.encoder_distance(3 * maps, maps), 0, atol=1e-6)
    np.testing.assert_allclose(constraints.encoder_distance(-maps, maps), 2, atol=1e-6)


def test_only_the_student_gets_a_gradient():
    student, teacher = np.random.default_rng(0).normal(size=(2, 2, 3, 3, 4)).astype(np.float32)
    gradients = jax.grad(lambda s, t: constraints.encoder_distance(s, t).sum(), (0, 1))(student, teacher)
    assert np.abs(gradients[0]).max() > 1e-3
    assert (gradients[1] == 0).all()


def test_maps_of_zeros_give_a_finite_gradient():
    zeros, ones = jnp.zeros((1, 4)), jnp.ones((1, 4))
    assert np.isfinite(jax.grad(lambda s: constraints.encoder_distance(s, ones).sum())(zeros)).all()


def test_encoder_distance_is_float32_whatever_the_maps_are():
    student, teacher = np.random.default_rng(0).normal(size=(2, 2, 50)).astype(np.float32)
    half = constraints.encoder_distance(jnp.bfloat16(student), jnp.bfloat16(teacher))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, constraints.encoder_distance(student, teacher), atol=0.01)


def test_maps_of_other_shapes_are_refused():
    with pytest.raises(UserError, match=r"\(2, 4, 4, 8\).*\(2, 2, 2, 8\).*constraints.ed.layers"):
        constraints.encoder_distance(jnp.zeros((2, 4, 4, 8)), jnp.zeros((2, 2, 2, 8)))
