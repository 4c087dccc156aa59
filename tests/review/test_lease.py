"""One window at a time."""

from ctd_jax.review import lease


def test_the_second_window_waits_or_takes_over(monkeypatch):
    now = 100.0
    monkeypatch.setattr(lease.time, "monotonic", lambda: now)
    held = lease.Lease()
    assert held.claim("a") and held.claim("a") and not held.claim("b")
    assert held.claim("b", take=True) and not held.claim("a")
    held.leave("a")
    assert not held.claim("a")
    held.leave("b")
    assert held.claim("a")
    now += lease.EXPIRES
    assert not held.claim("b")
    now += 0.1
    assert held.claim("b") and not held.claim("a")
