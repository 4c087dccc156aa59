"""Files are whole or not there, and hold no formula."""

import os
import pathlib

import pytest

from ctd_jax import files


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
