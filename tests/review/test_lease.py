"""One window at a time."""

from ctd_jax.review import lease


def test_the_second_window_waits_or_takes_over(monkeypatch):
    now = 100.0
    monkeypatch.setattr(lease.time, "monotonic", lambda: now)
    held = lease.Lease()
    assert held.claim("a") and held.claim("a") and held.holds("a") and not held.claim("b") and not held.holds("b")
    assert held.claim("b", take=True) and not held.claim("a") and not held.holds("a")
    held.leave("a")
    assert not held.claim("a")
    held.leave("b")
    assert not held.holds("a")  # it doesn't know what b has done
    assert held.claim("a")
    now += lease.EXPIRES
    assert not held.claim("b") and held.holds("a")
    now += lease.EXPIRES + 0.1
    assert held.claim("b") and not held.holds("a")


def test_a_window_of_a_server_before_is_opened_anew():
    held = lease.Lease()
    assert held.claim("b") and held.knows("b") and not held.holds("a") and not held.knows("a")
    assert held.claim("a", take=True) and held.knows("a") and not held.holds("b") and held.knows("b")
