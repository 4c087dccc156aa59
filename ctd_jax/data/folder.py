"""What all kinds of data folders share: the rows of a table and its pictures. What can be wrong with these is found
here."""

import abc
import dataclasses
import hashlib
import logging
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from ctd_jax import files
from ctd_jax.data import dicom_spacing, splits, tables
from ctd_jax.data.cells import Cells
from ctd_jax.data.faults import Fault, Faults
from ctd_jax.data.picture_files import PictureFiles
from ctd_jax.data.prefetch import map_in_threads, progress
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)

SPACING = ("spacing_x_mm", "spacing_y_mm")
ENCODED = ("picture", "mask")  # features of an example that are encoded pictures
COLUMNS = ("image", "subject", "split", *SPACING)  # of every table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table(abc.ABC):
    """The rows of a folder's table, N pictures: what every kind of folder has, and what it does with a row.

    Attributes:
      builder: name of the TFDS builder that prepares them.
    """

    builder: ClassVar[str]

    images: tuple[str, ...]  # files below the folder
    subjects: tuple[str, ...]
    splits: tuple[str, ...] | None  # None: no such column
    spacing: np.ndarray  # [N, 2] mm per pixel; NaN: unknown
    where: tuple[str, ...]  # file and row, for messages
    title: str  # the file, for messages about all rows
    sha256: tuple[str, ...] = ()  # of each row's files; none: they have not been read
    files: tuple[str, ...] = ()  # the table, and what else says something of all pictures, below the folder

    def __len__(self) -> int:
        return len(self.images)

    def files_of(self, index: int) -> tuple[str, ...]:
        """The files of one row, below the folder."""
        return (self.images[index],)

    @abc.abstractmethod
    def check_picture(self, index: int, root: pathlib.Path) -> np.ndarray:
        """The picture of a row, `[H, W, 3]` uint8; `root`: the folder.

        Raises:
          UserError: it can't be read, or what the row says doesn't belong to it.
        """

    @abc.abstractmethod
    def features(self) -> Mapping[str, Any]:
        """The TFDS features of a row."""

    @abc.abstractmethod
    def example(self, index: int, root: pathlib.Path) -> dict[str, Any]:
        """The values of these features in a row, pictures as files or as their bytes; `root`: the folder."""


def encoded(table: Table, index: int, root: pathlib.Path) -> dict[str, bytes]:
    """The encoded picture, and class map, in the example of a row, by the names of their features."""
    example = table.example(index, root)
    kept = {name: example[name] for name in ENCODED if name in example}
    return {name: value if isinstance(value, bytes) else value.read_bytes() for name, value in kept.items()}


