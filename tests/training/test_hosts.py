"""Several devices and several processes: what one does, they do."""

import csv
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest
import tiny

from ctd_jax import metrics, models
from ctd_jax.errors import UserError
from ctd_jax.tasks import landmarks
from ctd_jax.tasks.landmarks import evaluate
from ctd_jax.training import checkpoint, hosts
from ctd_jax.training.log import SPEEDS
from ctd_jax.training.parallel import Parallel

pytestmark = pytest.mark.slow

REPO = pathlib.Path(__file__).parents[2]
CONFIG = f"--config={REPO / 'configs' / 'source.py'}"
VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def launch(*arguments, devices=2, processes=2, extra=((), ())):
    """Starts `python ARGUMENTS EXTRA` as `processes` processes, each with arguments of its own and so many devices, and
    with XLA's newer code for fusions; gives (code, out, error) of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    newer = tiny.newer_fusions()
    flags = f"{newer['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"  # the last one holds
    paths = [str(REPO), str(REPO / "tests"), str(REPO / "tests" / "training"), os.environ.get("PYTHONPATH", "")]
    environment = newer | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    started = []
    for i in range(processes):
        told = dict(zip(VARIABLES, (address, str(processes), str(i)), strict=True)) if processes > 1 else {}
        command = [sys.executable, *map(str, (*arguments, *extra[i]))]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=REPO, env=environment | told, text=True, **pipes))
    try:
        ended = [(*process.communicate(timeout=600), process.returncode) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    lines = [line for out, _, _ in ended for line in out.splitlines(keepends=True)]
    # Of JAX on CPUs; of two such lines written at once the number at an end, or nothing, is a line of its own.
    gloo = {line for line in lines if "[Gloo]" in line or "peer ranks" in line or re.fullmatch(r"\d*\n", line)}
    return [(code, "".join(s for s in out.splitlines(keepends=True) if s not in gloo), e) for out, e, code in ended]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_log(run, want):
    for found, expected in zip(rows(run / "log.csv"), rows(want / "log.csv"), strict=True):
        assert found.keys() == expected.keys()
        for key in found.keys() - set(SPEEDS):
            number = [float(row[key] or "nan") for row in (found, expected)]
            assert number[0] == pytest.approx(number[1], rel=1e-5, abs=1e-5, nan_ok=True), key


def assert_same_run(run, want):
    """Losses, rates, validation errors, the last state, all predictions and metrics."""
    assert_same_log(run, want)
    states = [checkpoint.read(folder / "checkpoints" / "4") for folder in (run, want)]
    chex.assert_tree_all_finite(states)
    for part in ("params", "batch_stats"):
        chex.assert_trees_all_close(*(state[part] for state in states), rtol=1e-7, atol=1e-5)
    for found, expected in zip(rows(run / "predictions.csv"), rows(want / "predictions.csv"), strict=True):
        assert found["image"] == expected["image"]
        for key, digits in (("x", 0.01), ("y", 0.01), ("confidence", 1e-3)):  # px; the peaks of four steps are flat
            assert float(found[key]) == pytest.approx(float(expected[key]), abs=digits), key
    for name in ("metrics.json", "metrics_test1.json", "metrics_test2.json"):
        found, expected = (json.loads((folder / name).read_text()) for folder in (run, want))
        assert found.keys() == expected.keys()
        for key in found.keys() - {"seconds"}:
            if isinstance(found[key], float):
                assert found[key] == pytest.approx(expected[key], rel=2e-5), key
            elif not isinstance(found[key], dict):
                assert found[key] == expected[key], key
    assert (run / "split.csv").read_bytes() == (want / "split.csv").read_bytes()
    assert {p.name for p in run.iterdir()} == {p.name for p in want.iterdir()}


# ---------------------------------------------------------------- several processes

KILLED = """
import os, runpy, signal
from ctd_jax.training import checkpoint
save, saved = checkpoint.save, []
def save_or_die(checkpoints, *rest):
    if saved:
        os.kill(os.getpid(), signal.SIGKILL)
    save(checkpoints, *rest)
    checkpoints.wait_until_finished()
    saved.append(1)
