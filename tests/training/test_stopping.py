"""A signal is never lost."""

import gc
import json
import os
import signal

import pytest

from ctd_jax.training import stopping
from ctd_jax.training.log import TrainingLog


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_comes_within_a_callback_is_heard_of_later():
    """Python drops what is raised there, as in JAX's callback of the garbage collection."""

    def callback(*_):
        gc.callbacks.remove(callback)
        os.kill(os.getpid(), signal.SIGTERM)

    with stopping.Signals() as signals:
        gc.callbacks.append(callback)
        gc.collect()
        with signals.noted():
            assert signals.asked(together=True) == "SIGTERM"


def test_a_signal_at_other_times_ends_the_run_at_once():
    with pytest.raises(stopping.Stopped, match="SIGTERM"), stopping.Signals():
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(10**6):
            pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_asked_to_stop_keeps_the_step_it_reached(finished_run, cli, tmp_path, monkeypatch, number):
    """Between two evaluations; and ends as one that was left alone."""
    arguments = json.loads((finished_run[0].parent / "arguments.json").read_text())
    arguments = [*(a for a in arguments if not a.startswith("--workdir=")), f"--workdir={tmp_path / 'run'}"]
    arguments.append("--config.eval.gradient_norms=False")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLog, "tick", lambda _, step: os.kill(os.getpid(), number) if step == 3 else None)
        code, _, error = cli("ctd_jax.main", *arguments)
    name = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}[number]
    assert code == 1, error
    assert f"error: stopped by {name} at step 3 of 4; the same command continues from there" in error
    assert "Traceback" not in error
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["2", "3"]
    if number == signal.SIGTERM:
        code, _, error = cli("ctd_jax.main", *arguments)
        assert code == 0 and "from step 3 of 4" in error
        assert (tmp_path / "run" / "predictions.csv").read_bytes() == (finished_run[0] / "predictions.csv").read_bytes()
