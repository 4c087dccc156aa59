"""The recipe: fine-tuning with DELTA, on pictures that are also rotated and lit otherwise, mirror images averaged.

    python -m ctd_jax.main --config=configs/recipe.py
    python -m ctd_jax.main --config=configs/recipe.py:own --config.data.root=DIR --config.teacher.weights=FILE

Variants: `demo` has drawn faces as photographed in a clinic, 40 of them labelled, and takes about two minutes on two
CPU cores. `own` is for your own pictures, some dozen of them labelled: the size of the picture and the number of steps
are chosen from the training pictures, and said. docs/results.md has what it gives on real ones. `paper`: the encoder
and the schedule of configs/default.py.
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config("demo" if variant == "own" else variant)
    config.name, config.variant = "recipe", variant
    config.augment.rotation = 10.0
    config.augment.brightness = config.augment.contrast = config.augment.gamma = 0.15
    config.train.heatmap_loss = "adaptive_wing"
    config.eval.mirror = True
    config.constraints.delta.weight = 1e-6
    config.constraints.l2.weight = 1e-5
    config.train.batch_size = 8
    if variant != "paper":
        config.train.encoder_lr = config.train.decoder_lr = 2e-3
    if variant == "demo":
        config.data.root = "synthetic_clinic"
        config.data.synthetic.identities = (40, 20, 60)
        config.data.image_size = 128
        config.train.steps = 700
    if variant == "own":
        config.data.root = config.teacher.weights = ""
        config.data.image_size = config.train.steps = 0
    config.grid = tuple(f"train.encoder_lr={rate}" for rate in (1e-3, 2e-3, 4e-3))
    return config
