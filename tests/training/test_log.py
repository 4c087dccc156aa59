"""log.csv and TensorBoard's events survive a kill, and a full disk is an error of the training itself."""

import csv
import os
import pathlib
import subprocess
import sys

import pytest
from tensorboardX import event_file_writer, record_writer
from tensorboardX.proto import event_pb2

from ctd_jax.training.log import TrainingLog

REPO = pathlib.Path(__file__).parents[2]
COLUMNS = ["loss", "val_error"]


def log(folder, start=0, **changes):
    return TrainingLog(folder, COLUMNS, start=start, steps=8, batch_size=4, **changes)


def rows(folder):
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        return [(row["step"], row["loss"], row["val_error"]) for row in csv.DictReader(file)]


def write(folder, steps, start=0, **changes):
    with log(folder, start, **changes) as training:
        for step in steps:
            training.record(step, {"loss": step / 10, "val_error": 1.5}, "1.5 px")


@pytest.mark.parametrize(
    ("damage", "kept", "warned"),
    [
        (lambda text: text[:-3], [2], False),  # killed while it wrote a row
        (lambda text: text.partition("4,0.4")[0] + "4,0.", [2], False),
        (lambda text: text.replace("4,0.4,", "4\n"), [2], True),
        (lambda text: text.replace("2,0.2", "2,0.2y"), [4], True),
        (lambda text: text.replace("2,0.2", "2,1e999"), [4], True),
        (lambda text: "".join(text.splitlines(keepends=True)[::2]), [4], True),  # a row is gone
        (lambda text: text.replace("2,0.2", "\0\0\0\0"), [4], True),  # a machine that lost its power
        (lambda text: "", [], True),
        (lambda text: "\0" * 500, [], True),
        (lambda text: "\xff nonsense\n" * 4, [], True),
    ],
)
def test_a_damaged_log_ends_no_run(tmp_path, caplog, damage, kept, warned):
    write(tmp_path, [2, 4])
    text = (tmp_path / "log.csv").read_text("utf-8")
    (tmp_path / "log.csv").write_bytes(damage(text).encode("latin1"))
    write(tmp_path, [6], start=4, evaluated=[2])
    assert [int(step) for step, *_ in rows(tmp_path)] == [*kept, 6]
    assert ("log.csv is damaged" in caplog.text) == warned


def test_what_came_after_the_checkpoint_is_forgotten(tmp_path):
    write(tmp_path, [2, 4, 6])
    write(tmp_path, [6, 8], start=4)
    assert rows(tmp_path) == [("2", "0.2", "1.5"), ("4", "0.4", "1.5"), ("6", "0.6", "1.5"), ("8", "0.8", "1.5")]


def events(path):
    """The events of a file of TFRecords: length (8 bytes), its checksum (4), the record, its checksum (4)."""
    content, found = path.read_bytes(), []
    while content:
        length = int.from_bytes(content[:8], "little")
        assert int.from_bytes(content[8:12], "little") == record_writer.masked_crc32c(content[:8])
        found.append(event_pb2.Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def test_tensorboard_reads_the_same_numbers_and_where_it_goes_on(tmp_path):
    write(tmp_path, [2])
    (path,) = (tmp_path / "tensorboard").iterdir()
    head, scalars = events(path)
    assert head.file_version == "brain.Event:2"
    assert {v.tag: round(v.simple_value, 4) for v in scalars.summary.value} == {
        "loss": 0.2, "val_error": 1.5, **{v.tag: round(v.simple_value, 4) for v in scalars.summary.value[2:]}
    }  # fmt: skip
    path.unlink()
    write(tmp_path, [4], start=2)
    (path,) = (tmp_path / "tensorboard").iterdir()
    _, session, scalars = events(path)
    assert (session.session_log.status, session.step) == (event_pb2.SessionLog.START, 3)
    assert scalars.step == 4


def test_a_full_disk_is_heard_of(tmp_path, monkeypatch):
    """SummaryWriter would hang: its thread dies, and its queue fills up."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), log(tmp_path) as training:
        monkeypatch.setattr(event_file_writer.EventsWriter, "write_event", full)
        for step in range(1, 30):
            training.record(step, {"loss": 1.0})


def test_a_clock_that_stands_still(tmp_path, monkeypatch):
    with log(tmp_path) as training:
        monkeypatch.setattr("time.monotonic", lambda: training._seen[1])
        training.record(1, {"loss": 1.0})
    assert len(rows(tmp_path)) == 1


def at_pace(folder, monkeypatch, seconds, *steps):
    """Rows of these steps: `seconds` for each, after a start that takes 1000 s more."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with log(folder) as training:
        clock[0] += 1000
        for step, before in zip(steps, (0, *steps), strict=False):
            clock[0] += seconds * (step - before)
            training.record(step, {"loss": 1.0})


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (15, "about 60 s (4 steps of 15 s"),
        (59, "about 4 minutes (4 steps of 59 s"),
        (9000, "about 10.0 hours (4 steps"),
    ],
)
def test_how_long_it_takes_is_said_once_and_without_the_start(tmp_path, monkeypatch, capsys, seconds, said):
    at_pace(tmp_path, monkeypatch, seconds, 2, 4, 6)
    error = capsys.readouterr().err
    assert error.count("training will take") == 1 and said in error


def test_nothing_is_said_of_a_training_that_is_over_soon(tmp_path, monkeypatch, capsys):
    at_pace(tmp_path, monkeypatch, 14, 2, 4, 6)
    assert capsys.readouterr().err == ""


def test_the_processor_time_of_a_step_is_without_pauses(tmp_path, monkeypatch):
    """3 s for 4 steps, then 2 s for 2 of them beside a pause of 50 s."""
    clock = [100.0]
    monkeypatch.setattr("time.process_time", lambda: clock[0])
    with log(tmp_path) as training:
        clock[0] += 3
        training.record(4, {"loss": 1.0})
        with training.pause():
            clock[0] += 50
        training.record(4, {"val_error": 1.0})
        clock[0] += 2
        training.record(6, {"loss": 1.0})
    with (tmp_path / "log.csv").open(newline="", encoding="utf-8") as file:
        assert [row["processor_seconds"] for row in csv.DictReader(file)] == ["0.75", "", "1"]


LOADED_TORCH = """
import pathlib, sys
from ctd_jax.training.log import Events
Events(pathlib.Path(sys.argv[1]), 0).close()
assert "torch" not in sys.modules
import torch
"""


def test_events_do_not_load_torch_though_it_is_installed(tmp_path):
    """It takes seconds, and whoever wants it later gets it."""
    (tmp_path / "torch.py").write_text("print('loaded')")
    found = subprocess.run(
        [sys.executable, "-c", LOADED_TORCH, tmp_path / "events"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPO)])}, capture_output=True, text=True,
    )  # fmt: skip
    assert (found.stderr, found.stdout) == ("", "loaded\n")
