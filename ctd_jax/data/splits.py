"""Who is trained on, who chooses, who is tested on: one split name per picture."""

import collections
import csv
import logging
import pathlib
import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from ctd_jax import files
from ctd_jax.data import picture_files, tables
from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)
COLUMNS = ("image", "subject", "split", "sha256")
UNUSED, UNLABELLED = "unused", "unlabelled"  # left out; of train, but without an annotation that may be used
ROWS, REST = "rows", "rest"  # words of `data.unlabelled`
# Other programs' words, as `_small` has them.
WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "validation", "valid", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **{word: word for word in (UNUSED, UNLABELLED)},
}
LONGEST = 60  # characters of a split's name, which files are named after


def word(text: str) -> str:
    """The split that a cell means: `WORDS` with any capitals, also with `set` after them, and names that begin with
    test, in small letters; what is neither stays as it is."""
    small = _small(text)
    return WORDS.get(small, text.casefold() if small.startswith("test") else text)


def _small(text: str) -> str:
    """In small letters, with a blank between words, and without `set` after them."""
    return " ".join(text.casefold().replace("_", " ").replace("-", " ").split()).removesuffix("set").rstrip()


def is_known(text: str) -> bool:
    """Whether a cell means a split that is trained on, chosen by or tested on."""
    return word(text) in ("train", "val") or word(text).startswith("test")


def check_name(text: str, at: str) -> None:
    """Raises Fault for a test split after which no file can be named. `at`: file and row."""
    if word(text).startswith("test") and not re.fullmatch(rf"[\w .+-]{{1,{LONGEST}}}", text):
        raise Fault(
            "name of a split",
            f"{at}: split is {text[:LONGEST]!r}, and files are named after it; expected at most {LONGEST} letters, "
            "digits, blanks, _ - + and .",
        )


def assign(
    images: Sequence[str],
    subjects: Sequence[str],
    *,
    given: Sequence[str] | Mapping[str, str] | None,
    seed: int,
    budget: int,
    share: float = 1.0,
    budget_seed: int = 0,
    train_split: str = "train",
    annotated: Sequence[bool] | None = None,
    unlabelled: str = "",
) -> list[str]:
    """One of train, val, test, test1, ... for each picture; any other name, or none, takes no part.

    Args:
      images: names of the pictures.
      subjects: who or what each is of.
      given: the split column, or a split file's image -> split, in the words of `word`; None: a fifth of the subjects
        for test, as where all are empty. Without val, a fifth of the subjects of train.
      train_split: the name in `given` of what is trained on; where it is another, `train` takes no part.
      seed: of test and val, where they are chosen at random: whole subjects, so that nobody is on two sides.
      budget: labelled pictures to keep in train, of as many subjects as possible; 0: all.
      share: of the training pictures to keep, rounded, at least one, instead of a number; 1: all.
      budget_seed: of their choice; with the same one, a smaller budget is a subset of a larger.
      annotated: whether each picture has any annotation; one of train without is `unlabelled`, and neither trained on
        nor counted. None: all have.
      unlabelled: `data.unlabelled`; REST: training pictures that `budget` or `share` leave out are `unlabelled` too.

    Raises:
      UserError: no training pictures, fewer than the budget, or a split file that names unknown pictures, a
        `train_split` that no row has.
    """
    train_split = word(train_split)
    if isinstance(given, Mapping):
        given = of_images(given, images)
        splits = _words(given)
        if "" in given:
            first = images[given.index("")]
            _log.warning("the split file names no split of %d of %d pictures, first %s: they take no part",
                         given.count(""), len(images), first)  # fmt: skip
    elif given is not None and any(given):
        splits = _words(given)
        if "" in given:
            _log.warning("%d rows have an empty split: they take no part", list(given).count(""))
    else:
        if given:
            _log.warning("the split of all %d rows is empty: test and val are drawn", len(given))
        splits, given = ["train"] * len(images), None
        _leave_out(splits, annotated, unlabelled)
        _move(splits, subjects, "test", np.random.default_rng([seed, 1]))
    if train_split != "train":
        if train_split not in splits:
            found = ", ".join(sorted(set(splits) - {UNUSED}))
            raise UserError(f"data.train_split is {train_split!r}, which no row has as its split; there are {found}")
        splits = [{"train": UNUSED, train_split: "train"}.get(split, split) for split in splits]
    for name in sorted({s for s in splits if not (s in ("train", "val", UNUSED, UNLABELLED) or s.startswith("test"))}):
        near = tables.nearest(_small(name), list(WORDS), 0.7)
        hint = f"; is it `{WORDS[near]}`?" if near else ""
        _log.warning("split %r takes no part: %d pictures%s", name, splits.count(name), hint)
    if "train" not in splits:
        found = ", ".join(sorted(set(splits))) or "no pictures"
        raise UserError(f"no training pictures: expected rows whose split is `train`, found {found}")
    _leave_out(splits, annotated, unlabelled)
    if "train" not in splits:
        raise UserError("no training pictures: none of those whose split is `train` has an annotation")
    if "val" not in splits:
        _move(splits, subjects, "val", np.random.default_rng([seed, 2]))
        if given is not None:
            _warn_of_drawn(splits, subjects)
    train = [i for i, split in enumerate(splits) if split == "train"]
    if budget > len(train):
        which = " with annotations" if UNLABELLED in splits else ""
        raise UserError(
            f"data.budget asks for {budget} training pictures, but there are {len(train)}{which}; 0 takes them all"
        )
    if share < 1:
        budget = max(1, round(share * len(train)))
    if budget:
        for i in in_turn(np.random.default_rng([budget_seed, 3]).permutation(train), subjects)[budget:]:
            splits[i] = UNLABELLED if unlabelled == REST else UNUSED
    _warn_of_spellings(subjects)
    _warn_of_leaks(images, subjects, splits)
    return splits


