"""Folders of pictures as TFDS datasets: array_record files, written and read without TensorFlow."""

import contextlib
import io
import itertools
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ctd_jax import errors, files, lock
from ctd_jax.data import folder, twins
from ctd_jax.data.faults import Faults
from ctd_jax.data.folder import Table
from ctd_jax.data.pictures import decode
from ctd_jax.data.prefetch import map_in_threads, progress
from ctd_jax.errors import UserError

SHARD = 1000  # pictures in a file: TFDS keeps the rows of one in memory, though not their pictures


class PictureFolder(tfds.core.ShardBasedBuilder):
    """The pictures (as the files' own bytes) and annotations of one folder, in the order of its rows.

    Args:
      root: the folder.
      table: its rows.
      data_dir: for the prepared pictures of all folders.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, root: pathlib.Path, table: Table, data_dir: pathlib.Path):
        self._root, self._table = root, table
        self.name = table.builder
        self.looks: np.ndarray | None = None  # [N] `twins.LOOK` of the pictures, once they were prepared
        config = tfds.core.BuilderConfig(name=folder.fingerprint(root, table))
        super().__init__(data_dir=os.fspath(data_dir), config=config, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(self._table.features())
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable[[], Iterator[tuple[int, Any]]]]]:
        n = len(self._table)
        checked = self._checked(n)
        return {"pictures": [lambda: self._examples(itertools.islice(checked, SHARD)) for _ in range(0, n, SHARD)]}

    def _checked(self, n: int) -> Iterator[int]:
        """The indices of the pictures, until the first fault; then the others are checked, and all faults raised."""
        faults, looks = Faults(str(self._root)), np.zeros(n, twins.LOOK)
        self.looks = looks

        def look(index: int) -> None:
            looks[index] = twins.look(self._table.check_picture(index, self._root))

        for index in folder.check_all(self._table, look, "preparing pictures", faults):
            if index == n - 1:
                faults.raise_if_any()
            if not faults:
                yield index

    def _examples(self, indices: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in indices:
            yield index, self._table.example(index, self._root)


def pictures(root: pathlib.Path, table: Table, cache: pathlib.Path) -> tuple["PreparedPictures", np.ndarray]:
    """The pictures of a folder, prepared under `cache` unless this content already is. A process that finds another at
    it waits; what a killed one has left half is taken away.

    Args:
      root: the folder.
      table: its rows.
      cache: folder for prepared pictures.

    Returns:
      A random access source of the encoded pictures (and class maps), and `[N]` `twins.LOOK` of each picture.

    Raises:
      UserError: a picture can't be read, or a landmark or class map doesn't belong to its picture; what has been
        prepared before is damaged.
    """
    tfds.disable_progress_bar()

    def build() -> PictureFolder:
        with _naming_damage(cache / table.builder):
            return PictureFolder(root=root, table=table, data_dir=cache)

    builder = build()
    place = pathlib.Path(builder.data_dir)
    if not place.exists():
        with lock.held(place.parent, wait=True):
            builder = build()  # it learns of pictures that another process has prepared by now
            for half in place.parent.glob("incomplete.*"):
                shutil.rmtree(half)
            with contextlib.redirect_stdout(io.StringIO()), files.naming(place):
                builder.download_and_prepare()
    skip = {key: tfds.decode.SkipDecoding() for key in ("picture", "mask") if key in builder.info.features}
    with _naming_damage(place):
        encoded = PreparedPictures(builder.as_data_source("pictures", decoders=skip), place)
    return encoded, _looks(builder, table, encoded)


def _looks(builder: PictureFolder, table: Table, encoded: "PreparedPictures") -> np.ndarray:
    """`[N]` looks: from the preparation, else from the file beside the prepared pictures, else made anew; the file is
    written where it was missing."""
    path, n = pathlib.Path(builder.data_path) / "looks.npy", len(table)
    if builder.looks is None:
        with contextlib.suppress(OSError, ValueError, EOFError):
            found = np.load(path, mmap_mode="r")
            if found.dtype == twins.LOOK and found.shape == (n,):
                return found
        decoded = map_in_threads(lambda i: twins.look(decode(encoded[i]["picture"], table.images[i])), range(n))
        builder.looks = np.array(list(progress(decoded, "looking at pictures", n)), twins.LOOK)
    with contextlib.suppress(OSError), files.writing(path, binary=True) as file:  # a cache of others may be read-only
        np.save(file, builder.looks)
    return builder.looks


class PreparedPictures:
    """The examples that lie prepared in a folder, by number.

    Raises:
      UserError: when one is read that is damaged.
    """

    def __init__(self, source: Any, place: pathlib.Path):
        self._source, self.place = source, place

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with _naming_damage(self.place):
            return self._source[index]


@contextlib.contextmanager
def _naming_damage(place: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged file can raise nearly anything
        if isinstance(error, UserError) or (errors.of_system(error) and not isinstance(error, FileNotFoundError)):
            raise
        raise UserError(
            f"{place}: the prepared pictures in it are damaged ({error}); remove this folder, and the same command "
            "prepares them anew"
        ) from error
