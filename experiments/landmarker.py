"""landmarker (PyPI) beside ours: its ISBI 2015 example on the same labels, pictures and minutes of two cores.

    python3 -m venv LM
    LM/bin/pip install torch==2.13.0 torchvision==0.28.0 landmarker==0.4.1       # without a GPU: PyTorch's CPU builds
    python -m experiments.landmarker --python=LM/bin/python --folder=DIR --labels=25,all --minutes=60

The example is examples/2D-example-ISBI2015-adaptive-heatmap-regression.ipynb of github.com/predict-idlab/landmarker,
commit 8026c94; `landmarker_worker.py` is run by LM's interpreter. From it: the Spatial Configuration Network
(`OriginalSpatialConfigurationNet` as it comes, random weights), Gaussian heatmaps with gamma 100 and learned sigmas
from 3 pixels on (`GaussianHeatmapL2Loss`, alpha 5), SGD (rate 1e-6, momentum 0.99, Nesterov, decay 1e-3 of the weights,
gradients of at most 1e4), one picture a step, the rate halved where the loss on val has not fallen for 10 epochs, its
augmentations (noise, intensity, contrast, histogram, rotation, shift, scale, shear; no mirror images), padding to a
square, `local_soft_argmax`. Otherwise than there:

* Val, not test1, decides when the rate is halved, on the weights that are kept (the example keeps the last), and on the
  size and the first rate: all pairs of --sizes and --rates are tried on val, with a seed of their own, at the first of
  --labels. The example's are 512 pixels and 1e-6. Its shift of 10 pixels is the same share of a picture of any size.
* It trains for --minutes, or until it diverges, instead of 200 epochs. An epoch, after which val is looked at, is as
  many passes as come nearest to the example's 150 pictures, so that patience is as many steps as there.
* Pictures in colour keep their three channels (the example's are grey and it reads the first).
* Maps are decoded in double precision: exponentials of large ones are not finite in the example's.

A minute is 120 s of processor time, of all threads of the process: what two cores give in a minute that nobody else
takes from them. The clock runs while the network trains (augmentation, forward, backward, update), not while it is
built, warmed up, or looked at on val. `recipe.py` measures ours by the same rule. Where LM's PyTorch finds a GPU a
minute is one of the clock, with two further processes that make its pictures.

Points go out and come back in pixels of the picture as it is on disk, and are scored by the metrics of our own runs.
Test is read once, by each run that is compared. A run is a folder with predictions.csv and metrics.json as ours have
them. Interrupted, the same command continues; a finished run is not repeated.
Writes landmarker.csv (a line per run) and .json (the table) beside this file; what earlier calls wrote of other runs
and of other data sets stays.
With --ours=runs/recipe the table has the paired differences from a row of `recipe.py` (--row), p values too: from its
runs of the same --minutes, or, where `recipe.py --steps` gave steps, from those that took at most as long by the clock.
"""

import argparse
import itertools
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from configs import default
from ctd_jax import command, data, files, lock, metrics
from ctd_jax.data import splits
from ctd_jax.errors import UserError
from ctd_jax.metrics import Predictions
from ctd_jax.metrics.repeated import Repeats
from ctd_jax.study import CHOOSING_SEED
from ctd_jax.tasks.landmarks import evaluate
from experiments.recipe import DATA, by_split, integers, labels_of, minus, name_of, names_of, read_table, set_data, text

HERE = pathlib.Path(__file__).parent
WORKER = HERE / "landmarker_worker.py"
CORES = 2


class Setting(NamedTuple):
    """What val chooses: the side of the square, in pixels, and the rate at which the network learns at first."""

    size: int
    rate: float


class Job(NamedTuple):
    """One training: on `labels` pictures, 0 for all; `split` is what is read at last."""

    name: str
    labels: int
    seed: int
    setting: Setting
    minutes: float
    split: str = "test"

    @property
    def folder(self) -> str:
        how = f"{self.setting.size}px-rate{self.setting.rate:g}-{self.minutes:g}min"
        return f"{self.name}/{name_of(self.labels)}-{self.split}-seed{self.seed}-{how}"


