"""Workers of Dask: what they do, what they may not, and that one that is killed changes nothing."""

import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import jax
import jobs
import numpy as np
import psutil
import pytest
import tiny

from ctd_jax import cluster, study, versions
from ctd_jax.config import load_config
from ctd_jax.errors import UserError
from ctd_jax.training import checkpoint

REPO = tiny.REPO
PLACES = [str(REPO), str(REPO / "tests"), os.environ.get("PYTHONPATH", "")]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(PLACES)}
INTERRUPTED = """
import jobs, pathlib, sys
from ctd_jax import cluster

if __name__ == "__main__":
    with cluster.joined("local:2", pathlib.Path(sys.argv[1])) as workers:
        for _ in workers.map(jobs.process_after, {"a": 0, "b": 60}):
            print("begun", flush=True)
"""


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """Two processes of this machine; a job is given up when two have died with it."""
    with cluster.joined("local:2", tmp_path_factory.mktemp("shared")) as found:
        found._client.cluster.scheduler.allowed_failures = 1
        yield found


def http_port(dask_scheduler=None, dask_worker=None):
    return (dask_scheduler or dask_worker).http_server.port


@pytest.mark.slow
def test_nobody_else_sees_what_they_do(workers):
    """Dask has pages of its jobs, at port 8787 if that is free, which any user of the machine could read."""
    ports = [workers._client.run_on_scheduler(http_port), *workers._client.run(http_port).values()]
    assert len(ports) == 3 and 8787 not in ports
    for port, page in itertools.product(ports, ("health", "json/identity.json", "info/main/workers.html", "metrics")):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10)


@pytest.mark.parametrize("spec", ["4", "local", "local:0", "local:-1", "tcp://host", "http://host:80"])
def test_neither_workers_of_this_machine_nor_an_address(spec, tmp_path):
    with pytest.raises(UserError, match=f"--cluster is {spec}; expected local:N"), cluster.joined(spec, tmp_path):
        pass


def test_without_dask(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"pip install 'ctd_jax\[cluster\]'"), cluster.joined("local:2", tmp_path):
        pass
    with cluster.joined("", tmp_path) as found:
        assert found is None


def test_a_command_without_workers_does_not_load_dask():
    code = "import sys, ctd_jax.learning_curve, ctd_jax.predict; print({'dask', 'distributed'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.slow
def test_no_scheduler_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "ANSWER", 1)
    with socket.socket() as taken:  # nobody listens there
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"no scheduler answers at {address}"), cluster.joined(address, tmp_path):
            pass


def test_other_versions_are_no_workers(tmp_path):
    (tmp_path / "token").touch()
    place = cluster.Place(str(tmp_path), str(tmp_path / "token"), versions.describe() | {"jax": "0.1"})
    assert "has other versions (jax 0.1, now " in place.fault()
    assert place._replace(made_with=versions.describe()).fault() is None


@pytest.mark.slow
def test_results_come_in_order_from_several_processes(workers):
    found = list(workers.map(jobs.process_after, {"a": 3.0, "b": 0.5, "c": 0.5}))
    assert [seconds for seconds, _ in found] == [3.0, 0.5, 0.5]
    processes = {process for _, process in found}
    assert len(processes) == len(workers) == 2 and os.getpid() not in processes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "job", "kind", "text"),
    [
        (jobs.raise_mistake, "x is 1; expected 2", UserError, "^x is 1; expected 2$"),
        (jobs.divide, 0, RuntimeError, "^b: ZeroDivisionError: integer division"),
        (jobs.fill_disk, "/there", UserError, "^/there: No space left on device; make room"),
        (jobs.die, None, UserError, "^b: its worker has died 2 times, .*too little memory"),
    ],
)
def test_a_job_that_fails(workers, function, job, kind, text):
    with pytest.raises(kind, match=text) as error:
        list(workers.map(function, {"b": job}))
    assert kind is UserError or "jobs.py" in error.value.__notes__[0]


