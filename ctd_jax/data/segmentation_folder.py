"""Segmentation folders: `segmentation.csv`, `classes.json`, pictures and class maps of one or several domains.

A class map is an 8-bit PNG of its picture's size: each pixel holds the index of its class among the names that
`classes.json` has for the domain, {"DOMAIN": ["background", "first class", ...]}; 0 is the background.
"""

import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ctd_jax.data import columns, folder, pictures, tables
from ctd_jax.data.faults import Fault, Faults
from ctd_jax.data.folder import Row, Table
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)
FILE, ABOUT = "segmentation.csv", "classes.json"
REQUIRED = ("image", "mask", "domain")
MAX_CLASSES = 255  # of a domain: 255 itself means "outside the picture"

Classes = Mapping[str, tuple[str, ...]]  # domain -> names of its classes, the background first


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassMapTable(Table):
    """The rows of `segmentation.csv`. N pictures; `sha256` is of picture and class map."""

    builder: ClassVar[str] = "segmentation_folder"

    classes: Classes
    masks: tuple[str, ...]  # files below the folder
    domains: tuple[str, ...]  # of each picture

    @property
    def names(self) -> tuple[str, ...]:
        """<domain>/<image> of each picture, where its file is not called so already."""
        pairs = zip(self.domains, self.images, strict=True)
        return tuple(f"{domain}/{image.removeprefix(f'{domain}/')}" for domain, image in pairs)

    def files_of(self, index: int) -> tuple[str, ...]:
        return self.images[index], self.masks[index]

    def check_picture(self, index: int, root: pathlib.Path) -> np.ndarray:
        path = root / self.images[index]
        picture = pictures.decode(path.read_bytes(), f"{self.where[index]}, {path}")
        self.class_map(index, picture, root)
        return picture

    def class_map(self, index: int, picture: np.ndarray, root: pathlib.Path) -> np.ndarray:
        """The class map of a row, `[H, W]` uint8.

        Raises:
          UserError: it can't be read, or doesn't belong to its picture, `[H, W, 3]`.
        """
        at, mask, names = self.where[index], root / self.masks[index], self.classes[self.domains[index]]
        classes = pictures.decode_classes(mask.read_bytes(), f"{at}, {mask}")
        (H, W), (height, width) = picture.shape[:2], classes.shape
        if (height, width) != (H, W):
            raise Fault(
                "class map of another size",
                f"{at}: class map {mask} has {width} x {height} pixels, its picture {W} x {H}; give both the same size",
            )
        if classes.max() >= len(names):
            raise Fault(
                "class that is not declared",
                f"{at}: class map {mask} has the value {classes.max()}, but classes.json declares {len(names)} classes "
                f"for {self.domains[index]!r}: 0 to {len(names) - 1}; correct the map, or declare the class",
            )
        if not classes.any():
            raise Fault(
                "empty class map",
                f"{at}: class map {mask} is empty, all of it is background: nobody can tell whether it was forgotten; "
                "draw the classes in, or take the row out",
            )
        return classes

    def features(self) -> dict[str, Any]:
        from tensorflow_datasets import features

        return {
            "image": features.Text(),
            "subject": features.Text(),
            "domain": features.Text(),
            "picture": features.Image(shape=(None, None, None)),
            "mask": features.Image(shape=(None, None, None)),
            "spacing": features.Tensor(shape=(2,), dtype=np.float32),
        }

    def example(self, index: int, root: pathlib.Path) -> dict[str, Any]:
        return {
            "image": self.images[index],
            "subject": f"{self.domains[index]}/{self.subjects[index]}",
            "domain": self.domains[index],
            "picture": pictures.to_keep(root / self.images[index]),
            "mask": root / self.masks[index],
            "spacing": self.spacing[index].astype(np.float32),
        }


class _Annotation(NamedTuple):
    mask: str
    domain: str


def read(root: pathlib.Path) -> ClassMapTable:
    """Reads and checks all of a segmentation folder but the inside of its pictures and class maps; these too where the
    rows have faults.

    Raises:
      UserError: what is wrong, in which file and row, what was expected and what to do.
    """
    faults = Faults(str(root))
    return folder.with_digests(read_rows(root, faults), root, faults)


