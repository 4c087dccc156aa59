"""A signal is never lost."""

import gc
import os
import signal

import pytest

from ctd_jax import stopping


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
