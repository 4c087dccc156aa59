"""One segmentation network for several anatomies against one network each, and what each part of it is worth, with few
and with all training pictures (Boutillon et al. 2021, arXiv 2105.10310).

    python -m experiments.multidomain --root=DIR --teacher=FILE.safetensors --runs=runs/multidomain

DIR has segmentation.csv. Every scheme is trained with several seeds (initial weights, order, augmentation, and the
pictures of a share) and reads its test pictures once. A common network takes as many steps as the separate ones
together, and its batches have equally many pictures of each domain: so every domain is seen as often as in its own
network, and the whole costs the same. With several --weights, the contrastive term's is chosen on val first, with a
seed of its own. Interrupted, the same command continues; finished runs are not repeated. Writes
experiments/multidomain.csv (a line per run and domain) and .json (the table), and prints the table.

Dice of the table is the mean over a domain's classes of the mean over the test pictures that have the class, averaged
over the seeds; intervals are over subjects.
"""

import argparse
import json
import pathlib
from typing import Any

import numpy as np

from configs.mtmd import get_config
from ctd_jax import cluster, command
from ctd_jax.metrics import intervals, segmentation
from ctd_jax.study import CHOOSING_SEED, Line, Run, Trial
from experiments.shared_network import APART, CHOICE, Method, SharedNetwork, minus_own_network

HERE = pathlib.Path(__file__).parent


