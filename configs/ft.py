"""Fine-tuning (FT): start from the teacher, then forget it. The baseline that every constraint has to beat.

python -m ctd_jax.main --config=configs/ft.py
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "ft"
    config.grid = tuple(f"train.encoder_lr={value}" for value in (3e-4, 1e-3, 3e-3))
    return config
