"""RTL, spatial attention: look where the teacher looks, at several layers (Fu et al. 2021, arXiv 2109.05485).

python -m ctd_jax.main --config=configs/rtl_spatial.py
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "rtl_spatial"
    config.constraints.spatial.weight = 1e-2
    config.grid = tuple(f"constraints.spatial.weight={value}" for value in (1e-3, 1e-2, 1e-1))
    return config
