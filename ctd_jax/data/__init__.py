"""Door of the data room: `load(config.data, cache)` gives a `Source`, and that the `Dataset` of each split."""

import dataclasses
import hashlib
import os
import pathlib

import numpy as np
from ml_collections import ConfigDict

from ctd_jax import measurements
from ctd_jax.data import class_maps, folder, pictures, splits, synthetic
from ctd_jax.data.augment import augment, augment_classes
from ctd_jax.data.class_maps import ClassMaps
from ctd_jax.data.dataset import Dataset
from ctd_jax.data.folder import Landmarks
from ctd_jax.data.geometry import Frame
from ctd_jax.errors import UserError

__all__ = [
    "ClassMaps",
    "Dataset",
    "Frame",
    "Landmarks",
    "Source",
    "augment",
    "augment_classes",
    "class_maps",
    "load",
    "pictures",
    "splits",
]

MISSING = (
    "no data: give a folder with landmarks.csv, dataset.json and pictures, --config.data.root=DIR (the README says how "
    "to make one), or the drawn faces of the demo, --config.data.root=synthetic"
)


@dataclasses.dataclass(frozen=True)
class Source:
    """All the pictures of a configuration, and the split each is in."""

    everything: Dataset
    split_of: list[str]
    sha256: tuple[str, ...]

    @property
    def landmarks(self) -> Landmarks:
        return self.everything.landmarks

    @property
    def names(self) -> list[str]:
        """train, val, and the test splits there are."""
        return list(splits.parts(self.split_of))

    def covered(self, name: str) -> list[str]:
        """The splits that `eval.split` means: "test" is every test split."""
        return [split for split in self.names if split == name or (name == "test" and split.startswith("test"))]

    def split(self, name: str) -> Dataset:
        return self.everything.rows(splits.parts(self.split_of)[name])

    def rows(self) -> list[tuple[str, str, str, str]]:
        """What split.csv holds."""
        part = self.everything
        return list(zip(part.images, part.subjects, self.split_of, self.sha256, strict=True))

    def picture(self, image: str) -> np.ndarray:
        """`[H, W, 3]` uint8, the picture as it is on disk."""
        return self.everything.original(self.everything.images.index(image))


def load(config: ConfigDict, cache: pathlib.Path, *, masks: bool = False) -> Source:
    """Reads, checks and splits the data of `config` (the `data` part of a configuration).

    Args:
      config: `data` of configs/default.py.
      cache: folder for prepared pictures, unless the environment has TFDS_DATA_DIR.
      masks: pictures with class maps, of folders with segmentation.csv, instead of pictures with landmarks.

    Raises:
      UserError: whatever is wrong with the data, before any training.
    """
    if not config.root:
        raise UserError(MISSING)
    if masks:
        return Source(*class_maps.load(config, pathlib.Path(os.environ.get("TFDS_DATA_DIR", cache))))
    if config.root == "synthetic":
        return _synthetic(config)
    root = pathlib.Path(config.root)
    table = folder.read(root)
    given = folder.read_split(pathlib.Path(config.split)) if config.split else table.splits
    split_of = splits.assign(
        table.images,
        table.subjects,
        table.sha256,
        given=given,
        seed=config.seed,
        budget=config.budget,
        share=config.share,
        budget_seed=config.budget_seed,
        train_split=config.train_split,
    )
    from ctd_jax.data import builder

    encoded = builder.pictures(root, table, pathlib.Path(os.environ.get("TFDS_DATA_DIR", cache)))
    everything = Dataset(
        landmarks=table.landmarks,
        images=table.images,
        subjects=table.subjects,
        xy=table.xy,
        spacing=table.spacing,
        boxes=table.boxes,
        original=lambda i: pictures.decode(encoded[i]["picture"], table.images[i]),
        size=config.image_size,
        margin=config.margin,
        cache_mib=config.cache_mib,
    )
    return Source(everything, split_of, table.sha256)


def _synthetic(config: ConfigDict) -> Source:
    people = np.repeat(("train", "val", "test"), config.synthetic.identities)
    shots = np.repeat(config.synthetic.shots, config.synthetic.identities)
    faces = synthetic.faces(range(len(people)), shots, size=config.image_size, seed=config.seed)
    subjects, n = tuple(faces["subjects"]), len(faces["subjects"])
    images = tuple(f"{subject}_{i}" for i, subject in enumerate(subjects))
    sha256 = tuple(hashlib.sha256(picture.tobytes()).hexdigest() for picture in faces["pictures"])
    given = folder.read_split(pathlib.Path(config.split)) if config.split else np.repeat(people, shots).tolist()
    everything = Dataset(
        landmarks=Landmarks(
            synthetic.LANDMARKS,
            synthetic.FLIP_PAIRS,
            synthetic.NORMALIZER,
            measurements=measurements.parse(synthetic.MEASUREMENTS, synthetic.LANDMARKS, "the drawn faces"),
        ),
        images=images,
        subjects=subjects,
        xy=faces["xy"].astype(np.float64),
        spacing=np.full((n, 2), np.nan),
        boxes=np.full((n, 4), np.nan),
        original=lambda i: faces["pictures"][i],
        size=config.image_size,
        margin=config.margin,
        cache_mib=config.cache_mib,
    )
    split_of = splits.assign(
        images,
        subjects,
        sha256,
        given=given,
        seed=config.seed,
        budget=config.budget,
        share=config.share,
        budget_seed=config.budget_seed,
        train_split=config.train_split,
    )
    return Source(everything, split_of, sha256)
