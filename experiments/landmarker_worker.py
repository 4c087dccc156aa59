"""One training of landmarker's ISBI 2015 example, by the interpreter that has landmarker; `landmarker.py` drives it.

    python -I landmarker_worker.py FOLDER

FOLDER has `job.json` (`size`, `rate`, `seed`, `minutes`, `cores`, `splits`) and the pictures of each split in
`SPLIT.npz`: `picture0`, ... `[H, W]` or `[H, W, 3]` uint8, `xy` [N, K, 2] (x, y) in their pixels, `spacing` [N, 2] mm
per pixel along x and y. It gets `predictions.npz`, for each of `splits` `[N, K, 2]` (x, y) in pixels of the pictures,
and, last of all, `training.json`. Where PyTorch finds a GPU, the network is there, `cores` further processes make its
pictures, and a minute is one of the clock; elsewhere it is `cores` minutes of processor time. What is taken from the
example and what is not is said in `landmarker.py`.
"""

import copy
import itertools
import json
import math
import pathlib
import sys
import time
from typing import Any

import landmarker
import monai
import numpy as np
import torch
from landmarker.data import LandmarkDataset
from landmarker.heatmap.decoder import heatmap_to_coord
from landmarker.heatmap.generator import GaussianHeatmapGenerator
from landmarker.losses import GaussianHeatmapL2Loss
from landmarker.metrics import point_error
from landmarker.models.spatial_configuration_net import OriginalSpatialConfigurationNet
from landmarker.utils import pixel_to_unit
from monai.data.utils import worker_init_fn
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandGaussianNoised,
    RandHistogramShiftd,
    RandScaleIntensityd,
    ScaleIntensityd,
)
from torch.utils.data import DataLoader

KEY = ("image",)
EXAMPLE_SIZE = 512  # pixels, side of the example's pictures
EXAMPLE_PICTURES = 150  # in an epoch of the example
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOCK = time.perf_counter if DEVICE == "cuda" else time.process_time


def augmentation(size: int) -> Compose:
    """The example's; its shift of 10 pixels is the same share of a picture of any size."""
    shift = 10 * size / EXAMPLE_SIZE
    return Compose(
        [
            ScaleIntensityd(KEY),
            RandGaussianNoised(KEY, prob=0.2, mean=0, std=0.1),
            RandScaleIntensityd(KEY, factors=0.25, prob=0.2),
            RandAdjustContrastd(KEY, prob=0.2, gamma=(0.5, 4.5)),
            RandHistogramShiftd(KEY, prob=0.2),
            ScaleIntensityd(KEY),
            RandAffined(
                KEY,
                prob=1,
                rotate_range=(-math.pi / 12, math.pi / 12),
                translate_range=(-shift, shift),
                scale_range=(-0.1, 0.1),
                shear_range=(-0.1, 0.1),
            ),
        ]
    )


def dataset(path: pathlib.Path, size: int, transform: Compose) -> LandmarkDataset:
    """The pictures of a split in a square of `size` pixels, padded."""
    with np.load(path) as file:
        pictures = [channels_first(file[f"picture{i}"]) for i in range(len(file["xy"]))]
        yx, spacing = (np.ascontiguousarray(file[name][..., ::-1]) for name in ("xy", "spacing"))
    return LandmarkDataset(pictures, yx, pixel_spacing=spacing, transform=transform, dim_img=(size, size))


def channels_first(picture: np.ndarray) -> np.ndarray:
    """`[H, W]` or `[H, W, C]` -> `[C, H, W]`."""
    return picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)


def decode(heatmaps: torch.Tensor) -> torch.Tensor:
    """`[B, K, H, W]` -> `[B, K, 2]` (y, x), as the example; in double precision, because the exponential of a map that
    is scaled by 100 may leave single precision."""
    return heatmap_to_coord(heatmaps.double(), method="local_soft_argmax")


