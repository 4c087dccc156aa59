"""What the edits of a journal add up to. `page/journal.js` does the same in the page.

An entry has an `id`, a `kind`, the time `at`, and

    open            landmarks, a list of names: which points a rater began with; blinded, whether what others say was
                    hidden, and repeat, the share of pictures that come again (see `blinding`); another one where these
                    have changed
    edit            image; points, name -> point (null: back to what was proposed); done, true, false or null (unsaid);
                    seconds since the picture came up, or since the edit before
    undo, redo      nothing else: the last edit that is not yet undone, of whatever picture
    order           run, images, random, sign: the list of a run, and which of its pictures were drawn; see `sorting`

A point has x and y in pixels of the picture (null where it is absent), a state of `labels.table.STATES`, and `how` it
came there: by hand, accepted (a proposal that was found right) or fitted (moved along with others, not yet accepted);
and `moved`, how far from what was proposed, in pixels, where anything was. Older journals lack blinded,
repeat, seconds and moved.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ctd_jax.errors import UserError
from ctd_jax.labels.table import ABSENT, STATES

KINDS = ("open", "edit", "undo", "redo", "order")
HOW = ("hand", "accepted", "fitted")
LONGEST_ID = 64
FURTHEST = 1e6  # pixels from the picture's first
Point = Mapping[str, Any]


class Review:
    """The points and the pictures that are done, after all entries.

    Attributes:
      points: image -> name -> point; None where the rater has gone back to what was proposed.
      done: image -> whether the rater says that its points are right.
      opened: image -> the `open` that held when the rater last said so.
    """

    def __init__(self, entries: Iterable[Mapping[str, Any]] = ()):
        self.points: dict[str, dict[str, Point | None]] = {}
        self.done: dict[str, bool | None] = {}
        self.opened: dict[str, Mapping[str, Any]] = {}
        self._open: Mapping[str, Any] = {}
        self._to_undo: list[Mapping[str, Any]] = []  # edits that lead back
        self._to_redo: list[Mapping[str, Any]] = []
        for entry in entries:
            self.apply(entry)

    def apply(self, entry: Mapping[str, Any]) -> None:
        if entry["kind"] == "open":
            self._open = entry
        elif entry["kind"] == "edit":
            self._to_undo.append(self._set(entry))
            self._to_redo.clear()
            if entry.get("done"):
                self.opened[entry["image"]] = self._open
        elif entry["kind"] == "undo" and self._to_undo:
            self._to_redo.append(self._set(self._to_undo.pop()))
        elif entry["kind"] == "redo" and self._to_redo:
            self._to_undo.append(self._set(self._to_redo.pop()))

    def _set(self, edit: Mapping[str, Any]) -> Mapping[str, Any]:
        """Makes an edit; returns the one that leads back."""
        image = edit["image"]
        points = self.points.setdefault(image, {})
        back: dict[str, Any] = {"image": image, "points": {name: points.get(name) for name in edit.get("points", {})}}
        points.update(edit.get("points", {}))
        if "done" in edit:
            back["done"] = self.done.get(image)
            self.done[image] = edit["done"]
        return back


def of_page(entry: Any) -> dict[str, Any]:
    """What of an edit, undo or redo has a meaning. A picture or landmark may be gone from the folder since the page was
    opened: what was said of it is kept, as all of a journal is.

    Raises:
      UserError: the rest of it; nothing that a page of ours would send.
    """
    found = readable(entry)
    if found["kind"] in ("open", "order"):
        raise UserError("a page sends edits, undo and redo alone")
    return found


def readable(entry: Any) -> dict[str, Any]:
    """What of an entry has a meaning, of whatever picture and landmark.

    Raises:
      UserError: what it lacks.
    """
    kind, id_ = (entry.get(key) if isinstance(entry, dict) else None for key in ("kind", "id"))
    if kind not in KINDS or not isinstance(id_, str) or not 0 < len(id_) <= LONGEST_ID:
        raise UserError(f"expected a kind ({', '.join(KINDS)}) and an id, found {_shown(entry)}")
    if kind == "open":
        names = entry.get("landmarks")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"expected landmarks, a list of names, found {_shown(names)}")
        if not isinstance(entry.get("blinded", False), bool):
            raise UserError(f"blinded is true or false, found {_shown(entry['blinded'])}")
        if _amount(entry.get("repeat", 0.0), "repeat") > 1:
            raise UserError(f"repeat is a share, found {_shown(entry['repeat'])}")
        return {"id": id_, "kind": kind, "landmarks": names}
    if kind == "order":
        return {"id": id_, "kind": kind, **_order(entry)}
    if kind != "edit":
        return {"id": id_, "kind": kind}
    image, points = entry.get("image"), entry.get("points", {})
    if not isinstance(image, str) or not isinstance(points, dict):
        raise UserError(f"expected an image and points by their names, found {_shown(entry)}")
    places = {name: None if point is None else _point(point, name) for name, point in points.items()}
    found = {"id": id_, "kind": kind, "image": image, "points": places}
    if "seconds" in entry:
        found["seconds"] = _amount(entry["seconds"], "seconds")
    if "done" in entry:
        if not isinstance(entry["done"], bool | None):
            raise UserError(f"done is true, false or null, found {_shown(entry['done'])}")
        found["done"] = entry["done"]
    return found


def _order(entry: Mapping[str, Any]) -> dict[str, Any]:
    words = {key: entry.get(key) for key in ("run", "sign")}
    lists = {key: entry.get(key) for key in ("images", "random")}
    if not all(isinstance(word, str) for word in words.values()) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists.values()
    ):
        raise UserError(f"expected run, sign, images and random, found {_shown(entry)}")
    return words | lists


def _point(point: Any, name: str) -> dict[str, Any]:
    known = isinstance(point, dict) and point.get("state") in STATES and point.get("how") in HOW
    if known and point["state"] == ABSENT:
        return {"x": None, "y": None, "state": ABSENT, "how": point["how"]}
    if not known or not all(_is_coordinate(point.get(axis)) for axis in "xy"):
        raise UserError(f"{name} is no point with x, y, a state and how it came there: {_shown(point)}")
    found = {"x": float(point["x"]), "y": float(point["y"]), "state": point["state"], "how": point["how"]}
    return found | ({"moved": _amount(point["moved"], "moved")} if "moved" in point else {})


def _amount(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise UserError(f"{name} is a number of 0 or more, found {_shown(value)}")
    return float(value)


def _is_coordinate(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and abs(value) <= FURTHEST


def _shown(value: Any) -> str:
    return repr(value)[:120]
