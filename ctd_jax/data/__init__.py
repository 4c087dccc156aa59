"""Door of the data room: `load(config.data, cache)` gives a `Source`, and that the `Dataset` of each split."""

import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from ctd_jax.data import (
    class_maps,
    coverage,
    folder,
    label_checks,
    picture_files,
    pictures,
    splits,
    survey,
    synthetic,
    twins,
)
from ctd_jax.data.augment import augment, augment_classes
from ctd_jax.data.class_maps import ClassMaps
from ctd_jax.data.dataset import Dataset
from ctd_jax.data.faults import Faults
from ctd_jax.data.folder import Landmarks
from ctd_jax.data.geometry import Frame
from ctd_jax.data.lists import from_lists
from ctd_jax.data.source import Source, join, with_twins
from ctd_jax.errors import UserError
from ctd_jax.metrics import measurements

__all__ = [
    "ClassMaps",
    "Dataset",
    "Frame",
    "Landmarks",
    "Source",
    "augment",
    "augment_classes",
    "class_maps",
    "from_lists",
    "is_drawn",
    "load",
    "pictures",
    "splits",
    "survey",
    "twins",
]

MISSING = (
    "no data: give a folder with landmarks.csv, dataset.json and pictures, --config.data.root=DIR (docs/data.md says "
    "how to make one), or the drawn faces of the demo, --config.data.root=synthetic"
)


DOMAIN = re.compile(r"\w[\w .+-]{0,59}")
TAKEN = ("checkpoints", "tfds", "config.json", "split.csv", "log.csv", "metrics.json", "report.html")  # of the workdir


def load(config: ConfigDict, cache: pathlib.Path, *, masks: bool = False, people: bool = False) -> Source:
    """Reads, checks and splits the data of `config` (the `data` part of a configuration), and warns of near-identical
    pictures.

    Args:
      config: `data` of configs/default.py.
      cache: folder for prepared pictures, unless the environment has TFDS_DATA_DIR.
      masks: pictures with class maps, of folders with segmentation.csv, instead of pictures with landmarks.
      people: who is on a picture is learned, so that one without landmarks is as good as any.

    Raises:
      UserError: whatever is wrong with the data, before any training.
    """
    if not config.root:
        raise UserError(MISSING)
    url = next(filter(picture_files.is_url, map(str.strip, config.root.split(","))), None)
    if url:
        raise UserError(f"data.root is {url}, a URL; download it first, and give the folder")
    if config.share < 1 and config.budget:
        raise UserError(f"data.share is {config.share} and data.budget {config.budget}; give one of them")
    if masks:
        return with_twins(class_maps.load(config, cache))
    given = folder.read_split(pathlib.Path(config.split)) if config.split else None
    roots = _roots(config)
    if len(roots) == 1:
        return with_twins(_one(*roots.values(), config, cache, given, people=people))
    return with_twins(_several(roots, config, cache, given, people=people))


def _several(
    roots: Mapping[str, str], config: ConfigDict, cache: pathlib.Path, given: Mapping[str, str] | None, *, people: bool
) -> Source:
    """The pictures of several domains."""
    given = given and {image if "/" in image else image.replace("\\", "/"): split for image, split in given.items()}
    foreign = [image for image in given or () if image.split("/")[0] not in _named(config)]
    if foreign:
        raise UserError(f"{config.split} names {foreign[0]}; expected <domain>/<image>, of {', '.join(_named(config))}")
    parts, faults = {}, Faults("data.root")
    for name, root in roots.items():
        own = given and {
            image.removeprefix(f"{name}/"): s for image, s in given.items() if image.startswith(f"{name}/")
        }
        try:
            parts[name] = _one(root, config, cache, own, helps=name in config.helping, people=people)
        except UserError as error:
            faults.add(f"domain {name}", f"domain {name}: {error}")
            continue
        found = parts[name].split_of.count("train")
        if found < 2:
            faults.add(
                f"domain {name}",
                f"domain {name} has {found} training picture{'s' * (found != 1)} of {len(parts[name].split_of)}; a "
                "domain needs 2 or more, for the statistics of its batch norm: add pictures, or leave it out, "
                f"--config.data.domains={tuple(other for other in roots if other != name)}",
            )
    faults.raise_if_any()
    return join(parts, tuple(name for name in config.helping if name in parts))


def _named(config: ConfigDict) -> dict[str, str]:
    """Domain -> folder, or kind of drawing, of all that `config.root` lists."""
    listed = [config.root] if os.path.isdir(config.root) else config.root.split(",")
    roots: dict[str, str] = {}
    for root in filter(None, map(str.strip, listed)):
        name = root if root in synthetic.KINDS else os.path.basename(os.path.abspath(root))
        if len(listed) > 1 and (not DOMAIN.fullmatch(name) or name in TAKEN):
            raise UserError(
                f"data.root: {root} can't be a domain: its results would lie in a folder named {name!r}; expected at "
                f"most 60 letters, digits, blanks, _ - + and ., and not {' or '.join(TAKEN)}: rename it, or make a link"
            )
        if name in roots:
            raise UserError(
                f"data.root names two domains {name}: {roots[name]} and {root}; a domain is named by its folder, so "
                "rename one of them, or make a link of another name"
            )
        roots[name] = root
    return roots


