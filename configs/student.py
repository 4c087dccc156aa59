"""A tiny student alone, from random weights: what distillation (fpd, fitnets, attention_transfer, fsf_ld) has to beat.

python -m ctd_jax.main --config=configs/student.py

Ours, as the paper's network (Huang et al. 2022) is lost. --config.model.encoder=mobilenet_micro
--config.model.decoder_channels='(32, 32, 32)' is a fifth of it.
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "student"
    config.teacher.weights = "none"
    config.model.encoder = "mobilenet_tiny"
    config.model.decoder = "separable"
    config.model.decoder_channels = (64, 64, 64)
    config.train.encoder_lr = 3e-3
    config.train.decoder_lr = 3e-3
    config.grid = tuple(f"train.encoder_lr={value} train.decoder_lr={value}" for value in (1e-3, 3e-3, 1e-2))
    return config