class Landmarker:
    """Trainings, and their table. `args`: see `main`."""

    def __init__(self, args: argparse.Namespace):
        self._runs, self._folder = pathlib.Path(args.runs), pathlib.Path(args.folder)
        self._python, self._table = args.python, HERE / "landmarker.csv"

    def choose(self, name: str, labels: int, grid: Sequence[Setting], minutes: float) -> Setting:
        """The setting with the lowest error on val."""
        if len(grid) == 1:
            return grid[0]
        jobs = [Job(name, labels, CHOOSING_SEED, setting, minutes, "val") for setting in grid]
        errors = [error(self.run(job)) for job in jobs]
        return grid[int(np.argmin(errors))]

    def run(self, job: Job) -> pathlib.Path:
        """The folder of a training, which is done now or was done before.

        Raises:
          UserError: whatever is wrong with the data; pictures or numbers that landmarker's example can't deal with.
        """
        workdir = self._runs / job.folder
        if not (workdir / "metrics.json").exists():
            config = set_data(default.get_config(), self._folder, job.name, job.labels, job.seed)
            config.seed, config.eval.split = job.seed, job.split
            source = data.load(config.data, self._runs / "tfds")
            began = time.monotonic()
            with lock.held(workdir):
                write_job(workdir, job, source)
                self._train(workdir)
                score(workdir, source, config, {"seconds": round(time.monotonic() - began, 1)})
        line = line_of(workdir, job)
        rows = [row for row in read_table(self._table) if row["run"] != job.folder] + [line]
        keys = list(dict.fromkeys(key for row in rows for key in row))
        files.write_csv(self._table, keys, ([row.get(key, "") for key in keys] for row in rows))
        print(f"{job.folder}: {line['measure']} {line['error']:.4g}, {line['steps']} steps", file=sys.stderr)
        return workdir

    def _train(self, workdir: pathlib.Path) -> None:
        with (workdir / "worker.log").open("w", encoding="utf-8") as log:
            done = subprocess.run([self._python, "-I", WORKER, workdir], stdout=log, stderr=subprocess.STDOUT)
        if done.returncode:
            last = (workdir / "worker.log").read_text("utf-8").strip().rpartition("\n")[2]
            raise UserError(
                f"{self._python} ended with {done.returncode} ({last}); {workdir / 'worker.log'} has all of it, and "
                "experiments/landmarker.py says how to make its environment"
            )


def write_job(workdir: pathlib.Path, job: Job, source: data.SplitPictures[data.Points]) -> None:
    """Writes what the worker reads; where the landmarks of a test split are, it is not told.

    Raises:
      UserError: a point of train or val is not annotated.
    """
    read = source.splits_called(job.split)
    grey = all(is_grey(source.everything.original(i)) for i in range(len(source.everything)))
    for name in dict.fromkeys(["train", "val", *read]):
        part = source.split(name)
        xy = part.targets.xy if name in ("train", "val") else np.zeros_like(part.targets.xy)
        missing = int(np.isnan(xy).any(axis=(1, 2)).sum())
        if missing:
            raise UserError(
                f"{job.name}: {missing} pictures of {name} have a landmark without its place, and landmarker's "
                "example wants all; leave these rows out"
            )
        pictures = [part.original(i) for i in range(len(part))]
        shown = {f"picture{i}": picture[..., 0] if grey else picture for i, picture in enumerate(pictures)}
        spacing = np.where(np.isnan(part.spacing).any(axis=1, keepdims=True), 1.0, part.spacing)
        np.savez(workdir / f"{name}.npz", allow_pickle=False, xy=xy, spacing=spacing, **shown)
    content = job.setting._asdict() | {"seed": job.seed, "minutes": job.minutes, "cores": CORES, "splits": read}
    files.write_text(workdir / "split.csv", splits.text(source.rows()))
    files.write_text(workdir / "job.json", json.dumps(content))


def is_grey(picture: np.ndarray) -> bool:
    return bool((picture == picture[..., :1]).all())


