"""The teacher of FSF-LD (Huang et al. 2022): a heavy landmark network that learns two tasks at once.

    python -m ctd_jax.main --config=configs/fsf_teacher.py
    python -m ctd_jax.main --config=configs/fsf_teacher.py:paper --config.data.root=DIR --config.teacher.weights=FILE

A reconstruction: of the text we have that the teacher is pre-trained "with a multi-task structure". Here: heatmaps, and
coordinates that a second head reads from the encoder. With --config.coordinates.weight=0 it learns heatmaps only; with
--config.data.root=DIR,DIR it learns several data sets at once, a domain each (configs/domains.py).
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "fsf_teacher"
    config.coordinates.weight = 0.01  # ours
    config.grid = tuple(f"coordinates.weight={value}" for value in (1e-3, 1e-2, 1e-1))
    if variant == "paper":
        config.teacher.weights = "none"  # or ImageNet's, by `python -m convert.torchvision`
        config.train.encoder_lr = 1e-3
    return config