checkpoint.save = save_or_die
runpy.run_module("ctd_jax.main", run_name="__main__")
"""


@pytest.fixture(scope="module")
def arguments(finished_run):
    """The command line of `finished_run`, less its folder."""
    arguments = json.loads((finished_run[0].parent / "arguments.json").read_text())
    return [a for a in arguments if not a.startswith("--workdir=")]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """The run and the standard output of one process with four devices."""
    run = tmp_path_factory.mktemp("whole") / "run"
    ((code, out, error),) = launch("-m", "ctd_jax.main", *arguments, f"--workdir={run}", devices=4, processes=1)
    assert code == 0, error
    return run, out


@pytest.fixture(scope="module")
def killed(arguments, tmp_path_factory):
    """The run of two processes that were killed after the first checkpoint."""
    run = tmp_path_factory.mktemp("killed") / "run"
    on_device = "--config.data.on_device=yes"
    ended = launch("-c", KILLED, *arguments, on_device, f"--workdir={run}", "--distributed")
    # One may see the other die before its own turn comes.
    assert {code for code, _, _ in ended} <= {-signal.SIGKILL, -signal.SIGABRT}, ended
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["2"]
    assert "step 2/4" in ended[0][2]
    assert "step" not in ended[1][2]
    return run


def test_two_processes_continue_to_the_end_of_one(killed, arguments, whole, tmp_path):
    run = shutil.copytree(killed, tmp_path / "run")
    command = ("-m", "ctd_jax.main", *arguments, f"--workdir={run}", "--distributed", "--config.parallel=pmap")
    (code, out, error), other = launch(*command)
    assert code == 0, error
    assert other == (0, "", "")  # the first speaks
    assert out.splitlines()[:-1] == whole[1].splitlines()[:-1]
    assert f"continuing {run} from step 2 of 4" in error
    assert_same_run(run, whole[0])


def test_one_device_continues_a_checkpoint_of_four(killed, arguments, whole, tmp_path):
    run = shutil.copytree(killed, tmp_path / "run")
    ((code, _, error),) = launch("-m", "ctd_jax.main", *arguments, f"--workdir={run}", devices=1, processes=1)
    assert code == 0, error
    assert f"continuing {run} from step 2 of 4" in error
    assert_same_run(run, whole[0])


SMALL_ENCODER = """
import functools, runpy
from ctd_jax import models
models.ENCODERS["resnet8"] = functools.partial(models.ENCODERS["resnet8"], stage_sizes=(1,))
runpy.run_module("ctd_jax.main", run_name="__main__")
"""


def test_two_processes_learn_who_is_who(tmp_path):
    changes = {"train__steps": 2, "train__encoder_lr": 1e-4, "eval__batch_size": 3, "eval__split": "val"}
    arguments = [CONFIG, *tiny.arguments("none", **changes, data__synthetic__identities=(4, 3, 0))]
    command = ("-c", SMALL_ENCODER, *arguments)
    (one,) = launch(*command, f"--workdir={tmp_path / 'one'}", devices=4, processes=1)
    first, second = launch(*command, f"--workdir={tmp_path / 'two'}", "--distributed")
    assert (one[0], first[0]) == (0, 0), one[2] + first[2]
    assert second == (0, "", "")
    found, want = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("two", "one"))
    assert found | {"seconds": 0} == want | {"seconds": 0}
    found, want = (models.weight_file.load(tmp_path / name / "teacher.safetensors")[0] for name in ("two", "one"))
    chex.assert_trees_all_close(found["batch_stats"], want["batch_stats"], rtol=1e-7, atol=1e-5)
    chex.assert_trees_all_equal_shapes(found, want)
    apart = jax.tree.map(lambda a, b: np.abs(a - b).ravel(), found["params"], want["params"])
    apart = np.concatenate(jax.tree.leaves(apart))
    # Adam moves a weight whose gradient is mere rounding as far as any other: by 2e-4 in two steps.
    assert (apart > 1e-5).sum() <= max(1, 1e-5 * apart.size) and apart.max() < 4e-4, np.sort(apart)[-20:]
    assert_same_log(tmp_path / "two", tmp_path / "one")
    assert (tmp_path / "two" / "log.csv").read_text().count("\n") == 3


WORK = """
import os, sys, time
import jax, numpy as np
from ctd_jax.training import hosts
hosts.join()
from ctd_jax.errors import UserError
from ctd_jax.training.parallel import Parallel

