"""The demo over several seeds: FT against CTD-ED on the drawn faces, with 20 labelled pictures.

    python -m benchmarks.demo --runs=runs/demo

The weight of the constraint is chosen on val (seeds of their own), then both methods are compared on test. A seed draws
other people, another decoder, another order. Writes benchmarks/demo.csv and demo.json.
"""

import argparse
import csv
import json
import pathlib

import numpy as np

from configs import ctd_ed, ft
from ctd_jax import metrics
from ctd_jax.data import synthetic
from ctd_jax.train import train_and_evaluate

HERE = pathlib.Path(__file__).parent
METHODS = {"ft": ft, "ctd_ed": ctd_ed}
CHOOSING, COMPARING = (10, 11, 12), (0, 1, 2, 3, 4)
RATES = (3e-4, 1e-3, 3e-3)  # of encoder and decoder alike
WEIGHTS = (0.001, 0.003, 0.01, 0.03, 0.1)
KEY = metrics.nme_key(synthetic.NORMALIZER)


def run(runs: pathlib.Path, method: str, seed: int, split: str, rate: float, weight: float) -> dict:
    """One training; returns its line of the csv file."""
    config = METHODS[method].get_config()
    config.seed = config.data.seed = seed
    config.eval.split = split
    config.train.encoder_lr = config.train.decoder_lr = rate
    config.constraints.ed.weight = weight
    name = f"{method}-{split}-seed{seed}-lr{rate:g}-ed{weight:g}"
    result = train_and_evaluate(config, runs / name)
    line = {"run": name, "method": method, "seed": seed, "split": split, "lr": rate, "ed_weight": weight}
    line |= {"nme": result[KEY], "me_px": result["me_px"], "fr@0.1": result["fr@0.1"], "seconds": result["seconds"]}
    print({key: round(value, 5) if isinstance(value, float) else value for key, value in line.items()}, flush=True)
    return line


def mean(lines: list[dict], **wanted) -> float:
    """Mean NME of the lines that have these values."""
    return float(np.mean([line["nme"] for line in lines if all(line[k] == v for k, v in wanted.items())]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="runs/demo", type=pathlib.Path, help="folder of the runs")
    args = parser.parse_args()
    lines = [run(args.runs, "ft", seed, "val", rate, 0.0) for rate in RATES for seed in CHOOSING]
    rate = min(RATES, key=lambda r: mean(lines, method="ft", lr=r))
    lines += [run(args.runs, "ctd_ed", seed, "val", rate, weight) for weight in WEIGHTS for seed in CHOOSING]
    weight = min(WEIGHTS, key=lambda w: mean(lines, method="ctd_ed", ed_weight=w))
    lines += [run(args.runs, "ft", seed, "test", rate, 0.0) for seed in COMPARING]
    lines += [run(args.runs, "ctd_ed", seed, "test", rate, weight) for seed in COMPARING]
    with (HERE / "demo.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    result = {"lr": rate, "ed_weight": weight, "seeds": list(COMPARING)}
    tested = {m: [line["nme"] for line in lines if line["split"] == "test" and line["method"] == m] for m in METHODS}
    result |= {f"nme_{m}": values for m, values in tested.items()}
    difference = np.subtract(tested["ctd_ed"], tested["ft"])
    # Student's t, 4 degrees of freedom: the seeds are the sample
    half = 2.776 * difference.std(ddof=1) / np.sqrt(len(difference))
    result["ctd_ed - ft"] = {"mean": difference.mean(), "ci95": [difference.mean() - half, difference.mean() + half]}
    (HERE / "demo.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