@pytest.fixture
def scheduler():
    """The address of a scheduler, which is a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host=127.0.0.1", f"--port={port}"]
    process = subprocess.Popen([*command, "--no-dashboard"], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    yield f"tcp://127.0.0.1:{port}"
    process.terminate()
    process.wait()


def joined_when_there(address, shared):
    """The message of the error that `joined` ends with, when there are workers."""
    until = time.monotonic() + 60
    while True:
        try:
            with cluster.joined(address, shared) as found:
                return list(found.map(jobs.process_after, {"a": 0.0}))
        except UserError as error:
            if "no scheduler" not in str(error) and "no workers" not in str(error) or time.monotonic() > until:
                return str(error)
            time.sleep(0.2)


def interrupted(address, shared):
    """The process of a worker that had a minute's job left when its command was interrupted."""
    with pytest.raises(KeyboardInterrupt), cluster.joined(address, shared) as found:
        results = found.map(jobs.process_after, {"a": 0.0, "b": 60.0})
        process = psutil.Process(next(results)[1])
        raise KeyboardInterrupt
    return process


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["good", "own disk", "threads"])
def test_workers_of_a_scheduler(scheduler, tmp_path, kind):
    """One that sees this disk, one that has another at its place, and one that would do two jobs at once."""
    (tmp_path / "shared").mkdir()
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--no-dashboard", "--memory-limit=0"]
    worker += [f"--nthreads={1 + (kind == 'threads')}", f"--local-directory={tmp_path}"]
    if kind == "own disk":
        alone = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
        mount = f"mount -t tmpfs none {tmp_path / 'shared'}"
        if not hasattr(os, "fork") or subprocess.run([*alone, mount], capture_output=True).returncode:
            pytest.skip("no process can have a disk of its own here")
        worker = [*alone, f'{mount} && exec "$@"', "sh", *worker]
    process = subprocess.Popen(worker, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    try:
        found = joined_when_there(scheduler, tmp_path / "shared")
        if kind == "good":
            ended = interrupted(scheduler, tmp_path / "shared")
            ended.wait(timeout=30)
    finally:
        process.terminate()
        process.wait()
    if kind == "good":
        assert found == [(0.0, ended.pid)]
    else:
        assert f"doesn't see {tmp_path / 'shared'} and " in found if kind == "own disk" else "has 2 threads" in found
    assert list((tmp_path / "shared").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("send", "number", "name"),
    [
        (os.killpg, signal.SIGINT, "Ctrl-C"),
        (os.kill, signal.SIGTERM, "SIGTERM"),
        (os.killpg, signal.SIGTERM, "SIGTERM"),
    ],
)
def test_a_command_that_is_stopped_ends_its_workers(tmp_path, send, number, name):
    """As a terminal and a batch system do it, which send the signal to every process, and as `kill` does."""
    (tmp_path / "main.py").write_text(INTERRUPTED)
    command = [sys.executable, "main.py", str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    begun = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, start_new_session=True, **pipes)
    assert begun.stdout.readline() == "begun\n"
    all_of_them = psutil.Process(begun.pid).children(recursive=True)
    processes = [one for one in all_of_them if "spawn_main" in " ".join(one.cmdline())]
    send(begun.pid, number)
    _, error = begun.communicate(timeout=60)
    found = error.count("Traceback"), f"Stopped: stopped by {name};" in error, "WARNING" in error
    assert found == (1, True, False), error
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert len(processes) == 2 and alive == []
    assert not list(tmp_path.glob(".cluster-*"))


class OneRun(study.Study[str, str]):
    """The run whose arguments are in a file."""

    def trial(self, method, setting, seed, split):
        file, _, *overrides = json.loads(pathlib.Path(method).read_text())
        keys = [override.removeprefix("--config.") for override in overrides]
        return study.Trial("run", load_config(file.removeprefix("--config="), keys), {})

    def lines_of(self, run):
        return [{"run": run.workdir.name}]


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(workers, finished_run, tmp_path, monkeypatch, capsys):
    """Another one goes on from the first checkpoint, and ends as the process that nobody has killed."""
    monkeypatch.setattr(study, "_train", jobs.train_and_die_once)
    mine, alone = OneRun(tmp_path, tmp_path / "table.csv"), finished_run[0]
    mine.workers, mine.total = workers, 1
    run = mine.run(str(alone.parent / "arguments.json"), "", 0)
    (first, step), (second, last) = (line.split() for line in (tmp_path / "saved").read_text().splitlines())
    assert (step, last) == ("2", "4") and first != second
    assert (run.workdir / "predictions.csv").read_bytes() == (alone / "predictions.csv").read_bytes()
    jax.tree.map(np.testing.assert_array_equal, checkpoint.best(run.workdir), checkpoint.best(alone))
    known = json.loads((alone / "metrics.json").read_text())
    assert run.result | {"seconds": 0} == known | {"seconds": 0}
    assert capsys.readouterr().err.startswith("run 1 of 1: run (")


@pytest.mark.slow
def test_a_file_that_is_seen_late(tmp_path):
    late = threading.Timer(0.3, (tmp_path / "late").touch)
    late.start()
    cluster.wait_for(tmp_path / "late")
    assert (tmp_path / "late").exists()
