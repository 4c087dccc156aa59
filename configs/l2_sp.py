"""L2-SP: keep the encoder's parameters near the teacher's, and the decoder's small (Li et al. 2018).

python -m ctd_jax.main --config=configs/l2_sp.py
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "l2_sp"
    config.constraints.l2_sp.weight = 1e-6
    config.constraints.l2.weight = 1e-5
    config.grid = tuple(f"constraints.l2_sp.weight={value}" for value in (1e-6, 1e-5, 1e-4))
    return config
