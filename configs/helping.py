"""Helping domain: few labelled pictures of one kind, and many of another that only help. Fine-tuning of one network on
both, with batch norm and last convolution of their own; the helper's points are never a truth that anything is measured
against.

    python -m ctd_jax.main --config=configs/helping.py --config.data.budget=10
    python -m ctd_jax.main --config=configs/helping.py --config.data.budget=10 --config.teacher.weights=FILE \\
        --config.data.root=DIR,HELPER --config.data.helping="('HELPER',)"

A helper helps more where things are as large in its pictures as in the few (there is a warning if they are not): give
it box columns and data.margin, as experiments/cut_to_points.py does. Other configurations with the same roots leave the
helper out, so that one learning curve compares them.
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "helping"
    if variant == "demo":
        config.data.root = "synthetic,synthetic_film"
        config.data.helping = ("synthetic_film",)
    config.data.helped = True
    config.domains.schedule = "balanced"  # half of each batch are the few
    config.grid = tuple(f"train.encoder_lr={value}" for value in (3e-4, 1e-3, 3e-3))
    return config
