"""A review's server in a thread of this process, on a folder of drawn faces."""

import contextlib
import http.client
import json
import threading
import time

import uvicorn

from ctd_jax.review import blinding, folder, journal, proposals, server, sorting
from ctd_jax.review.answers import Answers

TOKEN = "a_token_of_tests"


class Serving:
    """A server that runs until `stop`."""

    def __init__(self, root, *, names=(), predict=proposals.nothing, rater="anna", workdir=None, port=0, order=None,
                 blinded=False, repeat=0.0):  # fmt: skip
        self.root, self.path = root, journal.path_of(root, rater)
        self.journal = journal.Journal(self.path)
        self.reviewed = folder.read(root, names, self.journal.entries)
        self._proposals = proposals.Proposals(self.reviewed, predict)
        self.shown = blinding.shown(self.reviewed, rater, blinded=blinded, repeat=repeat)
        self.sorting = sorting.Sorting(self.reviewed, self.journal.entries, order or sorting.FOLDER, workdir)
        answers = Answers(self.reviewed, self.journal, rater, self._proposals, workdir, self.sorting, self.shown)
        self.sorting.start()
        config = uvicorn.Config(
            server.application(answers, TOKEN), host=server.HOST, port=port, log_config=None, lifespan="off",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://{server.HOST}:{self.port}/?token={TOKEN}"

    def stop(self):
        self._server.should_exit = True
        self._thread.join()
        self.sorting.stop()
        self._proposals.close()

    def ask(self, method, path, content=None, *, headers=None, host=None):
        """Status, headers and content of an answer; JSON is read. `content` is bytes, or becomes JSON."""
        connection = http.client.HTTPConnection(server.HOST, self.port, timeout=30)
        with contextlib.closing(connection):
            body = content if content is None or isinstance(content, bytes) else json.dumps(content)
            given = {"Host": host or f"{server.HOST}:{self.port}", "X-Token": TOKEN} | (headers or {})
            connection.request(method, path, body, {name: value for name, value in given.items() if value is not None})
            answer = connection.getresponse()
            found = answer.read()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, answer.headers, json.loads(found) if is_json else found


@contextlib.contextmanager
def serving(root, **settings):
    found = Serving(root, **settings)
    try:
        yield found
    finally:
        found.stop()
