"""One network for several landmark domains against one network each, and what each part of it is worth.

    python -m experiments.domains --roots=DIR,DIR,DIR --teacher=FILE.safetensors --runs=runs/domains

Every scheme is trained with several seeds (initial weights, order, augmentation, and the pictures of a budget) and
reads its test pictures once. A common network takes as many steps as the separate ones together, and its batches have
equally many pictures of each domain: so every domain is seen as often as in its own network, and the whole costs the
same. With several --weights, the contrastive term's is chosen on val first, with a seed of its own. Interrupted, the
same command continues; finished runs are not repeated. Writes experiments/domains.csv (a line per run and domain) and
.json (the table), and prints the table.
"""

import argparse
import pathlib
from typing import Any

import numpy as np

from configs.domains import get_config
from ctd_jax import cluster, command
from ctd_jax.study import Line, Run, Trial, repeats
from experiments.shared_network import APART, CHOICE, WEIGHT, Method, SharedNetwork, minus_own_network

HERE = pathlib.Path(__file__).parent


class Domains(SharedNetwork):
    """The arguments are those of `main`."""

    def __init__(self, args: argparse.Namespace, domains: list[str]):
        layers = ("encoder", "deconv1", "deconv2")
        super().__init__(pathlib.Path(args.runs), HERE / "domains.csv", domains, layers)
        self._args = args

    def trial(self, method: Method, setting: float, seed: int, split: str | None) -> Trial:
        args = self._args
        steps = args.steps if method.scheme == APART else args.steps * len(self.domains)
        config = get_config()
        config.seed = config.data.budget_seed = seed
        config.data.root = args.roots
        config.data.budget = args.budget
        config.data.image_size = args.size
        config.teacher.weights = args.teacher
        config.train.steps, config.train.batch_size, config.train.encoder_lr = steps, args.batch, args.encoder_lr
        config.eval.every = max(steps // 4, 1)
        config.eval.split = split or config.eval.split
        config.update_from_flattened_dict(self.changes(method, setting))
        size = f"{steps}x{args.batch}-{args.size}px-lr{args.encoder_lr:g}-budget{args.budget or 'all'}"
        cells = {"scheme": method.scheme, "domain": method.domain, "seed": seed, "split": config.eval.split}
        return Trial(f"{self.name(method, setting)}-seed{seed}-{size}", config, cells)

    def part(self, run: Run, domain: str) -> Run:
        return parts(run)[domain]

    def lines_of(self, run: Run) -> list[Line]:
        return [
            {"run": run.workdir.name, **run.cells, "domain": domain, "measure": part.result["ced_measure"]}
            | {"error": error(part), "seconds": run.result["seconds"], "config_hash": run.result["config_hash"]}
            for domain, part in parts(run).items()
        ]


def parts(run: Run) -> dict[str, Run]:
    """Domain -> what the run has of it."""
    return run.domains() if "domains" in run.result else {run.cells["domain"]: run}


def error(run: Run) -> float:
    return float(run.result[run.result["ced_measure"]])


def log_error(run: Run) -> float:
    """The logarithm of the geometric mean of the domains' errors."""
    return float(np.mean([np.log(error(part)) for part in parts(run).values()]))


def compare(runs: dict[str, dict[str, list[Run]]]) -> dict[str, Any]:
    """The table.

    Args:
      runs: scheme -> domain -> its part of the runs of all seeds.

    Returns:
      Domain -> its measure, and for each scheme the mean error over the seeds with a 95 % interval over subjects, and
      the paired difference from the domain's own network.
    """
    result: dict[str, Any] = {}
    for domain, alone in runs[APART].items():
        reference = repeats(alone)
        measure = reference.measure
        rows = {}
        for scheme, of_scheme in runs.items():
            repeated = repeats(of_scheme[domain])
            level = repeated.levels()[measure]
            row = {"error": level["mean"], "ci95": level["ci95"]}
            row["seeds"] = [run.result[measure] for run in of_scheme[domain]]
            if scheme != APART:
                difference = repeated.minus(reference)[measure]
                row["minus_apart"] = {key: difference[key] for key in ("difference", "ci95", "p") if key in difference}
            rows[scheme] = row
        result[domain] = {"measure": measure, "n_images": alone[0].result["n_images"], "peers": rows}
    return result


def console(result: dict[str, Any]) -> str:
    lines = []
    for domain, table in result.items():
        scale, unit = (100, "%") if table["measure"].startswith("nme") else (1, table["measure"][3:])
        lines.append(f"{domain}: {table['measure']}, {unit}, {table['n_images']} pictures")
        for scheme, row in table["peers"].items():
            low, high = (scale * bound for bound in row["ci95"])
            text = f"  {scheme:<18} {scale * row['error']:7.3f}  ({low:.3f} to {high:.3f})"
            difference = row.get("minus_apart", {})
            if "p" in difference:
                ci95 = [scale * bound for bound in difference["ci95"]]
                text += minus_own_network(scale * difference["difference"], ci95, difference["p"], "+.3f")
            lines.append(text)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roots", required=True, help="landmark folders, commas between")
    parser.add_argument("--teacher", required=True, help=".safetensors")
    parser.add_argument("--runs", default="runs/domains", help="folder of the runs")
    parser.add_argument("--cluster", default="", help=cluster.HELP)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="of one domain's own network")
    parser.add_argument("--batch", type=int, default=8, help="pictures a step")
    parser.add_argument("--size", type=int, default=112, help="pixels")
    parser.add_argument("--encoder_lr", type=float, default=3e-3, help="learning rate of the encoder")
    parser.add_argument("--budget", type=int, default=0, help="labelled pictures of each domain; 0: all")
    parser.add_argument("--weights", default="1e-3", help="of the contrastive term, commas between")
    args = parser.parse_args()
    args.weights = [float(weight) for weight in args.weights.split(",")]

    names = [pathlib.Path(root).absolute().name for root in args.roots.split(",")]
    study = Domains(args, names)
    with cluster.joined(args.cluster, pathlib.Path(args.runs)) as study.workers:
        weight = study.choose(Method(CHOICE), args.weights, log_error)
        found = compare(study.compared(weight, range(args.seeds)))
    arguments = {key: value for key, value in vars(args).items() if key not in ("runs", "cluster")}
    arguments |= {"roots": names, "teacher": pathlib.Path(args.teacher).name, WEIGHT: weight}
    result = {"arguments": arguments, "domains": found}
    study.write(result)
    print(console(result["domains"]))


if __name__ == "__main__":
    command.run_study(main)
