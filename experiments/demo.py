"""The demo over several seeds: from scratch, FT and CTD-ED on the drawn faces, with few labelled pictures.

    python -m experiments.demo --labels=20 --runs=runs/demo_20

Chosen on val, with seeds of their own: the learning rate of each (CTD-ED takes FT's), the weight of the constraint.
Compared on test. A seed draws other people, another decoder, another order. Writes demo_<labels>.csv and .json.
"""

import argparse
import csv
import json
import pathlib

import numpy as np

from configs import ctd_ed, ft
from ctd_jax import metrics
from ctd_jax.data import synthetic
from ctd_jax.training_run import train_and_evaluate

HERE = pathlib.Path(__file__).parent
CHOOSING, COMPARING = (10, 11), (0, 1, 2, 3, 4)
RATES = (1e-3, 3e-3)  # of encoder and decoder alike
WEIGHTS = (1e-4, 1e-3, 1e-2)
KEY = metrics.nme_key(synthetic.NORMALIZER)
STUDENT_T = 2.776  # 97.5 % quantile, 4 degrees of freedom: the five seeds are the sample


def run(args: argparse.Namespace, method: str, seed: int, split: str, rate: float, weight: float = 0.0) -> dict:
    """One training; returns its line of the csv file."""
    config = ctd_ed.get_config() if method == "ctd_ed" else ft.get_config()
    config.seed = config.data.seed = seed
    config.eval.split = split
    config.data.synthetic.identities = (args.labels, 20, 60)  # one picture of each person in train
    config.train.encoder_lr = config.train.decoder_lr = rate
    config.constraints.ed.weight = weight
    if method == "scratch":
        config.teacher.weights, config.model.encoder = "none", "resnet8"
    name = f"{method}-{split}-seed{seed}-lr{rate:g}-ed{weight:g}"
    result = train_and_evaluate(config, args.runs / name)
    line = {"run": name, "method": method, "seed": seed, "split": split, "lr": rate, "ed_weight": weight}
    line |= {"nme": result[KEY], "me_px": result["me_px"], "fr@0.1": result["fr@0.1"], "seconds": result["seconds"]}
    print({key: round(value, 5) if isinstance(value, float) else value for key, value in line.items()}, flush=True)
    return line


def best(lines: list[dict], key: str) -> float:
    """The value of `key` with the lowest mean NME."""
    values = {line[key] for line in lines}
    return min(values, key=lambda value: np.mean([line["nme"] for line in lines if line[key] == value]))


def difference(a: list[float], b: list[float]) -> dict:
    """Mean of a - b over the seeds, with a 95 % interval."""
    values = np.subtract(a, b)
    half = STUDENT_T * values.std(ddof=1) / np.sqrt(len(values))
    return {"mean": values.mean(), "ci95": [values.mean() - half, values.mean() + half]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", default=20, type=int, help="labelled pictures to train on")
    parser.add_argument("--runs", default="runs/demo", type=pathlib.Path, help="folder of the runs")
    args = parser.parse_args()
    chosen, lines = {}, []
    for method in ("ft", "scratch"):
        tried = [run(args, method, seed, "val", rate) for rate in RATES for seed in CHOOSING]
        chosen[method] = {"rate": best(tried, "lr")}
        lines += tried
    rate = chosen["ft"]["rate"]
    tried = [run(args, "ctd_ed", seed, "val", rate, weight) for weight in WEIGHTS for seed in CHOOSING]
    chosen["ctd_ed"] = {"rate": rate, "weight": best(tried, "ed_weight")}
    lines += tried
    tested = {m: [run(args, m, seed, "test", **chosen[m]) for seed in COMPARING] for m in chosen}
    with (HERE / f"demo_{args.labels}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sum(tested.values(), lines))
    nme = {method: [line["nme"] for line in of_method] for method, of_method in tested.items()}
    result = {"chosen": chosen, "seeds": COMPARING, "nme": nme}
    result |= {
        "ctd_ed - ft": difference(nme["ctd_ed"], nme["ft"]),
        "ft - scratch": difference(nme["ft"], nme["scratch"]),
    }
    (HERE / f"demo_{args.labels}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
