"""How many steps are called before one is waited for."""

import time

import pytest

from ctd_jax.training import memory
from ctd_jax.training.pace import Pace


class Result:
    waited = False

    def block_until_ready(self):
        self.waited = True
        return self


@pytest.mark.parametrize(("platform", "ahead"), [("cpu", 0), ("gpu", 1), ("tpu", 1)])
def test_steps_that_nobody_waits_for(platform, ahead):
    pace, results = Pace(platform, step=0), [Result() for _ in range(5)]
    for i, result in enumerate(results):
        pace.add({"loss": result})
        assert [one.waited for one in results[: i + 1]] == [True] * (i + 1 - ahead) + [False] * min(ahead, i + 1)


@pytest.mark.parametrize(("platform", "mib", "pauses"), [("cpu", 1700, 3), ("cpu", 100, 0), ("gpu", 1700, 0)])
def test_a_large_step_on_a_cpu_has_a_moment_to_free_its_memory(platform, mib, pauses, monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(memory, "in_use", lambda: None)  # no glibc
    pace = Pace(platform, step=mib * 2**20)
    for _ in range(3):
        pace.add({"loss": Result()})
    assert slept == [0.002] * pauses


def test_a_large_step_is_waited_for_until_its_memory_is_free(monkeypatch):
    GiB, slept, clock = 2**30, [], iter(range(1000))
    readings = iter([1, 3, 3, 1.5] + [3] * 5 + [3, 2.9])
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) / 10)
    monkeypatch.setattr(memory, "in_use", lambda: int(next(readings) * GiB))
    pace = Pace("cpu", step=2 * GiB)
    counts = []
    for _ in range(4):
        slept.clear()
        pace.add({"loss": Result()})
        counts.append(len(slept))
    # freed at the third look; never, so given up after half a second; what is in use now is the measure of the next
    assert counts == [3, 5, 1, 1]


def test_what_is_free_is_given_back_where_steps_have_got_their_memory_anew(monkeypatch):
    GiB, given_back, steps = 2**30, [], []
    readings = iter([1, 3, 3.9, 4.1, 1.2, 3.2, 4.1, 4.3, 1.2])
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(memory, "in_use", lambda: GiB)
    monkeypatch.setattr(memory, "resident", lambda: int(next(readings) * GiB))
    monkeypatch.setattr(memory, "give_back", lambda: given_back.append(steps[-1]))
    pace = Pace("cpu", step=2 * GiB)
    for step in range(6):
        steps.append(step)
        pace.add({"loss": Result()})
    assert given_back == [2, 5]  # more than 1 + 1.5 * 2, more than 1.2 + 1.5 * 2


@pytest.mark.skipif(memory.in_use() is None, reason="no glibc, or one before 2.33")
def test_what_is_in_use():
    before = memory.in_use()
    held = bytearray(2**28)
    assert 0.99 < (memory.in_use() - before) / len(held) < 1.1
    del held
    assert memory.in_use() - before < 2**25
