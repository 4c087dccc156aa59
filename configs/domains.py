"""Several domains in one network (Boutillon et al. 2021, arXiv 2105.10310, for landmarks): filters are shared, batch
norm and the last convolution are each domain's own, and a contrastive term keeps the domains apart.

    python -m ctd_jax.main --config=configs/domains.py
    python -m ctd_jax.main --config=configs/domains.py --config.data.root=DIR,DIR,DIR --config.teacher.weights=FILE

Its peers, with one, two or three of these keys:

    --config.constraints.contrastive.weight=0   heads and batch norm per domain
    --config.domains.norm=False                 heads per domain
    --config.domains.heads=False                all alike

and with the first of them

    --config.data.domains="('NAME',)"           one network for each domain

The multi-scale form: --config.constraints.contrastive.layers="('encoder','deconv1','deconv2')".
"""

from ml_collections import ConfigDict

from . import default


def get_config(variant: str = "demo") -> ConfigDict:
    config = default.get_config(variant)
    config.name = "domains"
    if variant == "demo":
        config.data.root = "synthetic,synthetic_film"
        config.data.synthetic.identities = (20, 10, 20)
    config.domains.schedule = "balanced"
    config.constraints.contrastive.weight = 1e-3
    config.grid = tuple(f"constraints.contrastive.weight={value}" for value in (1e-4, 1e-3, 1e-2))
    return config
