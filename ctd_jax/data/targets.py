"""What a network learns of pictures, or is measured by: the contract that landmarks, class maps and identities keep."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, Self

import numpy as np

from ctd_jax.data.geometry import Frame
from ctd_jax.typing import HostBatch


class Targets(Protocol):
    """What is known of the N pictures of a `Dataset`.

    Attributes:
      channels: of the uint8 maps that lie beside the three channels of a network's picture, C.
    """

    channels: ClassVar[int]

    def take(self, indices: np.ndarray) -> Self:
        """The targets of those pictures only, in that order."""
        ...

    def maps(self, index: int, frame: Frame) -> np.ndarray:
        """`[S, S, C]` uint8 maps of one picture in the network's frame; not called where C is 0."""
        ...

    def batch(self, indices: np.ndarray, maps: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> HostBatch:
        """What a batch holds beside its pictures.

        Args:
          indices: `[B]` of its pictures.
          maps: `[B, S, S, C]` their `maps`.
          scale: `[B]` of their frames: `network = scale * picture + offset`.
          offset: `[B, 2]` of their frames, pixels of the network's picture.
        """
        ...

    @classmethod
    def joined(cls, parts: Mapping[str, Self], counts: Sequence[int]) -> Self:
        """The targets of all pictures of several domains, one domain after the other.

        Args:
          parts: domain -> targets of its pictures.
          counts: number of pictures of each domain.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Unlabelled:
    """Pictures of which nothing is known."""

    channels: ClassVar[int] = 0

    def take(self, indices: np.ndarray) -> "Unlabelled":
        return self

    def maps(self, index: int, frame: Frame) -> np.ndarray:
        return np.empty((frame.size, frame.size, 0), np.uint8)

    def batch(self, indices: np.ndarray, maps: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> HostBatch:
        return {}

    @classmethod
    def joined(cls, parts: Mapping[str, "Unlabelled"], counts: Sequence[int]) -> "Unlabelled":
        return cls()
