"""What all commands share: how they end, what --help loads, and that each has its own flags."""

import logging
import pathlib
import signal
import subprocess
import sys
import threading

import pytest
from absl import flags

from ctd_jax import command
from ctd_jax.errors import UserError

FT = str(pathlib.Path(__file__).parents[1] / "configs" / "ft.py")


COMMANDS = ["ctd_jax.main", "ctd_jax.predict", "ctd_jax.compare", "ctd_jax.learning_curve", "convert.vggface2"]
HEAVY = ("jax", "flax", "orbax", "grain", "tensorflow_datasets", "matplotlib", "rich")
HELP = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *(name for name in HEAVY if name in sys.modules))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command):
    """So that it is there at once; with what a training needs it takes seconds."""
    script = f"HEAVY = {HEAVY}{HELP}"
    repo = pathlib.Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script, command], cwd=repo, capture_output=True, text=True, check=True)
    *text, last = done.stdout.splitlines()
    assert len(text) > 5 and last == "imported:"


LATE = ("matplotlib", "scipy.ndimage", "scipy.optimize", "scipy.stats")


@pytest.mark.slow
def test_what_only_some_runs_need_is_not_loaded_before():
    """Two of five seconds of a program that predicts, or trains and does not come to its report."""
    code = "import sys, ctd_jax.predictor, ctd_jax.training_run; print(*sys.modules)"
    repo = pathlib.Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=True)
    assert not {*LATE} & {*done.stdout.split()}


DOORS = ("main", "predict", "export", "compare", "learning_curve")
TOGETHER = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f"ctd_jax.{name}")
from absl import flags
assert "workdir" not in flags.FLAGS and "debug" not in flags.FLAGS
assert "jax" not in sys.modules
"""


@pytest.mark.parametrize("doors", [DOORS, DOORS[::-1]])
def test_all_commands_can_be_imported_in_one_process(doors):
    """Several have --workdir, --out and --domain; none adds a flag to a program that imports it."""
    repo = pathlib.Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", TOGETHER, *doors], cwd=repo, check=True)


# ---------------------------------------------------------------- the door


@pytest.fixture
def door(monkeypatch, capsys):
    """Runs a command that ends as `work` does; gives exit code and what stderr has."""
    logger = logging.getLogger("ctd_jax")
    handlers, hook, interrupt = list(logger.handlers), threading.excepthook, signal.getsignal(signal.SIGINT)
    dropped = sys.unraisablehook

    def call(work):
        monkeypatch.setattr(sys, "argv", ["command"])
        with pytest.raises(SystemExit) as end:
            command.run(work, "")
        return end.value.code, capsys.readouterr().err

    yield call
    logger.handlers, logger.propagate, threading.excepthook, sys.unraisablehook = handlers, True, hook, dropped
    signal.signal(signal.SIGINT, interrupt)


def raises(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("too small"), 2, "error: too small\n"),
        (OSError(28, "No space left on device", "/runs/a"), 2, "error: /runs/a: No space left on device; make room"),
        (PermissionError(13, "Permission denied", "/root/a"), 2, "error: /root/a: Permission denied; give a place"),
        (ValueError("INTERNAL: can't write: No space left on device"), 2, "error: No space left on device; make room"),
        (KeyboardInterrupt(), 1, "error: stopped; a training continues"),
        (KeyError("x"), 1, "error: KeyError: 'x'\nThis should not happen"),
    ],
)
def test_how_a_command_ends(door, error, code, said):
    found, err = door(raises(error))
    assert found == code
    assert err.startswith(said) and "Traceback" not in err


@pytest.mark.parametrize(("error", "code"), [(UserError("too small"), 2), (KeyboardInterrupt(), 1)])
def test_a_study_ends_as_a_command(door, monkeypatch, error, code):
    monkeypatch.setattr(command, "run", lambda work, _: command.run_study(work))
    found, err = door(raises(error))
    assert found == code and err.startswith("error: ") and "Traceback" not in err


def test_a_study_shows_where_a_mistake_of_its_own_is(monkeypatch):
    monkeypatch.setattr(command, "set_up", lambda: None)
    with pytest.raises(KeyError):
        command.run_study(raises(KeyError("x")))


def test_a_thread_ends_in_one_line(door):
    def work():
        thread = threading.Thread(target=raises(OSError(28, "No space left on device", "/runs/a")))
        thread.start()
        thread.join()
        raise UserError("the end")

    code, err = door(work)
    assert code == 2
    warning, last = err.splitlines()
    assert warning.startswith("WARNING: a helping thread has ended: /runs/a: No space left on device; make room")
    assert last == "error: the end"


def test_a_second_call_knows_nothing_of_the_first(door, monkeypatch):
    known, seen, rest, keys = command.new_flags(), [], [], []
    out = flags.DEFINE_string("out", "here", "Where.", flag_values=known)
    for arguments in (["--out=there", "a.png", "--config.seed=1"], []):
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        command.run(lambda: seen.append((out.value, tuple(rest), tuple(keys))), "", known, paths=rest, overrides=keys)
    assert seen == [("there", ("a.png",), ("seed=1",)), ("here", (), ())]


READER = """
import sys
from ctd_jax import command
command.run(lambda: [print("line", i) for i in range(100_000)], "")
"""


@pytest.mark.slow
def test_who_reads_the_output_may_leave():
    repo = pathlib.Path(__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", READER], cwd=repo, stdout=-1, stderr=-1) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_flags_know_the_home_folder_and_no_urls(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, error = cli("ctd_jax.predict", "--workdir=~/run", "a.png", "--out=a.csv")
    assert code == 2 and f"{tmp_path / 'run' / 'config.json'}: no such file" in error
    code, _, error = cli("ctd_jax.predict", "--workdir=gs://bucket/run", "a.png", "--out=a.csv")
    assert code == 2 and "--workdir: gs://bucket/run is a URL" in error
    code, _, error = cli("ctd_jax.predict", f"--workdir={tmp_path}", "https://a.b/c.png", "--out=a.csv")
    assert code == 2 and "https://a.b/c.png is a URL" in error


@pytest.mark.parametrize(
    ("given", "place"), [(None, "/home/anna/.cache"), ("", "/home/anna/.cache"), ("/fast", "/fast")]
)
def test_where_compiled_programs_are_kept(given, place, monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if given is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert command.cache() == f"{place}/ctd_jax"


def test_a_result_is_not_written_under_the_name_of_another_format(cli, tmp_path):
    for module, flag, said in (
        ("ctd_jax.compare", "--out=d.xlsx", "d.xlsx ends in .xlsx, but what is written is JSON"),
        ("ctd_jax.learning_curve", "--out=d.xlsx", "d.xlsx ends in .xlsx, but the results are files in a folder"),
    ):
        more = ["--configs=" + FT] if module.endswith("curve") else []
        code, _, error = cli(module, flag, *more)
        assert code == 2 and said in error


def test_the_address_of_a_scheduler_is_no_file():
    known = flags.FlagValues()
    for name in ("cluster", "out"):
        flags.DEFINE_string(name, "", "", flag_values=known)
    command.parse(["--cluster=tcp://host:8786"], known)
    assert known.cluster == "tcp://host:8786"
    with pytest.raises(UserError, match="--out: tcp://host:8786 is a URL; fetch it first"):
        command.parse(["--out=tcp://host:8786"], known)
