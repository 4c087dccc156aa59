"""Pictures with class maps, in the network's frame: of segmentation folders, or drawn."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

from ctd_jax.data import drawn_anatomies, folder, label_checks, pictures, segmentation, splits, survey
from ctd_jax.data.dataset import Dataset
from ctd_jax.data.folder import Landmarks
from ctd_jax.data.geometry import Frame
from ctd_jax.data.grey import Grey
from ctd_jax.data.segmentation import Classes
from ctd_jax.data.source import Source
from ctd_jax.errors import UserError

Ranges = dict[str, Grey]  # domain -> grey range of its pictures
OUTSIDE = 255  # in a class map of the network: no pixel of the picture, counted nowhere


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassMaps(Dataset):
    """Pictures with class maps. Frames, cache and order are `Dataset`'s; there are no landmarks."""

    classes: Classes  # of each of the domains
    class_map: Callable[[int], np.ndarray]  # index -> [H, W] uint8, of the original picture
    channels = 4

    def take(self, indices: np.ndarray) -> "ClassMaps":
        return dataclasses.replace(super().take(indices), class_map=lambda i: self.class_map(int(indices[i])))

    def network(self, index: int) -> tuple[np.ndarray, Frame]:
        """`[S, S, 4]` uint8: the picture and, as fourth channel, its classes; and its frame."""
        picture, frame = super().network(index)
        classes = frame.resample_classes(self.class_map(index), OUTSIDE)
        return np.concatenate([picture, classes[..., None]], axis=-1), frame

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """`picture` [B, S, S, 3] uint8, `classes` [B, S, S] uint8 (`OUTSIDE` where the picture is not), and the
        rest as `Dataset.batch`, without landmarks."""
        batch = {key: value for key, value in super().batch(indices).items() if key not in ("xy", "mask")}
        both = batch["picture"]
        return batch | {
            "picture": np.ascontiguousarray(both[..., :3]),
            "classes": np.ascontiguousarray(both[..., 3]),
        }


def load(config: ConfigDict, cache: pathlib.Path) -> Source:
    """Reads, checks and splits the segmentation folders of `config.root`, or draws pictures.

    The split is made domain by domain: one without val has it drawn from its own train, and `share` and `budget` are of
    each domain's training pictures.

    Args:
      config: `data` of configs/default.py.
      cache: folder for prepared pictures, unless the environment has TFDS_DATA_DIR.

    Returns:
      All pictures of the domains chosen; a digest is of picture and class map.

    Raises:
      UserError: whatever is wrong with the data, before any training.
    """
    read = _drawn(config) if config.root == "synthetic" else _folders(config, cache)
    everything, given, sha256, looks, grey = read
    chosen = tuple(config.domains) or everything.domains
    for key, names, known in (("domains", chosen, everything.domains), ("helping", config.helping, chosen)):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UserError(f"data.{key} names {unknown[0]!r}; there are {', '.join(known)}")
    if set(chosen) <= set(config.helping):
        raise UserError("data.helping names all the domains that are used; expected one or more that are judged")
    if not config.helped:
        chosen = tuple(name for name in chosen if name not in config.helping)
    if config.split:
        given = splits.of_images(folder.read_split(pathlib.Path(config.split)), everything.images)
    place = [everything.domains.index(name) for name in chosen]
    rows = [np.flatnonzero(everything.domain == number) for number in place]
    split_of = [split for of_domain in rows for split in _assign(everything, given, of_domain, config)]
    rows = np.concatenate(rows)
    domain = np.array([place.index(number) for number in everything.domain[rows]], np.int32)
    classes = {name: everything.classes[name] for name in chosen}
    part = dataclasses.replace(everything.take(rows), classes=classes, domains=chosen, domain=domain)
    helping = tuple(name for name in config.helping if name in chosen)
    sha256 = tuple(sha256[i] for i in rows)
    looks = None if looks is None else looks[rows]
    grey = {name: grey[name] for name in chosen if name in grey}
    return Source(part, split_of, sha256, helping=helping, looks=looks, grey=grey)


def _assign(everything: ClassMaps, given: Sequence[str], rows: np.ndarray, config: ConfigDict):
    """The split of the pictures of one domain."""
    if everything.domains[everything.domain[rows[0]]] in config.helping:
        return ["train"] * len(rows)
    try:
        return splits.assign(
            [everything.images[i] for i in rows],
            [everything.subjects[i] for i in rows],
            given=[given[i] for i in rows],
            seed=config.seed,
            budget=config.budget,
            share=config.share,
            budget_seed=config.budget_seed,
            train_split=config.train_split,
        )
    except UserError as error:
        raise UserError(f"domain {everything.domains[everything.domain[rows[0]]]!r}: {error}") from error


