"""The page: one text with its style and programs in it, put together from the files of `page/`."""

import functools
import pathlib
import secrets

import jinja2
import markupsafe

FOLDER = pathlib.Path(__file__).parent / "page"
PROGRAMS = (  # in this order; start.js is last
    "element.js", "journal.js", "server.js", "pictures.js", "tiles.js", "view.js", "tone.js", "points.js",
    "pointers.js", "edits.js", "shape.js", "measurements.js", "lists.js", "order.js", "status.js", "keys.js",
    "page.js", "start.js",
)  # fmt: skip


def page() -> tuple[str, str]:
    """The text, and the word (nonce) by which a browser knows that its programs and its style are ours."""
    nonce = secrets.token_urlsafe(16)
    return _template().render(
        nonce=nonce, style=_file("style.css"), programs=markupsafe.Markup("\n").join(map(_file, PROGRAMS))
    ), nonce


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string((FOLDER / "page.html").read_text("utf-8"))


@functools.cache
def _file(name: str) -> markupsafe.Markup:
    return markupsafe.Markup((FOLDER / name).read_text("utf-8"))
