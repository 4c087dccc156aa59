"""Training pictures without labels: rows without points, rows whose points are not to be used, pictures of a folder."""

import collections
import dataclasses
import hashlib
import itertools
import logging
import os
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import numpy as np
from ml_collections import ConfigDict

from ctd_jax.data import splits, tables, twins
from ctd_jax.data.dataset import Dataset
from ctd_jax.data.faults import Faults
from ctd_jax.data.given import Given, shown
from ctd_jax.data.pictures import decode
from ctd_jax.data.points import Points
from ctd_jax.data.prefetch import map_in_threads, progress
from ctd_jax.data.split_pictures import SplitPictures
from ctd_jax.data.targets import Targets
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)
T = TypeVar("T", bound=Targets)


def add(pictures: SplitPictures[T], config: ConfigDict) -> SplitPictures[T]:
    """`pictures` with the pictures that `config.unlabelled` (of the `data` part of a configuration) has trained on
    without labels, which are said: those whose split is `unlabelled`, and those of a folder, called
    `unlabelled/<file>`.

    Left out, with the split `unused`, are pictures of a subject of val or test, near-identical ones, and where the
    training pictures are cut out at boxes those without. A picture of a folder is of the subject of a row with the same
    file, else of a person of its own.

    Raises:
      UserError: the targets are not landmarks, several domains and a folder, a picture that can't be read, or no
        picture is left.
    """
    wanted = config.unlabelled
    if not wanted:
        return pictures
    if not isinstance(pictures.targets, Points):
        raise UserError(
            f"data.unlabelled is {wanted!r}, but pictures without labels are for the task landmarks; leave it empty"
        )
    if wanted not in (splits.ROWS, splits.REST):
        pictures = _with_folder(pictures, wanted)
    split_of, why_not = list(pictures.split_of), _left_out(pictures)
    for i in why_not:
        split_of[i] = splits.UNUSED
    used = tuple(i for i, split in enumerate(split_of) if split == splits.UNLABELLED)
    left = _text(why_not, pictures.everything.images)
    if not used:
        raise UserError(
            f"data.unlabelled is {wanted}, but there is no picture to train on without labels, and {left}; "
            "expected rows of train without points (rows), training pictures that data.budget leaves out (rest), or a "
            "folder of pictures"
        )
    _log.warning(
        "%d pictures are trained on without labels, beside %d with labels; %s",
        len(used), split_of.count("train"), left,
    )  # fmt: skip
    everything = dataclasses.replace(pictures.everything, targets=cast(Any, pictures.targets).hidden(used))
    each = iter(split_of)
    parts = {
        name: dataclasses.replace(part, split_of=list(itertools.islice(each, len(part.split_of))))
        for name, part in pictures.parts.items()
    }
    return dataclasses.replace(pictures, everything=everything, split_of=split_of, parts=parts, unlabelled=used)


def _left_out(pictures: SplitPictures[Any]) -> dict[int, str]:
    """Index of a picture that is unlabelled, but may not be trained on -> why."""
    every, thumbnails = pictures.everything, None if pictures.looks is None else pictures.looks["thumbnail"]
    rows = np.flatnonzero(np.array(pictures.split_of) == splits.UNLABELLED)
    parts = splits.parts(pictures.split_of)
    judged = np.concatenate([indices for name, indices in parts.items() if name != "train"])
    people = {splits.plainest(every.subjects[i]) for i in judged}
    boxed = np.isfinite(every.boxes[parts["train"]]).all()
    why = {int(i): "without a box" for i in rows if boxed and np.isnan(every.boxes[i]).any()}
    why |= {
        int(i): "near-identical to one of val or test" for i in twins.near(rows, judged, pictures.sha256, thumbnails)
    }
    return why | {int(i): "of a subject of val or test" for i in rows if splits.plainest(every.subjects[i]) in people}


def _text(why_not: dict[int, str], images: Sequence[str]) -> str:
    """How many are left out, and why."""
    first = {why: images[i] for i, why in reversed(why_not.items())}
    counts = collections.Counter(why_not.values())
    kinds = [f"{number} {why} (first {first[why]})" for why, number in counts.items()]
    return f"{len(why_not)} are left out: {tables.listed(kinds)}" if kinds else "none is left out"


def _with_folder(pictures: SplitPictures[Any], folder: str) -> SplitPictures[Any]:
    """`pictures` and the pictures of a folder, which are unlabelled."""
    if pictures.parts:
        raise UserError(
            f"data.unlabelled is {folder}, but there are several domains, and a folder does not say of which its "
            "pictures are; add them to landmarks.csv of a domain, as rows without points, and set it to rows"
        )
    if not os.path.isdir(folder):
        raise UserError(f"data.unlabelled is {folder}; expected rows, rest, or a folder of pictures")
    every, given = pictures.everything, Given.of([folder], boxes=None, grey=pictures.grey.get("", {}))
    faults, number = Faults(f"data.unlabelled, {folder}"), len(every)
    for file, reason in given.faults.items():
        faults.add("unreadable picture", f"{shown(file)}: {reason}")
    sha256, looks = [""] * len(given.files), np.zeros(len(given.files), twins.LOOK)

    def look(i: int) -> UserError | None:
        try:
            content = given.files[i].read_bytes()
            looks[i] = twins.look(decode(content, shown(given.files[i]), given.grey))
            sha256[i] = hashlib.sha256(content).hexdigest()
        except UserError as error:
            return error
        except OSError as error:
            return UserError(f"{shown(given.files[i])}: it can't be read ({error.strerror})")
        return None

    found = map_in_threads(look, range(len(given.files)))
    for error in progress(found, "reading pictures without labels", len(given.files)):
        faults.take("unreadable picture", error)
    faults.raise_if_any()

    def original(index: int) -> np.ndarray:
        if index < number:
            return every.original(index)
        file = given.files[index - number]
        return decode(file.read_bytes(), shown(file), given.grey)

    names = tuple(f"unlabelled/{file.relative_to(folder).as_posix()}" for file in given.files)
    known = dict(zip(pictures.sha256, every.subjects, strict=True))
    everything: Dataset[Any] = dataclasses.replace(
        every,
        images=every.images + names,
        subjects=every.subjects + tuple(known.get(one, name) for one, name in zip(sha256, names, strict=True)),
        spacing=np.concatenate([every.spacing, np.full((len(names), 2), np.nan)]),
        boxes=np.concatenate([every.boxes, np.full((len(names), 4), np.nan)]),
        original=original,
        targets=every.targets.with_unknown(len(names)),
    )
    return dataclasses.replace(
        pictures,
        everything=everything,
        split_of=[*pictures.split_of, *[splits.UNLABELLED for _ in names]],
        sha256=(*pictures.sha256, *sha256),
        looks=None if pictures.looks is None else np.concatenate([pictures.looks, looks]),
    )
