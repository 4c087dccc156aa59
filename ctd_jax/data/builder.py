"""A landmark folder as a TFDS dataset: array_record files, written and read without TensorFlow."""

import contextlib
import io
import os
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from ctd_jax.data import folder


class LandmarkFolder(tfds.core.GeneratorBasedBuilder):
    """The pictures (as the files' own bytes) and points of one landmark folder, in the order of its rows."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, root: pathlib.Path, table: folder.Table, data_dir: pathlib.Path):
        self._root, self._table = root, table
        config = tfds.core.BuilderConfig(name=folder.fingerprint(root, table))
        super().__init__(data_dir=os.fspath(data_dir), config=config, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Text(),
                "subject": tfds.features.Text(),
                "picture": tfds.features.Image(shape=(None, None, None)),
                "xy": tfds.features.Tensor(shape=(len(self._table.landmarks.names), 2), dtype=np.float32),
                "spacing": tfds.features.Tensor(shape=(2,), dtype=np.float32),
                "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"pictures": self._generate_examples()}

    def _generate_examples(self):
        table = self._table
        for index, image in enumerate(table.images):
            path = self._root / image
            folder.check_picture(table, index, path.read_bytes(), self._root)
            yield (
                index,
                {
                    "image": image,
                    "subject": table.subjects[index],
                    "picture": path,
                    "xy": table.xy[index].astype(np.float32),
                    "spacing": table.spacing[index].astype(np.float32),
                    "box": table.boxes[index].astype(np.float32),
                },
            )


def pictures(root: pathlib.Path, table: folder.Table, cache: pathlib.Path):
    """A random access source of the encoded pictures, prepared under `cache` unless this content already is.

    Raises:
      UserError: a picture can't be read, or a landmark doesn't belong to its picture.
    """
    tfds.disable_progress_bar()
    builder = LandmarkFolder(root=root, table=table, data_dir=cache)
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
    skip = {"picture": tfds.decode.SkipDecoding()}
    return builder.as_data_source("pictures", decoders=skip)
