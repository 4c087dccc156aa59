"""How many labels does a method need? Trains methods with several numbers of labelled pictures, and compares them.

    python -m ctd_jax.learning_curve --configs=ft,ctd_ed,scratch --budgets=10,25,50,100,all --seeds=3 \\
        --config.data.root=DIR --config.teacher.weights=FILE --out=runs/curve

Each method is a configuration: a name in configs/, or FILE.py:variant. Every --config.KEY=VALUE holds for all of them.

1. Choosing: what a configuration's `grid` lists is tried on val, with one number of labels (--choose_at) and a seed
   of its own; the best setting is kept. The grids must be of one size: no method is tuned more than another.
2. Comparing: every method, number of labels and seed is trained once and reads its test pictures once. A seed decides
   on initial weights, order, augmentation and on which pictures are labelled; fewer labels are a subset of more, and
   all methods get the same ones.

Interrupted, the same command continues; finished runs are not repeated. For speed, start it side by side for some of
the methods each, with the same --out, and at last for all of them. Writes curve.png, curve.json and curve.csv (one line
per run).
"""

import contextlib
import json
import pathlib
import shutil
import sys
import time
from typing import Any

from absl import flags

from ctd_jax import command, files, lock
from ctd_jax.config import config_hash, load_config
from ctd_jax.errors import UserError

_FLAGS = command.new_flags()
_CONFIGS = flags.DEFINE_list(
    "configs", None, "Methods: files, or names of those that come along, with commas between.", flag_values=_FLAGS
)
_BUDGETS = flags.DEFINE_list("budgets", ["all"], "Numbers of labelled training pictures, or all.", flag_values=_FLAGS)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Trainings of each method and number of labels.", flag_values=_FLAGS)
_CHOOSE_AT = flags.DEFINE_string(
    "choose_at", None, "Labels with which settings are chosen. Default: the middle one.", flag_values=_FLAGS
)
_REFERENCE = flags.DEFINE_string(
    "reference", None, "Method the others are compared with. Default: ft, else the first.", flag_values=_FLAGS
)
_OUT = flags.DEFINE_string("out", "runs/learning_curve", "Folder for the results and the runs.", flag_values=_FLAGS)

CHOOSING_SEED = 1000  # none of the seeds that are compared
_overrides: list[str] = []


