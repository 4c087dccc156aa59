"""StableHLO, as `jax.export` serialises it: one file for CPU, CUDA and TPU."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import export, lax

from ctd_jax.models import layers

PLATFORMS = ("cpu", "cuda", "tpu")


def write(
    body: Callable, variables: Any, batch: jax.ShapeDtypeStruct, outputs: Sequence[str], metadata: dict[str, Any]
) -> bytes:
    """`body(variables, [b, S, S, 3] pictures)` for all `PLATFORMS`, with the forms that suit each.
    The variables are in the file; `outputs` and `metadata` can't be."""

    def traced_for(platform: str) -> Callable:
        def traced(variables, batch):
            with layers.traced_for(platform):
                return body(variables, batch)

        return traced

    def everywhere(batch):
        return lax.platform_dependent(variables, batch, cpu=traced_for("cpu"), default=traced_for("any"))

    return bytes(export.export(jax.jit(everywhere), platforms=PLATFORMS)(batch).serialize())


def load(content: bytes, outputs: Sequence[str]) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The file as it is served: function of pictures `[b, S, S, 3]`."""
    call = jax.jit(export.deserialize(bytearray(content)).call)
    return lambda pictures: jax.device_get(call(pictures))
