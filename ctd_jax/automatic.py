"""What a configuration leaves to the program: a key that is 0 is chosen from the training pictures, and said."""

import dataclasses
import pathlib
import sys

import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from ctd_jax import data
from ctd_jax.config import config_of_run
from ctd_jax.training import hosts, memory

MAX_LOOKED_AT = 32  # training pictures whose sizes are looked at
MULTIPLE = 32  # of pixels, that every encoder takes
SMALLEST = 96  # pixels
LARGEST = {"cpu": 256}  # pixels, of a platform: a step takes time as the square of it
LARGEST_ELSEWHERE = 512


def continued(config: ConfigDict, workdir: pathlib.Path) -> ConfigDict:
    """`config` with what was chosen when the run in `workdir` began, if there is one."""
    if not (workdir / "config.json").exists():
        return config
    config, earlier = _copy(config), config_of_run(workdir)
    config.data.image_size = config.data.image_size or earlier.data.image_size
    config.train.steps = config.train.steps or earlier.train.steps
    return config


def settled(
    config: ConfigDict, pictures: data.SplitPictures, platform: str, largest: int | None = None
) -> tuple[FrozenConfigDict, data.SplitPictures]:
    """A configuration and its pictures, with `data.image_size` and `train.steps` chosen where they are 0.

    Args:
      config: of the run.
      pictures: its pictures; those of the training split alone are looked at.
      platform: that it runs on, "cpu" or another.
      largest: pixels of a chosen `data.image_size`, where larger ones have turned out not to fit into memory.

    Returns:
      Both, as they are trained on; the configuration frozen.
    """
    config, train = _copy(config), pictures.split("train")
    chosen = []
    if not config.data.image_size:
        if start := config.model.start or config.domains.start:
            size, why = config_of_run(pathlib.Path(start)).data.image_size, f"as in {start}"
        else:
            seen = _median_side(train)
            size, why = image_size(seen, platform), f"the pictures have {seen:.0f} pixels"
            half = size // 2 // MULTIPLE * MULTIPLE
            if half >= SMALLEST:
                why += f"; its error on val tells whether {half}, in a quarter of the time, is better"
        config.data.image_size = min(size, largest or size)
        why += ", larger ones need more memory than there is" * bool(largest)
        chosen.append(f"--config.data.image_size={config.data.image_size} ({why})")
    if not config.train.steps:
        config.train.steps = steps(len(train))
        chosen.append(f"--config.train.steps={config.train.steps} (for {len(train)} labelled pictures)")
    if chosen and hosts.is_first():
        print(f"chosen: {', '.join(chosen)}", file=sys.stderr)
    return FrozenConfigDict(config), pictures.resized(config.data.image_size)


def image_size(side: float, platform: str) -> int:
    """Side of the network's picture for pictures of `side` pixels: no larger than they are, but for the next multiple
    that an encoder takes."""
    largest = LARGEST.get(platform, LARGEST_ELSEWHERE)
    return int(np.clip(np.ceil(side / MULTIPLE) * MULTIPLE, SMALLEST, largest))


def smaller(size: int, error: memory.TooLarge) -> int:
    """Side of a network's picture, below `size`, whose step fits into the memory: activations take as much of it as
    there are pixels.

    Raises:
      TooLarge: `error`, if not even the smallest fits.
    """
    part = max(error.need.part_that_fits(error.limit), 0.0)
    side = int(size * part**0.5 / MULTIPLE) * MULTIPLE
    if side < SMALLEST:
        raise error
    return side


def _median_side(train: data.Dataset) -> float:
    """Pixels of the longer side of a training picture, or of the square that is cut from it: the median of some."""
    some = np.arange(0, len(train), -(-len(train) // MAX_LOOKED_AT))
    scale, _ = dataclasses.replace(train.take(some), size=1, cache_mib=0).frames()
    return float(np.median(1 / scale))


def steps(labels: int) -> int:
    """Training steps for a number of labelled pictures."""
    return int(np.clip(200 * round(labels / 10), 800, 2400))


def _copy(config: ConfigDict) -> ConfigDict:
    """A configuration that can be changed without the given one, which may be frozen."""
    return ConfigDict(config.to_dict())
