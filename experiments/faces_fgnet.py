"""FT against CTD-ED on faces_fgnet with 50 labelled pictures: everything chosen on val, test read once.

    python -m convert.mobilefacenet mobilefacenet.pt --out=teacher.safetensors
    python -m experiments.faces_fgnet --root=DIR --teacher=teacher.safetensors --runs=runs/faces_fgnet

Choose: seed 0, `eval.split=val`: FT over learning rates, then CTD-ED over its weight at FT's. Compare: both over three
seeds (initial decoder, order, augmentation, and the 50 pictures) with the same steps. Finished runs are not repeated.
Writes experiments/faces_fgnet.csv (a line per run) and .json (the table).
"""

import argparse
import csv
import json
import pathlib
from typing import Any

import numpy as np

from configs import ctd_ed, ft
from ctd_jax import metrics
from ctd_jax.data import folder, splits
from ctd_jax.metrics import intervals
from ctd_jax.training_run import train_and_evaluate

HERE = pathlib.Path(__file__).parent
METHODS = {"ft": ft, "ctd_ed": ctd_ed}
SEEDS = (0, 1, 2)
BUDGET = 50
LEARNING_RATES = ((1e-3, 1e-3), (3e-4, 1e-3), (1e-3, 3e-3), (3e-3, 3e-3))  # encoder, decoder
WEIGHTS = (0.0001, 0.001, 0.01, 0.1)
NORMALIZER = ("left_eye_outer", "right_eye_outer")


def split_file(root: pathlib.Path, seed: int) -> pathlib.Path:
    """The 50 training pictures of a seed, and the folder's own val and test, as a file."""
    path = HERE / "splits" / f"faces_fgnet_{BUDGET}_seed{seed}.csv"
    if not path.exists():
        table = folder.read(root)
        names = splits.assign(table.images, table.subjects, given=table.splits, seed=seed, budget=BUDGET)
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("image", "split"))
            writer.writerows((i, s) for i, s in zip(table.images, names, strict=True) if s != "unused")
    return path


def run(
    args: argparse.Namespace, method: str, seed: int, split: str, rates: tuple[float, float], weight: float
) -> dict:
    """One training; returns its line of the csv file."""
    config = METHODS[method].get_config()
    config.seed = config.data.seed = seed
    config.data.root, config.data.split = args.root, str(split_file(pathlib.Path(args.root), seed))
    config.data.budget = 0
    config.data.image_size = args.size
    config.teacher.weights = args.teacher
    config.model.decoder_channels = (128, 128)
    config.train.steps = args.steps
    config.train.encoder_lr, config.train.decoder_lr = rates
    config.constraints.ed.weight = weight
    config.eval.split = split
    config.eval.every = 100
    name = f"{method}-{split}-seed{seed}-lr{rates[0]:g}-{rates[1]:g}-ed{weight:g}-{args.steps}"
    workdir = pathlib.Path(args.runs) / name
    result = train_and_evaluate(config, workdir)
    line = {"run": name, "method": method, "seed": seed, "split": split, "encoder_lr": rates[0], "decoder_lr": rates[1]}
    line |= {"ed_weight": weight, "steps": args.steps, "me_px": result["me_px"]}
    line |= {"nme": result[metrics.nme_key(NORMALIZER)], "fr@0.1": result["fr@0.1"]}
    line |= {"minutes": result["seconds"] / 60, "config_hash": result["config_hash"]}
    print({key: round(value, 5) if isinstance(value, float) else value for key, value in line.items()}, flush=True)
    return line


def table_of(runs: pathlib.Path, lines: list[dict]) -> dict[str, Any]:
    """Mean over the seeds, with a 95 % interval over subjects; and the paired difference CTD-ED minus FT."""
    errors, subjects, result = {}, None, {}
    for method in METHODS:
        tables = [
            metrics.read_predictions(runs / line["run"] / "predictions.csv")
            for line in lines
            if line["method"] == method
        ]
        subjects = tables[0].subjects
        nme = np.mean([metrics.image_error(t, NORMALIZER, metrics.nme_key(NORMALIZER)) for t in tables], axis=0)
        px = np.mean([metrics.image_error(t, None, "me_px") for t in tables], axis=0)
        failed = np.mean(
            [metrics.image_error(t, NORMALIZER, metrics.nme_key(NORMALIZER)) > 0.1 for t in tables], axis=0
        )
        errors[method] = np.stack([px, nme, failed], axis=1)
    errors["ctd_ed - ft"] = errors["ctd_ed"] - errors["ft"]
    for name, values in errors.items():
        estimate = intervals.of_ratios(values, np.ones_like(values), subjects)
        paired = name not in METHODS
        scales = ("difference", "difference", "difference of fractions") if paired else ("level", "level", "fraction")
        bounds = np.stack([intervals.bounds(estimate, scale)[:, i] for i, scale in enumerate(scales)], axis=1)
        result[name] = {
            key: {"mean": float(values[:, i].mean()), "ci95": bounds[:, i].tolist()}
            for i, key in enumerate(("me_px", "nme", "fr@0.1"))
        }
        of_seeds = [line["nme"] for line in lines if line["method"] == name]
        if of_seeds:
            result[name]["nme_of_seeds"] = of_seeds
            result[name]["minutes"] = float(np.mean([line["minutes"] for line in lines if line["method"] == name]))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the landmark folder faces_fgnet")
    parser.add_argument("--teacher", required=True, help="MobileFaceNet's .safetensors")
    parser.add_argument("--runs", default="runs/faces_fgnet", help="folder of the runs")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--size", type=int, default=112, help="pixels")
    args = parser.parse_args()

    lines = [run(args, "ft", 0, "val", rates, 0.0) for rates in LEARNING_RATES]
    best = min(lines, key=lambda line: line["nme"])
    rates = best["encoder_lr"], best["decoder_lr"]
    lines += [run(args, "ctd_ed", 0, "val", rates, weight) for weight in WEIGHTS]
    weight = min((line for line in lines if line["method"] == "ctd_ed"), key=lambda line: line["nme"])["ed_weight"]
    final = [run(args, m, s, "test", rates, weight if m == "ctd_ed" else 0.0) for s in SEEDS for m in METHODS]
    with (HERE / "faces_fgnet.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines + final)
    result = table_of(pathlib.Path(args.runs), final) | {
        "encoder_lr": rates[0],
        "decoder_lr": rates[1],
        "ed_weight": weight,
    }
    (HERE / "faces_fgnet.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
