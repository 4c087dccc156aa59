"""ResNet-18, 34 and 50 by PyTorch's names, in PyTorch's and in Caffe's version, for two converters."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ctd_jax.errors import UserError

from .networks import seems
from .port import Original, State, renamed

LAYERS = {  # our layer, as a pattern: PyTorch's
    r"stem_conv": "conv1",
    r"stem_norm": "bn1",
    r"stage(\d)_block(\d)/conv(\d)": r"layer\1.\2.conv\3",
    r"stage(\d)_block(\d)/norm(\d)": r"layer\1.\2.bn\3",
    r"stage(\d)_block(\d)/shortcut_conv": r"layer\1.\2.downsample.0",
    r"stage(\d)_block(\d)/shortcut_norm": r"layer\1.\2.downsample.1",
    r"classifier": "fc",
}
CLASSES = {"ImageNet": 1000, "VGGFace2": 8631}
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


def original(
    state: State, path: str, *, network: str, caffe: bool, rename: Callable[[str], str] = str, **described: Any
) -> Original:
    """The ResNet that the file should hold, with the file's width and number of classes.

    Args:
      state: the file's arrays.
      path: of the file, for messages.
      network: a key of `BLOCKS`.
      caffe: a bottleneck has its stride in the first 1x1, and the max-pool has no padding, and a last window that may
        overhang.
      rename: the file's name of a layer, from PyTorch's.
      **described: further attributes of `Original`.

    Raises:
      UserError: it has as many classes as the other version's network, which has the same names, but other strides,
        pooling and input.
    """
    absent = np.zeros(())  # `port` will notice what is missing
    width = (*state.get(f"{rename('conv1')}.weight", absent).shape, 64)[0] or 64
    num_outputs = state.get(f"{rename('fc')}.bias", np.zeros(0)).size  # a backbone has no classifier
    other, command = ("ImageNet", "torchvision") if caffe else ("VGGFace2", "vggface2")
    if num_outputs == CLASSES[other]:
        raise UserError(
            f"{path}: it seems to be {seems(state)}, trained on {other}, as it has {num_outputs} classes; take "
            f"`ctd-jax convert {command}`."
        )

    def doubt(state: State) -> str:
        if network != "resnet50" or num_outputs == CLASSES["VGGFace2" if caffe else "ImageNet"]:
            return ""
        varies = _stem_variance(state, rename, described["input"])
        if not (varies > 30 if caffe else varies < 1 / 300):
            return ""
        return (
            f"pictures as {described['name']} takes them would vary {varies:.2g} times as much after the first "
            f"convolution as its batch norm has seen; if the network was first trained on {other}, take "
            f"`ctd-jax convert {command}`, whose strides, pooling and input are others"
        )

    encoder = {
        "name": network,
        "num_outputs": num_outputs,
        "width": width,
        "stride_in_1x1": caffe,
        "pool_padding": "ceil" if caffe else "same",
    }
    return Original(
        encoder=encoder,
        layer=lambda layer: rename(renamed(layer, LAYERS)),
        forward=lambda net, x: forward(net, x, network=network, caffe=caffe, rename=rename),
        size=(64, 96),
        doubt=doubt,
        **described,
    )


def _stem_variance(state: State, rename: Callable[[str], str], input_spec: Mapping[str, Any]) -> float:
    """The variance after the first convolution of pictures of noise, as a part of the one that its batch norm has; the
    median over channels. With pictures of 0..255 for those of about -2..2, or the reverse, it is 3300 times as large,
    or as small."""
    pixel = 255 / math.sqrt(12) / input_spec["scale"] / np.array(input_spec["std"])
    weight, variance = state[f"{rename('conv1')}.weight"], state[f"{rename('bn1')}.running_var"]
    return float(np.median(np.sum((weight * pixel[:, None, None]) ** 2, axis=(1, 2, 3)) / (variance + 1e-5)))


def forward(net: Any, x: Any, *, network: str, caffe: bool, rename: Callable[[str], str]) -> dict[str, Any]:
    """The original's stages.

    Args:
      net: one of `engines`.
      x: pictures `[B, 3, H, W]`.
      network, caffe, rename: as in `original`.
    """

    def unit(x: Any, conv: str, norm: str, stride: int, padding: int) -> Any:
        return net.norm(net.conv(x, rename(conv), stride, padding), rename(norm))

    is_bottleneck = network == "resnet50"
    x = unit(x, "conv1", "bn1", 2, 3).clip(0)
    x = net.max_pool(x, padding=0, ceil=True) if caffe else net.max_pool(x, padding=1, ceil=False)
    out = {"stem": x}
    for i, size in enumerate(BLOCKS[network], 1):
        for j in range(size):
            block, stride = f"layer{i}.{j}", 2 if i > 1 and j == 0 else 1
            if is_bottleneck:
                first, second = (stride, 1) if caffe else (1, stride)
                y = unit(x, f"{block}.conv1", f"{block}.bn1", first, 0).clip(0)
                y = unit(y, f"{block}.conv2", f"{block}.bn2", second, 1).clip(0)
                y = unit(y, f"{block}.conv3", f"{block}.bn3", 1, 0)
            else:
                y = unit(x, f"{block}.conv1", f"{block}.bn1", stride, 1).clip(0)
                y = unit(y, f"{block}.conv2", f"{block}.bn2", 1, 1)
            if j == 0 and (is_bottleneck or i > 1):
                x = unit(x, f"{block}.downsample.0", f"{block}.downsample.1", stride, 0)
            x = (x + y).clip(0)
        out[f"stage{i}"] = x
    if f"{rename('fc')}.bias" in net.state:
        out["pooled"] = x.mean((2, 3))
        out["classifier"] = net.linear(out["pooled"], rename("fc"))
    return out
