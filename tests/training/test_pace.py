"""How many steps are called before one is waited for."""

import pytest

from ctd_jax.training.pace import Pace


class Result:
    waited = False

    def block_until_ready(self):
        self.waited = True
        return self


@pytest.mark.parametrize(("platform", "ahead"), [("cpu", 0), ("gpu", 1), ("tpu", 1)])
def test_steps_that_nobody_waits_for(platform, ahead):
    pace, results = Pace(platform), [Result() for _ in range(5)]
    for i, result in enumerate(results):
        pace.add({"loss": result})
        assert [one.waited for one in results[: i + 1]] == [True] * (i + 1 - ahead) + [False] * min(ahead, i + 1)
