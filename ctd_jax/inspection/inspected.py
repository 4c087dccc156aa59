"""What is asked of a folder, in the order in which it is shown."""

import dataclasses
import pathlib

import numpy as np

from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.inspection import flip_pairs, outliers, overlap, reading, slips_shown
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


def inspect(root: pathlib.Path) -> Inspected:
    """Reads a folder as far as it can be read, and looks for what may be wrong with it.

    Raises:
      UserError: nothing of it can be read.
    """
    folder = reading.read(root)
    painter = Painter(folder)
    table = folder.table
    thumbnails = np.array([look.twin["thumbnail"] for look in folder.looks])
    pairs, about_labels = None, []
    if isinstance(table, LandmarkTable):
        pairs = flip_pairs.find(table.landmarks.names, table.landmarks.flip_pairs, table.xy)
        about_labels = [
            *slips_shown.findings(table, pairs.order if pairs else None, painter, SHOWN),
            *flip_pairs.findings(table.landmarks.names, pairs),
        ]
    found = [
        *(_fault(kind, messages) for kind, messages in folder.faults.items()),
        Finding("Another unit or convention", True, "Points or spacings that mean something else than pixels of the "
                "picture, or mm per pixel.", [Item(text) for text in folder.units]),
        *about_labels,
        overlap.subjects_in_two_splits(table.images, table.subjects, folder.split_of, painter.picture, SHOWN),
        *overlap.near_identical(
            table.images, table.subjects, folder.split_of, folder.sha256, thumbnails, painter.picture, SHOWN
        ),
        outliers.find(folder.looks, table.spacing),
        Finding("Said while reading", False, "How the table was read.", [Item(text) for text in folder.remarks]),
    ]  # fmt: skip
    found = [one for one in found if one.number]
    return Inspected(folder, tuple(sorted(found, key=lambda one: not one.spoils)), pairs)


def _fault(kind: str, messages: tuple[str, ...]) -> Finding:
    about = "A training refuses the folder until each of these is mended."
    return Finding(f"Fault: {kind}", True, about, [Item(message) for message in messages])


def points(folder: Folder) -> np.ndarray:
    """`[N, K, 2]` places of the landmarks; K is 0 in a segmentation folder."""
    table = folder.table
    return table.xy if isinstance(table, LandmarkTable) else np.empty((len(table), 0, 2))
