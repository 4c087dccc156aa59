"""DELTA: keep feature maps close to the teacher's, channels that matter most of all (Li et al. 2019).

python -m ctd_jax.main --config=configs/delta.py
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "delta"
    config.constraints.delta.weight = 1e-6
    config.constraints.l2.weight = 1e-5
    config.grid = tuple(f"constraints.delta.weight={value}" for value in (1e-6, 1e-5, 1e-4))
    return config
