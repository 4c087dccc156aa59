"""Fast Pose Distillation (FPD; Zhang et al. 2019): the student's heatmaps follow the teacher's too.

python -m ctd_jax.main --config=configs/fsf_teacher.py
python -m ctd_jax.main --config=configs/fpd.py --config.teacher.run=runs/fsf_teacher-demo
"""

from ml_collections import ConfigDict

from . import student


def get_config(variant: str = "demo") -> ConfigDict:
    config = student.get_config(variant)
    config.name = "fpd"
    config.constraints.kd.weight = 1.0  # the paper's a = 0.5
    config.grid = tuple(f"constraints.kd.weight={value}" for value in (1.0, 3.0, 10.0))
    return config
