"""FSF-LD (Huang et al. 2022): a tiny student shares the features of a heavy teacher, and follows its heatmaps.

    python -m ctd_jax.main --config=configs/fsf_teacher.py
    python -m ctd_jax.main --config=configs/fsf_ld.py --config.teacher.run=runs/fsf_teacher-demo

A reconstruction: L = L_H + a L_KD + b mean over levels of L_hint, with a 1x1 adapter at each level that training leaves
behind. The levels are two of the encoder's, which on cephalograms is better than with two of the decoder's beside them,
on val and on test (experiments/fsf_ld.py). Alternatives: other levels (constraints.hint.layers), plain squared errors
(constraints.hint.form=plain), no heatmaps of the teacher (constraints.kd.weight=0). Not here: the teacher's features as
an input of the student's later layers.
"""

from ml_collections import ConfigDict

from . import student


def get_config(variant: str = "demo") -> ConfigDict:
    config = student.get_config(variant)
    config.name = "fsf_ld"
    config.constraints.kd.weight = 1.0
    config.constraints.hint.form = "normalized"
    config.constraints.hint.layers = ("stage2", "stage3")
    config.constraints.hint.weight = 1e-1
    config.grid = tuple(f"constraints.hint.weight={value}" for value in (1e-2, 1e-1, 1.0))
    return config
