"""Pictures that stay on the device: the same run as with pictures from the host."""

import csv

import chex
import jax
import numpy as np
import pytest
import tiny

from ctd_jax import data, training_run
from ctd_jax.errors import UserError
from ctd_jax.training import feed
from ctd_jax.training.parallel import Parallel

pytestmark = pytest.mark.slow

STEPS = {"train__steps": 13, "eval__every": 4, "data__synthetic__identities": (8, 2, 2)}


def run(teacher_file, workdir, **changes):
    """log.csv and predictions.csv of a run."""
    config = tiny.config(teacher_file, **STEPS, eval__gradient_norms=True, **changes)
    training_run.train_and_evaluate(config, workdir)
    tables = []
    for name in ("log.csv", "predictions.csv"):
        with (workdir / name).open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    return tables


@pytest.fixture(scope="module")
def from_host(teacher_file, tmp_path_factory):
    return run(teacher_file, tmp_path_factory.mktemp("host") / "run", data__on_device="no")


@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
def test_a_run_is_the_same_with_its_pictures_on_the_device(teacher_file, tmp_path, from_host, kind):
    log, predictions = run(teacher_file, tmp_path / "run", data__on_device="yes", parallel=kind)
    assert [row["step"] for row in log] == [row["step"] for row in from_host[0]]
    for row, want in zip(log, from_host[0], strict=True):
        for key in ("loss", "heatmap", "ed", "val_error", "gradient_ed"):
            assert float(row[key] or 0) == pytest.approx(float(want[key] or 0), rel=1e-3, abs=1e-5), key
    for row, want in zip(predictions, from_host[1], strict=True):
        assert (row["image"], row["landmark"]) == (want["image"], want["landmark"])
        assert [float(row[a]) for a in "xy"] == pytest.approx([float(want[a]) for a in "xy"], abs=0.02)


def choose(config, devices=None):
    dataset = data.load(config.data, None).split("train")
    plan = feed.Plan(config.train.steps, config.eval.every, config.train.batch_size, config.seed)
    return feed.choose(dataset, plan, Parallel("shard_map", devices), config.data.on_device)


def calls(config, start):
    return list(choose(config, jax.devices()[:2]).calls(start))


def test_calls_end_at_the_rows_of_the_log_and_have_the_batches_of_the_host(teacher_file):
    config = tiny.config(teacher_file, **STEPS, data__on_device="yes")
    found = calls(config, 0)
    assert [end for end, _, _ in found] == [4, 8, 10, 12, 13]
    assert [rows.shape for _, rows, _ in found] == [(4, 4), (4, 4), (4, 2), (4, 2), (4, 1)]
    config.data.on_device = "no"
    of_host = calls(config, 0)
    assert [end for end, _, _ in of_host] == list(range(1, 14))
    for end, _, last in found:
        chex.assert_trees_all_equal(last(), of_host[end - 1][2]())


def test_calls_of_a_run_that_continues(teacher_file):
    config = tiny.config(teacher_file, **STEPS, data__on_device="yes")
    whole, rest = calls(config, 0), calls(config, 8)
    for (end, rows, _), (want_end, want, _) in zip(rest, whole[2:], strict=True):
        assert end == want_end
        np.testing.assert_array_equal(rows, want)


def test_auto_stays_with_the_host_on_a_cpu(teacher_file):
    assert type(choose(tiny.config(teacher_file))) is feed.HostFeed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__on_device": "maybe"}, "data.on_device is 'maybe'; expected auto, yes or no"),
        ({"data__on_device": "yes", "data__cache_mib": 0}, "need more than data.cache_mib, 0 MiB"),
    ],
)
def test_wrong_values(teacher_file, changes, message):
    with pytest.raises(UserError, match=message):
        choose(tiny.config(teacher_file, **changes))