def read_rows(root: pathlib.Path, faults: Faults) -> ClassMapTable:
    """Reads the rows of a segmentation folder, not its pictures and class maps; `faults` takes what is wrong.

    Raises:
      UserError: what makes all rows unreadable.
    """
    path = root / FILE
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file; `data.root` expects a folder with {FILE}, classes.json and pictures")
    sheet = columns.match(tables.read(path), [*folder.COLUMNS, *REQUIRED[1:]], faults)
    missing = [column for column in REQUIRED if column not in sheet.columns]
    if missing:
        raise UserError(f"{path}: no column `{missing[0]}`, found {tables.listed(sheet.columns)}")
    classes = _read_classes(root / ABOUT)
    fields, annotations = folder.read_rows(root, sheet, lambda row: _annotation(row, classes), faults)
    table = ClassMapTable(
        classes=classes,
        masks=tuple(one.mask for one in annotations),
        domains=tuple(one.domain for one in annotations),
        files=(FILE, ABOUT),
        **fields,
    )
    _warn_of_masks(table)
    if not faults:
        _check_names(table, faults)
        _check_domains(path, table, faults)
    return table


def _check_names(table: ClassMapTable, faults: Faults) -> None:
    """Results name a picture without the folder that is called as its domain."""
    seen: dict[str, str] = {}
    for name, image, at in zip(table.names, table.images, table.where, strict=True):
        if name in seen:
            message = f"{at}: {image} and {seen[name]} are of one domain, and would both be called {name}; rename one"
            faults.add("two pictures of one name", message)
        seen[name] = image


def _warn_of_masks(table: ClassMapTable) -> None:
    """Warns of class maps that several pictures have."""
    first: dict[str, str] = {}  # class map -> file and row
    again = [(at, mask) for mask, at in zip(table.masks, table.where, strict=True) if first.setdefault(mask, at) != at]
    if again:
        at, mask = again[0]
        _log.warning("%d of %d rows have the class map of another picture; first %s: %s, the class map of %s; of "
                     "which picture is it?", len(again), len(table), at, mask, first[mask])  # fmt: skip


def _annotation(row: Row, classes: Classes) -> _Annotation | None:
    """The class map and the domain of a row; None if one of them is not there."""
    domain, mask = row.values["domain"], None
    if domain not in classes:
        message = f"{row.at}: domain is {domain!r}, which classes.json does not have; it has {', '.join(classes)}"
        row.faults.add("unknown domain", message)
    with row.faults.collecting("missing class map"):
        mask = row.pictures.find(row.values["mask"], row.at, "class map")
    return None if mask is None or domain not in classes else _Annotation(mask, domain)


def _read_classes(path: pathlib.Path) -> dict[str, tuple[str, ...]]:
    example = '{"DOMAIN": ["background", "first class", ...], ...}'
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file; expected the names of each domain's classes, {example}")
    content = tables.load_json(path)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected {example}")
    for domain, names in content.items():
        if not re.fullmatch(r"\w[\w.-]{0,59}", domain):
            raise UserError(
                f"{path}: {domain[:60]!r} is no name of a domain; expected at most 60 letters, digits, _ - and ."
            )
        fits = (
            isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
        )
        if not fits or not 2 <= len(names) <= MAX_CLASSES:
            raise UserError(
                f"{path}: {domain!r} has {str(names)[:200]}; expected two different names or more, that of the "
                "background first"
            )
    return {domain: tuple(names) for domain, names in content.items()}


def _check_domains(path: pathlib.Path, table: ClassMapTable, faults: Faults) -> None:
    domains, no_spacing = np.array(table.domains), np.isnan(table.spacing[:, 0])
    for domain in table.classes:
        mine = domains == domain
        if mine.sum() < 2:
            faults.add(
                "domain without pictures",
                f"{path}: domain {domain!r} of classes.json has {'one picture' if mine.any() else 'no picture'}; it "
                "needs one to train on and one to test on: add some, or take the domain out of both files",
            )
        if no_spacing[mine].any() and not no_spacing[mine].all():
            faults.add(
                "spacing",
                f"{path}: {no_spacing[mine].sum()} of the {mine.sum()} pictures of domain {domain!r} have no spacing: "
                "its distances cannot be pooled in mm; fill spacing_x_mm and spacing_y_mm of all of them, or of none",
            )
