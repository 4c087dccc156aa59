"""Prepared pictures in a zip archive, where array_record does not exist: it has no package for Windows."""

import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterator

from ctd_jax import files
from ctd_jax.data import folder
from ctd_jax.data.folder import Table

FILE = "pictures.zip"


class PictureArchive:
    """A `builder.Store` in one archive that is not compressed: file `12/picture` is that of row 12.

    Args:
      root: the folder.
      table: its rows.
      cache: folder for the prepared pictures of all folders.
    """

    def __init__(self, root: pathlib.Path, table: Table, cache: pathlib.Path):
        self._root, self._table = root, table
        self.place = cache / table.builder / folder.fingerprint(root, table) / "zip"

    def prepare(self, indices: Iterator[int]) -> None:
        half = self.place.with_name("incomplete.zip")
        half.mkdir()
        try:
            with files.writing(half / FILE, binary=True) as file, zipfile.ZipFile(file, "w") as archive:
                for index in indices:
                    for name, content in folder.encoded(self._table, index, self._root).items():
                        archive.writestr(zipfile.ZipInfo(f"{index}/{name}"), content)
            os.replace(half, self.place)
        except BaseException:
            shutil.rmtree(half)
            raise

    def source(self) -> "_Source":
        return _Source(self.place / FILE)


class _Source:
    """The files of each row, by number and by the names of their features."""

    def __init__(self, path: pathlib.Path):
        self._archive = zipfile.ZipFile(path)
        self._names: dict[int, list[str]] = {}
        for file in self._archive.namelist():
            index, name = file.split("/")
            self._names.setdefault(int(index), []).append(name)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> dict[str, bytes]:
        return {name: self._archive.read(f"{index}/{name}") for name in self._names[index]}
