"""One segmentation network for several anatomies: shared filters, batch norm and last layer per domain, and a
supervised contrastive term on the encoder's output (Boutillon et al. 2021, arXiv 2105.10310).

    python -m ctd_jax.main --config=configs/mtmd.py
    python -m ctd_jax.main --config=configs/mtmd.py --config.data.root=DIR

DIR is a folder with segmentation.csv, classes.json, pictures and class maps; without it two anatomies are drawn.
The schemes that it is compared with: one network per domain, --config.data.domains="('NAME',)"
--config.constraints.contrastive.weight=0, as a folder of one domain needs it too; joint, --config.domains.norm=False
--config.domains.heads=False, and so on; without the contrastive term, its weight 0; with the multi-scale one of the
follow-up (arXiv 2207.13502), --config.constraints.contrastive.layers="('encoder','level1','level2','level3')".
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "mtmd"
    config.task = "segmentation"
    config.data.synthetic.identities = (20, 10, 20)
    config.data.synthetic.shots = (1, 1, 1)
    config.model.decoder_channels = (64, 48, 32)
    config.augment.flip = 0.0  # left and right are not alike in a heart
    config.train.steps = 300
    config.domains.schedule = "temperature"
    config.constraints.contrastive.weight = 0.1
    if variant == "paper":
        config.data.image_size = 256
        config.model.decoder_channels = (256, 128, 64, 32)
        config.train.steps = 5000
    weights = (0.01, 0.1, 1.0)
    config.grid = tuple(f"constraints.contrastive.weight={weight}" for weight in weights)
    return config
