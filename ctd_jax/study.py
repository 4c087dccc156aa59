"""A study: networks that are trained to be compared.

Settings are chosen on val, with seeds that are not compared afterwards; then each method is trained once with every
seed and reads its test pictures once. A finished run is read and never repeated, so the same command continues a study
that was interrupted. The table of the study, a csv file, has the lines of every run so far.
"""

import abc
import csv
import dataclasses
import json
import logging
import math
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from ml_collections import ConfigDict

from ctd_jax import automatic, cluster, data, files, run_folder, tasks, versions
from ctd_jax.config import notes_of_run
from ctd_jax.errors import UserError
from ctd_jax.metrics.repeated import Repeats
from ctd_jax.training import finite

_log = logging.getLogger(__name__)
CHOOSING_SEED = 1000  # none of the seeds that are compared
RAN_AWAY = "ran_away"  # key of the result of a training that ran away: at which step, and how
REMEDY = "training has run away: take its setting out of the grid (--config.grid), or give lower rates in a new folder"

Method = TypeVar("Method", bound=Hashable)
Setting = TypeVar("Setting")
Line = dict[str, Any]  # column -> cell of the table


class Trial(NamedTuple):
    """A run that a study wants: the name of its folder, its configuration, and the cells that its line begins with."""

    name: str
    config: ConfigDict
    cells: Line


class _Training(NamedTuple):
    """A run that is not finished; what a worker is given."""

    config: ConfigDict
    workdir: pathlib.Path
    cache: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run of a study.

    Attributes:
      workdir: its folder.
      cells: that its line begins with, which tell it from the other runs.
      result: content of its metrics.json.
    """

    workdir: pathlib.Path
    cells: Line
    result: dict[str, Any]

    def domains(self) -> dict[str, "Run"]:
        """Domain -> its part, of a landmark run of several domains."""
        return {name: Run(self.workdir / name, self.cells, result) for name, result in self.result["domains"].items()}

    def val_error(self) -> float:
        """The lowest error on val during training; infinity if log.csv does not tell."""
        path = self.workdir / "log.csv"
        if not path.exists():
            return float("inf")
        with path.open(newline="", encoding="utf-8") as file:
            errors = [row.get("val_error") for row in csv.DictReader(file)]
        return min((float(error) for error in errors if error), default=float("inf"))

    def remove_checkpoints(self) -> None:
        shutil.rmtree(self.workdir / "checkpoints", ignore_errors=True)


def repeats(runs: Sequence[Run]) -> Repeats:
    """What the runs of one method predicted, to be compared with another method's."""
    return Repeats.read([run.workdir for run in runs])


