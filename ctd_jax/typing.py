"""Names for what JAX leaves open: trees of any shape, and dicts of arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax import Array

Tree = Any  # any nesting of dicts, lists and tuples with arrays at its leaves
Params = dict[str, Any]  # parameters of a network: nested dicts of arrays
Variables = dict[str, Any]  # "params" and "batch_stats" of a network
Batch = Mapping[str, Array]  # one batch on the devices: "picture" and the targets
HostBatch = dict[str, np.ndarray]  # one batch on the host
Features = dict[str, Array]  # named layers that a network hands out
EncoderSpec = dict[str, Any]  # keyword arguments of `models.build_encoder`
InputSpec = dict[str, Any]  # what pictures a network expects, see `models.normalize`
