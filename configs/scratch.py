"""From scratch: the teacher's architecture, from random weights. What the start from a teacher is worth.

python -m ctd_jax.main --config=configs/scratch.py
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "scratch"
    config.teacher.start = False
    config.grid = tuple(f"train.encoder_lr={value} train.decoder_lr={value}" for value in (3e-4, 1e-3, 3e-3))
    return config
