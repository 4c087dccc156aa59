"""CTD-ED: keep the encoder's maps close to the teacher's while learning the landmarks (Fu et al. 2020, Eq. 4).

python -m ctd_jax.main --config=configs/ctd_ed.py
python -m ctd_jax.main --config=configs/ctd_ed.py:paper --config.data.root=DIR --config.teacher.weights=FILE
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "ctd_ed"
    config.constraints.ed.weight = 1e-4  # lambda of Eq. 2; ours, chosen on val (docs/results.md)
    config.grid = tuple(f"constraints.ed.weight={value}" for value in (1e-4, 1e-3, 1e-2))
    return config
