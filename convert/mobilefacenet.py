"""MobileFaceNet from github.com/foamliu/MobileFaceNet (Apache-2.0): its PyTorch weights as a teacher.

python -m convert.mobilefacenet mobilefacenet.pt --out=teacher.safetensors
"""

import sys
from typing import Any

from . import port

LAYERS = {  # our layer, as a pattern: theirs
    r"stem_conv": "conv1.0",
    r"stem_norm": "conv1.1",
    r"depthwise_conv": "dw_conv.depthwise",
    r"depthwise_norm": "dw_conv.bn1",
    r"pointwise_conv": "dw_conv.pointwise",
    r"pointwise_norm": "dw_conv.bn2",
    r"block(\d+)/expand_conv": r"features.\1.conv.0.0",
    r"block(\d+)/expand_norm": r"features.\1.conv.0.1",
    r"block(\d+)/depthwise_conv": r"features.\1.conv.1.0",
    r"block(\d+)/depthwise_norm": r"features.\1.conv.1.1",
    r"block(\d+)/project_conv": r"features.\1.conv.2",
    r"block(\d+)/project_norm": r"features.\1.conv.3",
    r"encoder_conv": "conv2.0",
    r"encoder_norm": "conv2.1",
    r"embedding_depthwise_conv": "gdconv.depthwise",
    r"embedding_depthwise_norm": "gdconv.bn",
    r"embedding_conv": "conv3",
    r"embedding_norm": "bn",
}


def forward(net: Any, x: Any) -> dict[str, Any]:
    """The original's stages; `net` is one of `engines`, and `x` are pictures `[B, 3, 112, 112]`."""

    def unit(x: Any, conv: str, norm: str, stride: int = 1, padding: int = 0) -> Any:
        return net.norm(net.conv(x, conv, stride, padding), norm)

    x = unit(x, "conv1.0", "conv1.1", 2, 1).clip(0, 6)
    out = {"stem": x}
    x = unit(x, "dw_conv.depthwise", "dw_conv.bn1", 1, 1).clip(0)
    x = out["depthwise"] = unit(x, "dw_conv.pointwise", "dw_conv.bn2").clip(0)
    for i in range(15):
        block = f"features.{i}.conv"
        y = unit(x, f"{block}.0.0", f"{block}.0.1").clip(0, 6)
        y = unit(y, f"{block}.1.0", f"{block}.1.1", 2 if i in (0, 5, 12) else 1, 1).clip(0, 6)
        y = unit(y, f"{block}.2", f"{block}.3")
        x = out[f"block{i}"] = x + y if x.shape == y.shape else y
    x = out["encoder"] = unit(x, "conv2.0", "conv2.1").clip(0, 6)
    x = unit(x, "gdconv.depthwise", "gdconv.bn")
    out["embedding"] = unit(x, "conv3", "bn")[:, :, 0, 0]
    return out


def original(state: port.State, path: str) -> port.Original:
    """The network, the same for every file."""
    return port.Original(
        name="the MobileFaceNet of github.com/foamliu/MobileFaceNet",
        converter="mobilefacenet",
        source="github.com/foamliu/MobileFaceNet, Apache-2.0; arXiv 1804.07573",
        encoder={"name": "mobilefacenet", "num_outputs": 128},
        input=port.IMAGENET,
        layer=lambda layer: port.renamed(layer, LAYERS),
        forward=forward,
        size=(112, 112),
    )


if __name__ == "__main__":
    sys.exit(port.main(original, __doc__))
