"""Every part of the recipe has a number: today's methods, the recipe, and the recipe less one part, at equal minutes.

    python -m experiments.recipe --folder=DIR --teacher=FILE.safetensors --runs=runs/recipe
        [--data=faces_fgnet] [--labels=5,25] [--seeds=0] [--rows=ft,recipe,less:rotation]       # a slice of it

Rows: `ft` and `delta` (configs/ft.py, configs/delta.py) at the size and batch of their tables in docs/results.md, or
what --set_today says; `recipe`, a configuration file; `less:PART` for each entry of --parts, a JSON file of part ->
list of KEY=VALUE that switch this part of the recipe off.

1. Time. Every row trains for --minutes. A minute is 120 s of processor time, of all threads: what two cores give in a
   minute that nobody else takes from them. The clock runs while a network trains, not while it is built, compiled or
   looked at on val (`landmarker.py` keeps the same rule). For each data set and row a training of --calibrate steps,
   with --choose_at labels, gives the processor time of a step (log.csv; ten steps before are not counted). Minutes over
   this are the steps of all runs of the row; they are kept in timing/ among the runs, so that a study that goes on has
   the same steps. `minutes` in the table is what was asked for, `processor_minutes` what the run had, `clock_minutes`
   what its steps took by the clock. --steps in its place gives all rows as many steps: on an accelerator the time of
   a processor says nothing.
2. Choosing, on val, with a seed of its own, at --choose_at labels, for each data set: what the files list as `grid`.
   `ft` first, over the encoder's learning rate; `delta` has FT's rate, and its own grid. `less:PART` has the recipe's
   setting.
3. Comparing: every row, number of labels and seed is trained once and reads its test pictures once, or with --split=val
   those of val alone, to decide between rows (recipe_val.csv and .json). A seed decides on initial weights, order,
   augmentation and on which pictures are labelled: fewer are a subset of more, and all rows get the same ones.
   Cephalograms have the split without near-identical pictures (experiments/splits).

Interrupted, the same command continues; finished runs are not repeated. Slices share the runs: start them one after the
other or side by side, and at last the whole. Writes recipe.csv (a line per run; those of other calls stay) and .json
(the table of this call's rows: mean over the seeds with 95 % intervals over subjects, paired differences with p values
from `ft`, from `delta`, and of `less:PART` from the recipe) beside this file, and prints the table.
"""

import argparse
import csv
import dataclasses
import itertools
import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from ctd_jax import cluster, command, files, lock, training_run
from ctd_jax.config import config_hash, load_config
from ctd_jax.data import splits
from ctd_jax.errors import UserError
from ctd_jax.metrics.repeated import Repeats
from ctd_jax.study import CHOOSING_SEED, Line, Run, Study, Trial, repeats
from ctd_jax.training.feed import LOG_INTERVAL

HERE = pathlib.Path(__file__).parent
DATA = {"faces_fgnet": "faces_fgnet", "ceph_isbi2015": "ceph_isbi2015", "fetal_head_us": "multidomain/fetal_head_us"}
TODAY = {"faces_fgnet": 112, "ceph_isbi2015": 128, "fetal_head_us": 112}  # pixels, of `ft` and `delta`
RECIPE, LESS = "recipe", "less:"
CORES = 2  # of which a minute is counted
EVALUATIONS = 8  # on val, in each run


class Method(NamedTuple):
    """A row of the table, for a data set and a number of labelled pictures, 0 for all."""

    data: str
    labels: int
    row: str


def name_of(labels: int) -> str:
    return str(labels or "all")


def labels_of(text: str) -> list[int]:
    """Numbers of labelled pictures, 0 for all, from a flag like 5,25,all.

    Raises:
      UserError: anything else in it.
    """
    for part in text.split(","):
        if part != "all" and not (part.isdecimal() and int(part)):
            raise UserError(f"--labels: {part!r}; expected numbers of pictures or all, with commas between")
    return [0 if part == "all" else int(part) for part in text.split(",")]


def names_of(text: str) -> list[str]:
    """Names of data sets, from a flag.

    Raises:
      UserError: one that is not in `DATA`.
    """
    for name in text.split(","):
        if name not in DATA:
            raise UserError(f"--data: {name!r}; expected some of {', '.join(DATA)}, with commas between")
    return text.split(",")


def integers(text: str) -> list[int]:
    """The numbers in a flag like 0,1,2."""
    return [int(part) for part in text.split(",")]


