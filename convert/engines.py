"""Engines that compute an original network: operations that read a state dict by its layers' names.

Maps are `[B, C, H, W]`, float64. Both engines' arrays know `+`, `clip` and `mean`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def choose(state: Mapping[str, np.ndarray]) -> Any:
    """PyTorch's engine if it is installed, else NumPy's."""
    try:
        return PyTorch(state)
    except ImportError:
        return NumPy(state)


class NumPy:
    """Slow and plain."""

    name = "NumPy"

    def __init__(self, state: Mapping[str, np.ndarray]):
        self.state = {key: np.asarray(value, np.float64) for key, value in state.items()}

    def array(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, np.float64)

    def conv(self, x: np.ndarray, layer: str, stride: int = 1, padding: int = 0) -> np.ndarray:
        weight = self.state[f"{layer}.weight"]
        x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
        if weight.shape[1] == 1 < x.shape[1]:  # depthwise
            y = np.einsum("bchwij,cij->bchw", windows, weight[:, 0])
        else:
            y = np.moveaxis(np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3))), -1, 1)
        return y + self.state.get(f"{layer}.bias", np.zeros(1))[:, None, None]

    def pad(self, x: np.ndarray, before: int, after: int) -> np.ndarray:
        """Zeros about the rows and about the columns."""
        return np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)))

    def norm(self, x: np.ndarray, layer: str, epsilon: float = 1e-5) -> np.ndarray:
        kinds = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, bias = (self.state[f"{layer}.{kind}"][:, None, None] for kind in kinds)
        return (x - mean) / np.sqrt(var + epsilon) * scale + bias

    def linear(self, x: np.ndarray, layer: str) -> np.ndarray:
        weight = self.state[f"{layer}.weight"]
        return x @ weight.reshape(len(weight), -1).T + self.state[f"{layer}.bias"]

    def max_pool(self, x: np.ndarray, padding: int, ceil: bool) -> np.ndarray:
        """3x3 with stride 2; `ceil`: the last window may overhang."""
        end = padding + ceil
        x = np.pad(x, ((0, 0), (0, 0), (padding, end), (padding, end)), constant_values=-np.inf)
        return np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max((4, 5))


class PyTorch:
    """PyTorch's operations, in float64."""

    def __init__(self, state: Mapping[str, np.ndarray]):
        import torch

        self.torch, self.name = torch, f"PyTorch {torch.__version__}"
        self.state = {key: self.array(value) for key, value in state.items()}

    def array(self, x: np.ndarray) -> Any:
        return self.torch.from_numpy(np.array(x, np.float64))

    def conv(self, x: Any, layer: str, stride: int = 1, padding: int = 0) -> Any:
        weight = self.state[f"{layer}.weight"]
        bias = self.state.get(f"{layer}.bias")
        return self.torch.nn.functional.conv2d(x, weight, bias, stride, padding, groups=x.shape[1] // weight.shape[1])

    def pad(self, x: Any, before: int, after: int) -> Any:
        return self.torch.nn.functional.pad(x, (before, after, before, after))

    def norm(self, x: Any, layer: str, epsilon: float = 1e-5) -> Any:
        kinds = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (self.state[f"{layer}.{kind}"] for kind in kinds)
        return self.torch.nn.functional.batch_norm(x, mean, var, weight, bias, eps=epsilon)

    def linear(self, x: Any, layer: str) -> Any:
        weight = self.state[f"{layer}.weight"]
        return self.torch.nn.functional.linear(x, weight.flatten(1), self.state[f"{layer}.bias"])

    def max_pool(self, x: Any, padding: int, ceil: bool) -> Any:
        return self.torch.nn.functional.max_pool2d(x, 3, 2, padding, ceil_mode=ceil)
