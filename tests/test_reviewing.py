"""The command `review`; what it does is tested in `review`."""

import json
import re
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import tiny

from ctd_jax.metrics.predictions import Predictions, write_predictions

MODULE = "ctd_jax.reviewing"


class Started:
    """The command in a process, until `stop`."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", MODULE, *map(str, arguments), "--noopen"]
        self.process = subprocess.Popen(
            command, cwd=tiny.REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.address = self.process.stdout.readline().strip()

    def stop(self):
        """Exit code, the rest of standard output, and standard error."""
        self.process.send_signal(signal.SIGINT)
        out, error = self.process.communicate(timeout=60)
        return self.process.returncode, out, error


@pytest.mark.slow
def test_it_answers_until_it_is_stopped_and_then_again_at_the_same_address(landmark_folder, cli):
    root = landmark_folder(people=2, shots=1, size=16)
    first = Started(root)
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", first.address)
        with urllib.request.urlopen(first.address, timeout=30) as answer:
            assert b"<title>Review</title>" in answer.read()
        code, _, error = cli(MODULE, root, "--noopen")
        assert code == 2 and ".rater1 is in use by process" in error
    finally:
        code, out, error = first.stop()
    assert (code, error) == (0, "") and f"stopped; every edit is in {root}/review/rater1.jsonl" in out
    begun = [{"id": "o", "kind": "open", "landmarks": []}, {"id": "e", "kind": "edit", "image": "images/000.png"}]
    (root / "review/rater1.jsonl").write_text("".join(json.dumps(one) + "\n" for one in begun))
    second = Started(root, "--repeat=0.5")
    said = second.process.stdout.readline()
    second.stop()
    assert second.address == first.address
    assert said.startswith("blinded: the points of landmarks.csv are not shown; --noblinded shows")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected one folder, found 0"),
        (["no"], "no: no such folder"),
        ([".", "--rater=a/b"], "--rater: 'a/b' names a file"),
        ([".", "--landmarks=a", "--predictions=no.csv"], "no.csv: no such file"),
        ([".", "--landmarks=a", "--workdir=no"], "no"),
        ([".", "--workdir=no"], "no"),
        ([".", "--workdir=a", "--predictions=b"], "give one of them"),
        ([".", "--landmarks=a", "--order=error"], "--order=error asks a run; add --workdir=RUN"),
        ([".", "--landmarks=a", "--domain=a"], "--domain is one of those of a run; add --workdir=RUN"),
        ([".", "--portable=a.html", "--order=folder"], "leave it out with --portable"),
        ([".", "--portable=a.html", "--repeat=0.1"], "--repeat is about the page of a server; leave it out"),
        ([".", "--portable=a.html", "--rater=anna"], "--rater is about the page of a server; leave it out"),
        ([".", "--portable=a.html", "--port=8080"], "--port is about the page of a server; leave it out"),
        ([".", "--portable=a.html", "--noblinded"], "leave out --noblinded with --portable"),
        ([".", "--landmarks=a", "--portable_side=64"], "add --portable=FILE.html"),
        ([".", "--portable=a.html", "--blinded", "--workdir=a"], "leave them out, and it is blinded"),
        ([".", "--portable=a.html", "--blinded", "--predictions=a.csv"], "leave them out, and it is blinded"),
        (["."], "give their names, --landmarks=a,b,c"),
        ([".", "--landmarks=a", "--port=99999999"], "port"),
    ],
)
def test_mistakes_end_with_2_and_nothing_is_left(tmp_path, monkeypatch, cli, arguments, said):
    (tmp_path / "p.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    code, _, error = cli(MODULE, *arguments, "--noopen")
    assert code == 2 and said in error
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


def test_what_proposes_points_names_those_of_a_folder_of_pictures(landmark_folder, cli, tmp_path):
    root = landmark_folder(people=1, shots=1, size=16) / "images"
    given = Predictions.from_points(["000.png"], [""], ("tip", "base"), np.ones((1, 2, 2)))
    write_predictions(tmp_path / "p.csv", given)
    code, _, error = cli(MODULE, root, f"--portable={tmp_path / 'p.html'}", f"--predictions={tmp_path / 'p.csv'}")
    assert code == 0, error
    assert '"landmarks": ["tip", "base"]' in (tmp_path / "p.html").read_text("utf-8")
    (root / "review").mkdir()
    begun = {"id": "open", "kind": "open", "landmarks": ["ear", "tip"]}
    (root / "review/anna.jsonl").write_text(json.dumps(begun) + "\n")
    code, _, error = cli(MODULE, root, f"--portable={tmp_path / 'q.html'}", f"--predictions={tmp_path / 'p.csv'}")
    assert code == 0, error
    assert '"landmarks": ["ear", "tip"]' in (tmp_path / "q.html").read_text("utf-8"), "as anna's"


def test_a_page_in_one_file_is_written(landmark_folder, cli, tmp_path):
    root = landmark_folder(people=2, shots=1, size=16)
    out = tmp_path / "page.html"
    code, said, error = cli(MODULE, root, f"--portable={out}", "--portable_side=64")
    assert (code, error) == (0, "") and "2 pictures of at most 64 pixels" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "page.key.csv"]
    assert not (root / "review").exists()
    code, _, error = cli(MODULE, root, f"--portable={out}")
    assert code == 2 and "is there already" in error


def test_the_packages_that_it_needs_are_named(tmp_path, monkeypatch, cli):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: name != "uvicorn" and found(name, *more))
    code, _, error = cli(MODULE, tmp_path, "--noopen")
    assert code == 2 and "needs uvicorn: pip install -e '.[review]'" in error
