"""What the converters share: the port, its comparison with the original network, the command line.

A converter describes the network it expects as an `Original`. The original is computed from the arrays under the names
of the file, in PyTorch if it is installed and else in NumPy: this shows whether a layer was taken for another, or has a
wrong stride or padding.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ctd_jax import files
from ctd_jax.errors import UserError
from ctd_jax.text_table import text_table

from . import engines, state_dict
from .networks import seems

State = Mapping[str, np.ndarray]  # the file's arrays by the file's keys
TOLERANCE = 1e-4
KINDS = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
IMAGENET = {"channels": "RGB", "scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class Original(NamedTuple):
    """A published network.

    Attributes:
      name: for messages.
      converter: the command that converts it, `ctd-jax convert NAME`.
      source: where its weights come from, and the paper.
      encoder: keyword arguments of `models.build_encoder`.
      input: see `models.normalize`.
      layer: the file's name of a layer, from ours ("stage1_block0/conv1").
      forward: computes its stages, by our names, from an engine and a picture `[1, 3, H, W]`; maps are NCHW.
      size: H and W of the picture on which port and original are compared.
      doubt: from the file's arrays, what makes another converter likelier, in words; "": nothing.
    """

    name: str
    converter: str
    source: str
    encoder: dict[str, Any]
    input: dict[str, Any]
    layer: Callable[[str], str]
    forward: Callable[[Any, Any], dict[str, Any]]
    size: tuple[int, int]
    doubt: Callable[[State], str] = lambda state: ""

    def metadata(self) -> dict[str, Any]:
        """What a weight file says of the network."""
        return {"encoder": self.encoder, "input": self.input, "source": self.source}


def renamed(layer: str, patterns: Mapping[str, str]) -> str:
    """A layer's name after the one of `patterns` (regular expression: replacement) that matches it as a whole."""
    return next(re.sub(ours, theirs, layer) for ours, theirs in patterns.items() if re.fullmatch(ours, layer))


def port(state: State, original: Original, path: str) -> dict[str, Any]:
    """The file's arrays under our names and in our layouts.

    Args:
      state: the file's arrays.
      original: the network that they should be of.
      path: of the file, for messages.

    Raises:
      UserError: arrays are missing, unused or of another shape; the message lists them and names the network.
    """
    import jax
    import jax.numpy as jnp
    from flax.traverse_util import flatten_dict, unflatten_dict

    from ctd_jax import models

    encoder = models.build_encoder(**original.encoder)
    image = jnp.zeros((1, *original.size, 3))
    template = jax.eval_shape(lambda: encoder.init(jax.random.key(0), image, train=False))
    flat, missing, shapes = {}, [], []
    used = {key for key in state if key.endswith("num_batches_tracked")}
    for name, expected in flatten_dict(template, sep="/").items():
        layer, _, kind = name.partition("/")[2].rpartition("/")
        key = f"{original.layer(layer)}.{KINDS[kind]}"
        used.add(key)
        if key not in state:
            missing.append(key)
            continue
        with np.errstate(over="ignore"):  # `compare` refuses what is not finite
            value = np.asarray(state[key], np.float32)
        if value.ndim == 4 and expected.ndim == 2 and value.shape[2:] == (1, 1):
            value = value[:, :, 0, 0]  # a classifier written as a 1x1 convolution
        flat[name] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T  # out, in, height, width
        if flat[name].shape != expected.shape:
            shapes.append(f"{key} {state[key].shape}")
    found = [
        f"{len(keys)} {what}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
        for what, keys in (
            ("missing", missing),
            ("unused", [key for key in state if key not in used]),
            ("of another shape", shapes),
        )
        if keys
    ]
    if found:
        network = seems(state)
        known = f"{path}: not {original.name}, or not the whole of it"
        if f"convert {original.converter}" in network:
            raise UserError(f"{known}, though its layers have that network's names. {'; '.join(found)}.")
        raise UserError(f"{known}; it seems to be {network}. {'; '.join(found)}.")
    return unflatten_dict(flat, sep="/")


def compare(variables: Mapping[str, Any], state: State, original: Original, path: str) -> tuple[str, dict[str, float]]:
    """Runs port and original on one random picture.

    Args:
      variables: the port.
      state: the file's arrays.
      original: the network that they are of.
      path: of the file, for messages.

    Returns:
      Name of the engine that computed the original; stage -> largest difference, relative to its largest value.

    Raises:
      UserError: a difference is above `TOLERANCE`.
    """
    import jax

    from ctd_jax import models

    encoder = models.build_encoder(**original.encoder)
    picture = np.random.default_rng(0).integers(0, 256, (1, *original.size, 3), np.uint8)
    image = models.normalize(jax.numpy.asarray(picture), original.input)
    engine, differences = engines.choose(state), {}
    with jax.default_matmul_precision("float32"), np.errstate(all="ignore"):
        ours = jax.jit(lambda v: encoder.apply(v, image, train=False))(variables)
        for stage, value in original.forward(engine, engine.array(np.moveaxis(np.asarray(image), -1, 1))).items():
            want = np.moveaxis(np.asarray(value), 1, -1)
            largest = np.max(np.abs(want)) or 1.0  # a stage of zeros
            differences[stage] = float(np.max(np.abs(ours[stage] - want)) / largest)
    worst = max(differences, key=lambda stage: np.nan_to_num(differences[stage], nan=np.inf))
    if not differences[worst] <= TOLERANCE:  # NaN is refused too
        raise UserError(
            f"{path}: the port differs from the original by {differences[worst]:.1e} at {worst}, more than "
            f"{TOLERANCE:.0e}; its numbers may be damaged or too large."
        )
    return engine.name, differences


def convert(
    path: str, describe: Callable[[State, str], Original]
) -> tuple[dict[str, Any], dict[str, Any], str, dict[str, float]]:
    """Reads, ports and compares.

    Args:
      path: of the file.
      describe: gives the network that a file should hold, from its arrays and its path.

    Returns:
      The variables, their metadata and the results of `compare`.

    Raises:
      UserError: as `state_dict.read`, `port` and `compare`.
    """
    state = state_dict.read(path)
    original = describe(state, path)
    variables = port(state, original, path)
    engine, differences = compare(variables, state, original, path)
    if doubt := original.doubt(state):
        print(f"warning: {path}: {doubt}", file=sys.stderr)
    return variables, original.metadata(), engine, differences


def main(describe: Callable[[State, str], Original], doc: str, argv: list[str] | None = None) -> int:
    """The command line of a converter with the docstring `doc`; returns the exit code."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("file", help="a state dict: PyTorch's, safetensors, or a pickled dict of NumPy arrays")
    parser.add_argument("--out", required=True, help="the .safetensors file to write")
    args = parser.parse_args(argv)

    import jax

    from ctd_jax import models

    try:
        file, out = files.path_of("FILE", args.file), files.path_of("--out", args.out)
        files.expect("out", out, ".safetensors")
        variables, meta, engine, differences = convert(file, describe)
        models.weight_file.save(out, variables, meta)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"largest difference from the original in {engine}, relative to the stage's largest value")
    rows = [(stage, f"{difference:.1e}") for stage, difference in differences.items()]
    print("\n".join(text_table(rows, "  < <")))
    print("\n".join(f"{key}: {value}" for key, value in meta.items()))
    if not meta["encoder"]["num_outputs"]:
        print("no classifier in the file: constraints.cd can't be used with this teacher")
    print(f"wrote {out}: {sum(x.size for x in jax.tree.leaves(variables)):,} numbers")
    return 0