def _folders(
    config: ConfigDict, cache: pathlib.Path
) -> tuple[ClassMaps, list[str], tuple[str, ...], np.ndarray, Ranges]:
    from ctd_jax.data import builder

    roots = [pathlib.Path(root.strip()) for root in config.root.split(",")]
    tables = [segmentation.read(root) for root in roots]
    classes: dict[str, tuple[str, ...]] = {}
    for root, table in zip(roots, tables, strict=True):
        clash = [domain for domain in table.classes if domain in classes]
        if clash:
            raise UserError(
                f"{root}: domain {clash[0]!r} is also one of another folder of data.root; rename one of them"
            )
        classes |= table.classes
    cache = pathlib.Path(os.environ.get("TFDS_DATA_DIR", cache))
    prepared = [builder.pictures(root, table, cache) for root, table in zip(roots, tables, strict=True)]
    encoded = [source for source, _ in prepared]
    for table, (_, looks) in zip(tables, prepared, strict=True):
        label_checks.check_spacings(table.title, table.where, table.spacing, table.domains, looks)
    grey: Ranges = {}
    for root, table, content in zip(roots, tables, encoded, strict=True):
        grey |= survey.prepared(content, table.names, table.domains, folder=content.place, root=root)
    places = [(i, row) for i, table in enumerate(tables) for row in range(len(table.images))]
    images = [name for table in tables for name in table.names]

    def original(index: int) -> np.ndarray:
        i, row = places[index]
        return pictures.decode(encoded[i][row]["picture"], images[index], grey[tables[i].domains[row]])

    def class_map(index: int) -> np.ndarray:
        i, row = places[index]
        return pictures.decode_classes(encoded[i][row]["mask"], images[index])

    everything = _class_maps(
        config,
        classes,
        images=images,
        subjects=[subject for table in tables for subject in table.subjects],
        domain=np.array([list(classes).index(domain) for table in tables for domain in table.domains]),
        spacing=np.concatenate([table.spacing for table in tables]),
        original=original,
        class_map=class_map,
    )
    given = [split for table in tables for split in table.splits or ("",) * len(table.images)]
    sha256 = tuple(digest for table in tables for digest in table.sha256)
    return everything, given, sha256, np.concatenate([looks for _, looks in prepared]), grey


def _drawn(config: ConfigDict) -> tuple[ClassMaps, list[str], tuple[str, ...], None, Ranges]:
    people = np.repeat(("train", "val", "test"), config.synthetic.identities)
    shots = np.repeat(config.synthetic.shots, config.synthetic.identities)
    places = [
        (domain, subject, shot)
        for domain in drawn_anatomies.CLASSES
        for subject, n in enumerate(shots)
        for shot in range(n)
    ]
    drawn = [drawn_anatomies.draw(*place, size=config.image_size, seed=config.seed) for place in places]
    everything = _class_maps(
        config,
        drawn_anatomies.CLASSES,
        images=[f"{domain}/{subject:05d}_{shot}" for domain, subject, shot in places],
        subjects=[f"{domain}/{subject:05d}" for domain, subject, _ in places],
        domain=np.array([list(drawn_anatomies.CLASSES).index(domain) for domain, _, _ in places]),
        spacing=np.full((len(places), 2), np.nan),
        original=lambda i: drawn[i][0],
        class_map=lambda i: drawn[i][1],
    )
    sha256 = tuple(hashlib.sha256(picture.tobytes() + classes.tobytes()).hexdigest() for picture, classes in drawn)
    return everything, [str(people[subject]) for _, subject, _ in places], sha256, None, {}


def _class_maps(
    config: ConfigDict,
    classes: Classes,
    *,
    images: Sequence[str],
    subjects: Sequence[str],
    domain: np.ndarray,
    spacing: np.ndarray,
    original: Callable[[int], np.ndarray],
    class_map: Callable[[int], np.ndarray],
) -> ClassMaps:
    """`ClassMaps` of pictures, with the frame that `config` has."""
    n = len(images)
    return ClassMaps(
        landmarks=Landmarks(()),
        images=tuple(images),
        subjects=tuple(subjects),
        xy=np.empty((n, 0, 2)),
        spacing=spacing,
        boxes=np.full((n, 4), np.nan),
        original=original,
        size=config.image_size,
        margin=config.margin,
        cache_mib=config.cache_mib,
        classes=classes,
        domains=tuple(classes),
        domain=domain.astype(np.int32),
        class_map=class_map,
    )
