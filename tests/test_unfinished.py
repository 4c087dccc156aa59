"""A prediction of many pictures that is stopped, shared or begun by another command."""

import importlib
import os
import pathlib
import signal
import subprocess
import sys
import types
import unittest.mock

import numpy as np
import pytest
from PIL import Image

from ctd_jax import command, unfinished
from ctd_jax.data import synthetic
from ctd_jax.data.given import Given
from ctd_jax.errors import UserError
from ctd_jax.labels import exporting
from ctd_jax.trust import evidence
from ctd_jax.unfinished import Share, Unfinished

REPO = pathlib.Path(__file__).parents[1]
FACTS = {"networks": "a", "pictures": "b"}
BATCHES = [{"files": [[f"{i}.png", 3, 4]], "found": {"xy": [i / 3, float("nan")]}, "faults": {}} for i in range(5)]
# The second batch is kept, and half a line of the third.
KILLED = """
import os, runpy, signal, sys
from ctd_jax.unfinished import Unfinished

def append(self, batch, real=Unfinished.append):
    real(self, batch)
    if self.done == 2:
        with self._file.open("ab") as file:
            file.write(b'{"files": [["in/9.png"')
        os.kill(os.getpid(), signal.SIGKILL)

Unfinished.append = append
runpy.run_module("ctd_jax.predict", run_name="__main__", alter_sys=True)
"""


def kept(folder, share="1/1", facts=FACTS, batches=5):
    return Unfinished(folder, facts, Share.parse(share), batches)


def same(found, expected):
    assert [one["files"] for one in found] == [one["files"] for one in expected]
    xy = [[one["found"]["xy"] for one in many] for many in (found, expected)]
    np.testing.assert_array_equal(*xy)  # to the bit, NaN too


@pytest.mark.parametrize("cut", [0, 1, 30])
def test_a_line_that_was_cut_off_does_not_count(tmp_path, cut):
    folder, whole = tmp_path / "out", tmp_path / "whole"
    for place, number in ((whole, 5), (folder, 3)):
        one = kept(place)
        with one.held():
            for batch in BATCHES[:number]:
                one.append(batch)
    file = folder / "1-of-1" / unfinished.FILE
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - cut)
    again = kept(folder)
    with again.held():
        assert again.to_do == range(3 - bool(cut), 5) and again.lacking() == len(again.to_do)
        for i in again.to_do:
            again.append(BATCHES[i])
        same(list(again.read()), BATCHES)
        assert file.read_bytes() == (whole / "1-of-1" / unfinished.FILE).read_bytes()
        written = []
        assert again.finish(lambda: written.append(True)) == 0 and written
    assert not folder.exists()


def test_the_folder_of_another_command(tmp_path):
    one = kept(tmp_path / "out")
    with one.held():
        one.append(BATCHES[0])
        with pytest.raises(UserError, match="is in use by process"), kept(tmp_path / "out").held():
            pass
    before = (tmp_path / "out/1-of-1" / unfinished.FILE).read_bytes()
    for other, differs in (({"pictures": "c"}, "other pictures;"), ({"networks": "", "pictures": ""}, "and pictures")):
        found = kept(tmp_path / "out", facts=FACTS | other)
        with pytest.raises(UserError, match=f"another command has begun.*{differs}"), found.held():
            pass
    with pytest.raises(UserError, match="other shards;"), kept(tmp_path / "out", "2/3").held():
        pass
    assert (tmp_path / "out/1-of-1" / unfinished.FILE).read_bytes() == before
    (tmp_path / "out/1-of-1" / unfinished.FILE).write_bytes(before.splitlines(keepends=True)[0])
    begun = kept(tmp_path / "out", facts=FACTS | {"pictures": "c"})
    with begun.held():  # nothing is lost
        assert begun.to_do == range(5)


def test_the_folder_of_an_older_version(tmp_path):
    """It lacks what a result of this version depends on, too, and nothing goes on there."""
    one = kept(tmp_path / "out")
    with one.held():
        one.append(BATCHES[0])
    found = kept(tmp_path / "out", facts=FACTS | {"evidence": "c"})
    with pytest.raises(UserError, match="an older version has begun.*; remove that folder, or give"), found.held():
        pass


