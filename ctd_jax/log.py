"""What a run says while it goes: a progress bar, `log.csv` and TensorBoard events."""

import contextlib
import csv
import pathlib
import time
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class NoLog:
    """What `TrainingLog` is in a process that writes nothing."""

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
    """Context manager of one training; continues the files after `start` steps and forgets what came later.

    Args:
      workdir: gets log.csv and tensorboard/.
      columns: of log.csv, after `step`.
      start, steps: of the first step to come, and of the end.
      batch_size: pictures per step.
    """

    def __init__(self, workdir: pathlib.Path, columns: list[str], *, start: int, steps: int, batch_size: int):
        from tensorboardX import SummaryWriter

        path = workdir / "log.csv"
        rows = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= start]
        self._file = path.open("w", newline="", encoding="utf-8")
        self._csv = csv.DictWriter(self._file, ["step", *columns, "images_per_s"], restval="")
        self._csv.writeheader()
        self._csv.writerows(rows)
        self._file.flush()
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=start or None)
        self._start, self._steps, self._batch_size = start, steps, batch_size
        self._seen = (start, time.monotonic())
        self._rate = 0.0
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
        """Context in which time doesn't count as training."""
        began = time.monotonic()
        yield
        step, since = self._seen
        self._seen = (step, since + time.monotonic() - began)

    def record(self, step: int, values: dict[str, float], error: str = "") -> None:
        """A row of log.csv and the events; `values` may leave columns out. `error`: the validation error, as a person
        reads it."""
        then, began = self._seen
        now = time.monotonic()
        if step > then:
            self._rate = (step - then) * self._batch_size / (now - began)
            self._seen = (step, now)
            values = values | {"images_per_s": self._rate}
        self._csv.writerow({"step": step} | {key: f"{value:.6g}" for key, value in values.items()})
        self._file.flush()
        for key, value in values.items():
            self._events.add_scalar(key, value, step)
        self._texts |= {"error": error} if error else {}
        self._texts |= {"loss": f"{values['loss']:.3g}"} if "loss" in values else {}
        note = f"loss {self._texts['loss']}  error {self._texts['error']}  {self._rate:.0f} images/s"
        self._progress.update(self._bar, completed=step, note=note)
        if self._plain and error:
            left = (self._steps - step) * self._batch_size / self._rate if self._rate else 0
            self._plain.print(f"step {step}/{self._steps}  {note}  {left:.0f} s left", highlight=False, soft_wrap=True)
