"""CTD-CD: keep the output of the teacher's classifier, on the student's maps, what it was (Fu et al. 2020, Eq. 3).

python -m ctd_jax.main --config=configs/ctd_cd.py
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "ctd_cd"
    config.constraints.cd.weight = 1e-5
    config.grid = tuple(f"constraints.cd.weight={value}" for value in (1e-5, 1e-4, 1e-3))
    return config
