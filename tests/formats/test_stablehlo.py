"""StableHLO: one file for all platforms."""

import jax
import jax.numpy as jnp
import pytest
from exported import POINTS, S, form_of, network
from jax import export


@pytest.mark.slow
def test_stablehlo_is_for_all_platforms_in_the_forms_of_each():
    """MobileFaceNet and its decoder have 16 depthwise convolutions, 33 of 1x1, the stem, and 4 for each deconvolution.
    For accelerators all are convolutions, on a CPU the stem and, its maps being large, the second deconvolution."""
    body, variables = network("mobilefacenet")
    (b,) = export.symbolic_shape("b")
    batch = jax.ShapeDtypeStruct((b, S, S, 3), jnp.uint8)
    with jax.default_matmul_precision("highest"):
        exported = export.deserialize(bytearray(form_of("stablehlo").write(body, variables, batch, POINTS, {})))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert [str(x.shape) for x in exported.out_avals] == ["(b, 5, 2)", "(b, 5)"]
    lines = exported.mlir_module().splitlines()
    convolutions = [line for line in lines if "stablehlo.convolution" in line]
    grouped = [line for line in convolutions if "feature_group_count = 1 " not in line]
    assert (len(grouped), len(convolutions)) == (3 * 16, 3 * (16 + 33 + 1 + 8 + 5))  # each once for a platform
    assert any("stablehlo.case" in line for line in lines)
    assert all(line.count("precision HIGHEST") == 2 for line in convolutions)  # float32, not TF32 or bfloat16
