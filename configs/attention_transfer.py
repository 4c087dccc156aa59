"""Attention transfer (AT; Zagoruyko and Komodakis 2017) from the encoder of a landmark teacher.

python -m ctd_jax.main --config=configs/fsf_teacher.py
python -m ctd_jax.main --config=configs/attention_transfer.py --config.teacher.run=runs/fsf_teacher-demo
"""

from ml_collections import ConfigDict

from . import student


def get_config(variant: str = "demo") -> ConfigDict:
    config = student.get_config(variant)
    config.name = "attention_transfer"
    config.constraints.at.weight = 1e-2
    config.grid = tuple(f"constraints.at.weight={value}" for value in (1e-3, 1e-2, 1e-1))
    return config
