"""The server: for its own page alone, and what it says."""

import io
import json
import shutil
import socket
import threading
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from review_server import TOKEN, serving

from ctd_jax.data import pictures
from ctd_jax.errors import UserError
from ctd_jax.review import fitting, journal, server

IMAGE = "images/000.png"


@pytest.fixture(scope="module")
def place(landmark_folder):
    root = landmark_folder(people=2, shots=1, size=48)
    (root / "outside.png").write_bytes((root / IMAGE).read_bytes())
    values = np.linspace(0, 4095, 48 * 40).reshape(40, 48).astype(np.uint16)
    Image.fromarray(values).save(root / "images/deep.png")
    turned = Image.fromarray(np.arange(20 * 30, dtype=np.uint8).reshape(20, 30))
    exif = turned.getexif()
    exif[0x0112] = 6  # it has to be turned by 90 degrees
    turned.save(root / "images/turned.jpg", exif=exif)
    return root


@pytest.fixture(scope="module")
def running(place):
    with serving(place) as found:
        yield found


def edit(id_, image=IMAGE, points=None):
    return {"id": id_, "kind": "edit", "image": image, "points": points or {}}


def at(what, image=IMAGE):
    return f"/api/{what}?{urlencode({'image': image})}"


def test_only_the_owner_of_the_token_gets_an_answer(running):
    for path in (at("picture"), at("proposed"), "/api/open"):
        for token in (None, "", "wrong", TOKEN[:-1], "ä"):
            headers = {"X-Token": token and token.encode("utf-8").decode("latin-1")}
            assert running.ask("GET", path, headers=headers)[0] == 403
    assert running.ask("GET", "/")[0] == running.ask("GET", "/?token=wrong")[0] == 403
    assert running.ask("GET", f"{at('picture')}&token={TOKEN}", headers={"X-Token": None})[0] == 403
    assert running.ask("GET", f"/?token={TOKEN}", headers={"X-Token": None})[0] == 200
    assert running.ask("GET", at("picture"))[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "[::1]", "", "10.0.0.1"]
)
def test_another_name_of_this_machine_is_refused(running, host):
    """So that a page of another site, whose name leads here (DNS rebinding), can't read anything."""
    name = host.format(port=running.port)
    assert running.ask("GET", at("picture"), host=name or " ")[0] in (400, 403)
    assert running.ask("GET", f"/?token={TOKEN}", host=name or " ")[0] in (400, 403)
    for good in ("localhost:1", "127.0.0.1"):  # the near end of an SSH tunnel
        assert running.ask("GET", at("picture"), host=good)[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1"])
def test_another_origin_is_refused(running, origin):
    headers = {"Origin": origin.format(port=running.port)}
    assert running.ask("POST", "/api/open", {"window": "w", "take": True}, headers=headers)[0] == 403
    assert running.ask("POST", "/api/open", {"window": "w", "take": True})[0] == 200
    mine = {"Origin": f"http://127.0.0.1:{running.port}"}
    assert running.ask("POST", "/api/ping", {"window": "w"}, headers=mine)[0] == 200
    running.ask("POST", "/api/leave", {"window": "w"})


def test_the_page_may_ask_nobody_else(running):
    _, headers, _ = running.ask("GET", f"/?token={TOKEN}")
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'nonce-") and "connect-src 'self'" in policy
    assert headers["Referrer-Policy"] == "no-referrer" and headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


def test_it_listens_on_this_machine_alone(place, tmp_path):
    with server.listening_at(0, 0) as found:
        assert found.getsockname()[0] == "127.0.0.1"
        port = found.getsockname()[1]
        with pytest.raises(UserError, match=f"--port={port} can't be used"):
            server.listening_at(port, 0)
        with server.listening_at(0, port) as other:  # that of before is taken
            assert other.getsockname()[1] != port
    with server.listening_at(0, port) as again:
        assert again.getsockname()[1] == port


@pytest.mark.parametrize("image", ["", "0", "../outside.png", "images/../images/000.png", "dataset.json"])
def test_only_pictures_of_the_list_are_sent(running, image):
    for what in ("picture", "proposed", "tile/0/0/0"):
        status, _, said = running.ask("GET", at(what, image))
        assert status == 400 and said["error"] == f"{image!r} is not a picture of the folder"


def shown(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_pictures_are_as_the_network_sees_them(running):
    for image in running.reviewed.images:
        status, headers, content = running.ask("GET", at("picture", image))
        expected = pictures.decode((running.root / image).read_bytes(), image)
        np.testing.assert_array_equal(shown(content), expected)
        assert headers["X-Size"] == f"{expected.shape[1]} {expected.shape[0]}" and status == 200


def test_a_large_picture_is_sent_in_parts(tmp_path):
    Image.fromarray(np.arange(2600 * 3, dtype=np.uint8).reshape(3, 2600)).save(tmp_path / "large.png")
    with serving(tmp_path, names=["tip"]) as running:
        _, headers, content = running.ask("GET", at("picture", "large.png"))
        assert headers["X-Size"] == "2600 3" and shown(content).shape[1] == 2048
        expected = pictures.decode((tmp_path / "large.png").read_bytes(), "large.png")
        np.testing.assert_array_equal(shown(running.ask("GET", at("tile/1/2/0", "large.png"))[2]), expected[:, 2048:])
        for wrong in ("1/3/0", "1/0/2", "0/0/0"):
            assert running.ask("GET", at(f"tile/{wrong}", "large.png"))[0] == 400


def test_a_picture_that_cannot_be_read_is_said(place):
    (place / "images/bad.png").write_bytes(b"no picture")
    with serving(place, rater="ben") as running:
        status, _, said = running.ask("GET", at("picture", "images/bad.png"))
        assert status == 400 and "not a readable picture" in said["error"]
        (place / "images/bad.png").unlink()
        status, _, said = running.ask("GET", at("picture", "images/bad.png"))
        assert status == 507 and "see that it is still there" in said["error"]


def test_edits_are_on_the_disk_when_they_are_acknowledged_and_each_is_there_once(running):
    window, path = {"window": "w"}, journal.path_of(running.root, "anna")
    running.ask("POST", "/api/open", window)
    before = len(journal.read(path))
    places = {"chin": {"x": 1.25, "y": 2.5, "state": "placed", "how": "hand"}}
    for edits in ([edit("a", points=places)], [edit("a"), edit("b")], [{"id": "c", "kind": "undo"}]):
        status, _, said = running.ask("POST", "/api/edits", window | {"edits": edits})
        assert status == 200 and said == {"kept": [one["id"] for one in edits]}
        on_disk = journal.read(path)
        assert on_disk[-1]["id"] == edits[-1]["id"]
    assert [one["id"] for one in on_disk[before:] if one["id"] != "open"] == ["a", "b", "c"]
    assert next(one for one in on_disk if one["id"] == "a")["points"] == places
    assert on_disk[0]["kind"] == "open" and on_disk[0]["landmarks"] == list(running.reviewed.names)
    said = running.ask("POST", "/api/open", window)[2]
    assert said["entries"] == on_disk and said["labelled"] == list(running.reviewed.labels)
    running.ask("POST", "/api/leave", window)


@pytest.mark.parametrize(
    "content",
    [
        [], {}, {"window": "w"}, {"window": 1, "edits": []}, {"window": "w", "edits": [edit("x"), {"id": "y"}]},
        {"window": "w", "edits": [edit("x", points={"chin": 3})]},
    ],
)  # fmt: skip
def test_what_is_no_edit_is_refused_as_a_whole(running, content):
    running.ask("POST", "/api/open", {"window": "w"})
    before = list(running.journal.entries)
    status, _, said = running.ask("POST", "/api/edits", content)
    assert status == 400 and said["error"]
    assert running.journal.entries == before
    running.ask("POST", "/api/leave", {"window": "w"})


@pytest.mark.parametrize("repeat", [0.0, 0.5])
def test_what_was_said_of_a_picture_that_is_gone_is_kept_and_holds_nothing_up(place, tmp_path, repeat):
    """As where the server is started again on a folder that has lost one of the pictures that the page still lists."""
    root, gone, left = shutil.copytree(place, tmp_path / "faces"), "images/001.png", "images/000.png"
    with serving(root, rater="emil", repeat=repeat, blinded=bool(repeat)) as before:
        titles = dict(zip(before.shown.keys, before.shown.titles, strict=True))
    table = root / "landmarks.csv"
    table.write_text("".join(line for line in table.read_text().splitlines(True) if not line.startswith(gone)))
    (root / gone).unlink()
    with serving(root, rater="emil", repeat=repeat, blinded=bool(repeat)) as running:
        running.ask("POST", "/api/open", {"window": "w"})
        places = {"a landmark that is gone": {"x": 1, "y": 2, "state": "placed", "how": "hand"}}
        given = [edit("a", titles[gone]), edit("b", titles[left], points=places), edit("c", titles[left])]
        status, _, said = running.ask("POST", "/api/edits", {"window": "w", "edits": given})
        assert (status, said) == (200, {"kept": ["a", "b", "c"]})
        kept = {entry["id"]: entry["image"] for entry in journal.read(running.path) if entry["kind"] == "edit"}
        assert kept == {"a": titles[gone], "b": left, "c": left}


def test_brackets_nested_too_deep_are_refused(running):
    status, _, said = running.ask("POST", "/api/edits", b"[" * 99999)
    assert status == 400 and said["error"] == "expected a JSON object"


def test_a_request_without_end_is_refused(running):
    big = {"Content-Length": str(server.MAX_BODY + 1)}
    assert running.ask("POST", "/api/edits", None, headers=big)[0] == 413
    with socket.create_connection((server.HOST, running.port)) as opened:
        opened.sendall(b"POST /api/edits HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Token: " + TOKEN.encode()
                       + b"\r\nTransfer-Encoding: chunked\r\n\r\n")  # fmt: skip
        assert b" 413 " in opened.recv(100)


def test_a_full_disk_is_said_and_nothing_is_acknowledged(running, monkeypatch):
    def full(self, lines):
        raise OSError(28, "No space left on device", str(self.path))

    running.ask("POST", "/api/open", {"window": "w"})
    monkeypatch.setattr(journal.Journal, "_write", full)
    status, _, said = running.ask("POST", "/api/edits", {"window": "w", "edits": [edit("z")]})
    assert status == 507 and "No space left on device" in said["error"]
    monkeypatch.undo()
    assert running.ask("POST", "/api/edits", {"window": "w", "edits": [edit("z")]})[2] == {"kept": ["z"]}
    running.ask("POST", "/api/leave", {"window": "w"})


def test_the_second_window_is_told_and_can_take_over(running):
    first, second = {"window": "first"}, {"window": "second"}
    assert running.ask("POST", "/api/open", first)[0] == 200
    status, _, said = running.ask("POST", "/api/open", second)
    assert status == 409 and "open in another window" in said["error"]
    assert running.ask("POST", "/api/edits", second | {"edits": [edit("s")]})[0] == 409
    assert running.ask("POST", "/api/open", second | {"take": True})[0] == 200
    assert running.ask("POST", "/api/ping", first)[0] == 409
    assert running.ask("POST", "/api/edits", first | {"edits": [edit("f")]})[0] == 409
    assert not {"s", "f"} & {one["id"] for one in running.journal.entries}
    running.ask("POST", "/api/leave", second)
    assert running.ask("POST", "/api/ping", first)[0] == 409  # it doesn't know what the second has done
    assert running.ask("POST", "/api/open", first)[0] == 200
    assert running.ask("POST", "/api/ping", first)[0] == 200
    running.ask("POST", "/api/leave", first)


def test_a_window_of_a_server_before_has_to_be_opened_anew(place):
    """The folder may have changed meanwhile."""
    old = {"window": "old"}
    with serving(place, rater="cat") as running:
        for path, content in (("ping", old), ("edits", old | {"edits": [edit("e")]})):
            status, _, said = running.ask("POST", f"/api/{path}", content)
            assert status == 410 and "started again" in said["error"]
        assert running.journal.entries == []
        assert running.ask("POST", "/api/open", old)[0] == running.ask("POST", "/api/ping", old)[0] == 200


def test_slow_predictions_block_nothing(place):
    go = threading.Event()

    def predict(_):
        assert go.wait(30)
        return {}

    with serving(place, rater="slow", predict=predict) as running:
        running.ask("POST", "/api/open", {"window": "w"})
        asking = threading.Thread(target=running.ask, args=("GET", at("proposed", "images/deep.png")))
        asking.start()
        assert running.ask("POST", "/api/edits", {"window": "w", "edits": [edit("q")]})[0] == 200
        assert running.ask("GET", at("picture", "images/deep.png"))[0] == 200
        assert asking.is_alive()
        go.set()
        asking.join()


def test_the_rest_is_fitted(running):
    source, target, rest = [[0, 0], [1, 0]], [[1, 1], [1, 3]], [[0, 1]]
    content = {"source": source, "target": target, "rest": rest}
    status, _, said = running.ask("POST", "/api/fit", content)
    assert status == 200
    np.testing.assert_allclose(said, [[-1, 1]], atol=1e-12)
    assert said == fitting.moved(*map(np.array, (source, target, rest))).tolist()
    for wrong in ({"source": [[0, 0]]}, {"source": [[0, 0]], "target": [[1, 1]]}, {"rest": [["a", 1]]}, {"rest": None},
                  {"rest": [[1, 2], [3]]}, {"rest": [[1e9, 0]]}):  # fmt: skip
        assert running.ask("POST", "/api/fit", content | wrong)[0] == 400


def test_address_is_kept_for_the_owner_alone(tmp_path):
    path = tmp_path / "address.json"
    server.write_address(path, {"port": 5, "token": "t"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert server.read_address(path) == {"port": 5, "token": "t"}
    for text in ("", "[]", '{"port": "5", "token": "t"}', json.dumps({"token": "t"}), "[" * 99999):
        path.write_text(text)
        assert server.read_address(path) == {}
