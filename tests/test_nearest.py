"""Typical mistakes in the names of keys, and what was meant."""

import pytest

from configs import default
from ctd_jax import nearest
from ctd_jax.config import flatten

KEYS = list(flatten(default.get_config()))


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("train.lr", {"train.encoder_lr", "train.decoder_lr"}),
        ("lr", {"train.encoder_lr", "train.decoder_lr"}),
        ("train.learning_rate", {"train.encoder_lr", "train.decoder_lr"}),
        ("encoder_lr", {"train.encoder_lr"}),
        ("train.stps", {"train.steps"}),
        ("steps", {"train.steps"}),
        ("train.epochs", {"train.steps"}),
        ("train.batchsize", {"train.batch_size"}),
        ("batch_size", {"train.batch_size", "eval.batch_size"}),
        ("data.size", {"data.image_size"}),
        ("data.dir", {"data.root"}),
        ("Data.Root", {"data.root"}),
        ("constraints.ed.wieght", {"constraints.ed.weight"}),
        ("constraint.edd.weight", {"constraints.ed.weight"}),
        ("eval.evry", {"eval.every"}),
        ("seeds", {"seed"}),
        ("teacher.weight", {"teacher.weights"}),
    ],
)
def test_the_nearest_key(wrong, meant):
    assert set(nearest.keys(wrong, KEYS)) == meant
