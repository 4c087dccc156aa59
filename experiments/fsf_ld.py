"""FSF-LD on cephalograms: what a heavy teacher adds to a tiny student. All is chosen on val, test is read once.

    python -m experiments.fsf_ld --root=ceph_isbi2015 --runs=runs/fsf_ld [--alternatives] [--micro]

1. Teachers: one of heatmaps alone, one of heatmaps and coordinates (configs/fsf_teacher.py), with every seed. The
   second one's first seed teaches all students.
2. Students, five rows. --alternatives: other readings of FSF-LD. --micro: the smaller student, alone and by FSF-LD,
   with the settings of the tiny one.

Each other row's setting is chosen on val among the three of its file's `grid`, with a seed of its own.

Stopped, the same command continues: finished runs are not repeated. Writes fsf_ld.csv (a line per run) and fsf_ld.json
(the table) beside this file. MRE in mm and SDR with 95 % intervals over patients, of the mean over the seeds; paired
differences from the student alone; GFLOPs as `models.cost` counts them; latency: the median of --repeats pictures, one
by one, from uint8 to points, on this machine.
"""

import argparse
import csv
import functools
import json
import pathlib
import shutil
import time
from typing import Any

import jax
import numpy as np

from benchmarks.step import machine
from ctd_jax import metrics
from ctd_jax.config import config_hash, load_config
from ctd_jax.metrics import intervals, paired
from ctd_jax.models import cost
from ctd_jax.tasks import landmarks
from ctd_jax.tasks.teacher import IMAGENET
from ctd_jax.training_run import train_and_evaluate

HERE = pathlib.Path(__file__).parent
ROWS = ("student", "fpd", "fitnets", "attention_transfer", "fsf_ld")
MULTI_TASK, HEATMAPS = "teacher, multi-task", "teacher, heatmaps"
ALTERNATIVES = {
    "fsf_ld, encoder only": ("constraints.hint.layers=('stage2','stage3')",),
    "fsf_ld, decoder only": ("constraints.hint.layers=('deconv2','deconv3')",),
    "fsf_ld, no heatmaps": ("constraints.kd.weight=0",),
    "fsf_ld, plain": ("constraints.hint.form=plain",),
}
MICRO = ("model.encoder=mobilenet_micro", "model.decoder_channels=(32,32,32)")
# of encoder and decoder, of a teacher with three deconvolutions; by this bench the file has the encoder's alone
LEVELS = ("constraints.hint.layers=('stage2','stage3','deconv2','deconv3')",)
CHOOSING_SEED = 1000
SCORE = {"normalizer": None, "thresholds": {"mm": 4.0}, "radii_mm": (2, 2.5, 3, 4)}
KEYS = ("me_mm", "sdr_le_2mm", "sdr_le_2.5mm", "sdr_le_3mm", "sdr_le_4mm")


class Bench:
    """Trains, and keeps fsf_ld.csv. `args`: see `main`."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.lines = args, []
        self.runs = pathlib.Path(args.runs)

    def config(self, file: str, changes: tuple[str, ...]) -> Any:
        args = self.args
        split = HERE / "splits" / "ceph_isbi2015.csv"
        common = (f"data.root={args.root}", f"data.split={split}", f"data.image_size={args.size}", "augment.flip=0")
        common += (f"train.batch_size={args.batch_size}", "eval.every=100")
        if file == "fsf_teacher":
            common += ("teacher.weights=none", f"model.encoder={args.teacher}", "model.decoder_channels=(128,128,128)")
            common += (f"train.steps={args.teacher_steps}",)
        else:
            common += (f"train.steps={args.steps}",)
        return load_config(f"configs/{file}.py", [*common, *changes])

    def text(self, changes: tuple[str, ...]) -> str:
        """For people, with runs named by their folder alone."""
        return " ".join(changes).replace(f"{self.runs}/", "")

    def run(self, row: str, file: str, changes: tuple[str, ...], seed: int, split: str) -> pathlib.Path:
        """The workdir of a finished run."""
        config = self.config(file, changes)
        config.grid = ()
        config.seed, config.eval.split = seed, split
        name = f"{row}-{split}-seed{seed}-{config_hash(config)}".replace(", ", "-").replace(" ", "-")
        workdir = self.runs / name
        result = train_and_evaluate(config, workdir, self.runs / "tfds")
        if file != "fsf_teacher" or split == "val":
            shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
        jax.clear_caches()  # the next run compiles anew, from the cache on disk
        line = {"row": row, "changes": self.text(changes), "seed": seed, "split": split}
        line |= {key: result[key] for key in (*KEYS, "n_params", "gflops", "config_hash")}
        line |= {"minutes": round(result["seconds"] / 60, 2), "run": name}
        self.lines.append(line)
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in line.items()}, flush=True)
        with (HERE / "fsf_ld.csv").open("w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, list(line), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.lines)
        return workdir

    def chosen(self, row: str, file: str, changes: tuple[str, ...]) -> tuple[str, ...]:
        """`changes`, and the setting of the file's grid that is best on val."""
        settings = [(*changes, *setting.split()) for setting in self.config(file, ()).grid]
        tried = [self.run(row, file, setting, CHOOSING_SEED, "val") for setting in settings]
        errors = [json.loads((workdir / "metrics.json").read_text("utf-8"))["me_mm"] for workdir in tried]
        return settings[int(np.argmin(errors))]


