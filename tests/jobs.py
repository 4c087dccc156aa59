"""What the workers of tests/test_cluster.py do."""

import os
import signal
import time
from unittest import mock

from ctd_jax.errors import UserError


def process_after(seconds):
    time.sleep(seconds)
    return seconds, os.getpid()


def raise_mistake(text):
    raise UserError(text)


def divide(number):
    return 1 // number


def fill_disk(path):
    raise OSError(28, "No space left on device", path)


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def train_and_die_once(run):
    """Trains a run of a study. A process that has saved step 2 is killed; the file `saved`, beside the run's folder,
    gets process and step of each checkpoint."""
    from ctd_jax import study
    from ctd_jax.training import checkpoint

    def save(checkpoints, step, *rest, real=checkpoint.save):
        real(checkpoints, step, *rest)
        checkpoints.wait_until_finished()
        with (run.workdir.parent / "saved").open("a") as file:
            file.write(f"{os.getpid()} {step}\n")
        if step == 2:
            die(run)

    with mock.patch.object(checkpoint, "save", save):
        return study._train(run)
