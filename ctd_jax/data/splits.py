"""Who is trained on, who chooses, who is tested on: one split name per picture."""

import collections
import csv
import io
import logging
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from ctd_jax import files
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)
COLUMNS = ("image", "subject", "split", "sha256")


def assign(
    images: Sequence[str],
    subjects: Sequence[str],
    sha256: Sequence[str],
    *,
    given: Sequence[str] | Mapping[str, str] | None,
    seed: int,
    budget: int,
    share: float = 1.0,
    budget_seed: int = 0,
    train_split: str = "train",
) -> list[str]:
    """One of train, val, test, test1, ... for each picture; any other name, or none, takes no part.

    Args:
      images, subjects, sha256: of each picture.
      given: the split column, or a split file's image -> split; None: a fifth of the subjects for test. Without val, a
        fifth of the subjects of train.
      train_split: the name in `given` of what is trained on; where it is another, `train` takes no part.
      seed: of test and val, where they are drawn. Whole subjects are drawn, so that nobody is on two sides.
      budget: labelled pictures to keep in train, of as many subjects as possible; 0: all.
      share: of the training pictures to keep, rounded, at least one, instead of a number; 1: all.
      budget_seed: of their choice; with the same one, a smaller budget is a subset of a larger.

    Raises:
      UserError: no training pictures, fewer than the budget, or a split file that names unknown pictures, a
        `train_split` that no row has.
    """
    if isinstance(given, Mapping):
        known = set(images)
        unknown = [image for image in given if image not in known]
        if unknown:
            raise UserError(
                f"the split file names {len(unknown)} pictures that the data don't have, first {unknown[0]}"
            )
        splits = [given.get(image, "unused") for image in images]
    elif given is not None and any(given):
        splits = [split or "unused" for split in given]
        if "" in given:
            _log.warning("%d rows have an empty split: they take no part", list(given).count(""))
    else:
        splits = ["train"] * len(images)
        _move(splits, subjects, "test", np.random.default_rng([seed, 1]))
    if train_split != "train":
        if train_split not in splits:
            found = ", ".join(sorted(set(splits) - {"unused"}))
            raise UserError(f"data.train_split is {train_split!r}, which no row has as its split; there are {found}")
        splits = [{"train": "unused", train_split: "train"}.get(split, split) for split in splits]
    for name in sorted({s for s in splits if not (s in ("train", "val", "unused") or s.startswith("test"))}):
        _log.warning("split %r takes no part: %d pictures", name, splits.count(name))
    if "train" not in splits:
        found = ", ".join(sorted(set(splits))) or "no pictures"
        raise UserError(f"no training pictures: expected rows whose split is `train`, found {found}")
    if "val" not in splits:
        _move(splits, subjects, "val", np.random.default_rng([seed, 2]))
    train = [i for i, split in enumerate(splits) if split == "train"]
    if budget > len(train):
        raise UserError(
            f"data.budget asks for {budget} training pictures, but there are {len(train)}; 0 takes them all"
        )
    if share < 1:
        budget = max(1, round(share * len(train)))
    if budget:
        for i in _in_turn(np.random.default_rng([budget_seed, 3]).permutation(train), subjects)[budget:]:
            splits[i] = "unused"
    _warn_of_leaks(images, subjects, sha256, splits)
    return splits


def parts(splits: Sequence[str]) -> dict[str, np.ndarray]:
    """Split name -> indices of its pictures, for train, val and every test split."""
    names = ["train", "val", *sorted({s for s in splits if s.startswith("test")})]
    return {name: np.flatnonzero(np.array(splits) == name) for name in names}


def text(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """What split.csv holds."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([COLUMNS, *(map(files.cell, row) for row in rows)])
    return file.getvalue()


def read(path: pathlib.Path) -> list[tuple[str, ...]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [tuple(map(files.plain, row)) for row in csv.reader(file)][1:]


def _move(splits: list[str], subjects: Sequence[str], to: str, rng: np.random.Generator) -> None:
    """Moves a fifth of the subjects of train, at least one, but never the last."""
    people = sorted({subject for subject, split in zip(subjects, splits, strict=True) if split == "train"})
    if len(people) == 1:
        _log.warning("all training pictures are of one subject: none is left for %s", to)
        return
    chosen = set(rng.choice(people, max(1, len(people) // 5), replace=False).tolist())
    for i, subject in enumerate(subjects):
        if splits[i] == "train" and subject in chosen:
            splits[i] = to


def _in_turn(order: Sequence[int], subjects: Sequence[str]) -> list[int]:
    """`order`, with the first picture of every subject before anybody's second."""
    seen = collections.Counter()
    turn = []
    for i in order:
        turn.append(seen[subjects[i]])
        seen[subjects[i]] += 1
    return [order[n] for n in np.argsort(turn, kind="stable")]


def _warn_of_leaks(
    images: Sequence[str], subjects: Sequence[str], sha256: Sequence[str], splits: Sequence[str]
) -> None:
    side_of = ["test" if split.startswith("test") else split for split in splits]
    for what, values in (("subject is", subjects), ("picture (byte for byte) is", sha256)):
        sides: dict[str, dict[str, str]] = {}  # value -> side -> a picture there
        for image, value, side in zip(images, values, side_of, strict=True):
            if side in ("train", "val", "test"):
                sides.setdefault(value, {}).setdefault(side, image)
        shared = [seen for seen in sides.values() if len(seen) > 1]
        if shared:
            first = " and ".join(f"{image} ({side})" for side, image in shared[0].items())
            _log.warning("the same %s in more than one split, which flatters the result: %d, first %s",
                         what, len(shared), first)  # fmt: skip
