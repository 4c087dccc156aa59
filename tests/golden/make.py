"""Makes the numbers beside it with PyTorch; see README.md. Plain modules with the published key names."""

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from seeded import draw, picture
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).parent
torch.use_deterministic_algorithms(True)


class Block(nn.Module):
    def __init__(self, inputs, width, stride, bottleneck, stride_in_1x1):
        super().__init__()
        self.bottleneck = bottleneck
        out = width * 4 if bottleneck else width
        if bottleneck:
            first, second = (stride, 1) if stride_in_1x1 else (1, stride)
            self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, first, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, second, 1, bias=False), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
        else:
            self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inputs != out:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.bottleneck:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, sizes, bottleneck, num_outputs, width=64, stride_in_1x1=False, pool_padding="same"):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        ceil = pool_padding == "ceil"
        self.pool = nn.MaxPool2d(3, 2, 0, ceil_mode=True) if ceil else nn.MaxPool2d(3, 2, 1)
        inputs = width
        for i, size in enumerate(sizes):
            blocks = []
            for j in range(size):
                blocks.append(Block(inputs, width * 2**i, 2 if i and not j else 1, bottleneck, stride_in_1x1))
                inputs = width * 2**i * (4 if bottleneck else 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, num_outputs)

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        out = {"stem": x}
        for i in range(4):
            x = out[f"stage{i + 1}"] = getattr(self, f"layer{i + 1}")(x)
        out["pooled"] = x.mean((2, 3))
        out["classifier"] = self.fc(out["pooled"])
        return out


def conv_bn(inputs, outputs, size, stride=1, padding=0, groups=1):
    conv = nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        self.add = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            conv_bn(inputs, wide, 1), conv_bn(wide, wide, 3, stride, 1, wide),
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip

    def forward(self, x):
        return x + self.conv(x) if self.add else self.conv(x)


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.depthwise, self.bn1 = nn.Conv2d(64, 64, 3, 1, 1, groups=64, bias=False), nn.BatchNorm2d(64)
        self.pointwise, self.bn2 = nn.Conv2d(64, 64, 1, bias=False), nn.BatchNorm2d(64)

    def forward(self, x):
        return F.relu(self.bn2(self.pointwise(F.relu(self.bn1(self.depthwise(x))))))


class MobileFaceNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.dw_conv = conv_bn(3, 64, 3, 2, 1), Depthwise()
        blocks, inputs = [], 64
        for t, c, n, s in [(2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)]:
            for i in range(n):
                blocks.append(InvertedResidual(inputs, c, s if i == 0 else 1, t))
                inputs = c
        self.features, self.conv2 = nn.Sequential(*blocks), conv_bn(128, 512, 1)
        self.gdconv = nn.Module()
        self.gdconv.depthwise, self.gdconv.bn = nn.Conv2d(512, 512, 7, groups=512, bias=False), nn.BatchNorm2d(512)
        self.conv3, self.bn = nn.Conv2d(512, 128, 1), nn.BatchNorm2d(128)

    def forward(self, x):
        out = {"stem": self.conv1(x)}
        x = out["depthwise"] = self.dw_conv(out["stem"])
        for i, block in enumerate(self.features):
            x = out[f"block{i}"] = block(x)
        x = out["encoder"] = self.conv2(x)
        x = self.gdconv.bn(self.gdconv.depthwise(x)).mean((2, 3), keepdim=True)
        out["embedding"] = self.bn(self.conv3(x)).flatten(1)
        return out


