"""RTL, channel attention: use the channels as much as the teacher does, at several layers (Fu et al. 2021, arXiv
2109.05485).

python -m ctd_jax.main --config=configs/rtl_channel.py
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "rtl_channel"
    config.constraints.channel.weight = 1e-4
    config.grid = tuple(f"constraints.channel.weight={value}" for value in (1e-4, 1e-3, 1e-2))
    return config