def all_train(
    images: Sequence[str],
    *,
    given: Sequence[str] | None,
    annotated: Sequence[bool] | None,
    unlabelled: str = "",
) -> list[str]:
    """The splits of the pictures of a helping domain: all are trained on that have an annotation, of every split but
    `unused` and `unlabelled`. Arguments as of `assign`; `given`: what is listed with the pictures, not the split file
    of a run, which calls `unused` what was beyond its budget."""
    kept = {UNUSED, UNLABELLED}
    splits = [word(split) if word(split) in kept else "train" for split in given or [""] * len(images)]
    _leave_out(splits, annotated, unlabelled)
    return splits


def parts(splits: Sequence[str]) -> dict[str, np.ndarray]:
    """Split name -> indices of its pictures, for train, val and every test split."""
    names = ["train", "val", *sorted({s for s in splits if s.startswith("test")})]
    return {name: np.flatnonzero(np.array(splits) == name) for name in names}


def called(wanted: str, names: Sequence[str]) -> list[str]:
    """Those of the splits `names` that `wanted`, `eval.split`, means: "test" is every test split."""
    return [name for name in names if name == wanted or (wanted == "test" and name.startswith("test"))]


def check_not_empty(split_of: Sequence[str], wanted: str, title: str = "") -> None:
    """Raises UserError if nothing can be evaluated.

    Args:
      split_of: the split of each picture, as `assign` gives it.
      wanted: `eval.split`.
      title: what the message begins with.

    Raises:
      UserError: no picture is in `wanted`, or none in val.
    """
    found = parts(split_of)
    if not called(wanted, list(found)):
        raise UserError(
            f"{title}eval.split is {wanted}, but the splits are {', '.join(found)}; give some rows the split test, or "
            "set --config.eval.split=val. Without a column `split`, three subjects are needed to draw one"
        )
    for name, rows in found.items():
        if not len(rows):
            raise UserError(
                f"{title}no pictures in split {name}: there are too few subjects; three are needed to draw a split"
            )


