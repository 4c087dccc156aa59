"""Segmentation folders: `segmentation.csv`, `classes.json`, pictures and class maps of one or several domains.

A class map is an 8-bit PNG of its picture's size: each pixel holds the index of its class among the names that
`classes.json` has for the domain, {"DOMAIN": ["background", "first class", ...]}; 0 is the background.
"""

import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np

from ctd_jax.data import columns, folder, pictures, splits, tables
from ctd_jax.data.cells import Cells
from ctd_jax.data.faults import Fault, Faults
from ctd_jax.data.picture_files import PictureFiles
from ctd_jax.errors import UserError

FILE = "segmentation.csv"
REQUIRED = ("image", "mask", "domain")
MOST = 255  # classes of a domain

Classes = Mapping[str, tuple[str, ...]]  # domain -> names of its classes, the background first


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of `segmentation.csv`. N pictures."""

    classes: Classes
    images: tuple[str, ...]  # files below the folder
    masks: tuple[str, ...]
    domains: tuple[str, ...]
    subjects: tuple[str, ...]
    splits: tuple[str, ...] | None  # None: no such column
    spacing: np.ndarray  # [N, 2] mm per pixel, NaN: unknown
    sha256: tuple[str, ...]  # of picture and class map
    where: tuple[str, ...]  # file and row, for messages
    title: str  # the file, for messages about all rows

    @property
    def names(self) -> tuple[str, ...]:
        """DOMAIN/IMAGE of each picture, where its file is not called so already."""
        pairs = zip(self.domains, self.images, strict=True)
        return tuple(image if image.startswith(f"{domain}/") else f"{domain}/{image}" for domain, image in pairs)


def read(root: pathlib.Path) -> Table:
    """Reads and checks all of a segmentation folder but the inside of its pictures and class maps.

    Raises:
      UserError: what is wrong, in which file and row, what was expected and what to do.
    """
    path = root / FILE
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such file; `data.root` expects a folder with {FILE}, classes.json and pictures")
    faults = Faults(str(root))
    sheet = columns.match(tables.read(path), [*REQUIRED, "subject", "split", *folder.SPACING], faults)
    missing = [column for column in REQUIRED if column not in sheet.columns]
    if missing:
        raise UserError(f"{path}: no column `{missing[0]}`, found {tables.listed(sheet.columns)}")
    classes = _read_classes(root / "classes.json")
    table = _rows(root, sheet, classes, faults)
    if faults:
        list(folder.check_all(table, lambda index: check_picture(table, index, root), "checking pictures", faults))
    else:
        _check_domains(path, classes, np.array(table.domains), np.isnan(table.spacing[:, 0]), faults)
    faults.raise_if_any()
    digests = folder.digest_all(root, list(zip(table.images, table.masks, strict=True)), table.where, faults)
    faults.raise_if_any()
    return dataclasses.replace(table, sha256=digests)


def _rows(root: pathlib.Path, sheet: tables.Sheet, classes: Classes, faults: Faults) -> Table:
    """The rows whose files exist."""
    cells, found = Cells(sheet, faults), PictureFiles(root)
    seen: dict[str, str] = {}  # path -> file and row
    images, masks, domains, subjects, split_of, spacing, where = [], [], [], [], [], [], []
    for number, row in sheet.rows(faults):
        at, domain = f"{sheet.path}, row {number}", row["domain"]
        mm = folder.read_spacing(row, cells, at, faults)
        split = cells.word(row.get("split", ""))
        with faults.collecting("split"):
            splits.check_name(split, at)
        if domain not in classes:
            message = f"{at}: domain is {domain!r}, which classes.json does not have; it has {', '.join(classes)}"
            faults.add("unknown domain", message)
        image, mask = folder.find_once(found, row["image"], at, seen, faults), None
        with faults.collecting("missing class map"):
            mask = found.find(row["mask"], at, "class map")
        if image is None or mask is None or domain not in classes:
            continue
        where.append(at)
        images.append(image)
        masks.append(mask)
        domains.append(domain)
        subjects.append(f"{domain}/{cells.word(row.get('subject', '')) or image}")
        split_of.append(split)
        spacing.append(mm)
    cells.say()
    found.say(sheet.path)
    folder.warn_of_subjects(sheet, [subject.partition("/")[2] for subject in subjects], images)
    return Table(
        classes=classes,
        images=tuple(images),
        masks=tuple(masks),
        domains=tuple(domains),
        subjects=tuple(subjects),
        splits=tuple(split_of) if "split" in sheet.columns else None,
        spacing=np.reshape(spacing, (len(images), 2)),
        sha256=(),
        where=tuple(where),
        title=str(sheet.path),
    )


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
                f"{path}: {domain!r} is no name of a domain; expected at most 60 letters, digits, _ - and ."
            )
        fits = (
            isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
        )
        if not fits or not 2 <= len(names) <= MOST:
            raise UserError(
                f"{path}: {domain!r} has {names}; expected two different names or more, that of the background first"
            )
    return {domain: tuple(names) for domain, names in content.items()}


def _check_domains(
    path: pathlib.Path, classes: Classes, domains: np.ndarray, no_spacing: np.ndarray, faults: Faults
) -> None:
    for domain in classes:
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


def fingerprint(root: pathlib.Path, table: Table) -> str:
    """Changes when the content of the folder does."""
    parts = [(root / FILE).read_bytes(), (root / "classes.json").read_bytes(), *map(str.encode, table.sha256)]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def check_picture(table: Table, index: int, root: pathlib.Path) -> np.ndarray:
    """The picture, `[H, W, 3]` uint8.

    Raises:
      UserError: it can't be read, or its class map can't be one of it.
    """
    at, mask, names = table.where[index], root / table.masks[index], table.classes[table.domains[index]]
    picture = pictures.decode((root / table.images[index]).read_bytes(), f"{at}, {root / table.images[index]}")
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
            f"{at}: class map {mask} has the value {classes.max()}, but classes.json declares {len(names)} classes for "
            f"{table.domains[index]!r}: 0 to {len(names) - 1}; correct the map, or declare the class",
        )
    if not classes.any():
        raise Fault(
            "empty class map",
            f"{at}: class map {mask} is empty, all of it is background: nobody can tell whether it was forgotten; draw "
            "the classes in, or take the row out",
        )
    return picture
