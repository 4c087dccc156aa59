"""What a rater is shown: whether what others say of the points is hidden, and which pictures come twice.

A rater is blinded where others have placed points as raters before: in a journal of their own, or as raters of the
folder (a column `rater`, or files that dataset.json names). The points of landmarks.csv alone blind nobody: correcting
them is what the page is for. What held at the first edit is in the journal and holds on, unless a flag says otherwise.

A picture that comes again has a journal key of its own, `AGAIN` before its name, so that the first points are not seen
when it comes again; and names are hidden then, by words that say nothing, for a name that comes twice would tell.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ctd_jax.errors import UserError
from ctd_jax.review import journal
from ctd_jax.review.folder import Reviewed

AGAIN = journal.AGAIN
APART = 0.25  # of the list: so far after the first time a picture comes again, at least


def is_again(key: str) -> bool:
    return key.startswith(AGAIN)


def picture_of(key: str) -> str:
    """The picture of a journal's key, which may have come again."""
    return key.removeprefix(AGAIN)


@dataclasses.dataclass(frozen=True)
class Shown:
    """What the page shows of a folder.

    Attributes:
      keys: of the pictures, in the journal, in the order in which they come.
      titles: what the page calls each of them.
      blinded: neither labels, nor predictions, nor what other raters say.
      repeat: share of the pictures that come again.
    """

    keys: tuple[str, ...]
    titles: tuple[str, ...]
    blinded: bool
    repeat: float = 0.0

    def title(self, key: str) -> str:
        return _title(key) if self.repeat else key


def shown(reviewed: Reviewed, rater: str, *, blinded: bool, repeat: float) -> Shown:
    """What the page shows.

    Args:
      reviewed: the folder.
      rater: each has other pictures twice.
      blinded: see `Shown`.
      repeat: share of the pictures that come again, one at least unless it is 0.

    Raises:
      UserError: a picture's name begins with `AGAIN`.
    """
    images = reviewed.images
    if not repeat:
        return Shown(images, images, blinded)
    if strange := [image for image in images if is_again(image)]:
        raise UserError(
            f"--repeat: {strange[0]} begins with {AGAIN}, as repeated pictures do in the journal; rename it"
        )
    keys = _with_repeats(images, repeat, rater)
    return Shown(keys, tuple(map(_title, keys)), blinded, repeat)


def _title(key: str) -> str:
    return f"picture {_digest(key)[:8]}"


def _digest(*words: str) -> str:
    return hashlib.sha256("/".join(words).encode()).hexdigest()


def _with_repeats(images: Sequence[str], share: float, rater: str) -> tuple[str, ...]:
    """The pictures, and a share of them again, each `APART` of the list or more after the first time. Which, and where,
    depends on their names, so that a few new pictures change little."""
    last = len(images) - 1
    gap = max(1, round(APART * len(images)))
    early = sorted(range(max(last + 1 - gap, 1)), key=lambda i: _digest(rater, images[i]))
    again: dict[int, list[str]] = {}
    for i in early[: max(1, round(share * len(images)))]:
        room = max(last - i - gap, 0)
        place = min(i + gap + round(room * int(_digest(images[i], rater)[:8], 16) / 2**32), last)
        again.setdefault(place, []).append(AGAIN + images[i])
    return tuple(key for i, image in enumerate(images) for key in (image, *again.get(i, ())))


def others(root: pathlib.Path, rater: str, reviewed: Reviewed) -> list[str]:
    """Other raters who have placed points in a folder."""
    found = []
    for path in journal.paths(root):
        if path.stem != rater and any(entry["kind"] == "edit" for entry in journal.read(path)):
            found.append(path.stem)
    named = reviewed.table.landmarks.raters if reviewed.table else ()
    return list(dict.fromkeys([*found, *(one for one in named if one != rater)]))


def repeat_of(asked: float | None, entries: Iterable[Mapping[str, Any]]) -> float:
    """The share of pictures that come again: what a flag says (None: nothing), else what the journal does."""
    opened = [entry for entry in entries if entry["kind"] == "open"]
    if asked is not None:
        return asked
    return float(opened[-1].get("repeat", 0.0)) if opened else 0.0


def has_changed(opened: Sequence[Mapping[str, Any]], shown: Shown, names: Sequence[str]) -> bool:
    """Whether something else holds than the last of the journal's `open` says. `names`: of the landmarks."""
    if not opened:
        return True
    last = opened[-1]
    before = last.get("blinded", False), last.get("repeat", 0.0), tuple(last["landmarks"]), last.get("current", False)
    return before != (shown.blinded, shown.repeat, tuple(names), True)


def is_blinded(
    asked: bool | None, entries: Iterable[Mapping[str, Any]], others: Sequence[str], repeat: float | None
) -> bool:
    """Whether a rater is blinded.

    Args:
      asked: what a flag says; None: nothing.
      entries: of the rater's journal.
      others: who have placed points before.
      repeat: what a flag says of the share of the pictures that come again; who measures himself is blinded.
    """
    if asked is not None:
        return asked
    if repeat:
        return True
    entries = list(entries)
    opened = [entry for entry in entries if entry["kind"] == "open"]
    if opened:
        return bool(opened[-1].get("blinded"))  # a journal of an older version has no word of it: it was not
    return bool(others and not entries)


def said(is_blinded: bool, others: Sequence[str], *, proposes: bool) -> str:
    """A line that says which holds. `proposes`: a run or a table is given whose points could be shown."""
    hidden = ["the points of landmarks.csv", *(["predictions"] if proposes else [])]
    if others:
        hidden.append(f"what {' and '.join(others)} placed")
    what = ", ".join(hidden)
    if is_blinded:
        return f"blinded: {what} are not shown; --noblinded shows landmarks.csv and predictions"
    return f"not blinded: {hidden[0]}{' and predictions' if proposes else ''} are shown; --blinded hides them"
