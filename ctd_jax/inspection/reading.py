"""A folder as far as it can be read: its rows, a look at each picture, all faults, and what reading it says."""

import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ctd_jax.data import (
    annotation_checks,
    coverage,
    folder,
    landmark_folder,
    pictures,
    points,
    segmentation_folder,
    splits,
    survey,
)
from ctd_jax.data.faults import Faults
from ctd_jax.data.grey_range import Grey
from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.data.prefetch import map_in_threads
from ctd_jax.data.segmentation_folder import ClassMapTable
from ctd_jax.errors import UserError
from ctd_jax.inspection.class_maps import Regions, regions
from ctd_jax.inspection.looks import Look, look, outlined

OF_A_ROW = (
    "images",
    "subjects",
    "splits",
    "spacing",
    "where",
    "xy",
    "boxes",
    "masks",
    "domains",
    "hidden",
    "of_raters",
)  # fields of a table
AnyTable = LandmarkTable | ClassMapTable


@dataclasses.dataclass(frozen=True)
class Folder:
    """N pictures that can be read.

    Attributes:
      root: the folder.
      table: its rows.
      split_of: of each picture, in the words of this package; "": its row says none.
      looks: at each picture.
      sha256: of each picture's files.
      faults: kind -> messages: what a training would refuse.
      units: what looks like annotations in another unit or convention.
      remarks: what else reading it says.
      regions: those of each class map; none where there is no map, or it doesn't belong to its picture.
      grey: ranges of each picture, where it has more than 8 bits: those of all pictures of its domain, as in training.
    """

    root: pathlib.Path
    table: AnyTable
    split_of: tuple[str, ...]
    looks: tuple[Look, ...]
    sha256: tuple[str, ...]
    faults: dict[str, tuple[str, ...]]
    units: tuple[str, ...]
    remarks: tuple[str, ...]
    regions: tuple[Regions, ...]
    grey: tuple[Grey, ...]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Of each picture; of a segmentation folder with the domain before it, as another's of that name is another."""
        if isinstance(self.table, LandmarkTable):
            return self.table.subjects
        pairs = zip(self.table.domains, self.table.subjects, strict=True)
        return tuple(f"{domain}/{subject}" for domain, subject in pairs)

    def picture(self, index: int) -> np.ndarray:
        """`[H, W, 3]` uint8."""
        name = self.table.images[index]
        return pictures.decode((self.root / name).read_bytes(), name, self.grey[index])


def read(root: pathlib.Path) -> Folder:
    """Reads what can be read of a landmark folder or of a segmentation folder.

    Raises:
      UserError: nothing of it can be read: there is no such folder, no table, or no row with a picture.
    """
    faults = Faults(str(root))
    with _said() as remarks:
        table = _rows(root, faults)
        table, looks, sha256, seen, grey, classes = _look_at_all(root, table, faults)
        for domain, rows in domains(table).items():
            mine = [seen[row] for row in rows]
            lines = survey.remarks(mine, survey.ranges(mine))
            remarks += [f"{domain}: {line}" if domain else line for line in lines]
        split_of = tuple(splits.word(text) if text else "" for text in table.splits or [""] * len(table))
        if isinstance(table, LandmarkTable):
            coverage.warn(str(root), table.landmarks, table.xy, split_of if any(split_of) else ["train"] * len(table))
        _check_splits(table, faults)
    with _said() as units:
        twin = np.array([one.twin for one in looks])
        with faults.collecting("unit"):
            if isinstance(table, LandmarkTable):
                annotation_checks.check(table, split_of, twin)
            else:
                annotation_checks.check_spacings(table.title, table.where, table.spacing, table.domains, twin)
    return Folder(root, table, split_of, looks, sha256, faults.by_kind(), tuple(units), tuple(remarks), classes, grey)


def _rows(root: pathlib.Path, faults: Faults) -> AnyTable:
    if os.path.isfile(root / segmentation_folder.FILE) and not os.path.isfile(root / landmark_folder.FILE):
        return segmentation_folder.read_rows(root, faults)
    if os.path.isfile(root / landmark_folder.FILE) or not any(os.path.isfile(root / file) for file in points.FORMATS):
        return landmark_folder.read_rows(root, faults)
    return points.read_folder(root)


def domains(table: AnyTable) -> dict[str, np.ndarray]:
    """Domain -> indices of its pictures; "" -> all pictures of a landmark folder."""
    if isinstance(table, LandmarkTable):
        return {"": np.arange(len(table))}
    names = np.array(table.domains)
    return {name: np.flatnonzero(names == name) for name in dict.fromkeys(table.domains)}


