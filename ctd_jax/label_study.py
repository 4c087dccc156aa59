"""The study of `learning_curve`: methods that are trained with several numbers of labelled pictures."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ctd_jax import files, report, training_run
from ctd_jax.config import check_config, config_hash, differences, load_config
from ctd_jax.data import Points, SplitPictures, splits
from ctd_jax.errors import UserError
from ctd_jax.metrics import Predictions, paired
from ctd_jax.study import CHOOSING_SEED, Line, Run, Study, Trial


class Method(NamedTuple):
    """A method with a number of labelled pictures, 0 for all."""

    name: str
    budget: int


class LabelStudy(Study[Method, str]):
    """Runs of methods with several numbers of labels; a setting is an element of a configuration's `grid`.

    Args:
      methods: name -> configuration file.
      overrides: KEY=VALUE that hold for all of them.
      out: folder of the results.
    """

    def __init__(self, methods: Mapping[str, str], overrides: Sequence[str], out: pathlib.Path):
        super().__init__(out / "runs", out / "curve.csv", cache=out / "tfds")
        self._methods, self._overrides, self._out = methods, overrides, out
        self._best: dict[str, Run] = {}  # of each method, among the runs that are compared

    def check(self, grids: Mapping[str, Sequence[str]], budgets: Sequence[int], choose_at: int) -> None:
        """Finds what is wrong with any method or number of labels, or differs between methods, before the first run.

        Args:
          grids: settings of each method.
          budgets: numbers of labelled pictures, 0 for all.
          choose_at: as of `compare`.

        Raises:
          UserError: a message that begins with the method's name.
        """
        for one, two in itertools.combinations(grids, 2):
            ours, theirs = ([self._configured(name, setting) for setting in grids[name] or [""]] for name in (one, two))
            if all(any(not differences(a, b).keys() - {"name"} for b in theirs) for a in ours):
                raise UserError(
                    f"{two}: but for its name it is the same as {one}; leave one out, or write what only one of them "
                    "is to have into a file of its own, not into --config.KEY=VALUE"
                )
        tried = sorted({*budgets, choose_at}, key=lambda budget: budget or float("inf"))
        known: dict[str, Predictions] = {}
        for name, grid in grids.items():
            try:
                for setting in grid:
                    config = self._configured(name, setting)
                    for config.data.budget in tried:
                        check_config(config)
                task, _ = training_run.prepare(config, self._out / "tfds")  # the last setting with most labels
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
            if len(task.pictures.evaluated) > 1:
                raise UserError(
                    f"{name}: a learning curve is of one domain, these are {', '.join(task.pictures.evaluated)}; "
                    "choose one, --config.data.domains=('NAME',), or let the others help it, "
                    "--config.data.helping=('NAME',)"
                )
            (pictures,) = task.pictures.evaluated.values()
            if 0 in budgets and len(pictures.split("train")) in budgets:
                raise UserError(
                    f"--budgets has {len(pictures.split('train'))} and all, which are the same pictures; leave one out"
                )
            known[name] = _pictures(pictures, config.eval.split)
            first = next(iter(known))
            paired.aligned(known[name], known[first], (name, first))

    def compare(
        self,
        grids: Mapping[str, Sequence[str]],
        budgets: Sequence[int],
        *,
        choose_at: int,
        seeds: int,
        reference: str,
    ) -> str:
        """Chooses, trains, compares, and writes the results; returns the table for the terminal.

        Args:
          grids: settings of each method, of one size.
          budgets: numbers of labelled pictures, 0 for all.
          choose_at: number of labelled pictures with which settings are chosen.
          seeds: number of trainings of each method and number of labels.
          reference: name of the method that the others are compared with.
        """
        tried = sum(len(grid) for grid in grids.values() if len(grid) > 1)
        self.total = tried + len(grids) * len(budgets) * seeds
        settings = self.choose_each({Method(name, choose_at): grid for name, grid in grids.items()}, _error)
        chosen = {method.name: setting for method, setting in settings.items()}
        self.repeat({Method(name, budget): chosen[name] for budget in budgets for name in grids}, range(seeds))
        lines = [line for line in self.lines if line["seed"] != CHOOSING_SEED]
        result = report.learning.summarize(lines, self._out, reference=reference) | {"chosen_at": choose_at or "all"}
        self.write(result)
        report.parts.save(report.learning.plot(result), self._out / "curve.png")
        return f"{report.learning.console(result)}\n\n{self._out / 'curve.png'}, {self._out / 'curve.csv'}"

    def trial(self, method: Method, setting: str, seed: int, split: str | None) -> Trial:
        config = self._configured(method.name, setting)
        config.seed = config.data.budget_seed = seed
        config.data.budget = method.budget
        config.eval.split = split or config.eval.split
        budget = method.budget or "all"
        name = f"{method.name}/{budget}-seed{seed}-{config_hash(config)}"
        return Trial(name, config, {"method": method.name, "setting": setting, "budget": budget, "seed": seed})

    def lines_of(self, run: Run) -> list[Line]:
        result = run.result
        line = {key: run.cells[key] for key in ("method", "setting", "budget")}
        line |= {"labels": self._labels(run), "seed": run.cells["seed"]}
        line |= {"split": result["split"], "measure": result["ced_measure"], "error": _error(run)}
        if "mean_shape" in result:  # not in a run of an older version
            line["mean_shape"] = result["mean_shape"][result["ced_measure"]]
        line |= _numbers(result)
        for path in sorted(run.workdir.glob("metrics_*.json")):  # of each of several test splits
            split = path.stem.removeprefix("metrics_")
            numbers = _numbers(files.read_json(path, f"remove {run.workdir}, and the same command trains it anew"))
            line |= {f"{key}_{split}": value for key, value in numbers.items()}
        line |= {"seconds": result["seconds"], "config_hash": result["config_hash"]}
        return [line | {"run": str(run.workdir.relative_to(self._out))}]

    def describe(self, run: Run, lines: Sequence[Line]) -> str:
        (line,) = lines
        what = f"{line['method']} {line['setting']}".rstrip()
        return f"{what}, {line['labels']} labels, seed {line['seed']}: {line['measure']} {line['error']:.4g}"

    def tidy(self, run: Run) -> None:
        """Keeps the checkpoints of each method's run that is best on val, of those that are compared."""
        method = run.cells["method"]
        best = self._best.get(method)
        if run.cells["seed"] != CHOOSING_SEED and (best is None or run.val_error() < best.val_error()):
            self._best[method], worse = run, best
        else:
            worse = run
        if worse:
            worse.remove_checkpoints()

    def _configured(self, method: str, setting: str) -> ConfigDict:
        return load_config(self._methods[method], [*self._overrides, *setting.split()])

    def _labels(self, run: Run) -> int:
        """The number of labelled training pictures of a run; those of a helping domain do not count."""
        helping = self._configured(run.cells["method"], run.cells["setting"]).data.helping
        rows = splits.read(run.workdir / "split.csv")
        return sum(split == "train" and image.split("/")[0] not in helping for image, _, split, _ in rows)


def _pictures(pictures: SplitPictures[Points], judged: str) -> Predictions:
    """What all methods have in common, as a table: the pictures of train, val and the splits that are `judged`, and the
    points of the last."""
    tested, split_of = pictures.splits_called(judged), np.array(pictures.split_of)
    rows = np.flatnonzero(np.isin(split_of, ["train", "val", *tested]))
    part = pictures.everything.take(rows)
    names = [f"{image} of {split}" for image, split in zip(part.images, split_of[rows], strict=True)]
    xy = np.where(np.isin(split_of[rows], tested)[:, None, None], part.targets.xy, np.nan)
    landmarks = part.targets.landmarks.names
    return Predictions.from_points(names, part.subjects, landmarks, xy, true_xy=xy, spacing=part.spacing)


def _error(run: Run) -> float:
    return float(run.result[run.result["ced_measure"]])


def _numbers(result: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in result.items() if isinstance(value, float) and key != "seconds"}
