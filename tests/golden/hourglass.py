"""Makes hourglass.npz with PyTorch; see README.md. Follows the graph of the authors' Lua code, node by node."""

from pathlib import Path

import numpy as np
import torch
from seeded import draw, picture
from torch import nn
from torch.nn import functional as F

NUM_LANDMARKS, STACKS, CHANNELS, DEPTH = 5, 2, 16, 2


class Residual(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        half = outputs // 2
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, half, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(half), nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.norm3, self.conv3 = nn.BatchNorm2d(half), nn.Conv2d(half, outputs, 1, bias=False)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x):
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        y = self.conv3(F.relu(self.norm3(y)))
        return y + self.shortcut(x)


class Hourglass(nn.Module):
    def __init__(self, depth, channels):
        super().__init__()
        self.skip, self.down, self.up = (Residual(channels, channels) for _ in range(3))
        self.inner = Hourglass(depth - 1, channels) if depth > 1 else Residual(channels, channels)

    def forward(self, x):
        low = self.up(self.inner(self.down(F.max_pool2d(x, 2, 2))))
        return self.skip(x) + F.interpolate(low, scale_factor=2, mode="nearest")


class StackedHourglass(nn.Module):
    def __init__(self):
        super().__init__()
        c = CHANNELS
        self.stem_conv, self.stem_norm = nn.Conv2d(3, c // 4, 7, 2, 3, bias=False), nn.BatchNorm2d(c // 4)
        self.stem1, self.stem2, self.stem3 = Residual(c // 4, c // 2), Residual(c // 2, c // 2), Residual(c // 2, c)
        for i in range(1, STACKS + 1):
            self.add_module(f"hourglass{i}", Hourglass(DEPTH, c))
            self.add_module(f"residual{i}", Residual(c, c))
            self.add_module(f"conv{i}", nn.Conv2d(c, c, 1, bias=False))
            self.add_module(f"norm{i}", nn.BatchNorm2d(c))
            self.add_module(f"heatmaps{i}", nn.Conv2d(c, NUM_LANDMARKS, 1))
        for i in range(1, STACKS):
            self.add_module(f"merge_features{i}", nn.Conv2d(c, c, 1, bias=False))
            self.add_module(f"merge_heatmaps{i}", nn.Conv2d(NUM_LANDMARKS, c, 1, bias=False))

    def forward(self, x):
        layer = dict(self.named_children())
        x = F.relu(self.stem_norm(self.stem_conv(x)))
        x = self.stem3(self.stem2(F.max_pool2d(self.stem1(x), 2, 2)))
        out = []
        for i in range(1, STACKS + 1):
            y = layer[f"residual{i}"](layer[f"hourglass{i}"](x))
            y = F.relu(layer[f"norm{i}"](layer[f"conv{i}"](y)))
            out.append(layer[f"heatmaps{i}"](y))
            if i < STACKS:
                x = x + layer[f"merge_features{i}"](y) + layer[f"merge_heatmaps{i}"](out[-1])
        return torch.stack(out)


def main():
    torch.use_deterministic_algorithms(True)
    net = StackedHourglass()
    state = net.state_dict()
    net.load_state_dict({k: torch.tensor(draw(k, tuple(v.shape))) if v.ndim else v for k, v in state.items()})
    x = torch.tensor(picture(32, 64).transpose(0, 3, 1, 2))
    numbers = {"n_params": np.array(sum(p.numel() for p in net.parameters()))}
    with torch.no_grad():
        numbers["eval"] = net.eval()(x).permute(0, 1, 3, 4, 2).numpy()
        numbers["train"] = net.train()(x).permute(0, 1, 3, 4, 2).numpy()
    numbers["train_mean"] = net.hourglass2.inner.up.norm2.running_mean.numpy()
    np.savez_compressed(Path(__file__).parent / "hourglass.npz", **numbers)


if __name__ == "__main__":
    main()
