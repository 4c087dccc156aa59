"""The list of the page: sorted in a thread of its own, while the page is used already, and kept in the journal."""

import hashlib
import logging
import pathlib
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ctd_jax.data import pictures
from ctd_jax.errors import UserError
from ctd_jax.review import candidates
from ctd_jax.review.candidates import Candidates
from ctd_jax.review.edits import Review
from ctd_jax.review.folder import Reviewed

if TYPE_CHECKING:
    from ctd_jax.review.listing import Listing

_log = logging.getLogger(__name__)
ERROR, RANDOM, FOLDER = "error", "random", "folder"  # what --order may be
LONGEST = 200  # pictures that are put in order; the others come after them as they are in the folder
SEED = 0  # as of `ctd-jax next`
WHY_RANDOM = "to choose by the error that is expected gained 1 % in our trials"  # docs/results.md


class Sorting:
    """What comes first.

    Args:
      reviewed: the folder.
      entries: of the journal, whose `order` of the same run counts again.
      how: `ERROR`, `RANDOM` or `FOLDER`.
      workdir: of the run; None: there is none, and `how` is not `ERROR`.
      domain: of the run that the pictures are of, if it has several.

    Attributes:
      images: in their order, once they are; until then none.
      random: those of them that were drawn.
    """

    def __init__(
        self, reviewed: Reviewed, entries: Iterable[Mapping[str, Any]], how: str, workdir: pathlib.Path | None,
        domain: str | None = None,
    ):  # fmt: skip
        self._reviewed, self._entries, self._how = reviewed, list(entries), how
        self._workdir, self._domain = workdir, domain
        self.images: tuple[str, ...] = ()
        self.random: frozenset[str] = frozenset()
        self._said = "As in the folder" if how == FOLDER else "Sorting…"
        self._entry: dict[str, Any] | None = None
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sorting", daemon=True)
        if how != FOLDER:
            self._run = _digest(how, workdir, domain)
            before = [one for one in self._entries if one["kind"] == "order" and one["run"] == self._run]
            if before:
                self._take(before[-1])

    @property
    def said(self) -> str:
        """What the order is, and why."""
        return self._said

    @property
    def is_ready(self) -> bool:
        """Whether nothing will change any more."""
        return self._how == FOLDER or not self._thread.is_alive()

    @property
    def estimates(self) -> bool:
        """Whether there are random pictures, and a run whose error they may tell."""
        return bool(self.random) and self._workdir is not None

    def new_entries(self) -> list[dict[str, Any]]:
        """What the journal is to keep with the first edit."""
        return [self._entry] if self._entry else []

    def start(self) -> None:
        if self._how != FOLDER and not self.images:
            self._thread.start()

    def stop(self) -> None:
        self._is_stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        try:
            found = self._made()
        except (UserError, OSError) as error:
            self._said = f"Not sorted: {error}"
        except Exception:
            self._said = "Not sorted: see what the command says"
            raise
        else:
            if found:
                self._take(
                    {
                        "id": f"order {self._run}", "kind": "order", "run": self._run, "sign": found.sign,
                        "images": list(found.images),
                        "random": [image for image, one in zip(found.images, found.is_random, strict=True) if one],
                    }
                )  # fmt: skip

    def _take(self, entry: Mapping[str, Any]) -> None:
        self._entry = dict(entry)
        self.random = frozenset(entry["random"])
        self._said = self._explained(entry)
        self.images = tuple(entry["images"])

    def _explained(self, entry: Mapping[str, Any]) -> str:
        if not entry["images"]:
            return "As in the folder: no picture of it is new to the run"
        drawn = f"{len(entry['random'])} of the first {len(entry['images'])}"
        if self._how == RANDOM:
            why = f": {WHY_RANDOM}; --order=error does it" if self._workdir else ""
            return f"In random order, first one picture of everybody{why}"
        wrong, unlike = "where the run is probably most wrong", "which are most unlike what it was trained on"
        first = wrong if entry["sign"] else unlike
        return f"First those {first}, unlike each other; {drawn} are random, and marked so"

    def _made(self) -> "Listing | None":
        """None: it was stopped."""
        from ctd_jax.review import listing

        reviewed = self._reviewed
        finished = [image for image, is_done in Review(self._entries).done.items() if is_done]
        known = {*reviewed.labels, *finished}
        workdirs = [self._workdir] if self._workdir else []
        found = candidates.find(reviewed.root, reviewed.images, reviewed.table, known, workdirs, self._domain)
        if self._how == RANDOM:
            return listing.drawn(found, number=LONGEST, seed=SEED)
        return self._looked(found, workdirs)

    def _looked(self, found: Candidates, workdirs: list[pathlib.Path]) -> "Listing | None":
        from ctd_jax.review import expected, listing, order, proposals

        if not found.free:
            return listing.Listing((), np.empty(0, bool), np.empty(0), "")
        predictor = expected.predictor(workdirs, self._domain)
        images, size = listing.looked_at(found), predictor.batch_size
        boxes = proposals.boxes_of(self._reviewed) if predictor.trained.boxes else {}
        if predictor.trained.boxes:
            images = tuple(image for image in images if image in boxes)
        read: list[str] = []
        parts, sign = [], ""
        for start in range(0, len(images), size):
            if self._is_stopped.is_set():
                return None
            self._said = f"Sorting: {start} of {len(images)} pictures seen…"
            some = {image: self._decoded(image, predictor.trained.grey) for image in images[start : start + size]}
            good = {image: picture for image, picture in some.items() if picture is not None}
            if good:
                root = self._reviewed.root
                by_path = {root / image: picture for image, picture in good.items()}
                what, sign = expected.look(predictor, by_path, {root / image: boxes[image] for image in good if boxes})
                parts.append(what)
                read += good
        if not parts:
            raise UserError(f"none of the {len(images)} pictures can be looked at")
        what = expected.join(parts)
        return listing.make(found, read, what, sign, number=LONGEST, seed=SEED, share=order.SHARE)

    def _decoded(self, image: str, grey: Any) -> np.ndarray | None:
        """None: it can't be read, as the page says when it comes up."""
        try:
            return pictures.decode((self._reviewed.root / image).read_bytes(), image, grey)
        except (UserError, OSError):
            return None


def _digest(how: str, workdir: pathlib.Path | None, domain: str | None) -> str:
    """A word for a run, its domain and a kind of order: another training of the same workdir has another one."""
    content = f"{how}{domain or ''}".encode()
    if workdir:
        from ctd_jax.training import checkpoint

        content += b"".join((workdir / name).read_bytes() for name in ("config.json", "split.csv"))
        content += str(checkpoint.best_step(workdir)).encode()
    return hashlib.sha256(content).hexdigest()[:16]
