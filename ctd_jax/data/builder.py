"""Folders of pictures, prepared: as TFDS datasets in array_record files, written and read without TensorFlow; where
array_record does not exist, as zip archives."""

import contextlib
import io
import itertools
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds

from ctd_jax import errors, files, lock
from ctd_jax.data import folder, twins
from ctd_jax.data.archive import PictureArchive
from ctd_jax.data.faults import Faults
from ctd_jax.data.folder import Table
from ctd_jax.data.pictures import decode
from ctd_jax.data.prefetch import map_in_threads, progress
from ctd_jax.errors import UserError

SHARD = 1000  # pictures in a file: TFDS keeps the rows of one in memory, though not their pictures


class Store(Protocol):
    """The prepared pictures of one folder.

    Attributes:
      place: the folder that they lie in; there is none until they are all prepared.
    """

    @property
    def place(self) -> pathlib.Path: ...

    def prepare(self, indices: Iterator[int]) -> None:
        """Writes the rows with these indices, which are all of them in their order."""
        ...

    def source(self) -> Any:
        """The examples, by number: a dict of each, in which `picture` (and `mask`) are bytes as the files have them."""
        ...


class PictureFolder(tfds.core.ShardBasedBuilder):
    """A `Store` in array_record files: the pictures (as the files' own bytes) and annotations of one folder, in the
    order of its rows.

    Args:
      root: the folder.
      table: its rows.
      cache: folder for the prepared pictures of all folders.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, root: pathlib.Path, table: Table, cache: pathlib.Path):
        self._root, self._table = root, table
        self._indices: Iterator[int] = iter(())
        self.name = table.builder
        config = tfds.core.BuilderConfig(name=folder.fingerprint(root, table))
        super().__init__(data_dir=os.fspath(cache), config=config, file_format="array_record")

    @property
    def place(self) -> pathlib.Path:
        return pathlib.Path(self.data_dir)

    def prepare(self, indices: Iterator[int]) -> None:
        self._indices = indices
        with contextlib.redirect_stdout(io.StringIO()):
            self.download_and_prepare()

    def source(self) -> Any:
        skip = {name: tfds.decode.SkipDecoding() for name in folder.ENCODED if name in self.info.features}
        return self.as_data_source("pictures", decoders=skip)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(self._table.features())
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable[[], Iterator[tuple[int, Any]]]]]:
        shards = range(0, len(self._table), SHARD)
        return {"pictures": [lambda: self._examples(itertools.islice(self._indices, SHARD)) for _ in shards]}

    def _examples(self, indices: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in indices:
            yield index, self._table.example(index, self._root)


def _has_array_record() -> bool:
    """Whether array_record can be used; pip may install an old one that cannot, with a library of another system."""
    try:
        import array_record.python.array_record_module  # noqa: F401
    except ImportError:
        return False
    return True


def _store(root: pathlib.Path, table: Table, cache: pathlib.Path) -> Store:
    """Where the prepared pictures of a folder are, or are to be."""
    with _naming_damage(cache / table.builder):
        return PictureFolder(root, table, cache) if _has_array_record() else PictureArchive(root, table, cache)


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
    looks: np.ndarray | None = None
    store = _store(root, table, cache)
    if not store.place.exists():
        with lock.held(store.place.parent, wait=True):
            store = _store(root, table, cache)  # it learns of pictures that another process has prepared by now
            for half in store.place.parent.glob("incomplete.*"):
                shutil.rmtree(half)
            if not store.place.exists():
                looks = np.zeros(len(table), twins.LOOK)
                with files.naming(store.place):
                    store.prepare(_checked(root, table, looks))
                _check_written(store, root, table)
    with _naming_damage(store.place):
        encoded = PreparedPictures(store.source(), store.place)
        if len(encoded) != len(table):
            raise ValueError(f"{len(encoded)} of {len(table)} pictures")
    return encoded, _looks(store.place, table, encoded, looks)


def _checked(root: pathlib.Path, table: Table, looks: np.ndarray) -> Iterator[int]:
    """The indices of the pictures, until the first fault; then the others are checked, and all faults raised. `looks`,
    `[N]`, gets the look of each."""
    faults = Faults(str(root))

    def look(index: int) -> None:
        looks[index] = twins.look(table.check_picture(index, root))

    for index in folder.check_all(table, look, "preparing pictures", faults):
        if index == len(table) - 1:
            faults.raise_if_any()
        if not faults:
            yield index


def _check_written(store: Store, root: pathlib.Path, table: Table) -> None:
    """Takes what was written away again, and raises UserError, unless every picture is read back as it is on disk."""
    different = _difference(store, root, table)
    if different:
        shutil.rmtree(store.place)
        raise UserError(
            f"{store.place}: what was written there is not read back as it is in {root} ({different}), so it has been "
            "removed; start again, and with TFDS_DATA_DIR on another disk if it happens again"
        )


def _difference(store: Store, root: pathlib.Path, table: Table) -> str:
    """What is not in the store as it is in the folder; "": nothing."""

    def is_same(index: int) -> bool:
        read = source[index]
        return all(read[name] == content for name, content in folder.encoded(table, index, root).items())

    try:
        source = store.source()
        if len(source) != len(table):
            return f"{len(source)} of {len(table)} pictures"
        same = list(map_in_threads(is_same, range(len(table))))
    except Exception as error:  # what is damaged can raise nearly anything
        return f"{type(error).__name__}: {error}"
    return "" if all(same) else table.images[same.index(False)]


def _looks(place: pathlib.Path, table: Table, encoded: "PreparedPictures", looks: np.ndarray | None) -> np.ndarray:
    """`[N]` looks: from the preparation, else from the file beside the prepared pictures, else made anew; the file is
    written where it was missing."""
    path, n = place / "looks.npy", len(table)
    if looks is None:
        with contextlib.suppress(OSError, ValueError, EOFError):
            found = np.load(path, mmap_mode="r")
            if found.dtype == twins.LOOK and found.shape == (n,):
                return found
        decoded = map_in_threads(lambda i: twins.look(decode(encoded[i]["picture"], table.images[i])), range(n))
        looks = np.array(list(progress(decoded, "looking at pictures", n)), twins.LOOK)
    with contextlib.suppress(OSError), files.writing(path, binary=True) as file:  # a cache of others may be read-only
        np.save(file, looks)
    return looks


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
