"""FitNets' hint (Romero et al. 2015) in one stage: a middle layer, through an adapter, comes near to the teacher's.

python -m ctd_jax.main --config=configs/fsf_teacher.py
python -m ctd_jax.main --config=configs/fitnets.py --config.teacher.run=runs/fsf_teacher-demo
"""

from ml_collections import ConfigDict

from . import student


def get_config(variant: str = "demo") -> ConfigDict:
    config = student.get_config(variant)
    config.name = "fitnets"
    config.constraints.hint.layers = ("stage3",)
    config.constraints.hint.weight = 1e-2
    config.grid = tuple(f"constraints.hint.weight={value}" for value in (1e-3, 1e-2, 1e-1))
    return config
