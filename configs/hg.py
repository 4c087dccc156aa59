"""Stacked hourglass (HG; Newell et al. 2016): another network, from scratch, without a teacher.

python -m ctd_jax.main --config=configs/hg.py
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "hg"
    config.model.network = "hourglass"
    config.teacher.weights = "none"
    config.model.encoder = "resnet8"
    config.grid = tuple(f"train.decoder_lr={value}" for value in (3e-4, 1e-3, 3e-3))
    return config
