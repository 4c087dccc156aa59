"""ONNX: the translation of the equations; whole networks are in test_formats.py."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exported import POINTS, S, form_of, network
from jax import export

from ctd_jax.errors import UserError


@pytest.mark.slow
def test_onnx_is_made_of_what_onnxruntime_joins_with_a_convolution():
    """MobileFaceNet and its decoder have 32 ReLU6 and 4 ReLU; no padding, no cut and no matrix product is left."""
    form, (body, variables) = form_of("onnx"), network("mobilefacenet")
    import onnx

    (b,) = export.symbolic_shape("b")
    content = form.write(body, variables, jax.ShapeDtypeStruct((b, S, S, 3), jnp.uint8), POINTS, {})
    counted = collections.Counter(node.op_type for node in onnx.load_from_string(content).graph.node)
    assert (counted["Conv"], counted["Clip"], counted["Relu"]) == (58, 32, 2 + 2)
    assert not {"MatMul", "Pad", "Slice"} & set(counted)


def test_onnx_limits_only_what_it_is_told_to():
    form, x = form_of("onnx"), np.array([-2.0, 1.0, 5.0], np.float32)

    def body(_, x):
        positive = jax.nn.relu(x)
        return positive, jnp.minimum(x, 3.0)

    found = form.load(form.write(body, None, jax.ShapeDtypeStruct((3,), jnp.float32), POINTS, {}), POINTS)(x)
    np.testing.assert_array_equal(found, [[0, 1, 5], [-2, 1, 3]])


def test_what_onnx_can_not_say():
    form, batch = form_of("onnx"), jax.ShapeDtypeStruct((1, S, S, 3), jnp.float32)
    for body in (lambda v, x: (jnp.sin(x), x), lambda v, x: (jnp.einsum("bhwc,bhwd->bcd", x, x), x)):
        with pytest.raises(UserError, match="no ONNX for .* = (sin|dot_general)"):
            form.write(body, None, batch, POINTS, {})
