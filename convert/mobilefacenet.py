"""MobileFaceNet from github.com/foamliu/MobileFaceNet (Apache-2.0): its PyTorch weights as a teacher.

    python -m convert.mobilefacenet mobilefacenet.pt --out=teacher.safetensors

The file is opened by `torch_file`: no PyTorch is needed, and no code in it runs. The ported network is then compared,
at every stage, with a plain float64 forward pass that reads the original arrays by their original names.
"""

import argparse
import re
import sys
from collections.abc import Mapping

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from convert import torch_file
from ctd_jax import models
from ctd_jax.errors import UserError

TOLERANCE = 1e-4
ENCODER = {"name": "mobilefacenet", "num_outputs": 128}
INPUT = {"channels": "RGB", "scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
SOURCE = "github.com/foamliu/MobileFaceNet, Apache-2.0; arXiv 1804.07573"

LAYERS = {  # their name, as a pattern: ours
    r"conv1\.0": "stem_conv",
    r"conv1\.1": "stem_norm",
    r"dw_conv\.depthwise": "depthwise_conv",
    r"dw_conv\.bn1": "depthwise_norm",
    r"dw_conv\.pointwise": "pointwise_conv",
    r"dw_conv\.bn2": "pointwise_norm",
    r"features\.(\d+)\.conv\.0\.0": r"block\1/expand_conv",
    r"features\.(\d+)\.conv\.0\.1": r"block\1/expand_norm",
    r"features\.(\d+)\.conv\.1\.0": r"block\1/depthwise_conv",
    r"features\.(\d+)\.conv\.1\.1": r"block\1/depthwise_norm",
    r"features\.(\d+)\.conv\.2": r"block\1/project_conv",
    r"features\.(\d+)\.conv\.3": r"block\1/project_norm",
    r"conv2\.0": "encoder_conv",
    r"conv2\.1": "encoder_norm",
    r"gdconv\.depthwise": "embedding_depthwise_conv",
    r"gdconv\.bn": "embedding_depthwise_norm",
    r"conv3": "embedding_conv",
    r"bn": "embedding_norm",
}
CONV = {"weight": "params/{}/kernel", "bias": "params/{}/bias"}
NORM = {
    "weight": "params/{}/scale",
    "bias": "params/{}/bias",
    "running_mean": "batch_stats/{}/mean",
    "running_var": "batch_stats/{}/var",
}
OTHERS = {  # a key that tells what else a file may be
    "layer1.0.conv1.weight": "a ResNet",
    "features.0.0.weight": "a MobileNet of torchvision",
    "input_layer.0.weight": "an IR-SE face network",
    "conv_1_dw.conv.weight": "another version of MobileFaceNet",
}


def convert(path: str) -> tuple[dict, dict[str, float]]:
    """Ports a file's weights.

    Returns:
      Variables of the encoder `ENCODER`, and by stage the largest difference from the float64 forward pass, relative to
      the stage's largest value.

    Raises:
      UserError: the file cannot be read, holds another network, or the port does not reproduce it to `TOLERANCE`.
    """
    state = torch_file.read(path)
    variables = port(state, path)
    encoder = models.build_encoder(**ENCODER)
    image = jax.random.normal(jax.random.key(0), (1, 112, 112, 3))
    models.weights.match(variables, jax.eval_shape(lambda: encoder.init(jax.random.key(0), image, train=False)), path)

    ours = jax.jit(lambda v: encoder.apply(v, image, train=False))(variables)
    differences = {
        stage: float(np.max(np.abs(ours[stage] - want)) / np.max(np.abs(want)))
        for stage, want in reference(state, np.asarray(image, np.float64)).items()
    }
    worst = max(differences, key=lambda stage: np.nan_to_num(differences[stage], nan=np.inf))
    if not differences[worst] <= TOLERANCE:  # NaN is refused too
        raise UserError(
            f"{path}: the port differs from the original by {differences[worst]:.1e} at {worst}, more than "
            f"{TOLERANCE:.0e}; its numbers may be damaged or too large."
        )
    return variables, differences


def port(state: Mapping[str, np.ndarray], path: str) -> dict:
    """The original arrays under our names and in our layouts; UserError where the names are another network's."""
    flat, unexpected = {}, []
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        name = next((re.sub(theirs, ours, layer) for theirs, ours in LAYERS.items() if re.fullmatch(theirs, layer)), "")
        kinds = NORM if name.endswith("norm") else CONV
        if name and kind in kinds:
            # out, in, height, width -> height, width, in, out
            flat[kinds[kind].format(name)] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
        elif kind != "num_batches_tracked":
            unexpected.append(key)
    if unexpected:
        what = next((f"it seems to be {name}" for key, name in OTHERS.items() if key in state), "what it is is unknown")
        raise UserError(
            f"{path}: not the MobileFaceNet of {SOURCE.split(',')[0]}; {what}. {len(unexpected)} of its {len(state)} "
            f"arrays are unexpected ({', '.join(unexpected[:3])}), {len(flat)} are known."
        )
    return unflatten_dict(flat, sep="/")


def reference(state: Mapping[str, np.ndarray], image_BHWC: np.ndarray) -> dict[str, np.ndarray]:
    """The original network in NumPy, float64, slow and plain. Returns our names of the stages and their maps, NHWC."""
    state = {key: np.asarray(value, np.float64) for key, value in state.items()}

    def conv(x, name, stride=1, padding=0):
        weight = state[f"{name}.weight"]
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
        if weight.shape[1] == 1 < x.shape[-1]:
            return np.einsum("bhwcij,cij->bhwc", windows, weight[:, 0])
        return np.tensordot(windows, weight, axes=((3, 4, 5), (1, 2, 3)))

    def norm(x, name):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return (x - mean) / np.sqrt(var + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]

    def relu6(x):
        return np.clip(x, 0, 6)

    x = relu6(norm(conv(image_BHWC, "conv1.0", 2, 1), "conv1.1"))
    out = {"stem": x}
    x = np.maximum(norm(conv(x, "dw_conv.depthwise", 1, 1), "dw_conv.bn1"), 0)
    x = out["depthwise"] = np.maximum(norm(conv(x, "dw_conv.pointwise"), "dw_conv.bn2"), 0)
    for i in range(15):
        name = f"features.{i}.conv"
        y = relu6(norm(conv(x, f"{name}.0.0"), f"{name}.0.1"))
        y = relu6(norm(conv(y, f"{name}.1.0", 2 if i in (0, 5, 12) else 1, 1), f"{name}.1.1"))
        y = norm(conv(y, f"{name}.2"), f"{name}.3")
        x = out[f"block{i}"] = x + y if x.shape == y.shape else y
    x = out["encoder"] = relu6(norm(conv(x, "conv2.0"), "conv2.1"))
    x = norm(conv(x, "gdconv.depthwise"), "gdconv.bn")
    out["embedding"] = norm(conv(x, "conv3") + state["conv3.bias"], "bn")[:, 0, 0]
    return out


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="the PyTorch state dict")
    parser.add_argument("--out", required=True, help="the .safetensors file to write")
    args = parser.parse_args(argv)
    try:
        variables, differences = convert(args.file)
        models.weights.save(args.out, variables, {"encoder": ENCODER, "input": INPUT, "source": SOURCE})
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print("largest difference from the original, relative to the stage's largest value")
    for stage, difference in differences.items():
        print(f"  {stage:<10} {difference:.1e}")
    size = sum(x.size for x in jax.tree.leaves(variables))
    print(f"wrote {args.out}: {size:,} numbers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
