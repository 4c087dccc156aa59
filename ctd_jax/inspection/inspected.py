"""What is asked of a folder, in the order in which it is shown."""

import dataclasses
import pathlib

import numpy as np

from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.inspection import (
    class_maps,
    contradicted,
    disagreement,
    flip_pairs,
    outliers,
    overlap,
    reading,
    slips_shown,
)
from ctd_jax.inspection.findings import Finding, Item
from ctd_jax.inspection.flip_pairs import FlipPairs
from ctd_jax.inspection.painting import Painter
from ctd_jax.inspection.reading import Folder

SHOWN = 12  # items of a finding that are shown with pictures


@dataclasses.dataclass(frozen=True)
class Inspected:
    """A folder, what was found in it, first what would spoil a training, and its pairs of left and right."""

    folder: Folder
    findings: tuple[Finding, ...]
    pairs: FlipPairs | None = None

    @property
    def spoilt(self) -> bool:
        """Whether something would spoil a training or its result."""
        return any(one.spoils for one in self.findings)


def inspect(root: pathlib.Path, workdir: pathlib.Path | None = None, domain: str | None = None) -> Inspected:
    """Reads a folder as far as it can be read, and looks for what may be wrong with it.

    Args:
      root: the folder.
      workdir: a finished run, whose network is asked about the pictures that it was not trained on; None: none is.
      domain: which of its domains a landmark folder is of, if it has several.

    Raises:
      UserError: nothing of it can be read; or the run has learned something else.
    """
    folder = reading.read(root)
    painter = Painter(folder)
    table = folder.table
    pairs = None
    found = [_fault(kind, messages) for kind, messages in folder.faults.items()]
    found.append(Finding("Another unit or convention", True, "Points or spacings that mean something else than pixels "
                         "of the picture, or mm per pixel.", [Item(text) for text in folder.units]))  # fmt: skip
    if isinstance(table, LandmarkTable):
        pairs = flip_pairs.find(table.landmarks.names, table.landmarks.flip_pairs, table.xy)
        found += slips_shown.findings(table, pairs.order if pairs else None, painter, SHOWN)
        found += disagreement.findings(table, pairs.order if pairs else None, painter, SHOWN)
        found += flip_pairs.findings(table.landmarks.names, pairs)
    found += _overlaps(folder, painter)
    for name, rows in reading.domains(table).items():
        looks = [folder.looks[row] for row in rows]
        found.append(outliers.find(name, rows, looks, table.spacing[rows]))
        if not isinstance(table, LandmarkTable):
            size = np.array([look.twin["size"] for look in looks])
            regions = [folder.regions[row] for row in rows]
            found.append(class_maps.find(name, table.classes[name], rows, regions, size))
    if workdir is not None:
        found += contradicted.findings(folder, workdir, domain, painter, SHOWN)
    found.append(
        Finding("Said while reading", False, "How the table was read.", [Item(text) for text in folder.remarks])
    )
    there = [one for one in found if one.number]
    return Inspected(folder, tuple(sorted(there, key=lambda one: not one.spoils)), pairs)


def _overlaps(folder: Folder, painter: Painter) -> list[Finding]:
    images, subjects = folder.table.images, folder.subjects
    thumbnails = np.array([look.twin["thumbnail"] for look in folder.looks])
    show = painter.picture
    return [
        overlap.subjects_in_two_splits(images, subjects, folder.split_of, show, SHOWN),
        *overlap.near_identical(images, subjects, folder.split_of, folder.sha256, thumbnails, show, SHOWN),
    ]


def _fault(kind: str, messages: tuple[str, ...]) -> Finding:
    about = "A training refuses the folder until each of these is mended."
    return Finding(f"Fault: {kind}", True, about, [Item(message) for message in messages])


def points(folder: Folder) -> np.ndarray:
    """`[N, K, 2]` places of the landmarks; K is 0 in a segmentation folder."""
    table = folder.table
    return table.xy if isinstance(table, LandmarkTable) else np.empty((len(table), 0, 2))
