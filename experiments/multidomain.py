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
import csv
import json
import pathlib
from typing import Any

import jax
import numpy as np

from configs import mtmd
from ctd_jax.metrics import intervals, segmentation
from ctd_jax.training_run import train_and_evaluate

HERE = pathlib.Path(__file__).parent
APART = "one network each"
NO_TERM = {"constraints.contrastive.weight": 0.0}
SCHEMES = {  # of one common network
    "joint": NO_TERM | {"domains.norm": False, "domains.heads": False},
    "+ heads": NO_TERM | {"domains.norm": False},
    "+ batch norm": NO_TERM,
    "+ contrastive": {},
    "+ multi-scale": {"constraints.contrastive.layers": ("encoder", "level1", "level2", "level3")},
}
CHOOSING_SEED = 1000


def run(args: argparse.Namespace, name: str, share: float, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    """One training; returns its result, and its folder as `run`."""
    config = mtmd.get_config()
    config.seed = config.data.seed = config.data.budget_seed = seed
    config.data.root, config.data.share, config.data.image_size = args.root, share, args.size
    config.teacher.weights = args.teacher
    config.domains.schedule = "balanced"
    config.train.steps, config.train.batch_size = args.steps, args.batch
    config.update_from_flattened_dict(changes)
    config.eval.every = max(config.train.steps // 4, 1)
    folder = (
        f"{name.replace(' ', '_')}-{100 * share:g}percent-seed{seed}-{config.train.steps}x{args.batch}-{args.size}px"
    )
    workdir = pathlib.Path(args.runs) / folder
    result = train_and_evaluate(config, workdir, pathlib.Path(args.runs) / "tfds")
    jax.clear_caches()
    dice = ", ".join(f"{d} {100 * result[f'dice_{segmentation.slug(d)}']:.1f} %" for d in result["classes"])
    print(f"{folder}: {dice} ({result['seconds']:.0f} s)", flush=True)
    return result | {"run": folder}


def choose(args: argparse.Namespace, share: float) -> float:
    """The weight of the contrastive term with the highest mean Dice on val."""

    def dice(weight: float) -> float:
        changes = {"constraints.contrastive.weight": weight, "eval.split": "val"}
        return run(args, f"val contrastive {weight:g}", share, CHOOSING_SEED, changes)["dice"]

    return max(args.weights, key=dice) if len(args.weights) > 1 else args.weights[0]


def dice_of(runs: pathlib.Path, folders: list[str], domain: str) -> tuple[np.ndarray, np.ndarray]:
    """`[N, C]` Dice of each test picture and class, averaged over runs, NaN where the picture does not have the class;
    `[N]` subjects."""
    tables = [segmentation.read(runs / folder / "segmentation_metrics.csv") for folder in folders]
    first = tables[0]
    mine = first.of(domain)
    images = sorted(set(first.names["image"][mine].tolist()))
    names = list(dict.fromkeys(first.names["class"][mine].tolist()))
    subjects = dict(zip(first.names["image"], first.names["subject"], strict=True))
    found = np.full((len(tables), len(images), len(names)), np.nan)
    for table, values in zip(tables, found, strict=True):
        told = table.of(domain) & (table.values["true_pixels"] > 0)
        columns = (table.names["image"][told], table.names["class"][told], table.values["dice"][told])
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


def compare(args: argparse.Namespace, runs: dict[str, dict[str, list[str]]]) -> dict[str, Any]:
    """Scheme -> domain, and "mean" over domains -> Dice, and the paired difference from the domains' own networks.

    `runs`: scheme -> domain -> folders of the seeds."""
    folder, result = pathlib.Path(args.runs), {}
    own = {domain: dice_of(folder, of, domain) for domain, of in runs[APART].items()}
    for scheme, of_scheme in runs.items():
        rows, all_values, all_differences = {}, [], []
        for domain, folders in of_scheme.items():
            values, subjects = dice_of(folder, folders, domain)
            pooled, difference = mean_of(values, subjects), mean_of(values - own[domain][0], subjects)
            rows[domain] = cells(pooled)
            of_seeds = [mean_of(dice_of(folder, [one], domain)[0], subjects) for one in folders]
            rows[domain]["seeds"] = [float(one.value[0]) for one in of_seeds]
            if scheme != APART:
                rows[domain]["minus_apart"] = cells(difference, "difference of fractions")
            all_values.append(pooled)
            all_differences.append(difference)
        rows["mean"] = cells(intervals.mean(all_values))
        if scheme != APART:
            rows["mean"]["minus_apart"] = cells(intervals.mean(all_differences), "difference of fractions")
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
                if d := row.get("minus_apart"):
                    low, high = (100 * bound for bound in d["ci95"])
                    text += f"   minus own network {100 * d['value']:+.1f} ({low:+.1f} to {high:+.1f}), p {d['p']:.4f}"
                lines.append(text)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with segmentation.csv")
    parser.add_argument("--teacher", required=True, help=".safetensors")
    parser.add_argument("--runs", default="runs/multidomain", help="folder of the runs")
    parser.add_argument("--seeds", default="3", help="number of them, for all shares or for each, commas between")
    parser.add_argument("--shares", default="0.1,1", help="of the training pictures of each domain, commas between")
    parser.add_argument("--steps", type=int, default=200, help="of a common network")
    parser.add_argument("--batch", type=int, default=16, help="pictures a step")
    parser.add_argument("--size", type=int, default=96, help="pixels")
    parser.add_argument("--weights", default="0.1", help="of the contrastive term, commas between")
    args = parser.parse_args()
    args.weights = [float(weight) for weight in args.weights.split(",")]

    domains = list(json.loads((pathlib.Path(args.root) / "classes.json").read_text("utf-8-sig")))
    alone = NO_TERM | {"train.steps": max(args.steps // len(domains), 1)}
    result, lines, chosen, shares = {}, [], {}, args.shares.split(",")
    seeds = [int(number) for number in args.seeds.split(",")]
    for share, number in zip(shares, seeds * (len(shares) if len(seeds) == 1 else 1), strict=True):
        weight = {"constraints.contrastive.weight": choose(args, float(share))}
        chosen[share] = weight["constraints.contrastive.weight"]
        runs = {scheme: {domain: [] for domain in domains} for scheme in (APART, *SCHEMES)}
        for seed in range(number):
            done = {
                (APART, domain): run(args, f"own {domain}", float(share), seed, alone | {"data.domains": (domain,)})
                for domain in domains
            }
            for scheme, changes in SCHEMES.items():
                common = run(args, scheme.removeprefix("+ "), float(share), seed, weight | changes)
                done |= {(scheme, domain): common for domain in domains}
            for (scheme, domain), one in done.items():
                runs[scheme][domain].append(one["run"])
                line = {"share": share, "scheme": scheme, "domain": domain, "seed": seed, "run": one["run"]}
                end = f"_{segmentation.slug(domain)}"
                line |= {key: one.get(key + end, "") for key in segmentation.MEASURES}
                lines.append(line | {"seconds": one["seconds"]})
        result[share] = compare(args, runs)
    with (HERE / "multidomain.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    teacher = pathlib.Path(args.teacher).name
    known = {key: value for key, value in vars(args).items() if key not in ("root", "runs")} | {"teacher": teacher}
    content = {"arguments": known | {"chosen": chosen}, "shares": result}
    (HERE / "multidomain.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(console(result))


if __name__ == "__main__":
    main()
