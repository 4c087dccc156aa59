"""Work in threads, in order and bounded."""

import io
import time
import types

import pytest
from rich.console import Console

from ctd_jax.data import prefetch


def test_order_and_bound():
    """Every second item is slow; never more than five are begun before their turn."""
    begun, taken = [], 0

    def work(item):
        begun.append(item)
        if item % 2:
            time.sleep(0.01)
        return -item

    for result in prefetch.map_in_threads(work, range(40), max_ahead=5):
        assert result == -taken
        taken += 1
        assert taken <= len(begun) <= taken + 5 - 1
    assert taken == 40 and sorted(begun) == list(range(40))


def test_the_first_error_in_order_is_raised_and_the_rest_not_begun():
    def work(item):
        if item in (3, 4):
            raise KeyError(item)
        return item

    results, seen = prefetch.map_in_threads(work, range(1000), max_ahead=4), []
    with pytest.raises(KeyError, match="3"):
        for result in results:
            seen.append(result)
    assert seen == [0, 1, 2]


def test_progress_outside_a_terminal(monkeypatch, capsys):
    """A line when it is time for one, with an estimate; nothing when it is quick."""
    assert list(prefetch.progress("abcd", "reading", 4)) == list("abcd")
    assert capsys.readouterr() == ("", "")
    clock = iter([0, 6, 12, 18, 24])  # seconds: at the start and after each of the four
    monkeypatch.setattr(prefetch, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    assert list(prefetch.progress("abcd", "reading", 4)) == list("abcd")
    assert capsys.readouterr().err.splitlines() == ["reading 2/4  0.167/s  0:00:12 left"]
    clock = iter([0, 6, 12, 18, 24])
    assert list(prefetch.progress("abcd", "reading", 9004, done=5000)) == list("abcd")
    assert capsys.readouterr().err.splitlines() == [
        "reading 5002/9004  0.167/s  6:40:12 left",
        "reading 5004/9004  0.167/s  6:40:00 left",
    ]


def test_progress_on_a_terminal(monkeypatch):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100)
    monkeypatch.setattr(prefetch, "Console", lambda stderr: console)
    assert list(prefetch.progress("abcd", "reading", 9, done=5)) == list("abcd")
    assert "reading" in shown.getvalue() and "9/9" in shown.getvalue()
