"""How many steps are called before one is waited for."""

import time

import pytest

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
    pace = Pace(platform, step=mib * 2**20)
    for _ in range(3):
        pace.add({"loss": Result()})
    assert slept == [0.002] * pauses
