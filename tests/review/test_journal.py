"""Edits on disk: appended, whole, each once; what breaks off is cut off. And the server, killed at any moment."""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest
import tiny

from ctd_jax.errors import UserError
from ctd_jax.review import journal


def edit(number):
    return {"id": f"e{number}", "kind": "edit", "image": "ä.png", "points": {}, "done": True}


def test_entries_are_lines_that_the_next_start_finds(tmp_path):
    path = tmp_path / "review" / "anna.jsonl"
    first = journal.Journal(path)
    assert not path.exists() and first.entries == []
    assert first.append([edit(0), edit(1)]) == [edit(0), edit(1)]
    assert first.append([edit(1), edit(2), edit(2)]) == [edit(2)]
    lines = path.read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [edit(0), edit(1), edit(2)]
    again = journal.Journal(path)
    assert again.entries == journal.read(path) == [edit(0), edit(1), edit(2)]
    assert again.append([edit(0), edit(3)]) == [edit(3)]
    assert path.read_text("utf-8").startswith("\n".join(lines))


def test_pictures_of_older_journals_are_called_as_their_files(tmp_path):
    """These had the names as landmarks.csv spells them."""
    path = tmp_path / "anna.jsonl"
    order = {"id": "o", "kind": "order", "run": "r", "sign": "", "images": ["./a.png", "b.png"], "random": ["./a.png"]}
    undo = {"id": "u", "kind": "undo", "image": 3}  # nobody reads it
    names = ["./a.png", "again:./a.png", "sub//b.png", "sub/../c.png", "again:d.png", "e.png"]
    entries = [*(edit(i) | {"image": name} for i, name in enumerate(names)), order, undo]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    found = journal.read(path)
    expected = ["a.png", "again:a.png", "sub/b.png", "c.png", "again:d.png", "e.png"]
    assert [entry["image"] for entry in found[:6]] == expected
    assert found[6:] == [order | {"images": ["a.png", "b.png"], "random": ["a.png"]}, undo]
    assert journal.Journal(path).entries == found and "./a.png" in path.read_text()


def test_a_line_that_breaks_off_is_cut_off_and_said(tmp_path, caplog):
    path = tmp_path / "anna.jsonl"
    whole = json.dumps(edit(0)) + "\n"
    path.write_text(whole + '{"id": "e1", "ki')
    assert journal.read(path) == [edit(0)]
    assert path.read_text() == whole + '{"id": "e1", "ki'  # another process may be writing it
    found = journal.Journal(path)
    assert found.entries == [edit(0)] and path.read_text() == whole
    assert 'the last line breaks off and is cut off: {"id": "e1", "ki' in caplog.text
    found.append([edit(1)])
    assert journal.read(path) == [edit(0), edit(1)]


@pytest.mark.parametrize(
    "line",
    [
        "{", "[]", '{"id": 1, "kind": "edit"}', '{"id": "a"}', "", "[" * 100_000, '{"id": "a", "kind": "edit"}',
        '{"id": "a", "kind": "edit", "image": "a.png", "points": {"chin": {"x": NaN, "y": 1}}}',
    ],
)  # fmt: skip
def test_a_damaged_line_within_is_named(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(edit(0))}\n{line}\n{json.dumps(edit(1))}\n")
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: .*take out the line"):
        journal.Journal(tmp_path / "a.jsonl")


@pytest.mark.parametrize("rater", ["", "..", "a/b", "../a", ".a", "a\nb", "a" * 61])
def test_a_rater_is_the_name_of_a_file(tmp_path, rater):
    with pytest.raises(UserError, match="--rater"):
        journal.path_of(tmp_path, rater)
    assert journal.path_of(tmp_path, "Änne-2") == tmp_path / "review" / "Änne-2.jsonl"


def test_what_could_not_be_written_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "anna.jsonl"
    found = journal.Journal(path)
    found.append([edit(0)])
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as error:
        found.append([edit(1)])
    assert error.value.filename == str(path)
    assert path.read_bytes() == before and found.entries == [edit(0)]
    monkeypatch.undo()
    assert found.append([edit(1)]) == [edit(1)]


SERVER = """
import pathlib, sys
from ctd_jax.review import answers, folder, journal, proposals, server
root = pathlib.Path(sys.argv[1])
kept = journal.Journal(journal.path_of(root, "anna"))
reviewed = folder.read(root)
given = answers.Answers(reviewed, kept, "anna", proposals.Proposals(reviewed, proposals.nothing), None)
server.serve(given, root / "address.json", 0, lambda address: print(address, flush=True))
"""


class Killed:
    """A server in a process that is killed and started again."""

    def __init__(self, root):
        self._root = root
        self.start()

    def start(self):
        command = [sys.executable, "-c", SERVER, str(self._root)]
        self.process = subprocess.Popen(command, cwd=tiny.REPO, stdout=subprocess.PIPE, text=True)
        self.address, token = self.process.stdout.readline().strip().split("?token=")
        self._headers = {"X-Token": token}
        self._post("open")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def send(self, edits):
        """The ids that the server says it keeps; none if it is gone."""
        try:
            return self._post("edits", edits=edits)["kept"]
        except (OSError, http.client.HTTPException):  # a refusal by the server is an error of HTTP, too
            return []

    def _post(self, what, **content):
        request = urllib.request.Request(
            f"{self.address}api/{what}", json.dumps({"window": "w", **content}).encode(), self._headers
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


KILLS = int(os.environ.get("CTD_JAX_KILLS", 3))  # of the server; 50 take two minutes


@pytest.mark.slow
def test_every_acknowledged_edit_outlives_kill_9(landmark_folder):
    root = landmark_folder(people=2, shots=1, size=16)
    chance = random.Random(0)
    kept, number, server = [], 0, Killed(root)
    addresses = {server.address}
    for _ in range(KILLS):
        timer = threading.Timer(chance.uniform(0.01, 0.3), server.process.send_signal, [signal.SIGKILL])
        timer.start()
        while server.process.poll() is None:
            some = [edit(number + i) | {"image": "images/000.png"} for i in range(chance.randint(1, 20))]
            found = server.send(some)
            kept += found
            number += len(some) if found else 0  # as the page does: what nobody has acknowledged is sent again
        timer.join()
        server.kill()
        on_disk = [entry["id"] for entry in journal.read(journal.path_of(root, "anna"))]
        acknowledged = set(kept)
        assert [one for one in on_disk if one in acknowledged] == kept
        assert len(set(on_disk)) == len(on_disk)
        server.start()
        addresses.add(server.address)
    server.kill()
    print(f"{KILLS} kills, {number} edits")
    assert len(kept) > KILLS and len(addresses) == 1
