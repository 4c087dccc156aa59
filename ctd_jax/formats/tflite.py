"""TF-Lite, by LiteRT's converter from StableHLO, without TensorFlow and PyTorch."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from ctd_jax.formats import INPUT
from ctd_jax.models import layers
from ctd_jax.typing import Variables

SIGNATURE = "serving_default"  # what interpreters look for where no other name is given


def write(
    body: Callable, variables: Variables, batch: jax.ShapeDtypeStruct, outputs: Sequence[str], metadata: dict[str, Any]
) -> bytes:
    """`body(variables, pictures)` as a TF-Lite file, whose shapes are fixed.

    Args:
      body: gives a tuple of arrays.
      variables: its first argument; they are in the file.
      batch: shape `[1, S, S, 3]` and type of the pictures.
      outputs: names of the results.
      metadata: not used, as the format has no place for it.
    """
    from litert_converter import converter_api_ext
    from litert_converter.mlir import ir, passmanager

    with layers.traced_for("any"):
        module = export.export(jax.jit(functools.partial(body, variables)), platforms=("cpu",))(batch).mlir_module()
    context = ir.Context()
    converter_api_ext.prepare_mlir_context(context)
    with context:
        program = ir.Module.parse(module)
        converter_api_ext.set_signature(program.operation, SIGNATURE, [INPUT], list(outputs))
        converter_api_ext.run_convert_to_tfl_passes(
            program, passmanager.PassManager(), converter_api_ext.ConvertToTFLConfig()
        )
        return converter_api_ext.export_flatbuffer_to_bytes(program.operation)


def load(content: bytes, outputs: Sequence[str]) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The file in LiteRT's interpreter: function of pictures `[b, S, S, 3]`, which go through one by one."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_content=content).get_signature_runner(SIGNATURE)

    def call(pictures: np.ndarray) -> list[np.ndarray]:
        found = [run(**{INPUT: picture[None]}) for picture in pictures]
        return [np.concatenate([one[name] for one in found]) for name in outputs]

    return call
