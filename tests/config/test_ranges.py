"""The values that a key may have."""

import functools
import re
from fnmatch import fnmatchcase

import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from configs import ctd_ed, default
from ctd_jax.config import check_config, config_hash, flatten
from ctd_jax.config.ranges import RANGES
from ctd_jax.errors import UserError


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.steps", -1, "-1; expected more than 0, or 0: chosen from the training pictures"),
        ("train.steps", "many", "'many'; expected more than 0, or 0: chosen from the training pictures"),
        ("train.decoder_lr", -1e-3, "-0.001; expected more than 0"),
        ("model.hourglass.depth", 0, "0; expected 1 .. 12"),
        ("eval.threshold.mm", 0.0, "0.0; expected more than 0"),
        ("data.seed", -1, "-1; expected 0 or more, and less than 2147483648"),
        ("segmentation.dice", -0.5, "-0.5; expected 0 or more"),
        ("data.share", 0.0, "0.0; expected more than 0, and 1 at most"),
        ("data.share", 1.1, "1.1; expected more than 0, and 1 at most"),
        ("augment.flip", 1.1, "1.1; expected 0 .. 1, and for scale less than 1"),
        ("augment.scale", 1.0, "1.0; expected 0 .. 1, and for scale less than 1"),
        ("augment.rotation", 180.5, "180.5; expected 0 (off) .. 180 (degrees)"),
        ("augment.rotation", -1.0, "-1.0; expected 0 (off) .. 180 (degrees)"),
        ("augment.aspect", 1.0, "1.0; expected 0 (off) or more, and less than 1"),
        ("augment.brightness", -0.1, "-0.1; expected 0 (off) or more, and less than 1"),
        ("augment.contrast", 1.0, "1.0; expected 0 (off) or more, and less than 1"),
        ("augment.gamma", -0.1, "-0.1; expected 0 (off) or more"),
        ("augment.colour", 1.0, "1.0; expected 0 (off) or more, and less than 1"),
        ("augment.blur", 0.06, "0.06; expected 0 (off) .. 0.05 (of data.image_size)"),
        ("augment.noise", float("nan"), "nan; expected 0 (off) or more, and less than 1"),
        ("augment.occlusion", 1.0, "1.0; expected 0 (off) or more, and less than 1"),
        ("model.decoder_channels", (8, 0), "(8, 0); expected whole numbers, 1 .. 16384 each"),
        ("data.synthetic.shots", (1, 2), "(1, 2); expected three whole numbers: for train, val and test"),
        ("data.raters", "median", "'median'; expected mean or draw"),
        ("data.tfds.coordinates", "percent", "'percent'; expected auto, pixels or fractions"),
        ("data.tfds.order", "x", "'x'; expected xy or yx"),
        ("domains.schedule", "balancd", "'balancd'; expected proportional, balanced or temperature"),
        ("domains.temperature", 0.0, "0.0; expected more than 0"),
        ("recognition.loss", "cosface", "'cosface'; expected softmax or arcface"),
        ("recognition.margin", 3.2, "3.2; expected 0 or more, and less than pi (radians)"),
        ("coordinates.weight", float("inf"), "inf; expected 0 (off) or more"),
        ("coordinates.weight", float("nan"), "nan; expected 0 (off) or more"),
        ("coordinates.weight", -1.0, "-1.0; expected 0 (off) or more"),
        ("presence.weight", -0.1, "-0.1; expected 0 (off) or more"),
        ("train.heatmap_loss", "wing", "'wing'; expected mse or adaptive_wing"),
        ("train.average", 1.0, "1.0; expected 0 (off) .. 1, and less than 1"),
        ("train.batch_norm", "local", "'local'; expected global or device"),
        ("seed", 2**32, "4294967296; expected 0 or more, and less than 2147483648"),
        ("data.image_size", 2_000_000_000, "2000000000; expected 1 .. 8192, or 0: chosen from the pictures"),
        ("model.decoder_channels", (2**31 - 1, 8), "(2147483647, 8); expected whole numbers, 1 .. 16384 each"),
        ("model.hourglass.channels", 2**31 - 1, "2147483647; expected 1 .. 16384"),
        ("model.hourglass.depth", 2**31 - 1, "2147483647; expected 1 .. 12"),
        ("train.batch_size", 2**31 - 1, "2147483647; expected 1000000 pictures at most"),
        ("eval.batch_size", 2**31 - 1, "2147483647; expected 1 .. 1000000"),
        ("train.encoder_layers", "first", "'first'; expected all, last or none"),
    ],
)
def test_a_value_out_of_range(key, value, words):
    config = default.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=f"^{re.escape(f'{key} is {words}')}$"):
        check_config(config)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.stpes", 4, "train.stpes: no such key; the nearest is train.steps, all of them are in configs/default"),
        ("data.augmentation.scale", 0.1, "data.augmentation.scale: no such key; the nearest is augment.scale"),
        ("constraints.ed.ovr", "map", "constraints.ed.ovr: no such key; the nearest is constraints.ed.over"),
        ("train.steps", None, "train.steps is missing from the configuration; begin with get_config"),
        ("constraints.ed.over", None, "constraints.ed.over is missing from the configuration"),
    ],
)
def test_a_key_that_there_is_not_or_that_is_missing(key, value, words):
    content = default.get_config().to_dict()
    *parents, last = key.split(".")
    node = functools.reduce(lambda node, part: node.setdefault(part, {}), parents, content)
    if value is None:
        del node[last]
    else:
        node[last] = value
    with pytest.raises(UserError, match=f"^{re.escape(words)}"):
        check_config(ConfigDict(content))


def test_terms_may_come_and_go():
    config = default.get_config()
    del config.constraints["kd"]
    config.constraints.mine = ConfigDict({"weight": 0.5, "power": 2})
    check_config(config)


def test_keys_that_nothing_reads():
    config = default.get_config()
    config.data.tfds.order = "yx"
    with pytest.raises(UserError, match="data.tfds.order is yx, but no data.root is a TFDS data set"):
        check_config(config)
    config.data.root = "faces, tfds:hands"
    check_config(config)
    config.data.helped = True
    with pytest.raises(UserError, match="data.helped is True, but data.helping names no domain"):
        check_config(config)


def test_share_and_budget_exclude_each_other():
    config = default.get_config()
    config.data.share, config.data.budget = 0.5, 7
    with pytest.raises(UserError, match="data.share is 0.5 and data.budget 7; give one of them"):
        check_config(config)


def test_every_range_is_of_a_key_that_there_is():
    keys = flatten(default.get_config())
    assert not [pattern for pattern in RANGES if not any(fnmatchcase(key, pattern) for key in keys)]


@pytest.mark.parametrize("variant", default.VARIANTS)
def test_what_is_checked_is_frozen_and_the_same(variant):
    config = ctd_ed.get_config(variant)
    frozen = check_config(config)
    assert isinstance(frozen, FrozenConfigDict)
    assert frozen.to_dict() == config.to_dict() and config_hash(frozen) == config_hash(config)
    with pytest.raises(AttributeError):
        frozen.train.steps = 3
    config.train.steps = 3
    assert frozen.train.steps != 3
