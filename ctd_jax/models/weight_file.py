"""Weights that travel: safetensors files with what is needed to use them.

Keys are "params/..." and "batch_stats/...", float32. The metadata's key "ctd_jax" is JSON: `encoder` (keyword arguments
of `build_encoder`), `input` (channels "RGB" or "BGR", scale, mean, std: uint8 RGB -> reorder -> / scale -> - mean ->
/ std) and `source` (text). Its key "sha256" is `digests.of_tree` of the file's keys and "ctd_jax"; older files lack it.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open

from ctd_jax import files
from ctd_jax.errors import UserError
from ctd_jax.training import digests, finite

SEAL = "sha256"
NOT_WEIGHTS = "no network can use them; take another file"
REMEDY = "expected a .safetensors file written by `ctd-jax convert NAME` or by a run of this project."


def save(path: str | os.PathLike, variables: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Writes a tree of arrays (`{"params": ..., "batch_stats": ...}`); an old file stays until the new one is whole.

    Raises:
      UserError: the file cannot be written there, or the arrays have NaN or infinite numbers.
    """
    tensors = {k: np.ascontiguousarray(v, np.float32) for k, v in flatten_dict(variables, sep="/").items()}
    finite.check_arrays(tensors, f"{path}: these weights have", NOT_WEIGHTS)
    text = json.dumps(meta)
    metadata = {"ctd_jax": text, SEAL: _seal(tensors, text)}
    try:
        files.write_bytes(path, safetensors.numpy.save(tensors, metadata=metadata))
    except OSError as error:
        raise UserError(f"{path}: the weights cannot be written there ({error.strerror}).") from error


def load(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """`(variables, meta)` of a file written by `save`; the arrays are NumPy's.

    Raises:
      UserError: no such file, not a safetensors file, or one without our metadata; a damaged one, or one with NaN or
        infinite numbers, or with others than float32.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such weight file; {REMEDY}")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            meta = json.loads(metadata["ctd_jax"])
            keys = list(file.keys())
            others = {file.get_slice(key).get_dtype() for key in keys} - {"F32"}
            variables = {} if others else {key: file.get_tensor(key) for key in keys}
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file ({error}); {REMEDY}") from error
    except (KeyError, ValueError, RecursionError) as error:  # not there, or no JSON that can be read
        raise UserError(f"{path}: its metadata does not say which encoder this is; {REMEDY}") from error
    if others:
        raise UserError(f"{path}: its numbers are {', '.join(sorted(others))}, expected F32; {REMEDY}")
    if SEAL in metadata and metadata[SEAL] != _seal(variables, metadata["ctd_jax"]):
        raise UserError(f"{path}: damaged, these are not the weights that were written; make or copy the file again")
    finite.check_arrays(variables, f"{path}: these weights have", NOT_WEIGHTS)
    return unflatten_dict(variables, sep="/"), meta


def _seal(tensors: Mapping[str, np.ndarray], meta: str) -> str:
    return digests.of_tree({"tensors": dict(tensors), "meta": np.frombuffer(meta.encode(), np.uint8)})


def match(variables: Mapping[str, Any], template: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Checks that `variables` (from `path`) have the names and shapes of `template` (the network's own variables).

    Raises:
      UserError: they differ; the message names keys of both sides.
    """
    have = {k: tuple(v.shape) for k, v in flatten_dict(variables, sep="/").items()}
    want = {k: tuple(v.shape) for k, v in flatten_dict(template, sep="/").items()}
    differences = {
        "only in the network": [k for k in want if k not in have],
        "only in the file": [k for k in have if k not in want],
        "differ in shape": [
            f"{k} (file {have[k]}, network {want[k]})" for k in want if have.get(k, want[k]) != want[k]
        ],
    }
    found = [
        f"{len(keys)} {what}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
        for what, keys in differences.items()
        if keys
    ]
    if found:
        raise UserError(
            f"{path}: the weights do not match the network; {'; '.join(found)}. Take a file made for this network."
        )
