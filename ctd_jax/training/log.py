"""The log of a training: how long it takes, a progress bar, `log.csv` and TensorBoard events."""

import contextlib
import csv
import logging
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ctd_jax import files

_log = logging.getLogger(__name__)
# Since the row before: pictures of a second, and seconds of the processor time of each step, of all threads; without
# the time of pauses.
SPEEDS = ("images_per_s", "processor_seconds")
WORTH_SAYING = 60  # seconds of a training: how long it takes is said if it is more


class NoLog:
    """Stands for a `TrainingLog` in a process that writes nothing."""

    def __enter__(self) -> "NoLog":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tick(self, step: int) -> None:
        pass

    def pause(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def record(self, step: int, values: dict[str, float], error: str = "") -> None:
        pass


class TrainingLog:
    """Context manager of one training. It continues the files after `start` steps, and drops later rows.

    Args:
      workdir: gets log.csv and tensorboard/.
      columns: of log.csv, after `step`.
      start: number of steps that were made before.
      steps: number of steps at the end of the training.
      batch_size: pictures per step.
      evaluated: steps before `start` that must have rows; it is said where one has none.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        columns: list[str],
        *,
        start: int,
        steps: int,
        batch_size: int,
        evaluated: Iterable[int] = (),
    ):
        path, header = workdir / "log.csv", ["step", *columns, *SPEEDS]
        rows = _rows(path, header, start, evaluated)
        files.write_csv(path, header, ([row[key] for key in header] for row in rows))
        self._file = path.open("a", newline="", encoding="utf-8")
        self._csv = csv.DictWriter(self._file, header, restval="", lineterminator="\n")
        self._events = Events(workdir / "tensorboard", start)
        self._start, self._steps, self._batch_size = start, steps, batch_size
        self._seen = (start, time.monotonic(), time.process_time())
        self._rate, self._rates_seen = 0.0, 0
        self._texts = {"loss": "-", "error": "-"}
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("[bold]training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TextColumn("left"), TimeRemainingColumn(), console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._plain = None if console.is_terminal else console
        self._bar = self._progress.add_task("", total=steps, completed=start, note="compiling")

    def __enter__(self) -> "TrainingLog":
        self._progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
        self._file.close()
        self._events.close()

    def tick(self, step: int) -> None:
        """Moves the bar to `step`."""
        self._progress.update(self._bar, completed=step)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Context whose time doesn't count as training."""
        began, used = time.monotonic(), time.process_time()
        yield
        step, since, used_since = self._seen
        self._seen = (step, since + time.monotonic() - began, used_since + time.process_time() - used)

    def record(self, step: int, values: dict[str, float], error: str = "") -> None:
        """Writes a row of log.csv, and the events.

        Args:
          step: number of the step.
          values: column -> value; other columns stay empty.
          error: the validation error as text for a person.
        """
        then, began, used = self._seen
        now, used_now = time.monotonic(), time.process_time()
        if step > then:
            self._rate = (step - then) * self._batch_size / max(now - began, 1e-6)  # a clock may stand still
            self._seen = (step, now, used_now)
            values = values | {"images_per_s": self._rate, "processor_seconds": (used_now - used) / (step - then)}
            self._rates_seen += 1
            if self._rates_seen == 2:  # the first one has the start in it
                self._say_how_long(step)
        self._csv.writerow({"step": step} | {key: f"{value:.6g}" for key, value in values.items()})
        self._file.flush()
        self._events.write(step, values)
        if error:
            self._events.flush()
        if error:
            self._texts["error"] = error
        if "loss" in values:
            self._texts["loss"] = f"{values['loss']:.3g}"
        note = f"loss {self._texts['loss']}  error {self._texts['error']}  {self._rate:.0f} images/s"
        self._progress.update(self._bar, completed=step, note=note)
        if self._plain and error:
            self._say(f"step {step}/{self._steps}  {note}  {duration(self._seconds_left(step))} left")

    def _say_how_long(self, step: int) -> None:
        left = self._seconds_left(step)
        if left >= WORTH_SAYING:
            steps = self._steps - step
            what = f"{steps} steps of {left / steps:.3g} s, looks at val not counted"
            self._say(f"training will take about {duration(left)} ({what})")

    def _seconds_left(self, step: int) -> float:
        """What the steps that are left take at the latest pace."""
        return (self._steps - step) * self._batch_size / self._rate if self._rate else 0.0

    def _say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """As a person would say it: in seconds, minutes or hours."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{int(unit == 'hours')}f} {unit}"
    return f"{seconds:.0f} s"


class Events:
    """TensorBoard's file of a training that goes on after `start` steps. This thread writes it: SummaryWriter has a
    thread, which would end silently when the disk is full, and the training would wait for it for ever."""

    def __init__(self, folder: pathlib.Path, start: int):
        with _as_if_not_installed("torch"):  # which tensorboardX would load, for two seconds, and never use here
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto import event_pb2, summary_pb2

        self._event, self._value, self._summary = event_pb2.Event, summary_pb2.Summary.Value, summary_pb2.Summary
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._writer = EventsWriter(os.fspath(folder / "events"), f".{os.getpid()}")
        if start:  # TensorBoard then forgets what a killed process wrote after this step
            session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._writer.write_event(self._event(wall_time=time.time(), step=start + 1, session_log=session))

    def write(self, step: int, values: dict[str, float]) -> None:
        summary = self._summary(value=[self._value(tag=key, simple_value=value) for key, value in values.items()])
        with files.naming(self._folder):
            self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        with files.naming(self._folder):
            self._writer.flush()

    def close(self) -> None:
        self._writer.close()


@contextlib.contextmanager
def _as_if_not_installed(module: str) -> Iterator[None]:
    """Context in which a module can't be imported, unless it has been already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def _rows(path: pathlib.Path, header: list[str], start: int, evaluated: Iterable[int]) -> list[dict[str, str]]:
    """The rows of a log.csv up to step `start`, with the columns of `header`. Rows that can't be read are left out with
    a warning, as is one that there is no row of a step of `evaluated`; half a last row, as a killed process leaves it,
    without one."""
    text = path.read_text("utf-8", errors="replace") if path.exists() else ""
    whole = text.replace("\0", "").rpartition("\n")[0]  # without half a last row
    found, bad = [], []
    for number, row in enumerate(csv.DictReader(whole.splitlines()), 2):
        if None in row or not (row.get("step") or "").isdecimal() or not all(map(_is_number_or_empty, row.values())):
            bad.append(number)
        elif int(row["step"]) <= start:
            found.append({key: row.get(key, "") for key in header})
    lost = sorted(set(evaluated) - {int(row["step"]) for row in found})
    if bad or lost:
        where = f"line {bad[0]} first" if bad else f"it has no row of step {lost[0]}"
        _log.warning("%s is damaged (%s): its curves have a gap; the run itself is not touched", path, where)
    return found


def _is_number_or_empty(cell: str | None) -> bool:
    """Whether a cell of log.csv can be one that was written; None: the row lacks it."""
    try:
        return cell == "" or (cell is not None and math.isfinite(float(cell)))
    except ValueError:
        return False