TableT = TypeVar("TableT", bound=Table)
Annotation = TypeVar("Annotation")


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table that is being read."""

    at: str  # file and row, for messages
    values: Mapping[str, str]  # column -> cell
    cells: Cells
    pictures: PictureFiles
    faults: Faults

    def number(self, column: str) -> float:
        """NaN where the cell is empty or there is no such column; infinite where it is a fault."""
        return self.cells.number(self.values.get(column, ""), column, self.at)

    def word(self, column: str) -> str:
        return self.cells.word(self.values.get(column, ""), column)


def read_rows(
    root: pathlib.Path,
    sheet: tables.Sheet,
    read_annotation: Callable[[Row], Annotation | None],
    faults: Faults,
    *,
    apart: str = "",
) -> tuple[dict[str, Any], list[Annotation]]:
    """The rows whose pictures exist; what is wrong in a row is added to the faults and becomes NaN.

    Args:
      root: the folder.
      sheet: the table, its columns known by name.
      read_annotation: what a row says beside the columns that every table has; None: the row can't be used.
      faults: takes what is wrong.
      apart: a column that tells rows of the same picture apart; "": a picture has one row.

    Returns:
      The fields of `Table`, and the annotations of these rows.

    Raises:
      UserError: there are DICOM files, and pydicom is not installed.
    """
    cells, found = Cells(sheet, faults), PictureFiles(root)
    seen: dict[str, dict[str, str]] = {}  # what tells rows apart -> path -> file and row
    images: list[str] = []
    named: list[str] = []  # the subjects, "" where a row has none
    split_of: list[str] = []
    where: list[str] = []
    spacing: list[np.ndarray] = []
    annotations: list[Annotation] = []
    for number, values in sheet.rows(faults):
        row = Row(f"{sheet.path}, row {number}", values, cells, found, faults)
        annotation, mm, split = read_annotation(row), _read_spacing(row), row.word("split")
        with faults.collecting("split"):
            splits.check_name(split, row.at)
        image = _find_once(row, seen.setdefault(row.values.get(apart, "") if apart else "", {}))
        if image is None or annotation is None:
            continue
        images.append(image)
        named.append(files.plain(row.word("subject")))
        split_of.append(split)
        where.append(row.at)
        spacing.append(mm)
        annotations.append(annotation)
    cells.say()
    found.say(sheet.path)
    _warn_of_subjects(sheet, named)
    advice = f"write that in the patient into the columns {' and '.join(SPACING)}"
    of_header = dicom_spacing.of_files([root / image for image in images], detector=False, advice=advice)
    fields = {
        "images": tuple(images),
        "subjects": tuple(name or image for name, image in zip(named, images, strict=True)),
        "splits": tuple(split_of) if "split" in sheet.columns else None,
        "spacing": dicom_spacing.combined(np.array(spacing).reshape(-1, 2), of_header, where, str(sheet.path)),
        "where": tuple(where),
        "title": str(sheet.path),
    }
    return fields, annotations


def _find(row: Row, name: str) -> str:
    """The file of this name, or of the one that `files.cell` has made safe for a spreadsheet."""
    try:
        return row.pictures.find(name, row.at)
    except Fault:
        if files.plain(name) == name:
            raise
        return row.pictures.find(files.plain(name), row.at)


def _find_once(row: Row, seen: dict[str, str]) -> str | None:
    """The file that a row names; None if there is none, or another row has it. `seen`: path -> file and row."""
    name = row.values["image"]
    try:
        image = _find(row, name)
        check_once(image, name, row.at, seen)
    except Fault as fault:
        row.faults.add(fault.kind, str(fault))
        return None
    return image


def check_once(image: str, name: str, at: str, seen: dict[str, str]) -> None:
    """Raises Fault if the file `image`, which a row at `at` calls `name`, is one of `seen`; else adds it."""
    path = os.path.normpath(image)
    if path in seen:
        raise Fault("picture listed twice", f"{at}: {name} was already listed in {seen[path]}; keep one of the rows")
    seen[path] = at


def _read_spacing(row: Row) -> np.ndarray:
    """`[2]` mm per pixel of a row, NaN if unknown."""
    mm = np.array([row.number(column) for column in SPACING])
    if np.isinf(mm).any():
        return np.full(2, np.nan)
    check_spacing(mm, row.at, row.faults)
    return mm


def check_spacing(mm: np.ndarray, at: str, faults: Faults) -> None:
    """Adds a fault if `mm`, `[2]` mm per pixel, are not two positive numbers or two NaN."""
    if np.isnan(mm).any() != np.isnan(mm).all() or (mm <= 0).any():
        faults.add("spacing", f"{at}: spacing is {mm} mm; expected two positive numbers, or two empty cells")


def _warn_of_subjects(sheet: tables.Sheet, named: Sequence[str]) -> None:
    """Warns of rows without a subject, which are "" in `named`."""
    if "subject" not in sheet.columns:
        _log.warning("%s has no column `subject`: every picture counts as a person of its own", sheet.path)
        return
    if "" in named:
        _log.warning("%s: %d of %d rows have no subject: each picture of theirs counts as a person of its own",
                     sheet.path, named.count(""), len(named))  # fmt: skip


def with_digests(table: TableT, root: pathlib.Path, faults: Faults) -> TableT:
    """`table` with the digests of its files. Where the rows have faults, the pictures are checked too, so that one
    message has all of them.

    Raises:
      UserError: all that is wrong with the folder.
    """
    if faults:
        list(check_all(table, lambda index: table.check_picture(index, root), "checking pictures", faults))
    faults.raise_if_any()
    digests = _digest_all(root, table, faults)
    faults.raise_if_any()
    return dataclasses.replace(table, sha256=digests)


def _digest_all(root: pathlib.Path, table: Table, faults: Faults) -> tuple[str, ...]:
    """SHA-256 of each row's files, one after the other; "" where one can't be read."""

    def digest(index: int) -> str:
        try:
            return hashlib.sha256(b"".join((root / name).read_bytes() for name in table.files_of(index))).hexdigest()
        except OSError as error:
            message = f"{table.where[index]}: {error.filename} can't be read ({error.strerror})"
            faults.add("unreadable picture", message)
            return ""

    return tuple(progress(map_in_threads(digest, range(len(table))), "reading pictures", len(table)))


def check_all(table: Table, check: Callable[[int], object], text: str, faults: Faults) -> Iterator[int]:
    """The index of each picture, in order, once `check` has seen it, in threads; what it raises is added to the faults.

    Args:
      table: the pictures.
      check: called with the index of each.
      text: what takes time, for people.
      faults: takes what is wrong.
    """

    def checked(index: int) -> UserError | None:
        try:
            check(index)
        except UserError as error:
            return error
        except OSError as error:
            return UserError(f"{table.where[index]}: {error.filename} can't be read ({error.strerror})")
        return None

    for index, error in enumerate(progress(map_in_threads(checked, range(len(table))), text, len(table))):
        faults.take("unreadable picture", error)
        yield index


def fingerprint(root: pathlib.Path, table: Table) -> str:
    """A word of 16 letters and digits that changes when the content of the folder does."""
    contents = [(root / file).read_bytes() for file in table.files if os.path.isfile(root / file)]
    digest = hashlib.sha256()
    for part in (*contents, *(each.encode() for each in table.sha256)):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]
