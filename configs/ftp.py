"""Partial fine-tuning (FTP): of the encoder, only the last convolution learns; its batch norm keeps the teacher's
statistics.

python -m ctd_jax.main --config=configs/ftp.py
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "ftp"
    config.train.encoder_layers = "last"
    config.grid = tuple(f"train.encoder_lr={value}" for value in (3e-4, 1e-3, 3e-3))
    return config