def _roots(config: ConfigDict) -> dict[str, str]:
    """Those of them that are used."""
    roots = _named(config)
    for key in ("domains", "helping"):
        unknown = [name for name in config[key] if name not in roots]
        if unknown:
            raise UserError(f"data.{key} names {unknown[0]!r}; the domains of data.root are {', '.join(roots)}")
    chosen = {name: root for name, root in roots.items() if name in (config.domains or roots)}
    if set(chosen) <= set(config.helping):
        raise UserError("data.helping names all the domains that are used; expected one or more that are judged")
    return chosen if config.helped else {name: root for name, root in chosen.items() if name not in config.helping}


def is_drawn(config: ConfigDict) -> bool:
    """Whether all the pictures are drawn ones."""
    return all(root.strip() in synthetic.KINDS for root in config.root.split(","))


def _one(
    root: str,
    config: ConfigDict,
    cache: pathlib.Path,
    given: Mapping[str, str] | None,
    *,
    helps: bool = False,
    people: bool = False,
) -> Source:
    """The pictures of one folder, or drawn ones. `helps`: all of them are trained on; `people`: also those without
    landmarks."""

    def assign(
        images: Sequence[str],
        subjects: Sequence[str],
        column: Sequence[str] | None,
        annotated: Sequence[bool] | None = None,
    ) -> list[str]:
        annotated = None if people else annotated
        if helps:
            return splits.all_train(len(images), annotated)
        return splits.assign(
            images,
            subjects,
            given=column if given is None else given,
            seed=config.seed,
            budget=config.budget,
            share=config.share,
            budget_seed=config.budget_seed,
            train_split=config.train_split,
            annotated=annotated,
        )

    if root in synthetic.KINDS:
        return _drawn(synthetic.KINDS[root], config, assign)
    source = _folder(pathlib.Path(root), config, cache, assign)
    if not people:
        coverage.warn(root, source.landmarks, source.everything.xy, source.split_of)
    return source


def _folder(root: pathlib.Path, config: ConfigDict, cache: pathlib.Path, assign: Callable[..., list[str]]) -> Source:
    table = folder.read(root)
    annotated = coverage.annotated(table.xy)
    split_of = assign(table.images, table.subjects, table.splits, annotated)
    from ctd_jax.data import builder

    encoded, looks = builder.pictures(root, table, pathlib.Path(os.environ.get("TFDS_DATA_DIR", cache)))
    label_checks.check(table, split_of, looks)
    grey = survey.prepared(encoded, table.images, [""] * len(table.images), folder=encoded.place, root=root)
    everything = Dataset(
        landmarks=table.landmarks,
        images=table.images,
        subjects=table.subjects,
        xy=table.xy,
        spacing=table.spacing,
        boxes=table.boxes,
        original=lambda i: pictures.decode(encoded[i]["picture"], table.images[i], grey.get("")),
        size=config.image_size,
        margin=config.margin,
        cache_mib=config.cache_mib,
    )
    return Source(everything, split_of, table.sha256, looks=looks, grey=grey)


def _drawn(kind: synthetic.Kind, config: ConfigDict, assign: Callable[..., list[str]]) -> Source:
    people = np.repeat(("train", "val", "test"), config.synthetic.identities)
    shots = np.repeat(config.synthetic.shots, config.synthetic.identities)
    faces = kind.draw(range(len(people)), shots, size=config.image_size, seed=config.seed)
    subjects, n = tuple(faces["subjects"]), len(faces["subjects"])
    images = tuple(f"{subject}_{i}" for i, subject in enumerate(subjects))
    sha256 = tuple(hashlib.sha256(picture.tobytes()).hexdigest() for picture in faces["pictures"])
    split_of = assign(images, subjects, np.repeat(people, shots).tolist())
    everything = Dataset(
        landmarks=Landmarks(
            kind.landmarks,
            kind.flip_pairs,
            kind.normalizer,
            measurements=measurements.parse(kind.measurements, kind.landmarks, "the drawn faces"),
        ),
        images=images,
        subjects=subjects,
        xy=faces["xy"].astype(np.float64),
        spacing=np.full((n, 2), np.nan),
        boxes=np.full((n, 4), np.nan),
        original=lambda i: faces["pictures"][i],
        size=config.image_size,
        margin=config.margin,
        cache_mib=config.cache_mib,
    )
    return Source(everything, split_of, sha256)
