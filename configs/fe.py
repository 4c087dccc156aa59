"""Frozen encoder (FE): only the decoder learns; the encoder stays the teacher's, batch norm included.

python -m ctd_jax.main --config=configs/fe.py
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "fe"
    config.train.encoder_layers = "none"
    config.grid = tuple(f"train.decoder_lr={value}" for value in (3e-4, 1e-3, 3e-3))
    return config