@pytest.mark.parametrize("batches", [0, 1, 2, 7, 9])
def test_shares_are_all_batches_once(batches):
    shares = [Share(i, 4) for i in (1, 2, 3, 4)]
    assert [i for share in shares for i in share.of(batches)] == list(range(batches))
    assert max(len(share.of(batches)) for share in shares) - min(len(share.of(batches)) for share in shares) <= 1


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 2, 1, 3)])
def test_the_last_share_writes(tmp_path, order):
    """Of three batches and four shares, one of which has none."""
    written = []

    def do(number):
        one = kept(tmp_path / "out", f"{number}/4", batches=3)
        with one.held():
            for i in one.to_do:
                one.append(BATCHES[i])
            lacking = one.finish(lambda: written.extend(one.read()))
        return lacking

    found = [do(number) for number in order]
    same(written, BATCHES[:3])
    assert found[-1] == 0 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/2"])
def test_no_share(text):
    with pytest.raises(UserError, match="expected I/N"):
        Share.parse(text)


@pytest.fixture
def pictures(tmp_path):
    """Seventeen pictures of several sizes, two of which can't be read: one in the first batch, one in the last."""
    folder = tmp_path / "in"
    folder.mkdir()
    drawn = Image.fromarray(synthetic.draw(3, 0, size=64, seed=5)[0])
    for i in range(17):
        drawn.resize((50 + 7 * i, 90 - 3 * i)).save(folder / f"{i:02d}.png")
    for i in (1, 16):
        (folder / f"{i:02d}.png").write_text("no picture")
    return folder


def arguments(run, out):
    kinds = (f"--out={out}/p.csv", f"--overlays={out}/seen", f"--measurements={out}/m.csv", "--format=coco,tps")
    return f"--workdir={run}", "in", *kinds


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def known():
    """What `whole` found."""
    return {}


@pytest.fixture
def whole(known, cli, finished_run, pictures, tmp_path, monkeypatch):
    """The files of a command that nothing stops, and its message, as one that writes to `out` gives it. The current
    folder has the pictures."""
    monkeypatch.chdir(tmp_path)
    if not known:
        code, _, error = cli("ctd_jax.predict", *arguments(finished_run[0], "whole"))
        assert code == 2 and "2 of 17 pictures could not be done" in error
        known["files"], known["message"] = contents(tmp_path / "whole"), error[error.index("error:") :]
        assert len(known["files"]) == 15 + 4
    return dict(known["files"]), known["message"].replace("whole", "out")


def test_a_killed_command_goes_on_to_the_same_files(cli, finished_run, whole, tmp_path):
    flags = arguments(finished_run[0], "out")
    command, env = [sys.executable, "-c", KILLED, *flags], os.environ | {"PYTHONPATH": str(REPO)}
    killed = subprocess.run(command, capture_output=True, text=True, env=env)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = contents(tmp_path / "out")
    assert sum(name.startswith("seen/") for name in done) == 7 and "p.csv" not in done
    code, _, error = cli("ctd_jax.predict", *flags, "--spacing=0.1")
    assert code == 2 and "p.csv.unfinished has what another command has begun, with other flags;" in error
    picture = tmp_path / "in/02.png"
    changed = picture.stat().st_mtime_ns
    os.utime(picture, ns=(changed, changed + 1))
    code, _, error = cli("ctd_jax.predict", *flags)
    assert code == 2 and "with other pictures;" in error
    os.utime(picture, ns=(changed, changed))

    code, _, error = cli("ctd_jax.predict", *flags)
    files, message = whole
    assert code == 2 and error.startswith("8 pictures are done already") and message in error
    assert contents(tmp_path / "out") == files
    assert not (tmp_path / "out/p.csv.unfinished").exists()


def test_a_command_that_is_interrupted_again_and_again(cli, finished_run, whole, tmp_path, monkeypatch):
    """After each batch, and when one of two label files is written."""
    flags, append, write = arguments(finished_run[0], "out"), Unfinished.append, exporting.write_files
    interrupt = unittest.mock.Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr(Unfinished, "append", lambda self, batch: (append(self, batch), interrupt()))
    for number in range(1, 6):
        code, _, error = cli("ctd_jax.predict", *flags)
        assert code == 1 and "error: stopped; what is done is kept in out/p.csv.unfinished, and the same" in error
        assert number == 1 or f"{4 * number - 4} pictures are done already" in error
    monkeypatch.setattr(exporting, "write_files", lambda *args: (write(*args), interrupt()))
    assert cli("ctd_jax.predict", *flags)[0] == 1
    assert (tmp_path / "out/p_coco.json").exists() and not (tmp_path / "out/p_tps.tps").exists()
    monkeypatch.setattr(exporting, "write_files", write)
    code, _, error = cli("ctd_jax.predict", *flags)
    assert code == 2 and whole[1] in error
    assert contents(tmp_path / "out") == whole[0]