def picture_of(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The pictures without MONAI's notes, which would follow them through every layer."""
    return torch.Tensor.as_subclass(batch["image"], torch.Tensor).to(DEVICE)


class Training:
    """The network, what it is trained with, and how it is judged.

    Args:
      channels: of the pictures.
      landmarks: their number.
      size: side of the pictures, pixels.
      rate: at which it learns at first.
    """

    def __init__(self, channels: int, landmarks: int, size: int, rate: float):
        self.size = size
        self.model = OriginalSpatialConfigurationNet(in_channels=channels, out_channels=landmarks).to(DEVICE)
        self.generator = GaussianHeatmapGenerator(
            nb_landmarks=landmarks,
            sigmas=torch.tensor(3.0, device=DEVICE),
            gamma=100,
            heatmap_size=(size, size),
            learnable=True,
        )
        self.criterion = GaussianHeatmapL2Loss(alpha=5)
        groups = [
            {"params": self.model.parameters(), "weight_decay": 1e-3},
            {"params": self.generator.sigmas},
            {"params": self.generator.rotation},
        ]
        self.optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.99, nesterov=True)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, mode="min", factor=0.5, patience=10, cooldown=10
        )

    def loss(self, batch: dict[str, torch.Tensor], heatmaps: torch.Tensor) -> torch.Tensor:
        return self.criterion(heatmaps, self.generator.sigmas, self.generator(batch["landmark"].to(DEVICE)))

    def warm_up(self, batch: dict[str, torch.Tensor]) -> None:
        """What a first step makes ready for all later ones, without an update."""
        self.loss(batch, self.model(picture_of(batch))).backward()

    def step(self, batch: dict[str, torch.Tensor]) -> float:
        """One update; the loss before it."""
        self.model.train()
        self.optimizer.zero_grad()
        loss = self.loss(batch, self.model(picture_of(batch)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 10000.0)
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def validate(self, pictures: LandmarkDataset) -> tuple[float, float]:
        """Means over the pictures: of the loss, and of the point error in units of their spacing."""
        self.model.eval()
        found = []
        for batch in DataLoader(pictures):
            heatmaps = self.model(picture_of(batch))
            error = point_error(
                batch["landmark"],
                decode(heatmaps).cpu(),
                (self.size, self.size),
                batch["dim_original"],
                batch["spacing"],
                batch["padding"],
            )
            found.append((self.loss(batch, heatmaps).item(), error.item()))
        loss, error = np.mean(found, axis=0).tolist()
        return loss, error

    @torch.no_grad()
    def predict(self, pictures: LandmarkDataset) -> np.ndarray:
        """`[N, K, 2]` (x, y) in pixels of the pictures as they came."""
        self.model.eval()
        found = ((decode(self.model(picture_of(batch))).cpu(), batch) for batch in DataLoader(pictures))
        return np.concatenate([original_xy(yx, batch, self.size) for yx, batch in found])


def original_xy(yx: torch.Tensor, batch: dict[str, torch.Tensor], size: int) -> np.ndarray:
    """`[B, K, 2]` (y, x) in the network's pixels -> (x, y) in those of the pictures as they came."""
    found = pixel_to_unit(yx, dim=(size, size), dim_orig=batch["dim_original"], padding=batch["padding"])
    return found.numpy()[..., ::-1]


def train(training: Training, pictures: dict[str, LandmarkDataset], budget: float, makers: int) -> dict[str, Any]:
    """Trains for `budget` seconds of `CLOCK`, or until it diverges, and leaves the weights that are best on val.

    Args:
      training: what is trained.
      pictures: of train and val.
      budget: seconds.
      makers: processes that make the training pictures; 0: this one.

    Returns:
      `epochs`, with the state of each; `steps`, and the `clock_seconds` of them all.
    """
    loader = DataLoader(
        pictures["train"],
        batch_size=1,
        shuffle=True,
        num_workers=makers,
        persistent_workers=makers > 0,
        worker_init_fn=worker_init_fn,  # or all processes would draw the same changes
    )
    training.warm_up(next(iter(loader)))
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    in_epoch = max(round(EXAMPLE_PICTURES / len(loader)), 1) * len(loader)
    epochs: list[dict[str, float]] = []
    steps, used, lowest, best = 0, 0.0, math.inf, None
    while used < budget:
        losses: list[float] = []
        began = CLOCK()
        try:
            for batch in itertools.islice(batches, in_epoch):
                losses.append(training.step(batch))
                if used + CLOCK() - began >= budget:
                    break
        except torch.linalg.LinAlgError:  # of a sigma that is 0 or no number
            break
        used += CLOCK() - began
        steps += len(losses)
        val_loss, val_error = training.validate(pictures["val"])
        rate = training.optimizer.param_groups[0]["lr"]
        training.scheduler.step(val_loss)
        epochs.append({"step": steps, "clock_seconds": used, "rate": rate, "loss": float(np.mean(losses))})
        epochs[-1] |= {"val_loss": val_loss, "val_error": val_error, "sigma": training.generator.sigmas.mean().item()}
        print(json.dumps(epochs[-1]), file=sys.stderr)
        if not math.isfinite(val_error):
            break
        if val_error < lowest:
            lowest, best = val_error, copy.deepcopy(training.model.state_dict())
    if best is None:
        sys.exit(f"after {steps} steps no error on val is finite: the training has diverged")
    training.model.load_state_dict(best)
    return {"epochs": epochs, "steps": steps, "clock_seconds": used, "val_error": lowest}


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text("utf-8"))
    torch.set_num_threads(job["cores"])
    torch.manual_seed(job["seed"])
    still = Compose([ScaleIntensityd(KEY)])
    transforms = {"train": augmentation(job["size"]).set_random_state(job["seed"]), "val": still}
    pictures = {name: dataset(folder / f"{name}.npz", job["size"], how) for name, how in transforms.items()}
    training = Training(len(pictures["val"].imgs[0]), pictures["val"].nb_landmarks, job["size"], job["rate"])
    on_gpu = DEVICE == "cuda"
    seconds = 60 * (1 if on_gpu else job["cores"])  # of `CLOCK` in a minute
    result = train(training, pictures, seconds * job["minutes"], job["cores"] if on_gpu else 0)
    result["minutes"] = result.pop("clock_seconds") / seconds
    del pictures["train"]
    found = {}
    for name in job["splits"]:
        part = pictures["val"] if name == "val" else dataset(folder / f"{name}.npz", job["size"], still)
        found[name] = training.predict(part)
    np.savez(folder / "predictions.npz", **found)
    result |= {"n_params": sum(p.numel() for p in training.model.parameters() if p.requires_grad)}
    result |= {"device": DEVICE, "versions": {one.__name__: one.__version__ for one in (landmarker, monai, torch)}}
    (folder / "training.json").write_text(json.dumps(result, indent=1), "utf-8")


if __name__ == "__main__":
    main()
