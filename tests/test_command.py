"""A configuration changed by what follows --config. on the command line."""

import logging
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

from ctd_jax import command
from ctd_jax.errors import UserError

FT = str(pathlib.Path(__file__).parents[1] / "configs" / "ft.py")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.steps=12", 12),
        ("train.encoder_lr=1e-4", 1e-4),
        ("train.encoder_lr=1", 1.0),
        ("data.root=a=b", "a=b"),
        ("data.split=", ""),
        ("teacher.start=False", False),
        ("teacher.start=true", True),
        ("model.decoder_channels=(8, 16)", (8, 16)),
        ("model.decoder_channels=[8]", (8,)),
        ("constraints.ed.layers=('stage1', 'stage2')", ("stage1", "stage2")),
        ("grid=()", ()),
        ('grid=("train.encoder_lr=1e-3 seed=1","seed=2")', ("train.encoder_lr=1e-3 seed=1", "seed=2")),
    ],
)
def test_a_value_has_the_type_of_the_one_before(override, value):
    node = command.configured(FT, [override])
    for key in override.partition("=")[0].split("."):
        node = node[key]
    assert node == value and type(node) is type(value)


def test_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    config = command.configured(FT, ["data.root=~/faces,~/hands", "teacher.weights=~/t.safetensors", "data.split=~x"])
    assert config.data.root == "/home/anna/faces,/home/anna/hands"
    assert config.teacher.weights == "/home/anna/t.safetensors"
    assert config.data.split == "~x"


def test_the_last_override_and_the_variant_hold():
    config = command.configured(f"{FT}:paper", ["train.steps=3", "train.steps=4"])
    assert (config.train.steps, config.variant) == (4, "paper")
    assert command.configured(FT, []).variant == "demo"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=1.5", "--config.train.steps=1.5: expected a whole number below 2147483648, like 800"),
        ("train.encoder_lr=fast", "--config.train.encoder_lr=fast: expected a number, like 0.001"),
        ("train.encoder_lr=nan", "--config.train.encoder_lr=nan: expected a number"),
        ("train.encoder_lr=1e400", "--config.train.encoder_lr=1e400: expected a number"),
        ("seed=99999999999999999999", "--config.seed=9+: expected a whole number below"),
        ("teacher.start=perhaps", "--config.teacher.start=perhaps: expected true or false, like True"),
        (
            "model.decoder_channels=8",
            r"--config.model.decoder_channels=8: expected brackets and commas, like \(64, 64\)",
        ),
        ("model.decoder_channels=(8", "expected brackets and commas"),
        ("model.decoder_channels=" + "(" * 3000, "expected brackets and commas"),
        ("constraints.ed.layers=stage1", "--config.constraints.ed.layers=stage1: expected brackets and commas"),
        ("constraints.ed.layers=('stage1')", "expected brackets and commas"),
        ("data.root=https://zenodo.org/a.zip", "--config.data.root: https://zenodo.org/a.zip is a URL; fetch it first"),
        ("data.root=faces,s3://bucket/a", "--config.data.root: s3://bucket/a is a URL"),
        ("train.stps=3", "--config.train.stps: no such key; the nearest is train.steps"),
        ("train=3", "--config.train: no such key"),
        ("train.steps", "--config.train.steps: expected a value"),
    ],
)
def test_what_cannot_be_read(override, message):
    with pytest.raises(UserError, match=message):
        command.configured(FT, [override])


@pytest.mark.parametrize("name", ["nowhere.py", "README.md", f"{FT}:papre"])
def test_no_such_configuration(name):
    with pytest.raises(UserError, match="--config"):
        command.configured(name, [])


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


READER = """
import sys
from ctd_jax import command
command.run(lambda: [print("line", i) for i in range(100_000)], "")
"""


def test_who_reads_the_output_may_leave():
    repo = pathlib.Path(__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", READER], cwd=repo, stdout=-1, stderr=-1) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_configuration_that_is_no_program(tmp_path):
    (tmp_path / "a.py").write_text("def get_config(:")
    (tmp_path / "b.py").write_text("x = 1")
    for name, found in (("a", "SyntaxError"), ("b", "AttributeError")):
        with pytest.raises(UserError, match=rf"--config=.*{name}.py: its get_config can't be called \({found}"):
            command.configured(str(tmp_path / f"{name}.py"), [])


def test_flags_know_the_home_folder_and_no_urls(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, error = cli("ctd_jax.predict", "--workdir=~/run", "a.png", "--out=a.csv")
    assert code == 2 and f"{tmp_path / 'run' / 'config.json'}: no such file" in error
    code, _, error = cli("ctd_jax.predict", "--workdir=gs://bucket/run", "a.png", "--out=a.csv")
    assert code == 2 and "--workdir: gs://bucket/run is a URL" in error
    code, _, error = cli("ctd_jax.predict", f"--workdir={tmp_path}", "https://a.b/c.png", "--out=a.csv")
    assert code == 2 and "https://a.b/c.png is a URL" in error


def test_a_result_is_not_written_under_the_name_of_another_format(cli, tmp_path):
    for module, flag, said in (
        ("ctd_jax.compare", "--out=d.xlsx", "d.xlsx ends in .xlsx, but what is written is JSON"),
        ("ctd_jax.learning_curve", "--out=d.xlsx", "d.xlsx ends in .xlsx, but the results are files in a folder"),
    ):
        more = ["--configs=" + FT] if module.endswith("curve") else []
        code, _, error = cli(module, flag, *more)
        assert code == 2 and said in error
