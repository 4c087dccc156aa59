"""Numbers that PyTorch (`make.py`) and the tests draw alike, so that no weights need to be stored."""

import json
import math
import zlib
from pathlib import Path

import numpy as np


def draw(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of one state-dict key, in PyTorch's layout, float32; it depends on the key and the shape alone."""
    random = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith("running_var") or (key.endswith("weight") and len(shape) == 1):
        values = random.uniform(0.5, 1.5, shape)
    elif key.endswith("weight"):
        values = random.normal(size=shape) / math.sqrt(math.prod(shape[1:]))
    else:
        values = random.normal(size=shape) * 0.2
    return np.asarray(values, np.float32)


def picture(height: int, width: int) -> np.ndarray:
    """`[2, height, width, 3]`, as if normalised."""
    return np.random.RandomState(height).normal(size=(2, height, width, 3)).astype(np.float32)


def mobilefacenet_state() -> dict[str, np.ndarray]:
    """A state dict of the published MobileFaceNet's keys and shapes, with drawn numbers."""
    keys = json.loads(Path(__file__).with_name("mobilefacenet.json").read_text())
    return {key: draw(key, tuple(shape)) for key, shape in keys.items()}


def resnet_shapes(sizes: list[int], bottleneck: bool, classes: int = 10, width: int = 8) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a ResNet's state dict in PyTorch."""
    shapes = {}

    def conv_bn(conv, bn, inputs, outputs, size):
        shapes[f"{conv}.weight"] = (outputs, inputs, size, size)
        shapes.update({f"{bn}.{kind}": (outputs,) for kind in ("weight", "bias", "running_mean", "running_var")})

    conv_bn("conv1", "bn1", 3, width, 7)
    inputs = width
    for i, size in enumerate(sizes):
        inner, outputs = width * 2**i, width * 2**i * (4 if bottleneck else 1)
        for j in range(size):
            block = f"layer{i + 1}.{j}"
            convs = [(inputs, inner, 1), (inner, inner, 3), (inner, outputs, 1)]
            for n, (a, b, k) in enumerate(convs if bottleneck else [(inputs, inner, 3), (inner, inner, 3)], 1):
                conv_bn(f"{block}.conv{n}", f"{block}.bn{n}", a, b, k)
            if inputs != outputs:
                conv_bn(f"{block}.downsample.0", f"{block}.downsample.1", inputs, outputs, 1)
            inputs = outputs
    return shapes | {"fc.weight": (classes, inputs), "fc.bias": (classes,)}


def resnet_state(sizes: list[int], bottleneck: bool, classes: int = 10) -> dict[str, np.ndarray]:
    """A ResNet's state dict with drawn numbers."""
    return {key: draw(key, shape) for key, shape in resnet_shapes(sizes, bottleneck, classes).items()}
