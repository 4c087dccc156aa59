"""The page: one text with its style and programs in it, put together from the files of `page/`."""

import functools
import json
import math
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

import jinja2
import markupsafe

from ctd_jax.review.folder import Reviewed

FOLDER = pathlib.Path(__file__).parent / "page"
PROGRAMS = (  # in this order; start.js is last
    "element.js", "journal.js", "server.js", "enclosed.js", "pictures.js", "tiles.js", "view.js", "tone.js",
    "points.js", "pointers.js", "edits.js", "shape.js", "measurements.js", "csv.js", "lists.js", "order.js",
    "status.js", "keys.js", "page.js", "start.js",
)  # fmt: skip

OF_A_FILE = (  # what a page that is a file may do: nothing but itself
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; img-src blob: data:; base-uri 'none'; "
    "form-action 'none'"
)


def page() -> tuple[str, str]:
    """The text, and the word (nonce) by which a browser knows that its programs and its style are ours."""
    nonce = secrets.token_urlsafe(16)
    return _rendered(nonce), nonce


def portable(content: Mapping[str, Any]) -> str:
    """The text with all in it that the page otherwise asks a server for; it asks for nothing, wherever it is opened."""
    nonce = secrets.token_urlsafe(16)
    enclosed = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")
    return _rendered(nonce, markupsafe.Markup(enclosed), OF_A_FILE.format(nonce))


def of_folder(reviewed: Reviewed) -> dict[str, Any]:
    """What the page has to know of the pictures and their landmarks."""
    measured = reviewed.landmarks.measurements
    return {
        "images": reviewed.images,
        "landmarks": reviewed.names,
        "skeleton": reviewed.landmarks.skeleton,
        "measurements": [
            {"name": one.name, "quantity": one.quantity, "definition": one.definition} for one in measured
        ],
        "spacing": [None if math.isnan(mm[0]) else mm for mm in reviewed.spacing.tolist()],
    }


def _rendered(nonce: str, enclosed: markupsafe.Markup | None = None, policy: str = "") -> str:
    programs = markupsafe.Markup("\n").join(map(_file, PROGRAMS))
    return _template().render(
        nonce=nonce, style=_file("style.css"), programs=programs, enclosed=enclosed, policy=policy
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string((FOLDER / "page.html").read_text("utf-8"))


@functools.cache
def _file(name: str) -> markupsafe.Markup:
    return markupsafe.Markup((FOLDER / name).read_text("utf-8"))
