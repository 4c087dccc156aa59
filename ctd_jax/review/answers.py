"""What the server says to the page; see `server` for who is answered."""

import asyncio
import datetime
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ctd_jax.errors import UserError
from ctd_jax.review import blinding, edits, estimate, fitting, page, pictures, training_folder
from ctd_jax.review.blinding import Shown
from ctd_jax.review.folder import Reviewed
from ctd_jax.review.journal import Journal
from ctd_jax.review.lease import Lease
from ctd_jax.review.proposals import Proposals
from ctd_jax.review.sorting import FOLDER, Sorting

POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; img-src blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TAKEN = "This rater's pictures are open in another window"
LOST = "Another window has gone on with this rater's pictures"
NEW = "The server has been started again"


class Answers:
    """What the server says; one method for each address.

    Args:
      reviewed: the folder.
      journal: of the rater.
      rater: the name.
      proposals: points of pictures that have none yet.
      workdir: the run that predicts and that a training would go on from; None: none.
      sorting: of the list; None: it is as in the folder.
      shown: which pictures the page shows, and whether the rater is blinded; None: all as they are.
    """

    def __init__(
        self,
        reviewed: Reviewed,
        journal: Journal,
        rater: str,
        proposals: Proposals,
        workdir: pathlib.Path | None,
        sorting: Sorting | None = None,
        shown: Shown | None = None,
    ):
        self._reviewed, self._journal, self._rater = reviewed, journal, rater
        self._shown = shown or Shown(reviewed.images, reviewed.images, blinded=False)
        self._key_of = dict(zip(self._shown.titles, self._shown.keys, strict=True))
        self._proposals, self._workdir = proposals, workdir
        self._sorting = sorting or Sorting(reviewed, (), FOLDER, None)
        self._pictures = pictures.Pictures(reviewed.root, reviewed.images)
        self._lease = Lease()

    def routes(self) -> list[Route]:
        posts = {"open": self.open, "ping": self.ping, "leave": self.leave, "edits": self.keep, "fit": self.fit,
                 "write": self.write, "order": self.order}  # fmt: skip
        return [
            Route("/", self.show),
            *(Route(f"/api/{name}", answer, methods=["POST"]) for name, answer in posts.items()),
            Route("/api/picture", self.picture),
            Route("/api/tile/{scale:int}/{column:int}/{row:int}", self.tile),
            Route("/api/proposed", self.proposed),
        ]

    async def show(self, request: Request) -> Response:
        text, nonce = page.page()
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY.format(nonce)})

    async def open(self, request: Request) -> Response:
        """All that the page has to know, for the window that may edit."""
        asked = await _body(request)
        if not self._lease.claim(_word(asked, "window"), take=asked.get("take") is True):
            return failure(TAKEN, 409)
        reviewed = self._reviewed
        return JSONResponse(
            {
                "folder": reviewed.root.resolve().name,
                "rater": f"{self._rater}, blinded" if self._shown.blinded else self._rater,
                **page.of_folder(reviewed),
                "images": self._shown.titles,
                "spacing": self._spacing(),
                "labelled": [] if self._shown.blinded else list(map(self._shown.title, reviewed.labels)),
                "entries": [self._titled(entry) for entry in self._journal.entries if entry["kind"] != "order"],
                "order": self._order(),
            }
        )

    async def ping(self, request: Request) -> Response:
        return self._refused(await _body(request)) or JSONResponse({})

    async def leave(self, request: Request) -> Response:
        self._lease.leave(_word(await _body(request), "window"))
        return JSONResponse({})

    async def keep(self, request: Request) -> Response:
        """Keeps edits; the answer has the ids of those that are on the disk, now or already before."""
        asked = await _body(request)
        if refused := self._refused(asked):
            return refused
        given = asked.get("edits")
        if not isinstance(given, list):
            raise UserError("expected a list of edits")
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        entries = [self._keyed(edits.of_page(one)) | {"at": at} for one in given]
        await run_in_threadpool(self._keep, entries, at)
        return JSONResponse({"kept": [entry["id"] for entry in entries]})

    def _keep(self, entries: list[dict[str, Any]], at: str) -> None:
        opened = [entry for entry in self._journal.entries if entry["kind"] == "open"]
        first = []
        if blinding.has_changed(opened, self._shown, self._reviewed.names):
            word = f"open {len(opened) + 1}" if opened else "open"
            holds = {"blinded": self._shown.blinded, "repeat": self._shown.repeat, "current": True}
            first = [{"id": word, "kind": "open", "landmarks": self._reviewed.names, **holds, "at": at}]
        self._journal.append([*first, *self._sorting.new_entries(), *entries])

    def _titled(self, entry: dict[str, Any]) -> dict[str, Any]:
        """An entry as the page has it."""
        return entry | {"image": self._shown.title(entry["image"])} if "image" in entry else entry

    def _keyed(self, entry: dict[str, Any]) -> dict[str, Any]:
        """An entry as the journal has it; a picture that is gone keeps the name that the page has for it."""
        image = entry.get("image")
        return entry if image is None else entry | {"image": self._key_of.get(image, image)}

    def _spacing(self) -> list[Any]:
        of_image = dict(zip(self._reviewed.images, page.of_folder(self._reviewed)["spacing"], strict=True))
        return [of_image[blinding.picture_of(key)] for key in self._shown.keys]

    async def order(self, request: Request) -> Response:
        """What comes first in the list, and what its random pictures tell of the run."""
        found = self._order()
        return JSONResponse(found | {"estimate": await self._estimate() if self._sorting.estimates else ""})

    def _order(self) -> dict[str, Any]:
        sorting = self._sorting
        is_ready = sorting.is_ready  # before the images, which come first
        return {"said": sorting.said, "ready": is_ready, "images": sorting.images, "random": list(sorting.random)}

    async def _estimate(self) -> str:
        sorting = self._sorting
        review = await run_in_threadpool(edits.Review, self._journal.entries)
        done, passed_over = estimate.done(review, sorting.images, sorting.random)
        asked = [asyncio.wrap_future(self._proposals.predicted(image)) for image in done]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        predicted = {
            image: points for image, points in zip(done, answers, strict=True) if not isinstance(points, BaseException)
        }
        return estimate.said(self._reviewed, review, predicted, passed_over, len(sorting.random))

    async def picture(self, request: Request) -> Response:
        """A picture, scaled where it is large, and its size before that."""
        content, size = await run_in_threadpool(self._whole, self._image(request))
        return Response(content, media_type="image/png", headers={"X-Size": "{} {}".format(*size)})

    def _whole(self, image: str) -> tuple[bytes, tuple[int, int]]:
        picture, size = self._pictures.whole(image)
        return pictures.png(picture), size

    async def tile(self, request: Request) -> Response:
        """A sharp part of a large picture."""
        asked = [request.path_params[name] for name in ("scale", "column", "row")]
        content = await run_in_threadpool(self._tile, self._image(request), *asked)
        return Response(content, media_type="image/png")

    def _tile(self, image: str, scale: int, column: int, row: int) -> bytes:
        return pictures.png(self._pictures.tile(image, scale, column, row))

    async def proposed(self, request: Request) -> Response:
        """The points to begin with."""
        image = self._image(request)
        if self._shown.blinded:
            return JSONResponse({})
        return JSONResponse(await asyncio.wrap_future(self._proposals.of(image)))

    async def fit(self, request: Request) -> Response:
        asked = await _body(request)
        source, target, rest = (_points(asked.get(name), name) for name in ("source", "target", "rest"))
        if len(source) != len(target) or len(source) < 2:
            raise UserError("expected as many points in source as in target, two at least")
        return JSONResponse(fitting.moved(source, target, rest).tolist())

    async def write(self, request: Request) -> Response:
        """Writes a new folder beside the reviewed one."""
        await _body(request)
        return JSONResponse({"said": await run_in_threadpool(self._write)})

    def _write(self) -> str:
        out = training_folder.free_place(self._reviewed.root)
        return training_folder.write(self._reviewed, self._journal.entries, out, workdir=self._workdir)

    def _refused(self, asked: Mapping[str, Any]) -> Response | None:
        """The answer to a window that may not edit; one of a server before this one has to be opened anew."""
        if self._lease.holds(_word(asked, "window")):
            return None
        return failure(LOST, 409) if self._lease.knows(_word(asked, "window")) else failure(NEW, 410)

    def _image(self, request: Request) -> str:
        """The picture that is asked for by its title: a page that is older than this server may have another list."""
        title = request.query_params.get("image", "")
        if title not in self._key_of:
            raise UserError(f"{title!r} is not a picture of the folder")
        return blinding.picture_of(self._key_of[title])


def failure(message: str, status: int) -> JSONResponse:
    return JSONResponse({"error": message}, status)


async def _body(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError("expected a JSON object")
    return found


def _word(asked: Mapping[str, Any], name: str) -> str:
    found = asked.get(name)
    if not isinstance(found, str) or not 0 < len(found) <= edits.LONGEST_ID:
        raise UserError(f"expected {name}, a word")
    return found


def _points(given: Any, name: str) -> np.ndarray:
    try:
        found = np.array(given, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        found = np.array([[np.nan]])
    if not (np.isfinite(found).all() and (np.abs(found) <= edits.FURTHEST).all()):
        raise UserError(f"expected {name}, a list of pairs of numbers")
    return found
