"""StableHLO, as `jax.export` serialises it: one file for CPU, CUDA and TPU."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import export, lax

from ctd_jax.models import layers
from ctd_jax.typing import Tree, Variables

PLATFORMS = ("cpu", "cuda", "tpu")


def write(
    body: Callable, variables: Variables, batch: jax.ShapeDtypeStruct, outputs: Sequence[str], metadata: dict[str, Any]
) -> bytes:
    """`body(variables, pictures)` for all `PLATFORMS`, with the forms of its layers that suit each.

    Args:
      body: gives a tuple of arrays.
      variables: its first argument; they are in the file.
      batch: shape `[b, S, S, 3]` and type of the pictures, with a symbolic b.
      outputs, metadata: not used, as the format has no place for them.
    """

    def traced_for(platform: str) -> Callable:
        def traced(variables: Variables, batch: jax.Array) -> Tree:
            with layers.traced_for(platform):
                return body(variables, batch)

        return traced

    def everywhere(batch: jax.Array) -> Tree:
        return lax.platform_dependent(variables, batch, cpu=traced_for("cpu"), default=traced_for("any"))

    return bytes(export.export(jax.jit(everywhere), platforms=PLATFORMS)(batch).serialize())


def load(content: bytes, outputs: Sequence[str]) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The file as it is served: function of pictures `[b, S, S, 3]`."""
    call = jax.jit(export.deserialize(bytearray(content)).call)
    return lambda pictures: jax.device_get(call(pictures))
