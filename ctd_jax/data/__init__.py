"""Door of the data room: `load(config.data, cache)` gives a `SplitPictures`, and that the `Dataset` of each split."""

import os
import pathlib
from typing import TypeVar, overload

from ml_collections import ConfigDict

from ctd_jax.data import augment, class_maps, domains, pictures, raters, roots, splits, survey, twins, unlabelled
from ctd_jax.data.about import Landmarks
from ctd_jax.data.augment import Affine, Augmentation
from ctd_jax.data.class_maps import CLASS_MAPS, ClassMaps
from ctd_jax.data.dataset import Dataset
from ctd_jax.data.geometry import Frame
from ctd_jax.data.identities import IDENTITIES, Identities
from ctd_jax.data.kinds import Kind
from ctd_jax.data.lists import from_lists
from ctd_jax.data.points import LANDMARKS, Points
from ctd_jax.data.roots import IN_PYTHON, MISSING
from ctd_jax.data.split_pictures import SplitPictures, with_twins
from ctd_jax.data.targets import Targets, Unlabelled

__all__ = [
    "CLASS_MAPS",
    "IDENTITIES",
    "IN_PYTHON",
    "LANDMARKS",
    "MISSING",
    "Affine",
    "Augmentation",
    "ClassMaps",
    "Dataset",
    "Frame",
    "Identities",
    "Kind",
    "Landmarks",
    "Points",
    "SplitPictures",
    "Targets",
    "Unlabelled",
    "augment",
    "class_maps",
    "from_lists",
    "load",
    "pictures",
    "raters",
    "roots",
    "splits",
    "survey",
    "twins",
]

T = TypeVar("T", bound=Targets)


@overload
def load(config: ConfigDict, cache: pathlib.Path | None) -> SplitPictures[Points]: ...
@overload
def load(config: ConfigDict, cache: pathlib.Path | None, *, targets: Kind[T]) -> SplitPictures[T]: ...
def load(config: ConfigDict, cache: pathlib.Path | None, *, targets: Kind = LANDMARKS) -> SplitPictures:
    """Reads, checks and splits the data of `config` (the `data` part of a configuration), adds what is trained on
    without labels, and warns of near-identical pictures.

    Args:
      config: `data` of configs/default.py.
      cache: folder for prepared pictures, unless the environment has TFDS_DATA_DIR; None: `tfds` in the working folder.
      targets: what is to be learned: `LANDMARKS`, `CLASS_MAPS` or `IDENTITIES`.

    Raises:
      UserError: whatever is wrong with the data, before any training.
    """
    place = pathlib.Path(os.environ.get("TFDS_DATA_DIR") or cache or "tfds")
    return with_twins(unlabelled.add(domains.read(targets, config, place), config))
