"""Which checkpoints stay, and what comes back."""

import json

import numpy as np
import pytest

from configs import ft
from ctd_jax import checkpoint, step
from ctd_jax.errors import UserError


def state(number):
    values = np.arange(6, dtype=np.float32).reshape(2, 3) + number
    return step.TrainState(
        np.int32(number), {"encoder": {"kernel": values}}, {"encoder": {"mean": -values}}, (values, {"count": values})
    )


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(ft.get_config().to_dict()))
    return tmp_path


def test_the_latest_and_the_best_stay(run):
    with checkpoint.manager(run) as checkpoints:
        for number, error in ((10, 0.5), (20, 0.2), (30, 0.3), (40, 0.4)):
            checkpoint.save(checkpoints, number, state(number), {"landmarks": ["chin"]}, error)
        checkpoints.wait_until_finished()
        assert sorted(checkpoints.all_steps()) == [20, 40]
    with checkpoint.manager(run) as checkpoints:
        assert (checkpoints.latest_step(), checkpoints.best_step()) == (40, 20)
        found = checkpoint.restore(checkpoints, 40, state(0), {"landmarks": ("chin",)})
        assert found.step == 40
        np.testing.assert_array_equal(found.params["encoder"]["kernel"], state(40).params["encoder"]["kernel"])
        np.testing.assert_array_equal(found.opt_state[1]["count"], state(40).opt_state[1]["count"])
    variables, meta = checkpoint.best(run)
    np.testing.assert_array_equal(variables["params"]["encoder"]["kernel"], state(20).params["encoder"]["kernel"])
    np.testing.assert_array_equal(variables["batch_stats"]["encoder"]["mean"], state(20).batch_stats["encoder"]["mean"])
    assert meta == {"landmarks": ["chin"]}


def test_a_state_with_another_meta_is_not_restored(run):
    """Orbax itself would hand out arrays of other shapes without a word."""
    with checkpoint.manager(run) as checkpoints:
        checkpoint.save(checkpoints, 1, state(1), {"landmarks": ["chin"], "boxes": False}, 0.1)
        checkpoints.wait_until_finished()
        with pytest.raises(UserError, match="1: landmarks of this run have changed.*new --workdir"):
            checkpoint.restore(checkpoints, 1, state(0), {"landmarks": ("chin", "jaw"), "boxes": False})


def test_no_checkpoint_yet(run, tmp_path):
    with pytest.raises(UserError, match="no checkpoint yet"):
        checkpoint.best(run)
    with pytest.raises(UserError, match="config.json: no such file"):
        checkpoint.best(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
