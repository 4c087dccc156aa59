"""Files are whole or not there, and hold no formula."""

import ast
import csv
import os
import pathlib
import re
import subprocess
import sys

import pytest

from ctd_jax import files
from ctd_jax.errors import UserError

REPO = pathlib.Path(__file__).parents[1]


def test_a_file_takes_its_place_in_one_move(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(KeyError), files.writing(path) as file:
        file.write("half of the ne")
        file.flush()
        assert path.read_text() == "old"
        raise KeyError
    assert path.read_text() == "old"
    files.write_bytes(path, b"new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_it_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a)))
    files.write_text(tmp_path / "a.txt", "x")
    assert calls == ["fsync", "replace", "fsync"]


def test_text_is_utf8_whatever_the_locale(tmp_path):
    files.write_csv(tmp_path / "a.csv", ["name"], [["Jürgen"], ["a,b"]])
    assert (tmp_path / "a.csv").read_bytes() == 'name\nJürgen\n"a,b"\n'.encode()


def test_a_link_leads_to_the_new_content_and_a_pipe_stays_a_pipe(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    files.write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "a.txt").read_text() == "x"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(pipe, "through")
    assert os.read(reader, 100) == b"through"
    assert pathlib.Path(pipe).is_fifo()
    os.close(reader)


@pytest.mark.parametrize(
    "text", ["=1+1", "+a", "-b", "@c", "\td", "'=e", "''=f", "=", "'", "'g", "h", "", "a=b", "Ü-1"]
)
def test_no_formula_and_the_name_comes_back(text):
    safe = files.cell(text)
    assert safe[:1] not in tuple("=+-@\t\r") or not text
    assert files.plain(safe) == text


def test_a_cell_with_any_kind_of_line_end_comes_back(tmp_path):
    cells = ["a\nb", "a\rb", "a\r\nb", "\r\n", 'a"b', "a,b", " "]
    files.write_csv(tmp_path / "a.csv", ["x"] * len(cells), [cells, cells])
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["x"] * len(cells), cells, cells]
    assert (tmp_path / "a.csv").read_bytes().startswith(b"x,x,x,x,x,x,x\n")
    assert files.csv_text(["x"] * len(cells), [cells, cells]).encode() == (tmp_path / "a.csv").read_bytes()


STREAM = """
from ctd_jax import files
print("before", flush=True)
files.write_text("/dev/stdout", "through")
print("after", flush=True)
"""


def test_the_standard_output_is_written_to_also_where_it_is_a_file(tmp_path):
    with (tmp_path / "out.txt").open("w") as out:
        subprocess.run([sys.executable, "-c", STREAM], cwd=REPO, stdout=out, check=True)
    assert (tmp_path / "out.txt").read_text() == "before\nthroughafter\n"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


def test_a_full_disk_is_named_with_its_file(tmp_path):
    """`ulimit -f`, as bash has it: 1 KiB blocks."""
    code = f"from ctd_jax import files; files.write_text({str(tmp_path / 'a.txt')!r}, 'x' * 5000)"
    command = f'ulimit -f 2; exec {sys.executable} -c "{code}"'
    done = subprocess.run(["bash", "-c", command], cwd=REPO, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno 27] File too large: '{tmp_path / 'a.txt'}'"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        files.write_text("/dev/full", "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"3", "found int"),
        (b"[" * 99999, "nested too deep"),
        (None, "no such"),
    ],
)
def test_json_that_is_none(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=f"a.json: .*{message}.*; make it anew"):
        files.read_json(tmp_path / "a.json", "make it anew")


def writes_by_itself(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    receiver = getattr(getattr(call.func, "value", None), "id", "")
    words = [one.value for one in [*call.args, *(k.value for k in call.keywords)] if isinstance(one, ast.Constant)]
    modes = [word for word in words if isinstance(word, str) and re.fullmatch(r"[rwaxbt+]{1,3}", word)]
    opens = name in ("open", "fdopen") and any(set(mode) & set("wax+") for mode in modes)
    return opens or (name in ("write_text", "write_bytes") and receiver != "files")


@pytest.mark.slow
def test_every_file_is_written_here():
    """But what grows by a line and is cut to whole ones when it continues (log.csv, a rater's journal, what predict has
    done), what is unpacked for a moment, and an address that only its owner can read from its first byte on."""
    found = set()
    for path in (*(REPO / "ctd_jax").rglob("*.py"), *(REPO / "convert").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        if any(isinstance(node, ast.Call) and writes_by_itself(node) for node in ast.walk(tree)):
            found.add(path.relative_to(REPO).as_posix())
    assert found == {
        "ctd_jax/files.py", "ctd_jax/training/log.py", "ctd_jax/review/journal.py", "ctd_jax/labels/zipped.py",
        "ctd_jax/review/server.py", "ctd_jax/unfinished.py",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["metrics.json", "metrics_test1.json", "config.json", "heads/mean_shape.csv"])
def test_a_file_of_a_run_is_no_place_for_a_result(tmp_path, name):
    run, place = tmp_path / "run", tmp_path / "run" / name
    place.parent.mkdir(parents=True)
    files.check_not_of_a_run("out", place)  # no run yet
    (run / "config.json").write_text("{}")
    files.check_not_of_a_run("out", place)  # that of something else
    (run / "split.csv").write_text("image,split\n")
    files.check_not_of_a_run("out", place)
    (run / "split.csv").write_text("image,subject,split,sha256\n")
    (tmp_path / "link").symlink_to(run)
    for given in (place, tmp_path / "link" / name):
        with pytest.raises(UserError, match=f"--out: {given} is where the run keeps its own; give another place"):
            files.expect("out", given, place.suffix)
    files.expect("out", run / "comparison.json", ".json")


@pytest.mark.parametrize("name", ["landmarks.csv", "landmarks_anna.csv", "dataset.json", "classes.json"])
def test_labels_are_no_place_for_a_result(tmp_path, name):
    path = tmp_path / name
    files.expect("out", path, path.suffix)
    path.write_text("")
    with pytest.raises(UserError, match=f"--out: {path} is there already, and labels are kept under such names"):
        files.expect("out", path, path.suffix)


def test_the_names_of_a_runs_files_are_those_of_the_contract():
    """Each is named in docs/output.md; what is for people only, pictures, can't be called so by a table."""
    page = (REPO / "docs/output.md").read_text().partition("## The report")[0]
    assert set(re.findall(r"`([a-z_]+\.(?:csv|json|html))`", page)) == set(files.OF_A_RUN)
