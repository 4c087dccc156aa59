"""The recipe: fine-tuning with DELTA, on pictures that are also rotated and lit otherwise, mirror images averaged.

    python -m ctd_jax.main --config=configs/recipe.py
    python -m ctd_jax.main --config=configs/recipe.py:own --config.data.root=DIR --config.teacher.weights=FILE

Variants: `demo` has drawn faces as photographed in a clinic, 40 of them labelled, and takes about two minutes on two
CPU cores (NME 2.1 % on test). `own` is for your own pictures, some dozen of them labelled: a picture of their size
(on a CPU 256 pixels at most) and 20 steps for each label (800 to 2400) are chosen and said, and after 20 steps how
long it will take. Mirror images are used where dataset.json has flip_pairs. `paper`: the encoder and the schedule of
configs/default.py.

What to expect of `own`, from one training each (docs/results.md has more):

* 120 labelled cephalograms, 256 pixels, 2400 steps, 47 minutes on two CPU cores: on test, a mean error of 1.32 mm on
  test1 and 1.65 mm on test2. With --config.data.image_size=384 --config.train.steps=950, 57 minutes, 1.22 and 1.54 mm;
  at their full size, with 400 and 1100, 61 minutes, 1.23 and 1.53 mm. The truth is the mean of two observers, who are
  2.36 and 1.51 mm apart.
* 25 labelled cephalograms, 256 pixels, 210 steps, fewer than `own` chooses, six minutes: 1.77 mm and 2.02 mm.
* Faces of FG-NET, 112 pixels and 400 steps, fewer than `own` chooses: on test 4.2 % of the distance of the outer eye
  corners with 5 labels, 3.9 % with 10, 3.5 % with 25, 3.4 % with 50.

A smaller picture than `own` chooses can be the better one, and val tells: 25 labelled fetal heads in ultrasound, from
the embedded teacher, 800 steps, have 6.6 mm on val with 256 pixels, 4.6 with 128 and 4.1 with 96.
--config.data.image_size=128 takes a quarter of the time, and docs/results.md has a command that lets val choose.

Of 25 labelled fetal heads, 96 pixels, 200 steps, fewer than `own` chooses, more points were wrong by over
10 mm than with `--config.train.heatmap_loss=mse`, which is worth a try on such pictures (on val, twice: 5.1 and 4.7 mm
with adaptive wing, 4.0 and 3.9 with mean squared error; after 400 steps of 112 pixels 4.8 with both).

From the embedded teacher (`--config.teacher.weights=embedded`), which has seen drawn faces alone: 25 labelled
cephalograms, 256 pixels, 300 steps, 2.35 mm on val in five minutes of one core. What each part of the recipe gives from
it is in docs/results.md: DELTA (with L2) helped on faces after 800 steps, in 48 s of one core on neither faces nor
cephalograms. At 96 pixels and in 48 s the recipe had less error than fine-tuning alone with few labels: with 5 by a
quarter on faces and a tenth on cephalograms, with 25 by 3 to 8 % on all three. With all of 120 to 609 labels it had
more in so short a time, and in about 240 s (one training each) less on cephalograms and as much on the others.

Other pictures and other numbers of labels have not been measured.
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
    config.eval.gradient_norms = False
    config.constraints.delta.weight = 1e-6
    config.constraints.l2.weight = 1e-5
    config.train.batch_size = 8
    if variant != "paper":
        config.train.encoder_lr = config.train.decoder_lr = 2e-3
    if variant == "demo":
        config.data.root = "synthetic_clinic"
        config.data.synthetic.identities = (40, 20, 60)
        config.data.image_size = 160
        config.train.steps = 500
    if variant == "own":
        config.data.root = config.teacher.weights = ""
        config.data.image_size = config.train.steps = 0
    config.grid = tuple(f"train.encoder_lr={rate}" for rate in (1e-3, 2e-3, 4e-3))
    return config