def main() -> None:
    methods = _methods()
    budgets = sorted({_budget(text) for text in _BUDGETS.value}, key=lambda b: b or float("inf"))
    choose_at = _budget(_CHOOSE_AT.value) if _CHOOSE_AT.value else budgets[len(budgets) // 2]
    reference = _REFERENCE.value or ("ft" if "ft" in methods else next(iter(methods)))
    if reference not in methods:
        raise UserError(f"--reference is {reference}; expected one of --configs: {', '.join(methods)}")
    if _SEEDS.value < 1:
        raise UserError(f"--seeds is {_SEEDS.value}; expected 1 or more")
    out = pathlib.Path(_OUT.value)
    files.expect("out", out, "")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file; give a folder for the results and the runs")
    grids = {name: tuple(config.grid) or ("",) for name, (_, config) in methods.items()}
    _check_grids(grids)
    with contextlib.ExitStack() as stack:
        for name in methods:  # side by side, each process has its own
            stack.enter_context(lock.held(out / "runs" / name))
        _check(methods, grids, [*budgets, choose_at], out)
        _run(methods, grids, budgets, choose_at, reference, out)


def _run(
    methods: dict[str, tuple[str, Any]],
    grids: dict[str, tuple[str, ...]],
    budgets: list[int],
    choose_at: int,
    reference: str,
    out: pathlib.Path,
) -> None:
    """Chooses, trains and compares."""
    from ctd_jax import report

    runs = Runs(
        methods, out, sum(len(g) for g in grids.values() if len(g) > 1) + len(methods) * len(budgets) * _SEEDS.value
    )
    settings = {}
    for name, grid in grids.items():
        tried = [runs.train(name, setting, choose_at, CHOOSING_SEED, "val") for setting in grid if len(grid) > 1]
        settings[name] = min(tried, key=lambda line: line["error"])["setting"] if tried else grid[0]
    for seed in range(_SEEDS.value):
        for budget in budgets:
            for name in methods:
                runs.train(name, settings[name], budget, seed, None)
    compared = [line for line in runs.lines if line["seed"] != CHOOSING_SEED]
    result = report.learning.summarize(compared, out, reference=reference) | {"chosen_at": choose_at or "all"}
    files.write_text(out / "curve.json", json.dumps(result, indent=1))
    report.parts.save(report.learning.plot(result), out / "curve.png", dpi=150)
    print(report.learning.console(result))
    print(f"\n{out / 'curve.png'}, {out / 'curve.csv'}")


class Runs:
    """Trains, keeps curve.csv, and says how far it is.

    Args:
      methods: name -> configuration file and configuration.
      out: folder of the results.
      total: number of runs to come.
    """

    def __init__(self, methods: dict[str, tuple[str, Any]], out: pathlib.Path, total: int):
        self.lines: list[dict[str, Any]] = []
        self._methods, self._out, self._total = methods, out, total
        self._trained, self._seconds = 0, 0.0

    def train(self, name: str, setting: str, budget: int, seed: int, split: str | None) -> dict[str, Any]:
        """One run, or its result if it is finished; returns its line of curve.csv.

        Args:
          name: of the method.
          setting: of its grid.
          budget: labelled pictures, 0: all.
          seed: of everything.
          split: that the error is read from; None: what the configuration says.
        """
        import jax

        from ctd_jax import run_folder
        from ctd_jax.data import splits
        from ctd_jax.training_run import train_and_evaluate

        config = load_config(self._methods[name][0], [*_overrides, *setting.split()])
        config.grid = ()
        config.seed = config.data.budget_seed = seed
        config.data.budget = budget
        config.eval.split = split or config.eval.split
        workdir = self._out / "runs" / name / f"{budget or 'all'}-seed{seed}-{config_hash(config)}"
        began, finished = time.monotonic(), (workdir / "report.html").exists()
        run_folder.claim(workdir, config)
        remedy = f"remove {workdir}, and the same command trains it anew"
        result = files.read_json(workdir / "metrics.json", remedy) if finished else None
        result = result or train_and_evaluate(config, workdir, self._out / "tfds")
        shutil.rmtree(workdir / "checkpoints", ignore_errors=True)  # of many runs, they would fill the disk
        jax.clear_caches()  # a run compiles anew, from the cache on disk
        rows = splits.read(workdir / "split.csv")
        labels = sum(row[2] == "train" and row[0].split("/")[0] not in config.data.helping for row in rows)
        line = {"method": name, "setting": setting, "budget": budget or "all", "labels": labels, "seed": seed}
        line |= {"split": result["split"], "measure": result["ced_measure"], "error": result[result["ced_measure"]]}
        if "mean_shape" in result:  # not in a run of an older version
            line["mean_shape"] = result["mean_shape"][result["ced_measure"]]
        line |= {key: value for key, value in result.items() if isinstance(value, float) and key != "seconds"}
        for path in sorted(workdir.glob("metrics_*.json")):  # of each of several test splits
            split, part = path.stem.removeprefix("metrics_"), files.read_json(path, remedy)
            line |= {
                f"{key}_{split}": value for key, value in part.items() if isinstance(value, float) and key != "seconds"
            }
        line |= {
            "seconds": result["seconds"],
            "config_hash": result["config_hash"],
            "run": str(workdir.relative_to(self._out)),
        }
        self.lines.append(line)
        self._write()
        if not finished:
            self._trained += 1
            self._seconds += time.monotonic() - began
        left = (self._total - len(self.lines)) * self._seconds / max(self._trained, 1) / 60
        took = "" if finished else f" ({line['seconds']:.0f} s; about {left:.0f} min left)"
        what = f"run {len(self.lines)} of {self._total}: {name} {setting}".rstrip()
        print(f"{what}, {labels} labels, seed {seed}: {line['measure']} {line['error']:.4g}{took}", file=sys.stderr)
        return line

    def _write(self) -> None:
        keys = list(dict.fromkeys(key for line in self.lines for key in line))
        files.write_csv(self._out / "curve.csv", keys, ([line.get(key, "") for key in keys] for line in self.lines))


def _methods() -> dict[str, tuple[str, Any]]:
    methods = {}
    for file in _CONFIGS.value:
        config = load_config(file, _overrides)
        if config.task != "landmarks":
            raise UserError(f"--configs: {file} learns {config.task}; give configurations that learn landmarks")
        if config.name in methods:
            raise UserError(f"--configs: {file} and {methods[config.name][0]} are both named {config.name}")
        methods[config.name] = file, config
    return methods


def _budget(text: str) -> int:
    if text != "all" and not (text.isdecimal() and int(text) > 0):
        raise UserError(f"--budgets, --choose_at: {text!r}; expected a number of pictures, or all")
    return 0 if text == "all" else int(text)


def _check_grids(grids: dict[str, tuple[str, ...]]) -> None:
    sizes = {name: len(grid) for name, grid in grids.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(
            "the grids of the methods are of other sizes, so that some would be tuned more than others: "
            + ", ".join(f"{name} {size}" for name, size in sizes.items())
            + "; even out `config.grid` in their files, or choose nothing: --config.grid=()"
        )


def _check(
    methods: dict[str, tuple[str, Any]], grids: dict[str, tuple[str, ...]], budgets: list[int], out: pathlib.Path
) -> None:
    """Finds what is wrong with any method or number of labels before the first run."""
    from ctd_jax import training_run

    for name, (file, _) in methods.items():
        *_, config = [load_config(file, [*_overrides, *setting.split()]) for setting in grids[name]]
        config.data.budget = max(budgets, key=lambda budget: budget or float("inf"))
        try:
            task, _ = training_run.prepare(config, out / "tfds")
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        if len(task.source.judged) > 1:
            raise UserError(
                f"{name}: a learning curve is of one domain, these are {', '.join(task.source.judged)}; choose one, "
                "--config.data.domains=('NAME',), or let the others help it, --config.data.helping=('NAME',)"
            )
        (judged,) = task.source.judged.values()
        if config.data.budget == 0 and len(judged.split("train")) in budgets:
            raise UserError(
                f"--budgets has {len(judged.split('train'))} and all, which are the same pictures; leave one out"
            )


if __name__ == "__main__":
    command.run(main, __doc__, _FLAGS, required=("configs",), overrides=_overrides)
