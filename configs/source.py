"""The source task: learn who is who, to make a teacher. This made the embedded teacher.

About 10 min on two CPU cores; writes teacher.safetensors into the workdir.

    python -m ctd_jax.main --config=configs/source.py
    python -m ctd_jax.main --config=configs/source.py --config.data.root=DIR

DIR is a landmark folder with a column `subject`; landmarks are not needed.
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "source"
    config.task = "recognition"
    config.data.seed = 1000  # other people than those that the landmark configurations see
    config.data.synthetic.identities = (400, 50, 0)
    config.data.synthetic.shots = (12, 12, 0)
    if variant == "demo":
        config.model.encoder = "resnet8"
        config.train.steps = 2000
    config.train.batch_size = 64
    config.teacher.weights = "none"  # from random weights
    config.eval.split = "val"
    config.eval.every = 200
    return config
