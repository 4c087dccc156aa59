"""The values that the keys of a configuration may have."""

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ml_collections import ConfigDict, FrozenConfigDict

from ctd_jax.config.keys import check_unread, each_path, items
from ctd_jax.config.loading import check_keys
from ctd_jax.errors import UserError


class Range(NamedTuple):
    """The values that a key may have, as a condition and in words."""

    condition: Callable[[Any], bool]
    words: str

    def has(self, value: Any) -> bool:
        try:
            return self.condition(value)
        except TypeError:  # a value of another type, from a configuration of the user
            return False


def one_of(*names: str) -> Range:
    """The range of a key that is one of these words."""
    return Range(lambda value: value in names, f"expected {', '.join(names[:-1])} or {names[-1]}")


def up_to(most: int) -> Range:
    """The range of a whole number that is 1 or more: above `most` XLA may end the process without a message."""
    return Range(lambda value: isinstance(value, int) and 1 <= value <= most, f"expected 1 .. {most}")


POSITIVE = Range(lambda value: 0 < value < math.inf, "expected more than 0")
NOT_NEGATIVE = Range(lambda value: 0 <= value < math.inf, "expected 0 or more")
SEED = Range(lambda value: 0 <= value < 2**31, "expected 0 or more, and less than 2147483648")
BATCH = Range(lambda value: value <= 1_000_000, "expected 1000000 pictures at most")
CHANNELS = up_to(16384)
OPEN = Range(NOT_NEGATIVE.condition, "expected more than 0, or 0: chosen from the training pictures")
WEIGHT = Range(NOT_NEGATIVE.condition, "expected 0 (off) or more")
PROBABILITY = Range(lambda value: 0 <= value <= 1, "expected 0 .. 1, and for scale less than 1")
SHARE = Range(lambda value: 0 <= value < 1, "expected 0 (off) or more, and less than 1")
COUNTS = Range(
    lambda value: len(value) == 3 and all(isinstance(count, int) and count >= 0 for count in value),
    "expected three whole numbers: for train, val and test",
)
# Key, or pattern of keys -> the values it may have. What depends on the data or on the network is checked where these
# are; a word that names a row of a table (a task, an encoder, a form of deconvolution) where that table is; the keys of
# a constraint in its row, see `losses.terms`.
RANGES = {
    "seed": SEED,
    "data.seed": SEED,
    "data.budget": NOT_NEGATIVE,
    "data.share": Range(lambda value: 0 < value <= 1, "expected more than 0, and 1 at most"),
    "data.budget_seed": SEED,
    "data.raters": one_of("mean", "draw"),
    "data.image_size": Range(lambda value: 0 <= value <= 8192, "expected 1 .. 8192, or 0: chosen from the pictures"),
    "data.margin": NOT_NEGATIVE,
    "data.cache_mib": NOT_NEGATIVE,
    "data.synthetic.*": COUNTS,
    "data.tfds.coordinates": one_of("auto", "pixels", "fractions"),
    "data.tfds.order": one_of("xy", "yx"),
    "augment.flip": PROBABILITY,
    "augment.scale": Range(lambda value: 0 <= value < 1, PROBABILITY.words),
    "augment.shift": PROBABILITY,
    "augment.rotation": Range(lambda value: 0 <= value <= 180, "expected 0 (off) .. 180 (degrees)"),
    "augment.aspect": SHARE,
    "augment.brightness": SHARE,
    "augment.contrast": SHARE,
    "augment.gamma": WEIGHT,
    "augment.colour": SHARE,
    "augment.blur": Range(lambda value: 0 <= value <= 0.05, "expected 0 (off) .. 0.05 (of data.image_size)"),
    "augment.noise": SHARE,
    "augment.occlusion": SHARE,
    "model.decoder_channels": Range(
        lambda value: all(CHANNELS.has(channels) for channels in value),
        f"expected whole numbers, {CHANNELS.words.removeprefix('expected ')} each",
    ),
    "model.sigma": POSITIVE,
    "model.hourglass.stacks": up_to(100),
    "model.hourglass.channels": CHANNELS,
    "model.hourglass.depth": up_to(12),
    "domains.schedule": one_of("proportional", "balanced", "temperature"),
    "domains.temperature": POSITIVE,
    "coordinates.weight": WEIGHT,
    "presence.weight": WEIGHT,
    "recognition.loss": one_of("softmax", "arcface"),
    "recognition.margin": Range(lambda value: 0 <= value < math.pi, "expected 0 or more, and less than pi (radians)"),
    "recognition.scale": POSITIVE,
    "segmentation.dice": NOT_NEGATIVE,
    "train.steps": OPEN,
    "train.batch_size": BATCH,
    "train.unlabelled_batch_size": BATCH,
    "train.batch_norm": one_of("global", "device"),
    "train.accumulate_steps": POSITIVE,
    "train.heatmap_loss": one_of("mse", "adaptive_wing"),
    "train.encoder_layers": one_of("all", "last", "none"),
    "train.encoder_lr": POSITIVE,
    "train.decoder_lr": POSITIVE,
    "train.decay_power": POSITIVE,
    "train.average": Range(lambda value: 0 <= value < 1, "expected 0 (off) .. 1, and less than 1"),
    "eval.every": POSITIVE,
    "eval.batch_size": up_to(1_000_000),
    "eval.threshold.*": POSITIVE,
}

# What is meant in a TFDS data set, and the only values where there is none.
TFDS = {"data.tfds.image": "", "data.tfds.points": "", "data.tfds.subject": ""}
TFDS |= {"data.tfds.coordinates": "auto", "data.tfds.order": "xy"}


def check_config(config: ConfigDict) -> FrozenConfigDict:
    """`config`, frozen.

    Raises:
      UserError: a key that there is not, or that is missing; a value that is out of its range, two that do not go
        together, or one that nothing reads.
    """
    check_keys(config)
    for key, value in items(config.to_dict()):
        for pattern, allowed in RANGES.items():
            if fnmatchcase(key, pattern) and not allowed.has(value):
                raise UserError(f"{key} is {value!r}; {allowed.words}")
    if config.data.share < 1 and config.data.budget:
        raise UserError(f"data.share is {config.data.share} and data.budget {config.data.budget}; give one of them")
    if config.data.helped and not config.data.helping:
        raise UserError("data.helped is True, but data.helping names no domain; name those that help, or give "
                        "--config.data.helped=False")  # fmt: skip
    if not any(root.startswith("tfds:") for root in each_path(config.data.root)):
        check_unread(config, TFDS, "no data.root is a TFDS data set (tfds:NAME), the only one to have features")
    return FrozenConfigDict(config)
