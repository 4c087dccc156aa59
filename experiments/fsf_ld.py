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
import functools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.step import machine
from ctd_jax import cluster, command
from ctd_jax.config import config_hash, load_config
from ctd_jax.models import cost
from ctd_jax.study import Line, Run, Study, Trial, repeats
from ctd_jax.tasks import landmarks
from ctd_jax.tasks.teacher import IMAGENET

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
# Layers of the encoder and the decoder of a teacher with three deconvolutions; after this study the file has the
# encoder's alone.
LEVELS = ("constraints.hint.layers=('stage2','stage3','deconv2','deconv3')",)
KEYS = ("me_mm", "sdr_le_2mm", "sdr_le_2.5mm", "sdr_le_3mm", "sdr_le_4mm")
Changes = tuple[str, ...]  # KEY=VALUE


class TinyStudents(Study[str, Changes]):
    """Methods are rows of the table, settings the changes of a row's configuration. `args`: see `main`."""

    def __init__(self, args: argparse.Namespace):
        super().__init__(pathlib.Path(args.runs), HERE / "fsf_ld.csv")
        self._args = args

    def trial(self, method: str, setting: Changes, seed: int, split: str | None) -> Trial:
        config, split = self.config(method, setting), split or "test"
        config.seed, config.eval.split = seed, split
        name = f"{method}-{split}-seed{seed}-{config_hash(config)}".replace(", ", "-").replace(" ", "-")
        return Trial(name, config, {"row": method, "changes": self.text(setting), "seed": seed, "split": split})

    def config(self, row: str, changes: Changes) -> ConfigDict:
        args = self._args
        split = HERE / "splits" / "ceph_isbi2015.csv"
        common = [f"data.root={args.root}", f"data.split={split}", f"data.image_size={args.size}", "augment.flip=0"]
        common += [f"train.batch_size={args.batch_size}", "eval.every=100"]
        if file_of(row) == "fsf_teacher":
            common += ["teacher.weights=none", f"model.encoder={args.teacher}", "model.decoder_channels=(128,128,128)"]
            common += [f"train.steps={args.teacher_steps}"]
        else:
            common += [f"train.steps={args.steps}"]
        return load_config(f"configs/{file_of(row)}.py", [*common, *changes])

    def text(self, changes: Changes) -> str:
        """The changes for people, with runs named by their folder alone."""
        return " ".join(changes).replace(f"{self._runs}/", "")

    def lines_of(self, run: Run) -> list[Line]:
        line = run.cells | {key: run.result[key] for key in (*KEYS, "n_params", "gflops", "config_hash")}
        return [line | {"minutes": round(run.result["seconds"] / 60, 2), "run": run.workdir.name}]

    def tidy(self, run: Run) -> None:
        """Keeps the checkpoints of the teachers that are compared: one of them teaches."""
        if file_of(run.cells["row"]) != "fsf_teacher" or run.cells["split"] == "val":
            run.remove_checkpoints()

    def chosen(self, row: str, changes: Changes = ()) -> Changes:
        """The changes, and the setting of the file's grid that is best on val."""
        grid = [(*changes, *setting.split()) for setting in self.config(row, ()).grid]
        return self.choose(row, grid, lambda run: float(run.result["me_mm"]))


def file_of(row: str) -> str:
    """The file in configs/ of a row of the table."""
    if row in (MULTI_TASK, HEATMAPS):
        return "fsf_teacher"
    return row.removeprefix("micro: ").partition(",")[0]


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


def minus(a: Sequence[Run], b: Sequence[Run]) -> dict[str, Any]:
    """Paired differences a - b."""
    found = repeats(a).minus(repeats(b))
    return {key: {part: found[key][part] for part in ("difference", "ci95", "p")} for key in KEYS}


def row_of(runs: Sequence[Run], config: ConfigDict) -> dict[str, Any]:
    """MRE and SDR of the mean over the runs, each with its interval, and what the network costs."""
    levels, result = repeats(runs).levels(), runs[0].result
    model = landmarks.build(config, {"name": config.model.encoder}, 19)
    costs = {"n_params": result["n_params"], "gflops": result["gflops"], "gflops_at_256": cost.gflops(model, 256)}
    return {key: levels[key] for key in KEYS} | costs | {"n_images": result["n_images"]}


def text(result: dict[str, Any]) -> str:
    """The table in Markdown."""
    head = ("row", "MRE, mm", "SDR 2 / 2.5 / 3 / 4 mm, %", "MRE - alone, mm", "M parameters", "GFLOPs", "ms")
    rows = [head, ("---",) * len(head)]
    for name, row in result["rows"].items():
        rates = " / ".join(f"{100 * row[key]['mean']:.1f}" for key in KEYS[1:])
        error = "{:.3f} ({:.3f} to {:.3f})".format(row["me_mm"]["mean"], *row["me_mm"]["ci95"])
        less = row.get("minus_alone", {}).get("me_mm")
        less = "{:+.3f} ({:+.3f} to {:+.3f})".format(less["difference"], *less["ci95"]) if less else ""
        gflops = "" if row["gflops"] is None else f"{row['gflops']:.3f}"
        costs = f"{row['n_params'] / 1e6:.2f}", gflops, f"{row['latency_ms']:.1f}"
        rows.append((name, error, rates, less, *costs))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the landmark folder ceph_isbi2015")
    parser.add_argument("--runs", default="runs/fsf_ld", help="folder of the runs")
    parser.add_argument("--cluster", default="", help=cluster.HELP)
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
    study, seeds = TinyStudents(args), range(args.seeds)

    with cluster.joined(args.cluster, pathlib.Path(args.runs)) as study.workers:
        changes = {HEATMAPS: ("coordinates.weight=0",), MULTI_TASK: study.chosen(MULTI_TASK)}
        runs = {row: study.repeat({row: changes[row]}, seeds)[row] for row in changes}
        taught = (f"teacher.run={runs[MULTI_TASK][0].workdir}",)
        for row in ROWS:
            changes[row] = study.chosen(row, {"student": (), "fsf_ld": taught + LEVELS}.get(row, taught))
        if args.alternatives:
            for row, alternative in ALTERNATIVES.items():
                changes[row] = study.chosen(row, taught + LEVELS + alternative)
        if args.micro:
            changes |= {f"micro: {row}": changes[row] + MICRO for row in ("student", "fsf_ld")}
        for row in changes:
            if row not in runs:
                runs |= study.repeat({row: changes[row]}, seeds)

    latencies: dict[tuple[str, tuple[int, ...]], float] = {}  # of each network once: rows of one student have one
    table: dict[str, Any] = {}
    for row, of_row in runs.items():
        config = study.config(row, changes[row])
        network = config.model.encoder, config.model.decoder_channels
        if network not in latencies:
            latencies[network] = latency(config, args.repeats)
        table[row] = {"settings": study.text(changes[row])} | row_of(of_row, config)
        table[row] |= {"latency_ms": latencies[network]}
        alone = "micro: student" if row.startswith("micro") else "student"
        if row not in (HEATMAPS, MULTI_TASK, alone):
            table[row]["minus_alone"] = minus(of_row, runs[alone])
    result = {"machine": machine(), "seeds": args.seeds, "size": args.size, "rows": table}
    result["multi-task - heatmaps"] = minus(runs[MULTI_TASK], runs[HEATMAPS])
    study.write(result)
    print(text(result))


if __name__ == "__main__":
    command.run_study(main)