folder, process = sys.argv[1], jax.process_index()
assert (jax.process_count(), jax.device_count(), hosts.is_first()) == (2, 4, process == 0)
for kind in ("shard_map", "pmap"):
    parallel = Parallel(kind)
    rows = np.arange(24.0, dtype=np.float32).reshape(8, 3)
    share = parallel.share(rows)
    assert share.tolist() == rows[4 * process : 4 * process + 4].tolist()
    factor, batch = parallel.replicate(np.float32(2)), parallel.shard({"x": share})
    double = parallel.compile(lambda factor, b: (factor * b["x"], b["x"][:, 0]), sharded=True)
    found = parallel.gather(double(factor, batch))
    assert [x.tolist() for x in found] == [(2 * rows).tolist(), rows[:, 0].tolist()]
    assert parallel.gather(batch)["x"].tolist() == rows.tolist()
    mean = parallel.compile(lambda factor, b: jax.lax.pmean(factor * b["x"].mean(), "data"), sharded=False)
    assert parallel.first(mean(factor, batch)) == 2 * rows.mean()
    try:
        parallel.check_batch(6, "train.batch_size")
    except UserError as error:
        assert "devices, 4 (2 in each of 2 processes)" in str(error)
    else:
        raise AssertionError

def prepare():
    path = os.path.join(folder, "prepared")
    if process == 0:
        time.sleep(0.3)
        open(path, "w").close()
    return os.path.exists(path)

assert hosts.first_then_others(prepare)
hosts.by_first(lambda: open(os.path.join(folder, f"written{process}"), "w").close())
assert os.path.exists(os.path.join(folder, "written0")) and not os.path.exists(os.path.join(folder, "written1"))

def fail(kind, where):
    if process == where:
        raise kind("a mistake")
    return process

for kind, of_others, where in ((UserError, UserError, 1), (UserError, UserError, 0), (KeyError, RuntimeError, 1)):
    try:
        hosts.together(lambda: fail(kind, where))
    except (kind if process == where else of_others) as error:
        assert process == where or f"process {where} of 2: " in str(error) and "a mistake" in str(error)
    else:
        raise AssertionError
assert hosts.together(lambda: fail(UserError, None)) == process
hosts.check_same({"colour": [1.5, "red"], "size": process * 0})
try:
    hosts.check_same({"colour": "red", "size": process, "shape": [process]})
except UserError as error:
    assert "differ in their size and shape;" in str(error)
else:
    raise AssertionError
"""


def test_processes_work_together(tmp_path):
    for code, out, error in launch("-c", WORK, tmp_path):
        assert (code, out, error) == (0, "", "")


def test_processes_that_were_started_differently(teacher_file, tmp_path):
    arguments = ("-m", "ctd_jax.main", CONFIG, f"--workdir={tmp_path / 'run'}", "--distributed")
    for code, _, error in launch(*arguments, extra=((), ("--config.seed=1",))):
        assert code == 2, error
        assert error == (
            "error: the processes differ in their configuration; start all with the same command line and files\n"
        )
    assert not (tmp_path / "run").exists()


LONELY = """
import sys
from ctd_jax import command
from ctd_jax.training import hosts
hosts.END_TIMEOUT = 1
def main():
    hosts.join()
    import jax
    from ctd_jax.errors import UserError
    hosts.together(lambda: None)
    if jax.process_index() == 1:
        raise UserError("a mistake of one process")
    hosts.together(lambda: None)
