"""CTD-Com: CTD-CD and CTD-ED together (Fu et al. 2020).

python -m ctd_jax.main --config=configs/ctd_com.py
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "ctd_com"
    config.constraints.cd.weight = 1e-4
    config.constraints.ed.weight = 1e-3
    weights = ((1e-5, 1e-4), (1e-4, 1e-3), (1e-3, 1e-2))
    config.grid = tuple(f"constraints.cd.weight={cd} constraints.ed.weight={ed}" for cd, ed in weights)
    return config
