"""Before JAX is imported: four simulated devices, and a compilation cache that outlives the run."""

import csv
import functools
import gc
import importlib.metadata
import json
import logging
import math
import os
import pathlib
import runpy
import subprocess
import sys
import threading

# Tests compile more than they compute: level 0 halves their time, and the older code for fusions, which jaxlib 0.11 no
# longer has, takes a third off again. It rounds in other ways: see `tiny.OLDER_FUSIONS`.
_XLA_FLAGS = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    _XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_XLA_FLAGS}"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE / "ctd_jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
os.environ.pop("TFDS_DATA_DIR", None)
# The processes that tests start would compile the whole package from its sources, each anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# PyTorch's threads spin while they wait for each other, and two processes that run tests have a core each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A tenth of the time was the search for garbage: what JAX has traced and compiled are millions of objects that stay.
gc.set_threshold(20_000, 10, 10)

import jax  # noqa: E402
import plots  # noqa: E402
import psutil  # noqa: E402
import pytest  # noqa: E402
import tiny  # noqa: E402

from ctd_jax import lock  # noqa: E402
from ctd_jax.data import synthetic  # noqa: E402
from ctd_jax.report import parts  # noqa: E402

gc.freeze()  # what is imported stays: the search for garbage need not look at it

SLOW = {"finished_run", "sure_run", "browser"}  # fixtures that train, or open a browser: what uses them is slow
MAX_RESIDENT = 2**31  # bytes of a process that runs tests; beyond it, what JAX has compiled is forgotten


def pytest_collection_modifyitems(items):
    for item in items:
        if SLOW.intersection(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory():
    """JAX keeps each program that it has compiled: of the whole suite, more than 5 GB."""
    yield
    if psutil.Process().memory_info().rss > MAX_RESIDENT:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _faces_drawn_once():
    """Nearly all runs are of the same few faces, each of which takes 10 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "draw", functools.lru_cache(2000)(synthetic.draw))
        yield


@pytest.fixture(scope="session", autouse=True)
def _blank_plots():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "save", plots.blank)
        yield


@pytest.fixture(scope="module")
def drawn_plots(_blank_plots):
    """Plots are drawn, as outside the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "save", plots.draw)
        yield


@pytest.fixture(scope="session")
def landmark_folder(tmp_path_factory):
    """Makes a landmark folder of drawn faces in a new place and returns its path, see `tiny.write_folder`."""

    def make(*, name: str = "faces", **settings):
        return tiny.write_folder(tmp_path_factory.mktemp("data") / name, **settings)

    return make


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory):
    """Weights of a tiny teacher, see `tiny`."""
    return tiny.write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.safetensors")


@pytest.fixture(scope="session")
def resnet8_file(tmp_path_factory):
    """All stages of the tiny teacher."""
    return tiny.write_teacher(tmp_path_factory.mktemp("resnet8") / "teacher.safetensors", tiny.RESNET8)


@pytest.fixture(scope="session")
def classifier_file(tmp_path_factory):
    """A tiny teacher that tells five people apart."""
    encoder = tiny.ENCODER | {"num_outputs": 5}
    return tiny.write_teacher(tmp_path_factory.mktemp("classifier") / "teacher.safetensors", encoder)


@pytest.fixture
def cli(monkeypatch, capsys):
    """Runs `python -m MODULE ARGUMENTS...` in this process; returns its exit code, standard output and error."""

    def call(module: str, *arguments: object) -> tuple[int, str, str]:
        logger = logging.getLogger("ctd_jax")
        handlers = list(logger.handlers)
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        monkeypatch.delitem(sys.modules, module, raising=False)  # runpy warns of a module that is imported already
        package, _, name = module.rpartition(".")
        if package in sys.modules:  # else the package still has the one of before
            monkeypatch.delattr(sys.modules[package], name, raising=False)
        monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # a command has its own
        monkeypatch.setattr(threading, "excepthook", threading.excepthook)
        monkeypatch.setattr("ctd_jax.data.prefetch.EVERY", math.inf)  # no line on stderr where the machine is slow
        capsys.readouterr()
        try:
            runpy.run_module(module, run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code
        finally:
            logger.handlers, logger.propagate = handlers, True
        return (code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, worker_id):
    """The workdir, standard output and error of a run on a landmark folder with spacing, the splits train, val, test1
    and test2, one landmark of one test picture missing, and two raters, one of them 2 px to the right. Its command line
    is in `arguments.json` beside it. The first process of xdist that asks for it trains it, for all of them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished"
    with lock.held(folder, wait=True):
        if not (folder / "stderr").exists():
            _train(folder)
    return folder / "run", (folder / "stdout").read_text("utf-8"), (folder / "stderr").read_text("utf-8")


def _train(folder: pathlib.Path) -> None:
    """See `finished_run`."""
    root = tiny.write_folder(folder / "faces", size=48)
    teacher_file = tiny.write_teacher(folder / "teacher.safetensors")
    with (root / "landmarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for rater, shift in (("one", 0), ("two", 2)):
        moved = [{k: float(cell) + shift if k.endswith("_x") else cell for k, cell in row.items()} for row in rows]
        with (root / f"landmarks_{rater}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(moved)
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(content | {"raters": ["one", "two"]}))
    tests = [row for row in rows if row["split"] == "test"]
    for i, row in enumerate(tests):
        row["split"] = f"test{1 + i // 2}"
    tests[0]["chin_x"] = tests[0]["chin_y"] = ""
    with (root / "landmarks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "spacing_x_mm", "spacing_y_mm"])
        writer.writeheader()
        writer.writerows(row | {"spacing_x_mm": 0.5, "spacing_y_mm": 0.25} for row in rows)
    repo = pathlib.Path(__file__).parents[1]
    small = tiny.arguments(teacher_file, data__root=root, constraints__ed__weight=0.01, eval__gradient_norms=True)
    arguments = [f"--config={repo / 'configs' / 'ctd_ed.py'}", f"--workdir={folder / 'run'}", *small]
    (folder / "arguments.json").write_text(json.dumps(arguments))
    command = [sys.executable, "-m", "ctd_jax.main", *arguments]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout, "utf-8")
    (folder / "stderr").write_text(done.stderr, "utf-8")