def test_shards_make_the_same_files(cli, finished_run, whole, tmp_path):
    flags = arguments(finished_run[0], "out")
    for number in (2, 3):
        code, said, error = cli("ctd_jax.predict", *flags, f"--shard={number}/3")
        assert code == 0, error
    assert (
        "shard 3-of-3 is done, and 1 of all 5 batches of 4 pictures are not; the last process writes out/p.csv" in said
    )
    code, _, error = cli("ctd_jax.predict", *flags, "--shard=1/4")
    assert code == 2 and "with other shards;" in error
    code, _, error = cli("ctd_jax.predict", *flags, "--shard=1/3")
    assert code == 2 and whole[1] in error
    assert contents(tmp_path / "out") == whole[0]
    code, _, error = cli("ctd_jax.predict", *flags, "--shard=1/3", "--out=/dev/stdout")
    assert code == 2 and "--shard: the parts meet beside --out" in error


def test_overlays_that_are_gone_are_not_called_done(cli, finished_run, whole, tmp_path):
    """Of a share that was stopped, and of another share that is done."""
    flags = arguments(finished_run[0], "out")
    assert cli("ctd_jax.predict", *flags, "--shard=1/2")[0] == 0
    (tmp_path / "out/seen").rename(tmp_path / "away")
    for number in (1, 2):
        code, said, error = cli("ctd_jax.predict", *flags, f"--shard={number}/2")
        assert (code, said) == (2, "") and "error: out/seen/00.png.png is missing, which was written before" in error
        assert "remove out/p.csv.unfinished to begin anew" in error and not (tmp_path / "out/p.csv").exists()
    for picture in (tmp_path / "away").iterdir():
        picture.rename(tmp_path / "out/seen" / picture.name)
    code, _, error = cli("ctd_jax.predict", *flags, "--shard=2/2")
    assert code == 2 and whole[1] in error
    assert contents(tmp_path / "out") == whole[0]


def test_workers_make_the_same_files(cli, finished_run, whole, tmp_path):
    flags = arguments(finished_run[0], "out")
    code, _, error = cli("ctd_jax.predict", *flags, "--cluster=local:2")
    assert code == 2 and whole[1] in error
    assert contents(tmp_path / "out") == whole[0]


def test_rows_depend_on_what_val_showed_and_on_the_batches(tmp_path):
    """A run that was evaluated again has radii; other batches have other pictures."""

    predict = importlib.import_module("ctd_jax.predict")  # `cli` imports it anew

    def facts(batch_size):
        network = types.SimpleNamespace(variables={}, workdir=tmp_path)
        predictor = types.SimpleNamespace(networks=[network], batch_size=batch_size)
        return predict._facts(predictor, types.SimpleNamespace(files=[]))

    def differ(one, other):
        return {name for name in one if one[name] != other[name]}

    before = facts(8)
    assert differ(before, facts(8)) == set() and differ(before, facts(4)) == {"batches"}
    (tmp_path / evidence.FILE).write_bytes(b"radii")
    assert differ(before, facts(8)) == {"evidence"}


def test_class_maps_that_are_gone_are_not_called_done(tmp_path):
    predict = importlib.import_module("ctd_jax.predict")  # `cli` imports it anew
    command.parse(["--workdir=run", f"--out={tmp_path / 'maps'}"], predict._FLAGS)
    given = Given([tmp_path / f"{i}.png" for i in range(3)], {}, {}, {})
    predictor = types.SimpleNamespace(trained=types.SimpleNamespace(has_points=False))
    asked = predict.Asked(predictor, given, (), {})
    done = [{"files": [[str(tmp_path / f"{i}.png"), 3, 4]]} for i in (0, 2)]
    (tmp_path / "maps").mkdir()
    for i in (0, 2):
        (tmp_path / f"maps/{i}.png.png").touch()
    predict._check_there(asked, kept(tmp_path / "maps.unfinished"), done)
    (tmp_path / "maps/2.png.png").unlink()
    with pytest.raises(UserError, match=r"maps/2\.png\.png is missing.*remove .*/maps\.unfinished to begin anew"):
        predict._check_there(asked, kept(tmp_path / "maps.unfinished"), done)