class Study(abc.ABC, Generic[Method, Setting]):
    """Trains, keeps the table, and says on stderr how far it is.

    Args:
      runs: folder of the runs.
      table: csv file of the lines; the summary is a json file of the same name.
      cache: folder for prepared pictures, which the runs share; None: `tfds` in `runs`.

    Attributes:
      lines: of the runs so far.
      total: number of runs that there will be, for the time that is left; None: not known.
      workers: that train, see `cluster.joined`; None: this process does.
    """

    def __init__(self, runs: pathlib.Path, table: pathlib.Path, cache: pathlib.Path | None = None):
        self.lines: list[Line] = []
        self.total: int | None = None
        self.workers: cluster.Workers | None = None
        self._runs, self._table, self._cache = runs, table, cache or runs / "tfds"
        self._done, self._trained, self._seconds = 0, 0, 0.0
        self._changed: set[str] = set()  # paths, and versions, that have been warned of
        self._first: tuple[pathlib.Path, dict[str, str]] | None = None  # the first run, and what made it

    @abc.abstractmethod
    def trial(self, method: Method, setting: Setting, seed: int, split: str | None) -> Trial:
        """The run of a method.

        Args:
          method: what is compared.
          setting: an element of the method's grid.
          seed: of the run.
          split: that it is evaluated on; None: the one that the configuration names.
        """

    @abc.abstractmethod
    def lines_of(self, run: Run) -> list[Line]:
        """The lines of the table for a run: one, or one for each of its domains."""

    def describe(self, run: Run, lines: Sequence[Line]) -> str:
        """What is said of a finished run; `lines` are those of the table."""
        cells = [run.workdir.name]
        for line in lines:
            cells += [f"{key} {value:.4g}" for key, value in line.items() if isinstance(value, float)]
        return ", ".join(cells)

    def tidy(self, run: Run) -> None:
        """Removes what is not needed of a finished run."""

    def choose(
        self,
        method: Method,
        grid: Sequence[Setting],
        error: Callable[[Run], float],
        seeds: Sequence[int] = (CHOOSING_SEED,),
    ) -> Setting:
        """The setting of one method, see `choose_each`.

        Args:
          method: whose setting it is.
          grid: settings to choose from.
          error: of a run; its mean over the seeds decides.
          seeds: each setting is trained once with each of them.
        """
        return self.choose_each({method: grid}, error, seeds)[method]

    def choose_each(
        self,
        grids: Mapping[Method, Sequence[Setting]],
        error: Callable[[Run], float],
        seeds: Sequence[int] = (CHOOSING_SEED,),
    ) -> dict[Method, Setting]:
        """Each method's setting with the lowest error on val, the first of equals; that of a grid of one without a
        trial. That of a training that runs away is infinite.

        Args:
          grids: settings to choose from, of each method.
          error: of a run; its mean over the seeds decides.
          seeds: each setting is trained once with each of them.

        Raises:
          UserError: see `run`; or no setting of a method has an error that is finite.
        """
        tried = [(method, setting) for method, grid in grids.items() if len(grid) > 1 for setting in grid]
        runs = iter(self._all([(*trial, seed, "val") for trial in tried for seed in seeds], choosing=True))
        errors: dict[Method, list[float]] = {method: [] for method in grids}
        for method, _ in tried:
            found = [next(runs) for _ in seeds]
            errors[method].append(float(np.mean([math.inf if RAN_AWAY in run.result else error(run) for run in found])))
        for method, each in errors.items():
            if each and min(each) == math.inf:
                first = self._runs / self.trial(method, grids[method][0], seeds[0], "val").name
                raise UserError(f"{first} and the other settings of its grid have no finite error on val; {REMEDY}")
        return {method: grid[int(np.argmin(errors[method] or [0.0]))] for method, grid in grids.items()}

    def repeat(self, settings: Mapping[Method, Setting], seeds: Sequence[int]) -> dict[Method, list[Run]]:
        """Trains each method with its setting once with every seed; returns the runs in the order of the seeds."""
        runs = self._all([(method, setting, seed, None) for seed in seeds for method, setting in settings.items()])
        return {method: runs[i :: len(settings)] for i, method in enumerate(settings)}

    def run(self, method: Method, setting: Setting, seed: int, split: str | None = None) -> Run:
        """One run, trained or continued or found finished; arguments as of `trial`.

        Raises:
          UserError: see `training_run.train_and_evaluate`.
        """
        (run,) = self._all([(method, setting, seed, split)])
        return run

    def _all(self, wanted: Sequence[tuple[Method, Setting, int, str | None]], *, choosing: bool = False) -> list[Run]:
        """The runs of trials, which are named by the arguments of `trial`. What is told and written is in their order,
        wherever they are trained. One that ran away is an error, unless they are for `choosing`."""
        trials = [self.trial(*one) for one in wanted]
        of_name: dict[str, Trial] = {}
        for trial in trials:
            trial.config.grid = ()
            if (other := of_name.setdefault(trial.name, trial)) is not trial:
                one, two = (", ".join(map(str, each.cells.values())) for each in (other, trial))
                raise UserError(
                    f"{self._runs / trial.name}: two runs of the study are this one: {one}, and {two}; leave one out, "
                    "or, if they name different files, give these different names"
                )
        left = {
            trial.name: _Training(trial.config, self._runs / trial.name, self._cache)
            for trial in trials
            if not (self._runs / trial.name / tasks.of(trial.config).last_file).exists()
        }
        for trial in trials:  # what is wrong with one is said before the others are trained
            self._check(trial, finished=trial.name not in left)
        jobs = dict(left)
        if self.workers is None:
            _read_other_roots(list(jobs.values()))
        trained = map(_train, jobs.values()) if self.workers is None else self.workers.map(_train, jobs)
        return [self._next(trial, trained if left.pop(trial.name, None) else None, choosing) for trial in trials]

    def _next(self, trial: Trial, trained: Iterator[tuple[dict[str, Any], float]] | None, choosing: bool) -> Run:
        """The run of a trial: the next that is `trained`; None: it is finished."""
        workdir = self._runs / trial.name
        if trained:
            result, seconds = next(trained)
            self._trained += 1
            self._seconds += seconds
            if why := result.get(RAN_AWAY):
                if not choosing:
                    raise UserError(f"{workdir}: {why}; {REMEDY}")
                _log.warning("%s: %s; its setting is not chosen", workdir, why)
                self._done += 1
                self._say(f"{trial.name}, ran away", seconds)
                return Run(workdir, trial.cells, result)
            if self.workers is not None:
                cluster.wait_for(workdir / tasks.of(trial.config).last_file)
        else:
            remedy = f"remove {workdir}, and the same command trains it anew"
            result = files.read_json(workdir / "metrics.json", remedy)
        run = Run(workdir, trial.cells, result)
        self._check_versions(workdir)
        self.tidy(run)
        lines = self.lines_of(run)
        self.lines += lines
        if lines:
            self._write_table()
        self._done += 1
        self._say(self.describe(run, lines), result["seconds"] if trained else None)
        return run

    def _check(self, trial: Trial, *, finished: bool) -> None:
        """Warns, once for each, of data and weights that have changed since a finished run began.

        Raises:
          UserError: its folder has a run of another configuration, or something else.
        """
        workdir = self._runs / trial.name
        config = automatic.continued(trial.config, workdir)
        run_folder.claim(workdir, config)
        for path in set(run_folder.changed(workdir, config) if finished else ()) - self._changed:
            self._changed.add(path)
            _log.warning("%s: files were changed, added or removed since %s began, whose result is of what was there "
                         "then; remove the runs that are older than that", path, workdir)  # fmt: skip

    def _check_versions(self, workdir: pathlib.Path) -> None:
        """Warns, once for each, of programs or devices that are not those of the first run."""
        made = notes_of_run(workdir)["versions"]
        if not made:  # of an older version
            return
        first, known = self._first = self._first or (workdir, made[-1])
        if (differ := "; ".join(versions.changes(known, made[-1]))) and differ not in self._changed:
            self._changed.add(differ)
            _log.warning("%s was made under other versions than %s (%s): their numbers may differ for that alone",
                         workdir, first, differ)  # fmt: skip

    def write(self, summary: Mapping[str, Any]) -> None:
        """Writes the summary beside the table; null for a number that is unknown."""
        files.write_text(self._table.with_suffix(".json"), json.dumps(_with_null(summary), indent=1) + "\n")

    def _write_table(self) -> None:
        keys = list(dict.fromkeys(key for line in self.lines for key in line))
        files.write_csv(self._table, keys, ([line.get(key, "") for key in keys] for line in self.lines))

    def _say(self, what: str, seconds: float | None) -> None:
        number = f"{self._done} of {self.total}" if self.total else f"{self._done}"
        took = "" if seconds is None else f"{seconds:.0f} s"
        if took and self.total:
            workers = max(len(self.workers), 1) if self.workers is not None else 1
            left = (self.total - self._done) * self._seconds / self._trained / workers / 60
            took += f"; about {left:.0f} min left"
        print(f"run {number}: {what}{took and f' ({took})'}", file=sys.stderr)


def _with_null(content: Any) -> Any:
    """The content of a json file, with None for numbers that are not finite."""
    if isinstance(content, Mapping):
        return {key: _with_null(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_with_null(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _read_other_roots(trainings: Sequence[_Training]) -> None:
    """Reads the data that the first training does not read, so that what is wrong with them is said before it begins,
    not hours later.

    Raises:
      UserError: see `data.load`.
    """
    of_root: dict[str, _Training] = {}
    for one in trainings:
        of_root.setdefault(str(one.config.data.root), one)
    for one in list(of_root.values())[1:]:
        data.load(one.config.data, one.cache, targets=tasks.of(one.config).targets)


def _train(run: _Training) -> tuple[dict[str, Any], float]:
    """Trains or continues a run; the content of its metrics.json, or `RAN_AWAY`, and the seconds that this took."""
    import jax

    from ctd_jax.training_run import train_and_evaluate

    began = time.monotonic()
    try:
        result = train_and_evaluate(*run)
    except finite.RanAway as error:
        result = {RAN_AWAY: str(error).partition(f": {finite.RUN_AWAY}")[0]}
    seconds = time.monotonic() - began
    jax.clear_caches()  # the next run compiles anew, from the cache on disk
    return result, seconds
