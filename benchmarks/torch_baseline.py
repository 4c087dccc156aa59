"""The same landmark network and training step in plain PyTorch: what `benchmarks/step.py` measures ours against.

SimpleBaseline (Xiao et al. 2018, arXiv 1804.06208) on ResNet-50, as PyTorch users write it. Pictures are uint8 NHWC on
the way in; everything after that, augmentation and heatmaps too, is part of a step here as it is in ours.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = None
        if inputs != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Encoder(nn.Module):
    """ResNet-50 without its classifier: `[B, 3, H, W]` -> `[B, 2048, H / 32, W / 32]`."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels, stages = 64, []
        for i, blocks in enumerate((3, 4, 6, 3)):
            width, stage = 64 * 2**i, []
            for j in range(blocks):
                stage.append(Bottleneck(channels, width, 2 if i and not j else 1))
                channels = 4 * width
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class SimpleBaseline(nn.Module):
    """Encoder, three deconvolutions of 256 channels, a 1x1 convolution: `[B, K, H / 4, W / 4]` heatmaps."""

    def __init__(self, num_landmarks: int):
        super().__init__()
        self.encoder = Encoder()
        decoder = []
        for inputs in (2048, 256, 256):
            decoder += [nn.ConvTranspose2d(inputs, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(True)]
        self.decoder = nn.Sequential(*decoder)
        self.final = nn.Conv2d(256, num_landmarks, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return features, self.final(self.decoder(features))


def normalize(picture: Tensor) -> Tensor:
    """`[B, S, S, 3]` 0..255 -> `[B, 3, S, S]`."""
    mean, std = (torch.tensor(v, device=picture.device) for v in (MEAN, STD))
    return ((picture.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def augment(picture: Tensor, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Flip, scale and move `[B, 3, S, S]` pictures and `[B, K, 2]` points, as `ctd_jax.data.augment` (points in pairs
    are not exchanged here)."""
    B, _, _, S = picture.shape
    device = picture.device
    mirror = torch.where(torch.rand(B, device=device) < 0.5, -1.0, 1.0)
    factor = torch.empty(B, device=device).uniform_(0.75, 1.25)
    move = torch.empty(B, 2, device=device).uniform_(-0.05, 0.05) * S
    centre = (S - 1) / 2
    theta = torch.zeros(B, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = mirror / factor, 1 / factor
    theta[:, :, 2] = -2 * move / S / factor[:, None] * torch.stack([mirror, torch.ones_like(mirror)], 1)
    grid = F.affine_grid(theta, list(picture.shape), align_corners=False)
    moved = F.grid_sample(picture, grid, align_corners=False)
    flips = torch.stack([mirror, torch.ones_like(mirror)], 1)[:, None]
    return moved, (xy - centre) * flips * factor[:, None, None] + centre + move[:, None]


def draw(xy: Tensor, size: int, stride: int = 4, sigma: float = 2.0) -> Tensor:
    """`[B, K, 2]` -> `[B, K, size / stride, size / stride]` Gaussians of peak 1."""
    cell = (xy + 0.5) / stride - 0.5
    profile = torch.exp(-((torch.arange(size // stride, device=xy.device) - cell[..., None]) ** 2) / (2 * sigma**2))
    return profile[:, :, 1, :, None] * profile[:, :, 0, None, :]


def decode(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Places `[B, K, 2]`, in cells, and heights `[B, K]` of the peaks."""
    confidence, index = heatmaps.flatten(2).max(-1)
    return torch.stack([index % heatmaps.shape[-1], index // heatmaps.shape[-1]], -1), confidence


def make(
    *, num_landmarks: int, size: int, teacher: bool, device: str, channels_last: bool, compiled: bool
) -> tuple[Callable, Callable, Callable]:
    """`train(picture, xy)`, `predict(picture)`, and `wait()`, which returns when the device has done its work.

    On a GPU autocast computes in bfloat16. With a teacher, the loss has CTD-ED's term, the cosine distance of the
    encoders' maps.

    Args:
      num_landmarks: K.
      size: side of the network's picture, pixels.
      teacher: whether there is one.
      device: cpu or cuda.
      channels_last: whether the tensors are laid out as NHWC.
      compiled: whether the functions go through `torch.compile`.
    """
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    student, guide = SimpleBaseline(num_landmarks).to(device), Encoder().to(device).eval()
    guide.load_state_dict(student.encoder.state_dict())
    if channels_last:
        student, guide = (net.to(memory_format=torch.channels_last) for net in (student, guide))
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-4, fused=True)
    autocast = torch.autocast(device, torch.bfloat16, enabled=device == "cuda")

    def losses(picture: Tensor, xy: Tensor) -> Tensor:
        picture, xy = augment(normalize(picture), xy)
        if channels_last:
            picture = picture.contiguous(memory_format=torch.channels_last)
        with autocast:
            features, heatmaps = student(picture)
        loss = F.mse_loss(heatmaps.float(), draw(xy, size))
        if teacher:
            with torch.no_grad(), autocast:
                target = guide(picture)
            loss = (
                loss + 1e-3 * (1 - F.cosine_similarity(features.float().flatten(1), target.float().flatten(1))).mean()
            )
        return loss

    def forward(picture: Tensor) -> tuple[Tensor, Tensor]:
        picture = normalize(picture)
        if channels_last:
            picture = picture.contiguous(memory_format=torch.channels_last)
        with autocast:
            heatmaps = student(picture)[1]
        return decode(heatmaps.float())

    if compiled:
        losses, forward = torch.compile(losses), torch.compile(forward)

    def train(picture: Tensor, xy: Tensor) -> None:
        student.train()
        optimizer.zero_grad(set_to_none=True)
        losses(picture, xy).backward()
        optimizer.step()

    def predict(picture: Tensor) -> None:
        student.eval()
        with torch.inference_mode():
            forward(picture)

    return train, predict, (torch.cuda.synchronize if device == "cuda" else lambda: None)


def flops(train: Callable, *arguments: Tensor) -> int:
    """Floating-point operations of the convolutions of one call, forward and backward, a multiply-add counting two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        train(*arguments)
    return math.floor(counter.get_total_flops())
