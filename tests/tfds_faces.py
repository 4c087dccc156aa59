"""TFDS data sets of drawn faces, written by builders of TFDS in small: `write` gives the folder that TFDS keeps them
in."""

import io
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ctd_jax.data import synthetic

FEATURES = tfds.features
SIZE = 32
NUMBERS = {"train": 4, "validation": 2, "test": 2}
FACES = synthetic.faces(range(4), 2, size=SIZE, seed=0)  # 8 pictures, in the order of the splits
XY = FACES["xy"].astype(np.float32)  # [8, K, 2]
K = XY.shape[1]


def example(i: int, **values) -> dict:
    """The picture of face `i` as a PNG file, and other values."""
    file = io.BytesIO()
    Image.fromarray(FACES["pictures"][i]).save(file, "PNG")
    file.seek(0)
    return {"image": file} | values


class ToyFaces(tfds.core.GeneratorBasedBuilder):
    """`features` beside the image, `values(i)` of face i, and `numbers` of faces in the splits."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, features, values, numbers, **where):
        self._features, self._values, self._numbers = features, values, numbers
        super().__init__(**where)

    def _info(self):
        both = {"image": FEATURES.Image(shape=(None, None, 3), encoding_format="png")} | self._features
        return tfds.core.DatasetInfo(builder=self, features=FEATURES.FeaturesDict(both), disable_shuffling=True)

    def _split_generators(self, dl_manager):
        ends = np.cumsum(list(self._numbers.values()))
        splits = zip(self._numbers.items(), ends, strict=True)
        return {name: self._generate_examples(range(end - number, end)) for (name, number), end in splits}

    def _generate_examples(self, faces):
        for i in faces:
            yield i, example(i, **self._values(i))


def write(
    home: pathlib.Path, features: dict, values, *, file_format: str = "array_record", numbers: dict = NUMBERS
) -> pathlib.Path:
    """Writes the data set `toy_faces` into `home`, see `ToyFaces`; its folder."""
    tfds.disable_progress_bar()
    builder = ToyFaces(features, values, numbers, data_dir=home, file_format=file_format)
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)
