"""All the pictures of a configuration, of one domain or of several, and the split each is in."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Generic, TypeVar

import numpy as np

from ctd_jax.data import splits, twins
from ctd_jax.data.dataset import Dataset
from ctd_jax.data.grey_range import Grey
from ctd_jax.data.targets import Targets
from ctd_jax.data.twins import LOOK, Twins

T = TypeVar("T", bound=Targets)


@dataclasses.dataclass(frozen=True)
class SplitPictures(Generic[T]):
    """All the pictures of a configuration, and the split each is in.

    Attributes:
      everything: the pictures of all splits.
      split_of: name of the split of each.
      sha256: digest of each.
      parts: domain -> its pictures, under their own names; none: all pictures are of one kind.
      helping: domains that are trained on and never evaluated.
      looks: `[N]` of `twins.LOOK`, where the pictures were read from files; they are needed until the twins are found.
      twins: pictures that are near-identical.
      grey: domain, or "" where there are none -> ranges of its pictures of more than 8 bits.
      drawn: all pictures are drawn ones.
      unlabelled: indices of the pictures that are trained on without labels, see `unlabelled.add`.
    """

    everything: Dataset[T]
    split_of: list[str]
    sha256: tuple[str, ...]
    parts: Mapping[str, "SplitPictures[T]"] = dataclasses.field(default_factory=dict)
    helping: tuple[str, ...] = ()
    looks: np.ndarray | None = None
    twins: Twins = Twins()
    grey: Mapping[str, Grey] = dataclasses.field(default_factory=dict)
    drawn: bool = False
    unlabelled: tuple[int, ...] = ()

    @property
    def targets(self) -> T:
        """What is known of all pictures."""
        return self.everything.targets

    @property
    def evaluated(self) -> dict[str, "SplitPictures[T]"]:
        """Domain -> its pictures, under their own names, of the domains whose errors count; without domains, "" -> all
        pictures."""
        return {name: part for name, part in self.parts.items() if name not in self.helping} or {"": self}

    @property
    def names(self) -> list[str]:
        """train, val, and the test splits there are."""
        return list(splits.parts(self.split_of))

    @property
    def grey_of_run(self) -> dict[str, Grey] | None:
        """`grey` as a checkpoint keeps it; None: all pictures have 8 bits."""
        return {name: dict(one) for name, one in self.grey.items() if one} or None

    def splits_called(self, name: str) -> list[str]:
        """The splits that `eval.split` means: "test" is every test split."""
        return splits.called(name, self.names)

    def split(self, name: str) -> Dataset[T]:
        """The pictures of a split; again the same object, so that what it keeps of them in memory is kept once."""
        return self._splits[name]

    @functools.cached_property
    def _splits(self) -> dict[str, Dataset[T]]:
        return {name: self.everything.take(rows) for name, rows in splits.parts(self.split_of).items()}

    @functools.cached_property
    def trained_on(self) -> Dataset[T]:
        """The pictures of train and, after them, those that are trained on without labels."""
        if not self.unlabelled:
            return self.split("train")
        labelled = splits.parts(self.split_of)["train"]
        both = self.everything.take(np.concatenate([labelled, self.unlabelled]))
        return dataclasses.replace(both, labelled=np.arange(len(both)) < len(labelled))

    def resized(self, size: int) -> "SplitPictures[T]":
        """The same, seen by the network at `size` x `size` pixels."""
        parts = {name: part.resized(size) for name, part in self.parts.items()}
        return dataclasses.replace(self, everything=dataclasses.replace(self.everything, size=size), parts=parts)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """What split.csv holds."""
        part = self.everything
        return list(zip(part.images, part.subjects, self.split_of, self.sha256, strict=True))

    def picture(self, image: str) -> np.ndarray:
        """`[H, W, 3]` uint8, the picture as it is on disk."""
        return self.everything.original(self.everything.images.index(image))


def join(parts: Mapping[str, SplitPictures[T]], helping: tuple[str, ...] = ()) -> SplitPictures[T]:
    """The pictures of several domains as one: one picture after the other, called `<domain>/<image>`, its subject
    `<domain>/<subject>`, with their `Targets.joined`."""
    sets = {name: part.everything for name, part in parts.items()}
    listed = list(sets.values())
    counts = [len(one) for one in listed]
    domain = np.repeat(np.arange(len(listed), dtype=np.int32), counts)
    place = np.concatenate([np.arange(number) for number in counts])
    first = listed[0]
    everything = dataclasses.replace(
        first,
        images=tuple(f"{name}/{image}" for name, one in sets.items() for image in one.images),
        subjects=tuple(f"{name}/{subject}" for name, one in sets.items() for subject in one.subjects),
        spacing=np.concatenate([one.spacing for one in listed]),
        boxes=np.concatenate([one.boxes for one in listed]),
        original=lambda i: listed[domain[i]].original(int(place[i])),
        targets=first.targets.joined({name: one.targets for name, one in sets.items()}, counts),
        domains=tuple(parts),
        domain=domain,
    )
    looks = None
    if any(part.looks is not None for part in parts.values()):
        looks = np.concatenate([_looks(part) for part in parts.values()])
    return SplitPictures(
        everything,
        split_of=[split for part in parts.values() for split in part.split_of],
        sha256=tuple(digest for part in parts.values() for digest in part.sha256),
        parts=dict(parts),
        helping=helping,
        looks=looks,
        grey={name: part.grey[""] for name, part in parts.items() if part.grey},
        drawn=all(part.drawn for part in parts.values()),
    )


def _looks(part: SplitPictures[T]) -> np.ndarray:
    """`[N]`; those of drawn pictures are blank, so that no two of them are twins."""
    return np.zeros(len(part.everything), LOOK) if part.looks is None else part.looks


def with_twins(pictures: SplitPictures[T]) -> SplitPictures[T]:
    """`pictures` with their near-identical pictures, which are warned of; their looks are needed no longer."""
    every = pictures.everything
    thumbnails = None if pictures.looks is None else pictures.looks["thumbnail"]
    found = twins.find(every.images, every.subjects, pictures.split_of, pictures.sha256, thumbnails)
    twins.warn(found)
    parts = {
        name: dataclasses.replace(part, looks=None, twins=found.within(name)) for name, part in pictures.parts.items()
    }
    return dataclasses.replace(pictures, looks=None, twins=found, parts=parts)
