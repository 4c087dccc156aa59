"""A run whose val has enough subjects to tell how sure it is: ten, of which two have two pictures each."""

import pytest
import tiny

from configs import ft
from ctd_jax import data, training_run


@pytest.fixture(scope="session")
def sure_run(teacher_file, tmp_path_factory):
    """The workdir of a tiny run with ten subjects in val, and its test pictures."""
    workdir = tmp_path_factory.mktemp("sure") / "run"
    config = tiny.config(
        teacher_file, ft, data__synthetic__identities=(12, 10, 12), data__synthetic__shots=(1, 2, 1), eval__mirror=True
    )
    training_run.train_and_evaluate(config, workdir)
    return workdir, data.load(config.data, None).split("test")
