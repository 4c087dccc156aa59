"""The demo over several seeds: from scratch, FT and CTD-ED on the drawn faces, with few labelled pictures.

    python -m experiments.demo --labels=20 --runs=runs/demo_20

Chosen on val, with seeds of their own: the learning rate of each (CTD-ED takes FT's), the weight of the constraint.
Compared on test. A seed draws other people, another decoder, another order. Interrupted, the same command continues.
Writes demo_<labels>.csv and .json beside this file.
"""

import argparse
import json
import pathlib
from typing import Any

import numpy as np

from configs import ctd_ed, ft
from ctd_jax import cluster, command, metrics
from ctd_jax.data import synthetic
from ctd_jax.study import Line, Run, Study, Trial

HERE = pathlib.Path(__file__).parent
CHOOSING, COMPARING = (10, 11), (0, 1, 2, 3, 4)
RATES = (1e-3, 3e-3)  # of encoder and decoder alike
WEIGHTS = (1e-4, 1e-3, 1e-2)
KEY = metrics.nme_key(synthetic.NORMALIZER)
STUDENT_T = 2.776  # 97.5 % quantile, 4 degrees of freedom: the five seeds are the sample


class Demo(Study[str, dict[str, float]]):
    """Settings have the learning `rate`, and the `weight` of the constraint if there is one."""

    def __init__(self, runs: pathlib.Path, labels: int):
        super().__init__(runs, HERE / f"demo_{labels}.csv")
        self._labels = labels

    def trial(self, method: str, setting: dict[str, float], seed: int, split: str | None) -> Trial:
        split, rate, weight = split or "test", setting["rate"], setting.get("weight", 0.0)
        config = ctd_ed.get_config() if method == "ctd_ed" else ft.get_config()
        config.seed = config.data.seed = seed
        config.eval.split = split
        config.data.synthetic.identities = (self._labels, 20, 60)  # one picture of each person in train
        config.train.encoder_lr = config.train.decoder_lr = rate
        config.constraints.ed.weight = weight
        if method == "scratch":
            config.teacher.weights, config.model.encoder = "none", "resnet8"
        name = f"{method}-{split}-seed{seed}-lr{rate:g}-ed{weight:g}"
        return Trial(name, config, {"method": method, "seed": seed, "split": split, "lr": rate, "ed_weight": weight})

    def lines_of(self, run: Run) -> list[Line]:
        numbers = {"nme": nme(run)} | {key: run.result[key] for key in ("me_px", "fr@0.1", "seconds")}
        return [{"run": run.workdir.name} | run.cells | numbers]


def nme(run: Run) -> float:
    return float(run.result[KEY])


def difference(a: list[float], b: list[float]) -> dict[str, Any]:
    """Mean of a - b over the seeds, with a 95 % interval."""
    values = np.subtract(a, b)
    half = STUDENT_T * values.std(ddof=1) / np.sqrt(len(values))
    return {"mean": values.mean(), "ci95": [values.mean() - half, values.mean() + half]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", default=20, type=int, help="labelled pictures to train on")
    parser.add_argument("--runs", default="runs/demo", type=pathlib.Path, help="folder of the runs")
    parser.add_argument("--cluster", default="", help=cluster.HELP)
    args = parser.parse_args()
    study = Demo(args.runs, args.labels)
    rates = [{"rate": rate} for rate in RATES]
    with cluster.joined(args.cluster, pathlib.Path(args.runs)) as study.workers:
        chosen = study.choose_each({"ft": rates, "scratch": rates}, nme, CHOOSING)
        weights = [chosen["ft"] | {"weight": weight} for weight in WEIGHTS]
        chosen["ctd_ed"] = study.choose("ctd_ed", weights, nme, CHOOSING)
        errors = {}
        for method, setting in chosen.items():
            errors[method] = [nme(run) for run in study.repeat({method: setting}, COMPARING)[method]]
    result = {
        "chosen": chosen,
        "seeds": COMPARING,
        "nme": errors,
        "ctd_ed - ft": difference(errors["ctd_ed"], errors["ft"]),
        "ft - scratch": difference(errors["ft"], errors["scratch"]),
    }
    study.write(result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    command.run_study(main)
