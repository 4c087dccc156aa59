"""What a step needs, what there is, and the advice."""

import subprocess
import sys
import types

import jax
import numpy as np
import psutil
import pytest
import tiny

from ctd_jax.errors import UserError
from ctd_jax.training import memory, step
from ctd_jax.training.memory import Need
from ctd_jax.training.parallel import Parallel

GIB = 2**30
NEED = Need(parameters=GIB, optimizer=2 * GIB, activations=8 * GIB, total=12 * GIB)


def train(**changes):
    return types.SimpleNamespace(**{"batch_size": 32, "accumulate_steps": 2, "remat": False} | changes)


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("memory_", "memory.")).write_text(text)


@pytest.fixture
def machine(monkeypatch):
    """A machine of which 8000 kB are available."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=8000 * 1024))


def test_what_is_available_is_what_linux_says(tmp_path):
    with open("/proc/meminfo") as file:
        (said,) = (int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    assert memory.available(tmp_path) == pytest.approx(said, rel=0.2)  # other processes come and go


def test_what_is_available_is_the_least_of_machine_and_groups(machine, tmp_path):
    assert memory.available(tmp_path) == 8000 * 1024  # no Linux
    write(tmp_path / "proc/self", cgroup="0::/job/step\n")
    assert memory.available(tmp_path) == 8000 * 1024
    job, stat = tmp_path / "sys/fs/cgroup/job", "anon 1\ninactive_file 500000\n"
    write(job / "step", memory_max="max\n", memory_current="7\n", memory_stat=stat)
    assert memory.available(tmp_path) == 8000 * 1024
    write(job, memory_max="4000000\n", memory_current="1000000\n", memory_stat=stat)
    assert memory.available(tmp_path) == 3_500_000


def test_what_is_available_in_a_group_of_version_1(machine, tmp_path):
    write(tmp_path / "proc/self", cgroup="3:cpuset:/\n4:memory:/slurm/job\n0::/\n")
    used = {"memory_limit_in_bytes": "4000000", "memory_usage_in_bytes": "1000000"}
    write(tmp_path / "sys/fs/cgroup/memory/slurm", memory_stat="inactive_file 1\ntotal_inactive_file 200000", **used)
    assert memory.available(tmp_path) == 3_200_000


def test_devices_of_a_cpu_share_what_is_available(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 8 * GIB)
    assert memory.limit(jax.devices()[:4]) == 2 * GIB
    assert memory.limit(jax.devices()[:1]) == 8 * GIB


def test_an_accelerator_says_itself_or_nothing_is_known():
    device = types.SimpleNamespace(process_index=0, memory_stats=lambda: {"bytes_limit": 5, "bytes_in_use": 3})
    assert memory.limit([types.SimpleNamespace(process_index=1), device]) == 5
    assert memory.limit([types.SimpleNamespace(process_index=0, memory_stats=lambda: {"bytes_in_use": 3})]) is None


def test_what_fits_is_let_through():
    memory.check(NEED, 12 * GIB, train(), 1)
    memory.check(NEED, None, train(), 1)


@pytest.mark.parametrize(
    ("limit", "changes", "devices", "parts"),
    [
        # 16 pictures at once need 4 + 8 GiB: 8 need 4 + 4, 4 need 4 + 2
        (8, {}, 1, ["accumulate_steps=4 (about 8.0 GiB)", "batch_size=16 (about 8.0 GiB)", "remat=True"]),
        (7, {}, 1, ["accumulate_steps=8 (about 6.0 GiB)", "batch_size=8 (about 6.0 GiB)"]),
        (4.5, {}, 1, ["accumulate_steps=32 (about 4.5 GiB)", "batch_size=2 (about"]),
        (4.5, {}, 4, ["smaller --config.data.image_size", "even one picture", "remat=True"]),  # 4 at once
        (6, {"batch_size": 18, "accumulate_steps": 1}, 2, ["accumulate_steps=9 (about 4.9 GiB)", "batch_size=2"]),
    ],
)
def test_advice(limit, changes, devices, parts):
    with pytest.raises(UserError) as error:
        memory.check(NEED, limit * GIB, train(**changes), devices)
    for part in ("parameters 1.0 GiB, optimiser 2.0 GiB, activations 8.0 GiB, in all 12.0 GiB of", *parts):
        assert part in str(error.value)


def test_no_advice_to_do_what_is_done():
    with pytest.raises(UserError) as error:
        memory.check(NEED, GIB, train(remat=True), 1)
    assert "remat" not in str(error.value)


def test_only_an_allocators_error_is_a_mistake():
    with pytest.raises(jax.errors.JaxRuntimeError), memory.advising("anything"):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
    words = r"ran out of memory \(RESOURCE_EXHAUSTED: 9 bytes\); sit down"
    with pytest.raises(UserError, match=words), memory.advising("sit down"):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 bytes\nmore")


@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("averaged", [False, True])
def test_the_need_of_a_step_is_that_of_its_arrays(kind, devices, averaged):
    """State in place, the teacher, a share of the batch: what is beside them is called activations."""
    parallel, labels = Parallel(kind, jax.devices()[:devices]), {"w": "encoder"}
    params, teacher = {"w": np.ones((1000, 100), "f")}, np.ones(5000, "f")

    def loss(params, batch_stats, constants, batch, keys):
        return batch["picture"] @ params["w"].sum(0) + constants["teacher"].sum(), (batch_stats, {})

    tx = step.optimizer(labels)
    variables = {"params": params, "batch_stats": {"mean": np.zeros(50, "f")}}
    average = step.first_average(variables, labels) if averaged else None
    state = step.TrainState(np.int32(0), **variables, opt_state=tx.init(params), average=average)
    state, constants = parallel.replicate((state, step.constants(0, tiny.config("none").train, {"teacher": teacher})))
    batch = parallel.shard({"picture": np.ones((40, 100), "f")})
    made = parallel.compile(step.make(loss, tx, labels), sharded=False, donate=(0,))
    need = Need.of(made.lower(state, constants, batch).compile(), state)
    w = 4 * 1000 * 100
    assert need.parameters == w
    assert need.optimizer == 2 * w + 8  # a counter for the encoder's part, and one for the decoder's
    assert need.average == (w + 4 * 50) * averaged
    assert ("average 0.4 MiB" in need.text(None)) == averaged
    arrays = 3 * w + 4 * (50 + 5000 + 40 * 100 // devices) + need.average
    assert arrays <= need.total - need.activations <= arrays + 1000


@pytest.mark.slow
@pytest.mark.parametrize("large", [True, False])
def test_traces_of_a_large_step_are_forgotten(large):
    traced = []
    double = jax.jit(lambda x: traced.append(x) or 2 * x)
    double(1.0)
    ahead = double.lower(1.0).compile()
    memory.give_back_after_compiling(memory.LARGE + large)
    double(1.0)
    assert len(traced) == 1 + large
    assert ahead(2.0) == 4


@pytest.mark.slow
def test_gradient_norms_are_planned_before_the_first_step(capsys, monkeypatch):
    """They have their own temporary memory, and are refused if only they do not fit."""

    def program(temporary):
        plan = types.SimpleNamespace(
            argument_size_in_bytes=GIB, output_size_in_bytes=0, alias_size_in_bytes=0, temp_size_in_bytes=temporary
        )
        return types.SimpleNamespace(memory_analysis=lambda: plan)

    lowered = types.SimpleNamespace(compile=lambda: program(GIB))
    made = types.SimpleNamespace(lower=lambda *_: lowered)
    nothing = types.SimpleNamespace(params=(), opt_state=(), average=())
    train, devices = tiny.config("none").train, jax.devices()[:1]
    monkeypatch.setattr(memory, "resident", lambda: GIB)
    monkeypatch.setattr(memory, "available", lambda: 4 * GIB)
    memory.compile_step(made, nothing, (), (), train, devices, program(3 * GIB))
    said = capsys.readouterr().err
    assert said.endswith("with the program, 2.0 GiB, and 4.0 GiB where gradient norms are measured\n")
    with pytest.raises(UserError, match=r"need 5.0 GiB of 4.0 GiB; give --config.eval.gradient_norms=False"):
        memory.compile_step(made, nothing, (), (), train, devices, program(4 * GIB))
    memory.compile_step(made, nothing, (), (), train, devices)
    assert "gradient norms" not in capsys.readouterr().err.splitlines()[-1]


KEPT = """
import numpy, psutil
from ctd_jax.training import memory