def _check_splits(table: AnyTable, faults: Faults) -> None:
    """Adds what a training refuses of the splits of a domain, be they given or drawn at random. Where there are no
    landmarks, a training learns who is on the pictures, and is judged by val."""
    for domain, rows in domains(table).items():
        images, subjects = ([values[row] for row in rows] for values in (table.images, table.subjects))
        given = [table.splits[row] for row in rows] if table.splits else None
        xy = table.xy if isinstance(table, LandmarkTable) and table.landmarks.names else None
        annotated = None if xy is None else coverage.annotated(xy)
        judged_by = "val" if isinstance(table, LandmarkTable) and xy is None else "test"
        try:
            split_of = splits.assign(images, subjects, given=given, seed=0, budget=0, annotated=annotated)
            splits.check_not_empty(split_of, judged_by)
            if xy is not None:
                coverage.check(xy, split_of)
        except UserError as error:
            faults.add("split", f"domain {domain}: {error}" if domain else str(error))


def _look_at_all(
    root: pathlib.Path, table: AnyTable, faults: Faults
) -> tuple[AnyTable, tuple[Look, ...], tuple[str, ...], list[survey.Seen], tuple[Grey, ...], tuple[Regions, ...]]:
    """The rows whose pictures can be read; the looks at these, their digests, what `survey` knows of them, their grey
    ranges, and the regions of their class maps."""
    found: dict[int, tuple[Look, str, survey.Seen, Regions]] = {}

    def see(index: int) -> None:
        name = table.images[index]
        content = (root / name).read_bytes()
        picture = pictures.decode(content, f"{table.where[index]}, {root / name}")
        digest = hashlib.sha256(content)
        for other in table.files_of(index)[1:]:
            digest.update((root / other).read_bytes())
        found[index] = look(picture), digest.hexdigest(), survey.look(io.BytesIO(content), name), {}
        if isinstance(table, ClassMapTable):
            classes = table.class_map(index, picture, root)
            seen = dataclasses.replace(found[index][0], thumbnail=outlined(picture, classes))
            found[index] = seen, *found[index][1:3], regions(classes)
        else:
            table.check_belongs(index, picture)

    for _ in folder.check_all(table, see, "looking at pictures", faults):
        pass
    rows = sorted(found)
    if not rows:
        first = next((message for messages in faults.by_kind().values() for message in messages), "it has no rows")
        raise UserError(f"{root}: no row has a picture that can be read; the first fault: {first}")
    grey = _grey(table, {row: found[row][2] for row in rows})

    def see_again(row: int) -> Look:
        picture = pictures.decode((root / table.images[row]).read_bytes(), table.images[row], grey[row])
        if isinstance(table, ClassMapTable) and found[row][3]:
            return dataclasses.replace(look(picture), thumbnail=outlined(picture, table.class_map(row, picture, root)))
        return look(picture)

    deep = [row for row in rows if found[row][2].kind]
    for row, again in zip(deep, map_in_threads(see_again, deep), strict=True):
        found[row] = again, *found[row][1:]
    looks, sha256, seen, classes = zip(*(found[row] for row in rows), strict=True)
    return _taken(table, rows), looks, sha256, list(seen), tuple(grey[row] for row in rows), classes


def _grey(table: AnyTable, seen: Mapping[int, survey.Seen]) -> dict[int, Grey]:
    """Row -> the ranges that it shares with the others of its domain."""
    domain = {row: table.domains[row] if isinstance(table, ClassMapTable) else "" for row in seen}
    of_domain = {one: survey.ranges([seen[row] for row in seen if domain[row] == one]) for one in set(domain.values())}
    return {row: of_domain[domain[row]] for row in seen}


def _taken(table: AnyTable, rows: list[int]) -> AnyTable:
    """The table with those of its rows only."""
    changes: dict[str, Any] = {}
    for name in OF_A_ROW:
        values = getattr(table, name, None)
        if values is not None:
            changes[name] = values[rows] if isinstance(values, np.ndarray) else tuple(values[row] for row in rows)
    return dataclasses.replace(table, **changes)


class _Collector(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def _said() -> Iterator[list[str]]:
    """Collects the warnings of the data room, which go nowhere else meanwhile."""
    collector, logger = _Collector(), logging.getLogger("ctd_jax.data")
    logger.addHandler(collector)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield collector.messages
    finally:
        logger.propagate = propagated
        logger.removeHandler(collector)