def score(workdir: pathlib.Path, source: data.SplitPictures[data.Points], config: Any, of_run: dict[str, Any]) -> None:
    """Writes what a run of ours leaves for its test splits, from the points that the worker found.

    Args:
      workdir: that the worker had.
      source: the pictures.
      config: that they were read with.
      of_run: more for metrics.json.

    Raises:
      UserError: a point that is no number.
    """
    remedy = f"remove {workdir}, and the same command trains it anew"
    trained = files.read_json(workdir / "training.json", remedy)
    landmarks = source.targets.landmarks
    tables: dict[str, Predictions] = {}
    with np.load(workdir / "predictions.npz") as found:
        for name in source.splits_called(config.eval.split):
            part, xy = source.split(name), found[name]
            if not np.isfinite(xy).all():
                raise UserError(f"{workdir}: {np.isnan(xy).any(-1).sum()} points of {name} are no numbers; {remedy}")
            known = {"true_xy": part.targets.xy, "spacing": part.spacing}
            tables[name] = Predictions.from_points(part.images, part.subjects, landmarks.names, xy, **known)
    more = {"normalizer": landmarks.normalizer, "n_train": len(source.split("train")), "n_params": trained["n_params"]}
    more |= {"steps": trained["steps"], "minutes": trained["minutes"]}
    more |= {"val_error": trained["val_error"], "versions": trained["versions"]} | of_run
    files.write_text(workdir / "config.json", json.dumps(config.to_dict()))
    metrics.write_predictions(workdir / "predictions.csv", metrics.concatenate(list(tables.values())))
    if len(tables) > 1:
        for name, table in tables.items():
            result = {"split": name} | evaluate.summarize(table, landmarks, config) | more
            files.write_text(workdir / f"metrics_{name}.json", json.dumps(result, indent=1))
    pooled = metrics.read_predictions(workdir / "predictions.csv")
    result = {"split": config.eval.split} | evaluate.summarize(pooled, landmarks, config) | more
    for path in workdir.glob("*.npz"):
        if path.stem != "predictions":
            path.unlink()  # copies of the pictures
    files.write_text(workdir / "metrics.json", json.dumps(result, indent=1))


def result_of(workdir: pathlib.Path) -> dict[str, Any]:
    return files.read_json(workdir / "metrics.json", f"remove {workdir}, and the same command trains it anew")


def error(workdir: pathlib.Path) -> float:
    result = result_of(workdir)
    return float(result[result["ced_measure"]])


def line_of(workdir: pathlib.Path, job: Job) -> dict[str, Any]:
    """Of the table."""
    result = result_of(workdir)
    line = {"data": job.name, "labels": name_of(job.labels), "n_train": result["n_train"], "seed": job.seed}
    line |= {"split": job.split} | job.setting._asdict() | {"measure": result["ced_measure"], "error": error(workdir)}
    numbers = ("seconds", "val_error", "minutes")
    line |= {key: value for key, value in result.items() if isinstance(value, float) and key not in numbers}
    for path in sorted(workdir.glob("metrics_*.json")):
        split = path.stem.removeprefix("metrics_")
        of_split = files.read_json(path, f"remove {workdir}, and the same command trains it anew")
        line |= {f"{key}_{split}": of_split[key] for key in of_split if key in ("me_mm", "sdr_le_2mm")}
    return line | {key: result[key] for key in ("val_error", "steps", "minutes", "seconds")} | {"run": job.folder}


def ours(args: argparse.Namespace, name: str, labels: int) -> list[pathlib.Path]:
    """Folders of the runs of `recipe.py` with the row, minutes, steps and seeds of `args`, the same data and labels;
    none, and said, if one is missing.

    Raises:
      UserError: several runs of a seed are such.
    """
    wanted = {"data": name, "labels": name_of(labels), "row": args.row, "split": "test"}
    wanted |= {"steps": str(args.steps)} if args.steps else {}
    lines = [line for line in read_table(HERE / "recipe.csv") if wanted.items() <= line.items()]
    found: dict[int, pathlib.Path] = {}
    for line in lines:
        if float(line["minutes"]) != args.minutes if line["minutes"] else float(line["clock_minutes"]) > args.minutes:
            continue
        seed, run = int(line["seed"]), pathlib.Path(args.ours) / line["run"]
        if found.setdefault(seed, run) != run:
            raise UserError(f"recipe.csv has two such runs of seed {seed}, {found[seed]} and {run}; choose by --steps")
    missing = sorted(set(args.seeds) - set(found))
    if missing:
        print(
            f"{name}, {name_of(labels)} labels: recipe.csv has no {args.row} of {args.minutes:g} minutes and seed "
            f"{missing[0]}; there is nothing to compare with",
            file=sys.stderr,
        )
        return []
    return [found[seed] for seed in args.seeds]