def resident():
    return psutil.Process().memory_info().rss >> 20

memory.keep()
before = resident()
arrays = [numpy.ones(2**17) for _ in range(200)]  # a MiB each
del arrays[:-1]  # below one that stays
kept = resident()
memory.give_back()
print(kept - before, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what is kept is a setting of glibc")
def test_free_memory_is_kept_until_it_is_given_back():
    kept, given_back = map(int, subprocess.check_output([sys.executable, "-c", KEPT], text=True).split())
    assert kept > 190 and given_back < 20


PIECES = """
import contextlib, ctypes, sys
from ctd_jax.training import memory
memory.keep()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def get(mib):
    place = libc.malloc(ctypes.c_size_t(mib * 2**20))
    libc.memset(place, 1, mib * 2**20)
    return place
def peak():
    with open("/proc/self/status") as file:  # ru_maxrss is also of the process that started this one
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 2**10
"""
STEPS = """
if sys.argv[1] == "with":
    memory.make_pocket()
for _ in range(3):
    step = get(300)
    get(1)
    libc.free(step)
    get(1)
print(peak())
"""
LOOKS = """
between = memory.without_a_steps(300 * 2**20) if sys.argv[1] == "with" else contextlib.nullcontext()
step = get(300)
get(1)
libc.free(step)
with between:
    get(60)
step = get(300)
print(peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(memory.in_use() is None, reason="no glibc, or one before 2.33")
def test_a_step_gets_the_memory_of_the_last_one_though_small_things_came_between():
    with_pocket, without = (
        float(subprocess.check_output([sys.executable, "-c", PIECES + STEPS, pocket])) for pocket in ("with", "without")
    )
    assert with_pocket < 450 and without > 600  # MiB


@pytest.mark.slow
@pytest.mark.skipif(memory.in_use() is None, reason="no glibc, or one before 2.33")
def test_what_stays_of_an_evaluation_is_not_where_the_next_step_will_be():
    held, without = (
        float(subprocess.check_output([sys.executable, "-c", PIECES + LOOKS, way])) for way in ("with", "without")
    )
    assert held < 500 and without > 550  # MiB; the program has 100, a step 300, what stays 60
