"""The moving average of the weights: the numbers of a few steps by hand, and that it is what a run is used by."""

import csv
import json
import shutil

import chex
import flax.struct
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny
from flax.traverse_util import flatten_dict

from configs import fe, ft
from ctd_jax import Predictor, training_run
from ctd_jax.metrics import read_predictions
from ctd_jax.tasks.landmarks import evaluate
from ctd_jax.tasks.landmarks.network import forward
from ctd_jax.training import checkpoint, digests, step
from ctd_jax.training.parallel import Parallel

LABELS = {"encoder": {"frozen": "frozen", "w": "encoder"}, "decoder": {"b": "decoder"}}
DECAYS = (1 / 10, 2 / 11, 0.2, 0.2)  # min(0.2, (1 + t) / (10 + t)) in steps 0, 1, 2, 3
PICTURES = np.random.default_rng(0).normal(size=(8, 3)).astype("f")


def start():
    params = {"encoder": {"frozen": np.ones(3, "f"), "w": np.full(3, 0.5, "f")}, "decoder": {"b": np.float32(0.25)}}
    return {"params": params, "batch_stats": {"mean": np.full(3, -0.5, "f")}}


def loss(params, batch_stats, frozen, batch, keys):
    """Least squares with a running mean of the pictures."""
    found = batch["picture"] @ (params["encoder"]["w"] + params["encoder"]["frozen"]) + params["decoder"]["b"]
    stats = {"mean": 0.5 * batch_stats["mean"] + batch["picture"].mean(0)}
    return (found - 1) ** 2, (stats, {"fit": found})


def train(body, batch, calls, *, averaged=True):
    """The state after each call of a body of `step`, as NumPy."""
    parallel, tx, variables = Parallel("shard_map", jax.devices()[:1]), step.optimizer(LABELS), start()
    average = step.first_average(variables, LABELS) if averaged else None
    state = step.TrainState(np.int32(0), **variables, opt_state=tx.init(variables["params"]), average=average)
    config = tiny.config("none", train__average=0.2, train__encoder_lr=0.1, train__decoder_lr=0.1)
    constants = step.constants(config.seed, config.train, {})
    inputs = (constants, {"picture": PICTURES}) if body is step.several else constants
    made = step.make(loss, tx, LABELS)
    compiled = parallel.compile(body(made) if body else made, sharded=False, donate=(0,))
    state, inputs, states = parallel.replicate(state), parallel.replicate(inputs), []
    for _ in range(calls):
        state, _ = compiled(state, inputs, parallel.shard(batch))
        states.append(parallel.first(state))
    return states


def test_the_average_of_four_steps_by_hand():
    states, without = (train(None, {"picture": PICTURES}, 4, averaged=averaged) for averaged in (True, False))
    assert without[-1].average is None
    want = {path: value.astype("d") for path, value in flatten_dict(start()).items() if "frozen" not in path}
    for decay, one, plain in zip(DECAYS, states, without, strict=True):
        chex.assert_trees_all_equal(one.params, plain.params, strict=True)  # training does not see its average
        last = flatten_dict({"params": plain.params, "batch_stats": plain.batch_stats})
        want = {path: decay * value + (1 - decay) * last[path] for path, value in want.items()}
        found = flatten_dict(one.average)
        assert found.keys() == want.keys() and len(want) == 3
        for path, value in want.items():
            np.testing.assert_allclose(found[path], value, rtol=1e-6)
            assert np.abs(value - last[path]).max() > 1e-3


def test_several_steps_without_the_host_average_as_single_ones():
    rows = np.tile(np.arange(8, dtype=np.int32)[:, None], 4)
    chex.assert_trees_all_close(train(step.several, rows, 1)[-1], train(None, {"picture": PICTURES}, 4)[-1], rtol=1e-6)


@pytest.mark.slow
def test_what_does_not_learn_is_not_averaged_and_what_does_not_change_stays_to_the_bit(teacher_file):
    task = tiny.task(teacher_file, fe)
    variables = jax.device_get(task.init(0))
    average = step.first_average(variables, task.param_labels(variables["params"]))
    assert set(average["params"]) == {"decoder"} and set(average["batch_stats"]) == {"encoder", "decoder"}
    parallel, tx = Parallel("shard_map"), step.optimizer(task.param_labels(variables["params"]))
    state = step.TrainState(np.int32(0), **variables, opt_state=tx.init(variables["params"]), average=average)
    made = step.make(task.loss, tx, task.param_labels(variables["params"]))
    constants = step.constants(0, tiny.config(teacher_file, fe, train__average=0.9).train, task.constants)
    state, constants = parallel.replicate((state, constants))
    compiled = parallel.compile(made, sharded=False)
    for number in (0, 4):
        state, _ = compiled(state, constants, parallel.shard(task.train.batch(np.arange(number, number + 4))))
    found = step.averaged(*parallel.first((state.params, state.batch_stats, state.average)))
    for kind, tree in found.items():
        chex.assert_trees_all_equal(tree["encoder"], variables[kind]["encoder"], strict=True)
        changed = jax.tree.map(lambda a, b: bool((a != b).any()), tree["decoder"], variables[kind]["decoder"])
        assert all(jax.tree.leaves(changed))