def compare(workdirs: Sequence[pathlib.Path], others: Sequence[pathlib.Path], row: str) -> dict[str, Any]:
    """The table of one data set and number of labels.

    Args:
      workdirs: landmarker's runs, one of each seed.
      others: ours, or none.
      row: how ours are called.

    Returns:
      `of_seeds`, and `ours`, the runs that are compared; for all test pictures, and for each test split where there are
      several, every metric of the mean over the runs with its 95 % interval over subjects, and its paired difference
      from ours.
    """
    theirs = by_split(Repeats.read(workdirs), workdirs[0])
    mine = by_split(Repeats.read(others), others[0]) if others else {}
    found: dict[str, Any] = {"of_seeds": [error(workdir) for workdir in workdirs]}
    if others:
        found["ours"] = [workdir.name for workdir in others]
    for split, repeated in theirs.items():
        found[split] = {"measure": repeated.measure, "levels": repeated.levels()}
        if split in mine:
            found[split][f"minus_{row}"] = minus(repeated, mine[split])
    return found


def console(result: Mapping[str, Mapping[str, Any]]) -> str:
    return "\n".join(
        f"{name}, {labels} labels, {of_labels['size']} px, rate {of_labels['rate']:g}: {text(of_labels['test'])}"
        for name, rows in result.items()
        for labels, of_labels in rows.items()
    )


def rates(text: str) -> list[float]:
    """The numbers in a flag like 1e-6,1e-5."""
    return [float(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter of an environment that has landmarker")
    parser.add_argument("--folder", required=True, help=f"has the landmark folders {', '.join(DATA.values())}")
    parser.add_argument("--data", default=",".join(DATA), help="names, commas between")
    parser.add_argument("--labels", default="25,all", help="numbers of labelled pictures, commas between")
    parser.add_argument("--seeds", type=integers, default="0,1,2", help="commas between")
    parser.add_argument("--sizes", type=integers, default="512,256,128,64", help="pixels, multiples of 16; val chooses")
    parser.add_argument("--rates", type=rates, default="1e-6", help="commas between; val chooses")
    parser.add_argument("--minutes", type=float, default=60, help="of training, on two cores")
    parser.add_argument("--runs", default="runs/landmarker", help="folder of the runs")
    parser.add_argument("--ours", default="", help="folder of the runs of recipe.py, to compare with")
    parser.add_argument("--row", default="recipe", help="that of recipe.py which is compared")
    parser.add_argument("--steps", type=int, default=0, help="of the runs of recipe.py that are compared; 0: any")
    args = parser.parse_args()
    study, labels = Landmarker(args), labels_of(args.labels)
    grid = [Setting(*pair) for pair in itertools.product(args.sizes, args.rates)]
    table = HERE / "landmarker.json"
    result: dict[str, Any] = files.read_json(table, "remove it") if table.exists() else {}
    for name in names_of(args.data):
        setting = study.choose(name, labels[0], grid, args.minutes)
        result[name] = {}
        for count in labels:
            workdirs = [study.run(Job(name, count, seed, setting, args.minutes)) for seed in args.seeds]
            others = ours(args, name, count) if args.ours else []
            result[name][name_of(count)] = setting._asdict() | compare(workdirs, others, args.row)
    files.write_text(table, json.dumps(result, indent=1) + "\n")
    print(console(result))


if __name__ == "__main__":
    command.run_study(main)