def set_data(config: ConfigDict, folder: pathlib.Path, name: str, labels: int, seed: int) -> ConfigDict:
    """Gives `config` a data set, with the split of experiments/splits where there is one; returns it.

    Args:
      config: of any method.
      folder: that has the landmark folders of `DATA`.
      name: of the data set.
      labels: number of labelled pictures, 0 for all.
      seed: of their choice.
    """
    split = HERE / "splits" / f"{name}.csv"
    config.data.root = str(folder / DATA[name])
    config.data.split = str(split) if split.exists() else ""
    config.data.budget, config.data.budget_seed = labels, seed
    return config


def read_table(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a table that earlier calls wrote; none, where there is none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def by_split(repeated: Repeats, workdir: pathlib.Path) -> dict[str, Repeats]:
    """`test`, all test pictures of the runs of one method, and each test split where there are several; or `val`."""
    split_of = {image: split for image, _, split, _ in splits.read(workdir / "split.csv")}
    images = repeated.tables[0].images
    names = sorted({split_of[image] for image in images})
    found = {"val" if names == ["val"] else "test": repeated}
    for name in names if len(names) > 1 else []:
        of_split = [image for image in images if split_of[image] == name]
        tables = tuple(table.rows(np.isin(table.images, of_split)) for table in repeated.tables)
        found[name] = dataclasses.replace(repeated, tables=tables)
    return found


class Recipe(Study[Method, str]):
    """Settings are elements of a file's `grid`: KEY=VALUE, several with spaces between. `args`, `parts`: see `main`."""

    def __init__(self, args: argparse.Namespace, parts: Mapping[str, Sequence[str]]):
        super().__init__(pathlib.Path(args.runs), HERE / ("recipe.csv" if args.split == "test" else "recipe_val.csv"))
        self._args, self._parts = args, parts

    def configured(self, row: str, setting: str, name: str) -> ConfigDict:
        """The configuration of a row on a data set, before its labels, seed and steps.

        Raises:
          UserError: a key or a file that is not there; a part that changes nothing, because it is off anyway.
        """
        teacher, chosen = [f"teacher.weights={self._args.teacher}"], setting.split()
        if row in ("ft", "delta"):
            common = [f"data.image_size={TODAY[name]}", "train.batch_size=8"]
            return load_config(row, [*teacher, *common, *self._args.set_today, *chosen])
        common = [*teacher, *self._args.set, *chosen]
        whole = load_config(self._args.recipe, common)
        if row == RECIPE:
            return whole
        part = row.removeprefix(LESS)
        if part not in self._parts:
            raise UserError(f"--rows: no such row {row}; expected some of {', '.join(self.rows())}")
        less = load_config(self._args.recipe, [*common, *self._parts[part]])
        if config_hash(less) == config_hash(whole):
            raise UserError(f"--parts: {part} ({' '.join(self._parts[part])}) is what the recipe has anyway")
        return less

    def rows(self) -> list[str]:
        return ["ft", "delta", RECIPE, *(f"{LESS}{part}" for part in self._parts)]

    def trial(self, method: Method, setting: str, seed: int, split: str | None) -> Trial:
        config = self.configured(method.row, setting, method.data)
        set_data(config, pathlib.Path(self._args.folder), method.data, method.labels, seed)
        config.seed, config.eval.split = seed, split or self._args.split
        config.train.steps = self._args.steps or self.steps_in_time(method.data, method.row)
        config.eval.every = max(config.train.steps // EVALUATIONS, 1)
        labels = name_of(method.labels)
        cells: Line = {"data": method.data, "labels": labels, "row": method.row, "setting": setting}
        cells |= {"seed": seed, "split": config.eval.split, "steps": config.train.steps}
        cells |= {"minutes": "" if self._args.steps else self._args.minutes}
        row = method.row.replace(":", "_")
        return Trial(
            f"{method.data}/{labels}-{row}-{config.eval.split}-seed{seed}-{config_hash(config)}", config, cells
        )

    def steps_in_time(self, name: str, row: str) -> int:
        """The training steps of --minutes."""
        return max(round(self._args.minutes * 60 * CORES / self.seconds_per_step(name, row)), 1)

    def seconds_per_step(self, name: str, row: str) -> float:
        """Processor time of a training step; measured at the first call, see the top of this file."""
        config = self.configured(row, "", name)
        set_data(config, pathlib.Path(self._args.folder), name, self._args.choose_at, CHOOSING_SEED)
        config.eval.split = "val"
        key, place = f"{name} {row} {config_hash(config)}", self._runs / "timing"
        path = place / "seconds_per_step.json"

        def known() -> dict[str, float]:
            return files.read_json(path, "remove it, and steps are timed again") if path.exists() else {}

        if key not in known():
            with lock.held(place, wait=True):  # another slice may be timing this row, or another
                if key not in known():
                    seconds = time_of_step(config, self._runs / "tfds", self._args.calibrate)
                    files.write_text(path, json.dumps(known() | {key: seconds}, indent=1) + "\n")
        return known()[key]

    def lines_of(self, run: Run) -> list[Line]:
        name = str(run.workdir.relative_to(self._runs))
        self.lines = [line for line in read_table(self._table) if line["run"] != name]  # of other calls too
        result = run.result
        line = run.cells | {"n_train": result["n_train"], "measure": result["ced_measure"], "error": error(run)}
        line |= {key: value for key, value in result.items() if isinstance(value, float) and key != "seconds"}
        for path in sorted(run.workdir.glob("metrics_*.json")):
            split = path.stem.removeprefix("metrics_")
            numbers = files.read_json(path, f"remove {run.workdir}, and the same command trains it anew")
            line |= {f"{key}_{split}": numbers[key] for key in ("me_mm", "sdr_le_2mm") if key in numbers}
        counts, seconds, rates = times(run.workdir)
        config = files.read_json(run.workdir / "config.json", f"remove {run.workdir}")
        line |= {"teacher": pathlib.Path(config["teacher"]["weights"]).name, "image_size": config["data"]["image_size"]}
        line |= {"processor_minutes": float(counts @ seconds) / 60 / CORES}
        line |= {"clock_minutes": float((counts * config["train"]["batch_size"] / rates).sum()) / 60}
        return [line | {"seconds": result["seconds"], "config_hash": result["config_hash"], "run": name}]

    def describe(self, run: Run, lines: Sequence[Line]) -> str:
        (line,) = lines[-1:]
        what = "{data}, {labels} labels, {row} {setting}, seed {seed}, {split}".format(**line)
        return f"{what}: {line['measure']} {line['error']:.4g}"

    def tidy(self, run: Run) -> None:
        """Keeps the checkpoints of the recipe's runs that are compared."""
        if run.cells["row"] != RECIPE or run.cells["split"] == "val":
            run.remove_checkpoints()

    def settings(self, name: str, rows: Sequence[str]) -> dict[str, str]:
        """Row -> its setting, chosen on val."""
        chosen: dict[str, str] = {}
        for row in rows:
            first = {"delta": "ft"}.get(row, RECIPE if row.startswith(LESS) else row)
            if first not in chosen:
                chosen[first] = self._chosen(name, first, "")
            if row == "delta":
                chosen[row] = self._chosen(name, row, chosen["ft"])
            elif row.startswith(LESS):
                chosen[row] = chosen[RECIPE]
        return {row: chosen[row] for row in rows}

    def _chosen(self, name: str, row: str, given: str) -> str:
        """`given`, and the element of the file's grid that is best with it."""
        grid = [f"{given} {one}".strip() for one in self.configured(row, "", name).grid] or [given]
        return self.choose(Method(name, self._args.choose_at, row), grid, error)


def error(run: Run) -> float:
    return float(run.result[run.result["ced_measure"]])


def time_of_step(config: ConfigDict, cache: pathlib.Path, steps: int) -> float:
    """Seconds of processor time of a training step: the mean over `steps`, after a few that are not counted."""
    timed = ConfigDict(config.to_dict())
    timed.grid, timed.train.steps, timed.eval.every = (), LOG_INTERVAL + steps, LOG_INTERVAL + steps
    with tempfile.TemporaryDirectory() as folder:
        training_run.train_and_evaluate(timed, pathlib.Path(folder) / "timing", cache)
        counts, seconds, _ = times(pathlib.Path(folder) / "timing")
    jax.clear_caches()
    return float(np.average(seconds[1:], weights=counts[1:]))


def times(workdir: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of training steps, the seconds of processor time that one of them took, and pictures a second by the
    clock, as log.csv has them."""
    rows = [row for row in read_table(workdir / "log.csv") if row["processor_seconds"]]
    seconds, rates = (np.array([float(row[key]) for row in rows]) for key in ("processor_seconds", "images_per_s"))
    return np.diff([0, *(int(row["step"]) for row in rows)]), seconds, rates


def summarize(runs: Mapping[str, Sequence[Run]], settings: Mapping[str, str]) -> dict[str, Any]:
    """The table of one data set and number of labels.

    Args:
      runs: row -> its runs, in the order of the seeds.
      settings: row -> what was chosen on val.
    """
    repeated = {row: by_split(repeats(found), found[0].workdir) for row, found in runs.items()}
    table: dict[str, Any] = {}
    for row, found in runs.items():
        of_row: dict[str, Any] = {"setting": settings[row], "of_seeds": [error(run) for run in found]}
        of_row |= {key: found[0].cells[key] for key in ("steps", "minutes")}
        for split, of_split in repeated[row].items():
            of_row[split] = {"measure": of_split.measure, "levels": of_split.levels()}
            others = ("ft", "delta") if row == RECIPE else (RECIPE,) if row.startswith(LESS) else ()
            for other in others:
                if other in repeated:
                    of_row[split][f"minus_{other}"] = minus(of_split, repeated[other][split])
        table[row] = of_row
    return table


def minus(a: Repeats, b: Repeats) -> dict[str, dict[str, Any]]:
    """Paired differences a - b in every metric, with interval and p value where there are any."""
    found = a.minus(b)
    return {
        metric: {part: of[part] for part in ("difference", "ci95", "p") if part in of} for metric, of in found.items()
    }


def console(result: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, of_labels in result.items():
        for labels, table in of_labels.items():
            lines.append(f"{name}, {labels} labels")
            for row, of_row in table.items():
                whole = of_row["test"] if "test" in of_row else of_row["val"]
                lines.append(f"  {row:<20} {text(whole)}, {of_row['steps']} steps")
    return "\n".join(lines)


def text(of_split: Mapping[str, Any]) -> str:
    """Mean and interval of the measure, and the differences."""
    measure = of_split["measure"]
    level = of_split["levels"][measure]
    found = f"{measure} {level['mean']:.4g} ({level['ci95'][0]:.4g} to {level['ci95'][1]:.4g})"
    for key, differences in of_split.items():
        if key.startswith("minus_") and "p" in differences[measure]:
            less = differences[measure]
            low, high = less["ci95"]
            found += f"   {key.replace('_', ' ')} {less['difference']:+.4g} ({low:+.4g} to {high:+.4g})"
            found += f", p {less['p']:.4f}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, help=f"has the landmark folders {', '.join(DATA.values())}")
    parser.add_argument("--teacher", required=True, help=".safetensors, of all rows; --set changes the recipe's")
    parser.add_argument("--recipe", default="recipe", help="a configuration: a file, or a name in configs/")
    parser.add_argument("--parts", default=str(HERE / "recipe_parts.json"), help="JSON: part -> what switches it off")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe's rows; repeat")
    parser.add_argument("--set_today", action="append", default=[], metavar="KEY=VALUE", help="of ft and delta; repeat")
    parser.add_argument("--data", default=",".join(DATA), help="names, commas between")
    parser.add_argument("--labels", default="5,10,25,50,all", help="numbers of labelled pictures, commas between")
    parser.add_argument("--seeds", type=integers, default="0,1,2", help="commas between")
    parser.add_argument("--rows", default="", help="commas between; none: all")
    parser.add_argument("--minutes", type=float, default=10, help="of training, on two cores")
    parser.add_argument("--steps", type=int, default=0, help="of every row, instead of --minutes")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="read by the compared; val: to decide")
    parser.add_argument("--choose_at", type=int, default=25, help="labels with which settings are chosen")
    parser.add_argument("--calibrate", type=int, default=100, help="steps that are timed")
    parser.add_argument("--runs", default="runs/recipe", help="folder of the runs")
    parser.add_argument("--cluster", default="", help=cluster.HELP)
    args = parser.parse_args()
    parts = files.read_json(args.parts, "give another file with --parts")
    study = Recipe(args, parts)
    rows = args.rows.split(",") if args.rows else study.rows()
    labels, names = labels_of(args.labels), names_of(args.data)
    for name, row in itertools.product(names, rows):
        study.configured(row, "", name)
    result: dict[str, Any] = {}
    with cluster.joined(args.cluster, pathlib.Path(args.runs)) as study.workers:
        for name in names:
            settings = study.settings(name, rows)
            result[name] = {}
            for count in labels:
                methods = {Method(name, count, row): settings[row] for row in rows}
                runs = {method.row: found for method, found in study.repeat(methods, args.seeds).items()}
                result[name][name_of(count)] = summarize(runs, settings)
    kept = ("recipe", "set", "set_today", "minutes", "steps", "split", "choose_at")
    arguments = {key: getattr(args, key) for key in kept}
    arguments |= {"teacher": pathlib.Path(args.teacher).name, "parts": parts, "seeds": args.seeds}
    study.write({"arguments": arguments, "data": result})
    print(console(result))


if __name__ == "__main__":
    command.run_study(main)