command.run(main, "")
"""


def test_an_error_that_one_process_finds_alone_leaves_none_behind():
    first, (code, _, error) = launch("-c", LONELY)
    assert (code, error.splitlines()[0]) == (2, "error: a mistake of one process")
    assert first[0] != 0


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({"JAX_COORDINATOR_ADDRESS": "localhost"}, "JAX_COORDINATOR_ADDRESS is 'localhost'; expected HOST:PORT"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES is 'two'; expected a whole number"),
        ({"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID is '-1'; expected a whole number"),
    ],
)
def test_a_wrong_environment(monkeypatch, environment, part):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=part):
        hosts.join()


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({}, "--distributed: coordinator_address should be defined.; expected a cluster that JAX knows (Slurm"),
        ({"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "JAX_NUM_PROCESSES": "2"}, "--distributed: The process id of"),
        (dict(zip(VARIABLES, ("127.0.0.1:1", "2", "2"), strict=True)), "process_id=2, num_processes=2"),
        (dict(zip(VARIABLES, ("127.0.0.1:1", "2", "1"), strict=True)), "not all processes came within 1 s; expected"),
    ],
)
def test_an_incomplete_environment(environment, part):
    code = "from ctd_jax import command; from ctd_jax.training import hosts; hosts.START_TIMEOUT = 1"
    code += "; command.run(hosts.join, '')"
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, env=clean | environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert part in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


# ---------------------------------------------------------------- several devices


def twenty_steps(teacher, kind, devices):
    """The losses of twenty steps, and the metrics of what they lead to."""
    task = tiny.task(teacher, train__batch_size=8, train__steps=20, data__synthetic__identities=(4, 5, 2))
    batches = task.train.training_batches(batch_size=8, seed=0, start=0)
    state, means = tiny.trainer(task, kind, devices, newer_fusions=True)([next(batches) for _ in range(20)])
    parallel = Parallel(kind, jax.devices()[:devices])
    body = parallel.compile(landmarks.forward(task.model, task.teacher.input), sharded=True)
    variables = parallel.replicate({"params": state.params, "batch_stats": state.batch_stats})
    table = evaluate.predict(body, variables, task.pictures.split("val"), parallel, batch_size=4)
    summary = evaluate.summarize(table, task.landmarks, task.config)
    return {
        "losses": [mean["loss"] for mean in means],
        "metrics": {key: value for key, value in summary.items() if isinstance(value, float)},
    }


EIGHT = f"""
import json, sys
sys.path.insert(0, {os.fspath(pathlib.Path(__file__).parent)!r})
import test_hosts
print(json.dumps(test_hosts.twenty_steps(sys.argv[1], sys.argv[2], 8)))
"""


def test_any_number_of_devices_has_the_same_losses_and_metrics(teacher_file):
    ((code, out, error),) = launch("-c", EIGHT, teacher_file, "shard_map", devices=8, processes=1)
    assert code == 0, error
    want = twenty_steps(teacher_file, "shard_map", 1)
    assert want["losses"][-1] < want["losses"][0]
    assert "me_px" in want["metrics"]
    for found in (twenty_steps(teacher_file, "pmap", 2), twenty_steps(teacher_file, "shard_map", 4), json.loads(out)):
        np.testing.assert_allclose(found["losses"], want["losses"], rtol=0, atol=1e-5)
        assert found["metrics"] == pytest.approx(want["metrics"], rel=1e-5)


@pytest.mark.parametrize(("kind", "devices", "size"), [("shard_map", 1, 3), ("shard_map", 4, 5), ("pmap", 4, 4)])
def test_evaluation_is_the_same_in_any_batches_and_compiles_once(teacher_file, kind, devices, size):
    """Ten pictures: the last batch is never full."""
    task = tiny.task(teacher_file, data__synthetic__identities=(4, 5, 2))
    made_of, part, variables = (task.model, task.teacher.input), task.pictures.split("val"), task.init(0)
    assert len(part) == 10

    def predict(kind, devices, size):
        parallel, forward, traced = Parallel(kind, jax.devices()[:devices]), landmarks.forward(*made_of), []

        def body(variables, batch):
            traced.append(batch["picture"].shape)
            return forward(variables, batch)

        compiled, placed = parallel.compile(body, sharded=True), parallel.replicate(variables)
        full = np.zeros((-(-size // devices) * devices, 32, 32, 3), np.uint8)
        compiled(placed, parallel.shard({"picture": full}))
        once = list(traced)
        table = evaluate.predict(compiled, placed, part, parallel, size)
        assert once and traced == once
        return table

    found, want = predict(kind, devices, size), predict("shard_map", 1, 1)
    assert list(found.images) == list(want.images) == list(part.images)
    np.testing.assert_allclose(found.xy, want.xy, atol=1e-4)
    np.testing.assert_allclose(found.confidence, want.confidence, atol=1e-6)
    errors = [metrics.image_errors(table, task.landmarks.normalizer) for table in (found, want)]
    for a, b in zip(*(e.values() for e in errors), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