class Anatomies(SharedNetwork):
    """The arguments are those of `main`."""

    def __init__(self, args: argparse.Namespace, domains: list[str]):
        layers = ("encoder", "level1", "level2", "level3")
        super().__init__(pathlib.Path(args.runs), HERE / "multidomain.csv", domains, layers)
        self._args = args

    def trial(self, method: Method, setting: float, seed: int, split: str | None) -> Trial:
        args, share = self._args, float(method.share)
        config = get_config()
        config.seed = config.data.budget_seed = seed
        config.data.root, config.data.share, config.data.image_size = args.root, share, args.size
        config.teacher.weights = args.teacher
        config.domains.schedule = "balanced"
        steps = max(args.steps // len(self.domains), 1) if method.scheme == APART else args.steps
        config.train.steps, config.train.batch_size = steps, args.batch
        config.eval.every = max(steps // 4, 1)
        config.eval.split = split or config.eval.split
        config.update_from_flattened_dict(self.changes(method, setting))
        size = f"{100 * share:g}percent-seed{seed}-{steps}x{args.batch}-{args.size}px"
        cells = {"share": method.share, "scheme": method.scheme, "domain": method.domain, "seed": seed}
        return Trial(f"{self.name(method, setting)}-{size}", config, cells)

    def part(self, run: Run, domain: str) -> Run:
        return run

    def lines_of(self, run: Run) -> list[Line]:
        if run.cells["seed"] == CHOOSING_SEED:
            return []
        lines = []
        for domain in run.result["classes"]:
            end = f"_{segmentation.slug(domain)}"
            line = run.cells | {"domain": domain, "run": run.workdir.name}
            line |= {key: run.result.get(key + end, "") for key in segmentation.MEASURES}
            lines.append(line | {"seconds": run.result["seconds"]})
        return lines

    def describe(self, run: Run, lines: object) -> str:
        dice = {domain: run.result[f"dice_{segmentation.slug(domain)}"] for domain in run.result["classes"]}
        return f"{run.workdir.name}: {', '.join(f'{domain} {100 * value:.1f} %' for domain, value in dice.items())}"


def error(run: Run) -> float:
    """What the mean Dice lacks."""
    return 1 - float(run.result["dice"])


def dice_of(runs: list[Run], domain: str) -> tuple[np.ndarray, np.ndarray]:
    """`[N, C]` Dice of each test picture and class, averaged over runs, NaN where the picture does not have the class;
    `[N]` subjects."""
    tables = [segmentation.read(run.workdir / "segmentation_metrics.csv") for run in runs]
    first = tables[0]
    rows = first.of(domain)
    images = sorted(set(first.names["image"][rows].tolist()))
    names = list(dict.fromkeys(first.names["class"][rows].tolist()))
    subjects = dict(zip(first.names["image"], first.names["subject"], strict=True))
    found = np.full((len(tables), len(images), len(names)), np.nan)
    for table, values in zip(tables, found, strict=True):
        annotated = table.of(domain) & (table.values["true_pixels"] > 0)
        columns = (table.names["image"][annotated], table.names["class"][annotated], table.values["dice"][annotated])
        for image, name, value in zip(*columns, strict=True):
            values[images.index(image), names.index(name)] = value
    return found.mean(0), np.array([subjects[image] for image in images])


def mean_of(values: np.ndarray, subjects: np.ndarray) -> intervals.Estimate:
    """Mean over classes of the mean over pictures of `[N, C]`."""
    return intervals.of_mean_of_ratios(np.nan_to_num(values), 1.0 * np.isfinite(values), subjects)


def cells(estimate: intervals.Estimate, scale: intervals.Scale = "fraction") -> dict[str, Any]:
    found = {"value": float(estimate.value[0]), "ci95": intervals.bounds(estimate, scale)[:, 0].tolist()}
    if scale != "fraction":
        found["p"] = float(intervals.p_value(estimate, scale)[0])
    return found


def compare(runs: dict[str, dict[str, list[Run]]]) -> dict[str, Any]:
    """Scheme -> domain, and "mean" over domains -> Dice, and the paired difference from the domains' own networks.

    Args:
      runs: scheme -> domain -> runs of all seeds.
    """
    result = {}
    reference = {domain: dice_of(found, domain)[0] for domain, found in runs[APART].items()}
    for scheme, of_scheme in runs.items():
        rows, levels, differences = {}, [], []
        for domain, found in of_scheme.items():
            values, subjects = dice_of(found, domain)
            levels.append(mean_of(values, subjects))
            differences.append(mean_of(values - reference[domain], subjects))
            rows[domain] = cells(levels[-1])
            of_seeds = [mean_of(dice_of([run], domain)[0], subjects) for run in found]
            rows[domain]["seeds"] = [float(one.value[0]) for one in of_seeds]
            if scheme != APART:
                rows[domain]["minus_apart"] = cells(differences[-1], "difference of fractions")
        rows["mean"] = cells(intervals.mean(levels))
        if scheme != APART:
            rows["mean"]["minus_apart"] = cells(intervals.mean(differences), "difference of fractions")
        result[scheme] = rows
    return result


def console(result: dict[str, Any]) -> str:
    lines = []
    for share, schemes in result.items():
        for domain in schemes[APART]:
            lines.append(f"{float(share):.0%} of the training pictures, {domain}: Dice, %")
            for scheme, rows in schemes.items():
                row = rows[domain]
                low, high = (100 * bound for bound in row["ci95"])
                text = f"  {scheme:<18} {100 * row['value']:5.1f}  ({low:.1f} to {high:.1f})"
                if difference := row.get("minus_apart"):
                    ci95 = [100 * bound for bound in difference["ci95"]]
                    text += minus_own_network(100 * difference["value"], ci95, difference["p"], "+.1f")
                lines.append(text)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with segmentation.csv")
    parser.add_argument("--teacher", required=True, help=".safetensors")
    parser.add_argument("--runs", default="runs/multidomain", help="folder of the runs")
    parser.add_argument("--cluster", default="", help=cluster.HELP)
    parser.add_argument("--seeds", default="3", help="number of them, for all shares or for each, commas between")
    parser.add_argument("--shares", default="0.1,1", help="of the training pictures of each domain, commas between")
    parser.add_argument("--steps", type=int, default=200, help="of a common network")
    parser.add_argument("--batch", type=int, default=16, help="pictures a step")
    parser.add_argument("--size", type=int, default=96, help="pixels")
    parser.add_argument("--weights", default="0.1", help="of the contrastive term, commas between")
    args = parser.parse_args()
    args.weights = [float(weight) for weight in args.weights.split(",")]

    domains = list(json.loads((pathlib.Path(args.root) / "classes.json").read_text("utf-8-sig")))
    study = Anatomies(args, domains)
    result, chosen, shares = {}, {}, args.shares.split(",")
    seeds = [int(number) for number in args.seeds.split(",")]
    with cluster.joined(args.cluster, pathlib.Path(args.runs)) as study.workers:
        for share, number in zip(shares, seeds * (len(shares) if len(seeds) == 1 else 1), strict=True):
            chosen[share] = study.choose(Method(CHOICE, share=share), args.weights, error)
            result[share] = compare(study.compared(chosen[share], range(number), share))
    teacher = pathlib.Path(args.teacher).name
    known = {key: value for key, value in vars(args).items() if key not in ("root", "runs", "cluster")}
    known |= {"teacher": teacher}
    study.write({"arguments": known | {"chosen": chosen}, "shares": result})
    print(console(result))


if __name__ == "__main__":
    command.run_study(main)
