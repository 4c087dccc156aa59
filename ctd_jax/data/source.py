"""All the pictures of a configuration, of one domain or of several, and the split each is in."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from ctd_jax.data import splits
from ctd_jax.data import twins as twins_
from ctd_jax.data.dataset import Dataset
from ctd_jax.data.folder import Landmarks
from ctd_jax.data.grey import Grey


@dataclasses.dataclass(frozen=True)
class Source:
    """All the pictures of a configuration, and the split each is in."""

    everything: Dataset
    split_of: list[str]
    sha256: tuple[str, ...]
    parts: Mapping[str, "Source"] = dataclasses.field(default_factory=dict)  # domain -> its pictures, under their own
    # names; none: all pictures are of one kind
    helping: tuple[str, ...] = ()  # domains that are trained on and never judged
    looks: np.ndarray | None = None  # [N] `twins.LOOK` of the pictures, where they were read from files
    twins: twins_.Twins = twins_.Twins()  # its pictures that are near-identical
    grey: Mapping[str, Grey] = dataclasses.field(default_factory=dict)  # domain, or "" -> of pictures of > 8 bits

    @property
    def landmarks(self) -> Landmarks:
        return self.everything.landmarks

    @property
    def judged(self) -> dict[str, "Source"]:
        """Domain -> its pictures, under their own names, of those whose errors count; without domains, "" -> all."""
        return {name: part for name, part in self.parts.items() if name not in self.helping} or {"": self}

    @property
    def names(self) -> list[str]:
        """train, val, and the test splits there are."""
        return list(splits.parts(self.split_of))

    @property
    def grey_of_run(self) -> dict[str, Grey] | None:
        """`grey` as a checkpoint keeps it; None: all pictures have 8 bits."""
        return {name: dict(one) for name, one in self.grey.items() if one} or None

    def covered(self, name: str) -> list[str]:
        """The splits that `eval.split` means: "test" is every test split."""
        return [split for split in self.names if split == name or (name == "test" and split.startswith("test"))]

    def split(self, name: str) -> Dataset:
        """The pictures of a split; again the same object, so that what it keeps of them in memory is kept once."""
        return self._splits[name]

    @functools.cached_property
    def _splits(self) -> dict[str, Dataset]:
        return {name: self.everything.take(rows) for name, rows in splits.parts(self.split_of).items()}

    def rows(self) -> list[tuple[str, str, str, str]]:
        """What split.csv holds."""
        part = self.everything
        return list(zip(part.images, part.subjects, self.split_of, self.sha256, strict=True))

    def picture(self, image: str) -> np.ndarray:
        """`[H, W, 3]` uint8, the picture as it is on disk."""
        return self.everything.original(self.everything.images.index(image))


def join(parts: Mapping[str, Source], helping: tuple[str, ...] = ()) -> Source:
    """One source of several domains: one picture after the other, named `<domain>/<image>`, its subject `<domain>/...`.

    The landmarks are those of all domains, `<domain>/<landmark>`; those of other domains than a picture's own are not
    annotated (NaN).
    """
    sets = [part.everything for part in parts.values()]
    counts = [len(one) for one in sets]
    known = [one.landmarks for one in sets]
    columns = np.repeat(np.arange(len(sets)), [len(one.names) for one in known])
    domain = np.repeat(np.arange(len(sets), dtype=np.int32), counts)
    xy = np.full((len(domain), len(columns), 2), np.nan)
    for d, one in enumerate(sets):
        xy[np.ix_(domain == d, columns == d)] = one.xy
    place = np.concatenate([np.arange(n) for n in counts])

    def named(key: str) -> tuple[str, ...]:
        return tuple(f"{name}/{x}" for name, one in zip(parts, sets, strict=True) for x in getattr(one, key))

    pairs = [
        (f"{name}/{a}", f"{name}/{b}") for name, one in zip(parts, known, strict=True) for a, b in one.flip_pairs or ()
    ]
    everything = dataclasses.replace(
        sets[0],
        landmarks=Landmarks(
            tuple(f"{name}/{x}" for name, one in zip(parts, known, strict=True) for x in one.names),
            tuple(pairs) if any(one.flip_pairs is not None for one in known) else None,
        ),
        images=named("images"),
        subjects=named("subjects"),
        xy=xy,
        spacing=np.concatenate([one.spacing for one in sets]),
        boxes=np.concatenate([one.boxes for one in sets]),
        original=lambda i: sets[domain[i]].original(int(place[i])),
        domains=tuple(parts),
        domain=domain,
    )
    split_of = [split for part in parts.values() for split in part.split_of]
    sha256 = tuple(digest for part in parts.values() for digest in part.sha256)
    looks = None
    if any(part.looks is not None for part in parts.values()):
        looks = np.concatenate([_looks(part) for part in parts.values()])
    grey = {name: part.grey[""] for name, part in parts.items() if part.grey}
    return Source(everything, split_of, sha256, dict(parts), helping, looks, grey=grey)


def _looks(part: Source) -> np.ndarray:
    """Those of drawn pictures are blank: no two of them are twins."""
    return np.zeros(len(part.everything), twins_.LOOK) if part.looks is None else part.looks


def with_twins(source: Source) -> Source:
    """`source` with its near-identical pictures, which are warned of; their looks are needed no longer."""
    every = source.everything
    thumbnails = None if source.looks is None else source.looks["thumbnail"]
    found = twins_.find(every.images, every.subjects, source.split_of, source.sha256, thumbnails)
    twins_.warn(found)
    parts = {
        name: dataclasses.replace(part, looks=None, twins=found.within(name)) for name, part in source.parts.items()
    }
    return dataclasses.replace(source, looks=None, twins=found, parts=parts)