class Decoder(nn.Module):
    def __init__(self, inputs, channels, num_landmarks):
        super().__init__()
        layers = []
        for c in channels:
            layers += [nn.ConvTranspose2d(inputs, c, 4, 2, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
            inputs = c
        self.deconv_layers, self.final_layer = nn.Sequential(*layers), nn.Conv2d(inputs, num_landmarks, 1)

    def forward(self, x):
        out = {}
        for i, layer in enumerate(self.deconv_layers):
            x = layer(x)
            if i % 3 == 2:
                out[f"deconv{i // 3 + 1}"] = x
        out["heatmaps"] = self.final_layer(x)
        return out


def fill(net):
    state = net.state_dict()
    net.load_state_dict({k: torch.tensor(draw(k, tuple(v.shape))) if v.ndim else v for k, v in state.items()})
    return net


def summary(x):
    """A few numbers of a map: the first channels' means, and their values at the last pixel of the last picture."""
    x = x.detach().numpy()
    return x[:, :8] if x.ndim == 2 else np.stack([x[:, :8].mean((2, 3)), x[:, :8, -1, -1]])


def to_nchw(x_BHWC):
    return torch.tensor(x_BHWC).permute(0, 3, 1, 2)


def encoders(golden):
    resnets = json.loads((HERE / "resnets.json").read_text())
    with torch.no_grad():
        for case, spec in resnets.items():
            net = fill(ResNet(spec["sizes"], spec["bottleneck"], 10, width=8, **spec["kwargs"])).eval()
            for size in ((64, 96), (65, 79)):
                for stage, x in net(to_nchw(picture(*size))).items():
                    golden[f"{case}/{size[0]}/{stage}"] = summary(x)
        net = fill(ResNet((2, 2, 2, 2), False, 10, width=8)).train()
        for stage, x in net(to_nchw(picture(64, 96))).items():
            golden[f"train/{stage}"] = summary(x)
        golden["train/stem_mean"] = net.bn1.running_mean.numpy()
        net = fill(MobileFaceNet()).eval()
        keys = {key: tuple(value.shape) for key, value in net.state_dict().items()}
        (HERE / "mobilefacenet.json").write_text(json.dumps(keys) + "\n")
        for size in (112, 128):
            for stage, x in net(to_nchw(picture(size, size))).items():
                golden[f"mobilefacenet/{size}/{stage}"] = summary(x)
    for name in ("resnet18", "resnet34", "resnet50"):
        net = ResNet(resnets[name]["sizes"], resnets[name]["bottleneck"], 1000)
        golden[f"count/{name}"] = sum(p.numel() for p in net.parameters())
    golden["count/mobilefacenet"] = sum(p.numel() for p in MobileFaceNet().parameters())
    golden["count/decoder"] = sum(p.numel() for p in Decoder(2048, (256, 256, 256), 19).parameters())


def layers(golden):
    net = fill(Decoder(12, (8, 6), 3)).eval()
    x = torch.tensor(draw("decoder/x", (2, 12, 5, 7)), requires_grad=True)
    out = net(x)
    golden |= {f"decoder/{stage}": y.detach().numpy() for stage, y in out.items()}
    (out["heatmaps"] * torch.tensor(draw("decoder/g", tuple(out["heatmaps"].shape)))).sum().backward()
    golden["decoder/grad_x"] = x.grad.numpy()
    golden["decoder/grad_kernel"] = net.deconv_layers[0].weight.grad.numpy()
    for stride in (1, 2):
        x = torch.tensor(draw("depthwise/x", (2, 5, 9, 8)), requires_grad=True)
        w = torch.tensor(draw("depthwise/weight", (5, 1, 3, 3)), requires_grad=True)
        y = F.conv2d(x, w, stride=stride, padding=1, groups=5)
        (y * torch.tensor(draw("depthwise/g", tuple(y.shape)))).sum().backward()
        golden |= {f"depthwise/{stride}/y": y.detach().numpy(), f"depthwise/{stride}/grad_x": x.grad.numpy()}
        golden[f"depthwise/{stride}/grad_kernel"] = w.grad.numpy()


def files():
    numbers = torch.arange(24, dtype=torch.float32)
    state = OrderedDict(
        plain=numbers.reshape(2, 3, 4), turned=numbers.reshape(4, 6).t(), part=numbers[5:9],
        half=numbers[:4].half() / 8, count=torch.tensor(7), parameter=nn.Parameter(numbers[:3] * 2),
    )  # fmt: skip
    for name, is_zip in (("legacy.pt", False), ("zip.pt", True)):
        torch.save(state, HERE / name, _use_new_zipfile_serialization=is_zip)
        wrapped = {
            "state_dict": {f"module.{k}": v for k, v in state.items()},
            "optimizer": {"lr": 0.1, "m": numbers + 1},
        }
        torch.save(wrapped, HERE / f"wrapped_{name}", _use_new_zipfile_serialization=is_zip)
    torch.save(nn.Linear(2, 2), HERE / "module.pt")


if __name__ == "__main__":
    golden = {}
    encoders(golden)
    layers(golden)
    np.savez_compressed(HERE / "models.npz", **golden)
    files()