# ---------------------------------------------------------------- kept


META = {"encoder": {"name": "resnet8"}}


def state(number, average=None):
    values = np.random.default_rng(number).normal(size=(4, 5)).astype("f")
    params = {"encoder": {"frozen": values, "kernel": 2 * values}}
    return step.TrainState(np.int32(number), params, {"encoder": {"mean": -values}}, (values,), average)


def average_of(number):
    values = np.random.default_rng(100 + number).normal(size=(4, 5)).astype("f")
    return {"params": {"encoder": {"kernel": values}}, "batch_stats": {"encoder": {"mean": values + 1}}}


def write(folder, states):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(ft.get_config().to_dict()))
    with checkpoint.manager(folder) as checkpoints:
        for one in states:
            checkpoint.save(checkpoints, int(one.step), one, META, 0.5 - one.step / 100)
        checkpoints.wait_until_finished()
    return folder


def digest_of(run, number):
    content = json.loads((run / "checkpoints" / str(number) / "meta" / "metadata").read_text())
    return content["sealed"]["digests"]["network"]


def test_a_checkpoint_has_the_average_and_the_network_is_the_averages(tmp_path):
    run = write(tmp_path / "run", [state(1, average_of(1)), state(2, average_of(2))])
    number, found, _ = checkpoint.resume(run, state(0, average_of(0)), META)
    assert number == 2
    chex.assert_trees_all_equal(found, state(2, average_of(2)), strict=True)
    variables, _ = checkpoint.best(run)
    want = average_of(2)
    want["params"]["encoder"]["frozen"] = state(2).params["encoder"]["frozen"]
    chex.assert_trees_all_equal(variables, want, strict=True)
    other = write(tmp_path / "other", [state(2, average_of(1))])
    assert digest_of(other, 2) != digest_of(run, 2)


def test_an_average_that_is_not_what_was_written_is_passed_over(tmp_path, caplog):
    run, other = (write(tmp_path / name, [state(1, average_of(n)), state(2, average_of(n))])
                  for name, n in (("run", 1), ("other", 2)))  # fmt: skip
    shutil.rmtree(run / "checkpoints" / "2" / "state")
    shutil.copytree(other / "checkpoints" / "2" / "state", run / "checkpoints" / "2" / "state")
    assert checkpoint.resume(run, state(0, average_of(0)), META)[0] == 1
    chex.assert_trees_all_equal(checkpoint.best(run)[0]["batch_stats"], average_of(1)["batch_stats"], strict=True)
    assert caplog.text.count("2 is damaged (the numbers of the network are not those that were written)") == 2


@flax.struct.dataclass
class EarlierState:
    """What a checkpoint held before there was an average."""

    step: np.ndarray
    params: dict
    batch_stats: dict
    opt_state: tuple


def test_a_checkpoint_of_before_there_was_an_average_is_read(tmp_path):
    run, today = write(tmp_path / "run", [state(1)]), state(1)
    digest = digests.of_tree({"params": today.params, "batch_stats": today.batch_stats})
    assert digest_of(run, 1) == digest
    folder = run / "checkpoints" / "1" / "state"
    shutil.rmtree(folder)
    earlier = EarlierState(np.asarray(today.step), today.params, today.batch_stats, today.opt_state)
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as writer:
        writer.save(folder, args=ocp.args.StandardSave(earlier))
    number, found, _ = checkpoint.resume(run, state(0), META)
    assert number == 1
    chex.assert_trees_all_equal(found, today, strict=True)
    chex.assert_trees_all_equal(checkpoint.best(run)[0]["params"], today.params, strict=True)


# ---------------------------------------------------------------- used


@pytest.mark.slow
def test_a_run_is_judged_and_used_by_its_average(teacher_file, tmp_path):
    run, config = tmp_path / "run", tiny.config(teacher_file, ft, train__average=0.9, train__decoder_lr=0.01)
    training_run.train_and_evaluate(config, run)
    with open(run / "log.csv", encoding="utf-8", newline="") as file:
        errors = {int(row["step"]): float(row["val_error"]) for row in csv.DictReader(file) if row["val_error"]}
    best = min(errors, key=lambda number: (errors[number], -number))
    kept = checkpoint.read(run / "checkpoints" / str(best))
    weights = {key: kept[key] for key in ("params", "batch_stats")}
    assert flatten_dict(kept["average"]).keys() == flatten_dict(weights).keys()

    task, parallel = tiny.task(teacher_file, ft, train__decoder_lr=0.01), Parallel("shard_map")
    validate, body = task.validator(parallel), parallel.compile(forward(task.model, task.teacher.input), sharded=True)
    written = read_predictions(run / "predictions.csv")
    for variables, is_used in ((kept["average"], True), (weights, False)):
        variables = parallel.replicate(variables)
        table = evaluate.predict(body, variables, task.pictures.split("test"), parallel, 4)
        assert (np.abs(table.xy - written.xy).max() < 0.01) == is_used
        assert (validate(variables)[0] == pytest.approx(errors[best], rel=1e-5)) == is_used
    chex.assert_trees_all_equal(Predictor(run).trained.variables, kept["average"], strict=True)
