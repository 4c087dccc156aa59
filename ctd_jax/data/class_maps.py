"""Class maps as targets: of segmentation folders, or of drawn anatomies."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from ml_collections import ConfigDict

from ctd_jax.data import annotation_checks, drawn_anatomies, pictures, roots, segmentation_folder, survey
from ctd_jax.data.dataset import Dataset
from ctd_jax.data.geometry import Frame
from ctd_jax.data.grey_range import Grey
from ctd_jax.data.kinds import Listed, Prepared
from ctd_jax.data.prefetch import map_in_threads, progress
from ctd_jax.data.segmentation_folder import Classes, ClassMapTable
from ctd_jax.errors import UserError
from ctd_jax.typing import HostBatch

if TYPE_CHECKING:
    from ctd_jax.data.builder import PreparedPictures

OUTSIDE = 255  # in a class map of the network: no pixel of the picture, counted nowhere
DRAWN = "synthetic"  # of data.root


@dataclasses.dataclass(frozen=True)
class ClassMaps:
    """The class maps of N pictures."""

    classes: Classes  # of each domain that the pictures are of
    class_map: Callable[[int], np.ndarray]  # index -> [H, W] uint8, of the original picture
    channels: ClassVar[int] = 1

    def take(self, indices: np.ndarray) -> "ClassMaps":
        return dataclasses.replace(self, class_map=lambda i: self.class_map(int(indices[i])))

    def maps(self, index: int, frame: Frame) -> np.ndarray:
        """`[S, S, 1]` uint8 classes, `OUTSIDE` where the picture is not."""
        return frame.resample_classes(self.class_map(index), OUTSIDE)[..., None]

    def batch(self, indices: np.ndarray, maps: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> HostBatch:
        """`classes` [B, S, S] uint8, `OUTSIDE` where the picture is not."""
        return {"classes": np.ascontiguousarray(maps[..., 0])}

    @classmethod
    def joined(cls, parts: Mapping[str, "ClassMaps"], counts: Sequence[int]) -> "ClassMaps":
        targets = list(parts.values())
        places = [(part, row) for part, count in enumerate(counts) for row in range(count)]

        def class_map(index: int) -> np.ndarray:
            part, row = places[index]
            return targets[part].class_map(row)

        classes = {domain: names for part in targets for domain, names in part.classes.items()}
        return cls(classes, class_map)


def shown(pictures: Dataset[ClassMaps]) -> dict[tuple[str, str], tuple[int, int]]:
    """Domain and foreground class -> in how many pictures the network sees it, and in how many it is too small for
    that: it is in the class map, but not where that is resampled. A map is only read again where the network does not
    see every class of the domain."""
    names = [pictures.targets.classes[domain] for domain in pictures.domains]
    decoded = pictures.decode()

    def look(index: int) -> tuple[np.ndarray, np.ndarray]:
        """`[M - 1]` bool: what the network sees, and what is in the map."""
        number = len(names[pictures.domain[index]])
        if decoded is not None:
            seen = _present(decoded.pictures[index, ..., 3], number)
            if seen.all():
                return seen, seen
        whole = pictures.targets.class_map(index)
        if decoded is None:
            frame = Frame.fit(whole.shape[1], whole.shape[0], pictures.size)
            seen = _present(frame.resample_classes(whole, OUTSIDE), number)
        return seen, _present(whole, number)

    found = {(domain, name): (0, 0) for domain, each in zip(pictures.domains, names, strict=True) for name in each[1:]}
    looked = progress(map_in_threads(look, range(len(pictures))), "class maps", len(pictures))
    for index, both in enumerate(looked):
        d = pictures.domain[index]
        for name, seen, there in zip(names[d][1:], *both, strict=True):
            n_seen, n_small = found[pictures.domains[d], name]
            found[pictures.domains[d], name] = n_seen + int(seen), n_small + int(there and not seen)
    return found


def _present(classes: np.ndarray, number: int) -> np.ndarray:
    """`[number - 1]` bool: whether each foreground class of `number` classes is somewhere in a map."""
    return np.bincount(classes.ravel(), minlength=number)[1:number] > 0


# ---------------------------------------------------------------- where they come from


@dataclasses.dataclass(frozen=True)
class _ClassMapFolders:
    """Segmentation folders and drawn anatomies; see `kinds.Kind`. A folder names its domains itself, so that a picture
    always has one."""

    named: bool = True
    fewest: int = 1  # in one picture each pixel has a label

    def domains(self, config: ConfigDict, cache: pathlib.Path) -> dict[str, Callable[[], Listed[ClassMaps]]]:
        """See `kinds.Kind`. The folders are read and prepared here: they alone know their domains."""
        tables = {root: segmentation_folder.read(pathlib.Path(root)) for root in roots.listed(config) if root != DRAWN}
        found: dict[str, Callable[[], Listed[ClassMaps]]] = {}
        for root in roots.listed(config):
            names = tables[root].classes if root in tables else drawn_anatomies.CLASSES
            clash = [domain for domain in names if domain in found]
            if clash:
                raise UserError(
                    f"{root}: domain {clash[0]!r} is also one of another folder of data.root; rename one of them"
                )
            found |= {domain: functools.partial(_drawn, domain, config) for domain in names}
        for root, table in tables.items():
            contents = _Contents.read(pathlib.Path(root), table, cache)
            found |= {domain: functools.partial(contents.listed, domain, config) for domain in table.classes}
        return found


CLASS_MAPS = _ClassMapFolders()


@dataclasses.dataclass(frozen=True)
class _Contents:
    """A segmentation folder that is read and prepared."""

    table: ClassMapTable
    encoded: "PreparedPictures"
    looks: np.ndarray  # [N] of `twins.LOOK`
    grey: Mapping[str, Grey]  # domain -> ranges of its pictures

    @classmethod
    def read(cls, root: pathlib.Path, table: ClassMapTable, cache: pathlib.Path) -> "_Contents":
        from ctd_jax.data import builder

        encoded, looks = builder.pictures(root, table, cache)
        annotation_checks.check_spacings(table.title, table.where, table.spacing, table.domains, looks)
        grey = survey.prepared(encoded, table.names, table.domains, folder=encoded.place, root=root)
        return cls(table, encoded, looks, grey)

    def listed(self, domain: str, config: ConfigDict) -> Listed[ClassMaps]:
        """The pictures of one domain, under their own names."""
        table, rows = self.table, np.flatnonzero(np.array(self.table.domains) == domain)
        images = tuple(table.images[i].removeprefix(f"{domain}/") for i in rows)
        subjects = tuple(table.subjects[i] for i in rows)

        def original(index: int) -> np.ndarray:
            content = self.encoded[int(rows[index])]["picture"]
            return pictures.decode(content, f"{domain}/{images[index]}", self.grey[domain])

        def class_map(index: int) -> np.ndarray:
            return pictures.decode_classes(self.encoded[int(rows[index])]["mask"], f"{domain}/{images[index]}")

        def prepare(split_of: Sequence[str]) -> Prepared[ClassMaps]:
            targets = ClassMaps({domain: table.classes[domain]}, class_map)
            dataset = Dataset.of(
                config, targets, images=images, subjects=subjects, original=original, spacing=table.spacing[rows]
            )
            sha256 = tuple(table.sha256[i] for i in rows)
            return Prepared(dataset, sha256, self.looks[rows], self.grey[domain])

        given = None if table.splits is None else tuple(table.splits[i] for i in rows)
        return Listed(images, subjects, given, None, prepare)


def _drawn(domain: str, config: ConfigDict) -> Listed[ClassMaps]:
    people = np.repeat(("train", "val", "test"), config.synthetic.identities).tolist()
    shots = np.repeat(config.synthetic.shots, config.synthetic.identities).tolist()
    places = [(subject, shot) for subject, number in enumerate(shots) for shot in range(number)]
    images = tuple(f"{subject:05d}_{shot}" for subject, shot in places)
    subjects = tuple(f"{subject:05d}" for subject, _ in places)

    def prepare(split_of: Sequence[str]) -> Prepared[ClassMaps]:
        drawn = [
            drawn_anatomies.draw(domain, *place, size=roots.drawn_size(config), seed=config.seed) for place in places
        ]
        targets = ClassMaps({domain: drawn_anatomies.CLASSES[domain]}, lambda i: drawn[i][1])
        dataset = Dataset.of(config, targets, images=images, subjects=subjects, original=lambda i: drawn[i][0])
        digests = (hashlib.sha256(picture.tobytes() + classes.tobytes()) for picture, classes in drawn)
        return Prepared(dataset, tuple(digest.hexdigest() for digest in digests))

    return Listed(images, subjects, [people[subject] for subject, _ in places], None, prepare, drawn=True)