def latency(config: Any, repeats: int) -> float:
    """Median milliseconds for one picture, from uint8 to points; random weights, after five pictures to warm up."""
    model = landmarks.build(config, {"name": config.model.encoder}, 19)
    shape = 1, config.data.image_size, config.data.image_size, 3
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), picture.astype("float32"))
    forward = jax.jit(landmarks.forward(model, IMAGENET))
    took = []
    for _ in range(5 + repeats):
        began = time.perf_counter()
        jax.block_until_ready(forward(variables, {"picture": picture}))
        took.append(time.perf_counter() - began)
    return 1e3 * float(np.median(took[5:]))


def score(workdirs: list[pathlib.Path]) -> dict[str, Any]:
    """MRE and SDR of the mean over the runs, each with its interval."""
    tables = [metrics.read_predictions(workdir / "predictions.csv") for workdir in workdirs]
    runs = [metrics.ratios(table, **SCORE) for table in tables]
    above, below = (np.array([[run[key][i] for key in KEYS] for run in runs]).mean(axis=0).T for i in (0, 1))
    estimate = intervals.of_ratios(above, below, metrics.subject_units(tables[0]))
    fraction = [metrics.is_fraction(key) for key in KEYS]
    bounds = np.where(fraction, intervals.bounds(estimate, "fraction"), intervals.bounds(estimate, "level"))
    means = above.sum(axis=0) / below.sum(axis=0)
    return {key: {"mean": float(means[i]), "ci95": bounds[:, i].tolist()} for i, key in enumerate(KEYS)}


def minus(a: list[pathlib.Path], b: list[pathlib.Path]) -> dict[str, Any]:
    """Paired differences a - b."""
    a, b = ([metrics.read_predictions(workdir / "predictions.csv") for workdir in of] for of in (a, b))
    found = paired.difference(a, b, **SCORE)["differences"]
    return {key: {part: found[key][part] for part in ("difference", "ci95", "p")} for key in KEYS}


def row_of(runs: list[pathlib.Path], config: Any) -> dict[str, Any]:
    facts = json.loads((runs[0] / "metrics.json").read_text("utf-8"))
    model = landmarks.build(config, {"name": config.model.encoder}, 19)
    costs = {"n_params": facts["n_params"], "gflops": facts["gflops"], "gflops_at_256": cost.gflops(model, 256)}
    return score(runs) | costs | {"n_images": facts["n_images"]}


def text(result: dict[str, Any]) -> str:
    """The table in Markdown."""
    head = ("row", "MRE, mm", "SDR 2 / 2.5 / 3 / 4 mm, %", "MRE - alone, mm", "M parameters", "GFLOPs", "ms")
    rows = [head, ("---",) * len(head)]
    for name, row in result["rows"].items():
        rates = " / ".join(f"{100 * row[key]['mean']:.1f}" for key in KEYS[1:])
        error = "{:.3f} ({:.3f} to {:.3f})".format(row["me_mm"]["mean"], *row["me_mm"]["ci95"])
        less = row.get("minus_alone", {}).get("me_mm")
        less = "{:+.3f} ({:+.3f} to {:+.3f})".format(less["difference"], *less["ci95"]) if less else ""
        costs = f"{row['n_params'] / 1e6:.2f}", f"{row['gflops']:.3f}", f"{row['latency_ms']:.1f}"
        rows.append((name, error, rates, less, *costs))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the landmark folder ceph_isbi2015")
    parser.add_argument("--runs", default="runs/fsf_ld", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--teacher", default="resnet18", help="the teacher's encoder, from random weights")
    parser.add_argument("--teacher_steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=400, help="of a student")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=50, help="pictures for the latency")
    parser.add_argument("--alternatives", action="store_true", help="other readings of FSF-LD")
    parser.add_argument("--micro", action="store_true", help="the smaller student")
    args = parser.parse_args()
    bench, seeds = Bench(args), range(args.seeds)

    runs, of_row = {}, {}
    of_row[HEATMAPS] = "fsf_teacher", ("coordinates.weight=0",)
    of_row[MULTI_TASK] = "fsf_teacher", bench.chosen(MULTI_TASK, "fsf_teacher", ())
    for name, (file, changes) in of_row.items():
        runs[name] = [bench.run(name, file, changes, seed, "test") for seed in seeds]
    guide = (f"teacher.run={runs[MULTI_TASK][0]}",)
    for name in ROWS:
        changes = {"student": (), "fsf_ld": guide + LEVELS}.get(name, guide)
        of_row[name] = (name, bench.chosen(name, name, changes))
    if args.alternatives:
        for name, changes in ALTERNATIVES.items():
            of_row[name] = "fsf_ld", bench.chosen(name, "fsf_ld", guide + LEVELS + changes)
    if args.micro:
        of_row |= {f"micro: {name}": (name, of_row[name][1] + MICRO) for name in ("student", "fsf_ld")}
    for name, (file, changes) in of_row.items():
        if name not in runs:
            runs[name] = [bench.run(name, file, changes, seed, "test") for seed in seeds]

    latencies = {}  # of each network once: rows of one student have one
    result = {"machine": machine(), "seeds": args.seeds, "size": args.size, "rows": {}}
    for name, (file, changes) in of_row.items():
        config = bench.config(file, changes)
        network = config.model.encoder, config.model.decoder_channels
        if network not in latencies:
            latencies[network] = latency(config, args.repeats)
        row = {"settings": bench.text(changes)} | row_of(runs[name], config) | {"latency_ms": latencies[network]}
        alone = "micro: student" if name.startswith("micro") else "student"
        if name not in (HEATMAPS, MULTI_TASK, alone):
            row["minus_alone"] = minus(runs[name], runs[alone])
        result["rows"][name] = row
    result["multi-task - heatmaps"] = minus(runs[MULTI_TASK], runs[HEATMAPS])
    (HERE / "fsf_ld.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(text(result))


if __name__ == "__main__":
    main()
