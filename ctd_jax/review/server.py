"""The server of the page: on this machine alone, for those who have the address with its token.

A page of another site, open in the same browser, can't read or change anything here: it doesn't know the token, which
every request but that for the page itself has in a header of its own, and a request under another host's name (also one
that leads to this machine) or from another origin is refused.
"""

import contextlib
import hmac
import json
import os
import pathlib
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ctd_jax import errors
from ctd_jax.errors import UserError
from ctd_jax.review.answers import Answers, failure

HOST = "127.0.0.1"
HOSTS = (HOST, "localhost")  # by which the browser on this machine, or on the near end of an SSH tunnel, calls it
MAX_BODY = 2**23  # bytes of a request
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def application(answers: Answers, token: str) -> ASGIApp:
    """What uvicorn runs: the answers, for requests that have the right token, host and origin."""
    handlers: Mapping[Any, Any] = {UserError: _of_user, OSError: _of_system}
    return _guarded(Starlette(routes=answers.routes(), exception_handlers=handlers), token)


def serve(answers: Answers, address: pathlib.Path, port: int, ready: Callable[[str], None]) -> None:
    """Answers until it is interrupted.

    Args:
      answers: what is said.
      address: the file that remembers port and token: a page that is still open finds the server again when the same
        command is started again.
      port: 0: the same as before, if it is free, or any.
      ready: is told the address of the page.

    Raises:
      UserError: the port is in use.
    """
    before = read_address(address)
    token = before.get("token") or secrets.token_urlsafe(24)
    with listening_at(port, before.get("port") or 0) as listening:
        found = listening.getsockname()[1]
        if before != {"port": found, "token": token}:  # a kill while it is written can't take it away a second time
            write_address(address, {"port": found, "token": token})
        config = uvicorn.Config(
            application(answers, token), log_config=None, access_log=False, lifespan="off", ws="none",
            timeout_graceful_shutdown=2, server_header=False,
        )  # fmt: skip
        server = uvicorn.Server(config)
        with _leaving_when_interrupted(server):
            ready(f"http://{HOST}:{found}/?token={token}")
            server.run(sockets=[listening])


@contextlib.contextmanager
def _leaving_when_interrupted(server: uvicorn.Server) -> Iterator[None]:
    """Ctrl-C ends the server, also before it listens to signals itself: asyncio loses one that comes in between."""

    def leave(*_: Any) -> None:
        server.should_exit = True

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def listening_at(port: int, before: int) -> socket.socket:
    """A socket of this machine alone; `port` 0: at `before`, where that is neither 0 nor in use, or anywhere.

    Raises:
      UserError: the port can't be used.
    """
    for chosen in [port] if port else [before, 0] if before else [0]:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, chosen))
            listening.listen()
            return listening
        except OSError as error:
            listening.close()
            if port:
                raise UserError(f"--port={port} can't be used ({error.strerror}); give another, or leave it out") from (
                    error
                )
    raise AssertionError("the system always has a free port")


def read_address(path: pathlib.Path) -> dict[str, Any]:
    """Port and token; empty where there is no such file, or another."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    good = isinstance(found, dict) and isinstance(found.get("token"), str) and isinstance(found.get("port"), int)
    return found if good else {}


def write_address(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Only the owner of the file can read it."""
    path.unlink(missing_ok=True)
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(opened, "w", encoding="utf-8") as file:
        json.dump(content, file)


def _guarded(inner: ASGIApp, token: str) -> ASGIApp:
    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        refusal = _refusal(request, token)
        if refusal:
            await refusal(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        await inner(scope, receive, send_with_headers)

    return guarded


def _refusal(request: Request, token: str) -> Response | None:
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if urlsplit(f"//{host}").hostname not in HOSTS:
        return failure(f"this server answers as {HOST} alone", 403)
    if origin is not None and origin != f"http://{host}":
        return failure("this server answers its own page alone", 403)
    is_page = request.url.path == "/"
    given = request.query_params.get("token", "") if is_page else request.headers.get("x-token", "")
    if not hmac.compare_digest(given.encode(), token.encode()):
        return failure("the token is not the right one; take the whole address that the command has printed", 403)
    if request.method == "POST":
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            return failure(f"expected a request of {MAX_BODY} bytes at most", 413)
    return None


async def _of_user(request: Request, error: Exception) -> Response:
    return failure(str(error), 400)


async def _of_system(request: Request, error: Exception) -> Response:
    return failure(errors.of_system(error) or str(error), 507)
