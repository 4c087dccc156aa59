"""Identities as targets: who is on the pictures of landmark folders, which need no landmarks, or of drawn faces."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from ctd_jax.data.about import Landmarks
from ctd_jax.data.geometry import Frame
from ctd_jax.data.points import LandmarkFolders
from ctd_jax.typing import HostBatch


@dataclasses.dataclass(frozen=True)
class Identities:
    """Who is on each of N pictures."""

    person: np.ndarray  # [N] int32 index of its subject among theirs, in the order of their names
    mirrored: bool  # whether a mirror image is of the same person: the folder has `flip_pairs`
    channels: ClassVar[int] = 0

    @classmethod
    def of(cls, landmarks: Landmarks, xy: np.ndarray, subjects: Sequence[str]) -> "Identities":
        """The identities of N pictures whose subjects are named; `xy` does not matter."""
        return cls(_renumbered(np.asarray(subjects)), landmarks.flip_pairs is not None)

    def take(self, indices: np.ndarray) -> "Identities":
        return dataclasses.replace(self, person=_renumbered(self.person[indices]))

    def maps(self, index: int, frame: Frame) -> np.ndarray:
        return np.empty((frame.size, frame.size, 0), np.uint8)

    def batch(self, indices: np.ndarray, maps: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> HostBatch:
        """`subject` [B] int32 index among the subjects of the split."""
        return {"subject": self.person[indices]}

    @classmethod
    def joined(cls, parts: Mapping[str, "Identities"], counts: Sequence[int]) -> "Identities":
        """A person of two domains is two persons."""
        starts = np.cumsum([0, *(int(part.person.max(initial=-1)) + 1 for part in parts.values())])
        person = np.concatenate([part.person + start for part, start in zip(parts.values(), starts, strict=False)])
        return cls(person.astype(np.int32), all(part.mirrored for part in parts.values()))


def _renumbered(values: np.ndarray) -> np.ndarray:
    """`[N]` int32 index of each value among the different ones, in their order."""
    return np.unique(values, return_inverse=True)[1].astype(np.int32)


IDENTITIES = LandmarkFolders(Identities.of, annotated_only=False)
