"""RTL, intermediate layers: keep the maps of several layers close to the teacher's (Fu et al. 2021, arXiv 2109.05485).

python -m ctd_jax.main --config=configs/rtl_layers.py
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "rtl_layers"
    config.constraints.ed.weight = 1e-4
    config.constraints.ed.layers = ("stage1", "stage2", "stage3")
    config.grid = tuple(f"constraints.ed.weight={value}" for value in (1e-4, 1e-3, 1e-2))
    return config
