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