def text(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """What split.csv holds."""
    return files.csv_text(COLUMNS, ([*map(files.cell, row)] for row in rows))


def read(path: pathlib.Path) -> list[tuple[str, ...]]:
    """The rows of a split.csv.

    Raises:
      UserError: it is not there, or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = [tuple(map(files.plain, row)) for row in csv.reader(file)]
        if header != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
            raise ValueError(f"expected the columns {', '.join(COLUMNS)} in each row")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; restore it, or start again in a new folder") from error
    except (ValueError, csv.Error) as error:  # not UTF-8 too
        raise UserError(f"{path} is damaged ({error}); restore it, or start again in a new folder") from error
    return rows


def of_images(given: Mapping[str, str], images: Sequence[str]) -> list[str]:
    """The split of each picture in a split file, "" where it says none; a name spelt otherwise is found if it fits
    exactly one.

    Raises:
      UserError: it gives a picture two splits, by two spellings of its name; or it names pictures that the data do not
        have, but for those whose split is `unlabelled` or `unused`: the split.csv of a run has those of a folder, which
        are added later.
    """
    known, found, unknown = picture_files.Known(images), dict[str, str](), []
    for name, split in given.items():
        image = known.find(name)
        if image is None:
            unknown += [name] * (word(split) not in (UNLABELLED, UNUSED))
        elif found.setdefault(image, split) != split:
            raise UserError(
                f"the split file gives {image} two splits, {found[image]} and, as {name}, {split}; keep one"
            )
    if unknown:
        raise UserError(f"the split file names {len(unknown)} pictures that the data do not have, first {unknown[0]}")
    return [found.get(image, "") for image in images]


def _words(given: Sequence[str]) -> list[str]:
    """`word` of each, and what was taken for what, said once."""
    taken = collections.Counter(text for text in given if text and word(text) != text)
    if taken:
        read = [f"{text!r} as {word(text)} ({number})" for text, number in sorted(taken.items())]
        _log.warning("words of the split are read: %s", tables.listed(read))
    return [word(text) if text else UNUSED for text in given]


def _leave_out(splits: list[str], annotated: Sequence[bool] | None, unlabelled: str) -> None:
    """Gives training pictures without annotations the split `unlabelled`, in place; `unlabelled`: `data.unlabelled`."""
    without = [i for i, s in enumerate(splits) if s == "train" and annotated is not None and not annotated[i]]
    for i in without:
        splits[i] = UNLABELLED
    if without and not unlabelled:
        _log.warning("%d pictures of train have no annotation and take no part", len(without))


def plainest(subject: str) -> str:
    """A subject's name without capitals and blanks, and with its umlauts put together in one way."""
    return "".join(unicodedata.normalize("NFC", subject).casefold().split())


def _warn_of_spellings(subjects: Sequence[str]) -> None:
    """Warns of people who may be one: their names differ only in capitals, blanks, or how an umlaut is put together."""
    same = collections.defaultdict(set)
    for subject in subjects:
        same[plainest(subject)].add(subject)
    several = [sorted(names) for names in same.values() if len(names) > 1]
    if several:
        first = " and ".join(map(repr, several[0]))
        _log.warning("subjects that differ only in capitals or blanks count as other people: %d, first %s; if they are "
                     "one, write them alike", len(several), first)  # fmt: skip


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


def _warn_of_drawn(splits: Sequence[str], subjects: Sequence[str]) -> None:
    """Warns of the pictures of val where what is given has none, so that they were drawn."""
    drawn = [subject for subject, split in zip(subjects, splits, strict=True) if split == "val"]
    if drawn:
        _log.warning("no picture has the split val: %d training pictures of %d people are taken for it; to choose them "
                     "yourself, give pictures the split val", len(drawn), len(set(drawn)))  # fmt: skip


def in_turn(order: Sequence[int] | np.ndarray, subjects: Sequence[str]) -> list[int]:
    """`order`, indices of pictures, with the first picture of every subject before anybody's second; else as it was.

    Args:
      order: n of N indices.
      subjects: of all N pictures.
    """
    seen: collections.Counter[str] = collections.Counter()
    turn = []
    for i in order:
        turn.append(seen[subjects[i]])
        seen[subjects[i]] += 1
    return [int(order[n]) for n in np.argsort(turn, kind="stable")]


def _warn_of_leaks(images: Sequence[str], subjects: Sequence[str], splits: Sequence[str]) -> None:
    sides: dict[str, dict[str, str]] = {}  # subject -> side -> a picture there
    for image, subject, split in zip(images, subjects, splits, strict=True):
        side = "test" if split.startswith("test") else split
        if side in ("train", "val", "test"):
            sides.setdefault(subject, {}).setdefault(side, image)
    shared = [seen for seen in sides.values() if len(seen) > 1]
    if shared:
        first = " and ".join(f"{image} ({side})" for side, image in shared[0].items())
        _log.warning("the same subject is in more than one split, which flatters the result: %d, first %s",
                     len(shared), first)  # fmt: skip
