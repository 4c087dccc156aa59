"""One network for several landmark domains against one network each, and what each part of it is worth.

    python -m experiments.domains --roots=DIR,DIR,DIR --teacher=FILE.safetensors --runs=runs/domains

Every peer is trained with several seeds (initial weights, order, augmentation, and the pictures of a budget) and reads
its test pictures once. A common network takes as many steps as the separate ones together, and its batches have equally
many pictures of each domain: so every domain is seen as often as in its own network, and the whole costs the same. With
several --weights, the contrastive term's is chosen on val first, with a seed of its own. Interrupted, the same command
continues; finished runs are not repeated. Writes experiments/domains.json, and prints the table.
"""

import argparse
import json
import pathlib
from typing import Any

import jax
import numpy as np

from configs import domains as domains_config
from ctd_jax import metrics
from ctd_jax.metrics import intervals, paired
from ctd_jax.training_run import train_and_evaluate

HERE = pathlib.Path(__file__).parent
APART = "one network each"
NO_TERM = {"constraints.contrastive.weight": 0.0}
PEERS = {  # of one common network
    "joint": NO_TERM | {"domains.norm": False, "domains.heads": False},
    "+ heads": NO_TERM | {"domains.norm": False},
    "+ batch norm": NO_TERM,
    "+ contrastive": {},
    "+ multi-scale": {"constraints.contrastive.layers": ("encoder", "deconv1", "deconv2")},
}
CHOOSING_SEED = 1000


def run(args: argparse.Namespace, name: str, seed: int, steps: int, changes: dict[str, Any]) -> dict[str, pathlib.Path]:
    """One training; returns the folder of each domain's results."""
    config = domains_config.get_config()
    config.seed = config.data.budget_seed = seed
    config.data.root = args.roots
    config.data.budget = args.budget
    config.data.image_size = args.size
    config.teacher.weights = args.teacher
    config.train.steps, config.train.batch_size, config.train.encoder_lr = steps, args.batch, args.encoder_lr
    config.eval.every = max(steps // 4, 1)
    config.update_from_flattened_dict(changes)
    setting = f"{steps}x{args.batch}-{args.size}px-lr{args.encoder_lr:g}-budget{args.budget or 'all'}"
    folder = f"{name.replace(' ', '_')}-seed{seed}-{setting}"
    workdir = pathlib.Path(args.runs) / folder
    result = train_and_evaluate(config, workdir, pathlib.Path(args.runs) / "tfds")
    jax.clear_caches()
    found = result.get("domains") or {config.data.domains[0]: result}
    errors = ", ".join(f"{domain} {own[own['ced_measure']]:.4g}" for domain, own in found.items())
    print(f"{folder}: {errors} ({result['seconds']:.0f} s)", flush=True)
    return {domain: workdir / domain if "domains" in result else workdir for domain in found}


def choose(args: argparse.Namespace, steps: int) -> float:
    """The weight with the lowest geometric mean of the domains' errors on val."""

    def error(weight: float) -> float:
        changes = {"constraints.contrastive.weight": weight, "eval.split": "val"}
        found = run(args, f"val contrastive {weight:g}", CHOOSING_SEED, steps, changes).values()
        results = [json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in found]
        return float(np.mean([np.log(own[own["ced_measure"]]) for own in results]))

    return min(args.weights, key=error) if len(args.weights) > 1 else args.weights[0]


def compare(runs: dict[str, dict[str, list[pathlib.Path]]]) -> dict[str, Any]:
    """Domain -> its measure, and of each peer the mean error over the seeds with a 95 % interval over subjects, and the
    paired difference from the domain's own network. `runs`: peer -> domain -> folders of the seeds."""
    result: dict[str, Any] = {}
    for domain in runs[APART]:
        tables = {peer: [metrics.read_predictions(one / "predictions.csv") for one in of[domain]]
                  for peer, of in runs.items()}  # fmt: skip
        folder = runs[APART][domain][0]
        facts = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        thresholds = json.loads((folder / "config.json").read_text(encoding="utf-8"))["eval"]["threshold"]
        normalizer, measure = facts["normalizer"] and tuple(facts["normalizer"]), facts["ced_measure"]
        result[domain] = {"measure": measure, "n_images": facts["n_images"], "peers": {}}
        for peer, of in tables.items():
            errors = np.array([metrics.image_error(table, normalizer, measure) for table in of])
            mean, told = errors.mean(0)[:, None], np.isfinite(errors.mean(0))[:, None]
            units = metrics.subject_units(of[0])
            bounds = intervals.bounds(intervals.of_ratios(np.where(told, mean, 0), 1.0 * told, units), "level")
            row = {"error": float(np.nanmean(errors)), "ci95": bounds[:, 0].tolist()}
            row["seeds"] = np.nanmean(errors, axis=1).tolist()
            if peer != APART:
                keys = {"thresholds": thresholds, "radii_mm": ()}
                against = paired.difference(of, tables[APART], normalizer=normalizer, **keys)["differences"][measure]
                row["minus_apart"] = {key: against[key] for key in ("difference", "ci95", "p") if key in against}
            result[domain]["peers"][peer] = row
    return result


def console(result: dict[str, Any]) -> str:
    lines = []
    for domain, own in result.items():
        scale, unit = (100, "%") if own["measure"].startswith("nme") else (1, own["measure"][3:])
        lines.append(f"{domain}: {own['measure']}, {unit}, {own['n_images']} pictures")
        for peer, row in own["peers"].items():
            low, high = (scale * bound for bound in row["ci95"])
            text = f"  {peer:<18} {scale * row['error']:7.3f}  ({low:.3f} to {high:.3f})"
            d = row.get("minus_apart", {})
            if "p" in d:
                low, high = (scale * bound for bound in d["ci95"])
                text += (
                    f"   minus own network {scale * d['difference']:+.3f} ({low:+.3f} to {high:+.3f}), p {d['p']:.4f}"
                )
            lines.append(text)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roots", required=True, help="landmark folders, commas between")
    parser.add_argument("--teacher", required=True, help=".safetensors")
    parser.add_argument("--runs", default="runs/domains", help="folder of the runs")
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
    steps = args.steps * len(names)
    weight = {"constraints.contrastive.weight": choose(args, steps)}
    runs: dict[str, dict[str, list[pathlib.Path]]] = {peer: {name: [] for name in names} for peer in (APART, *PEERS)}
    for seed in range(args.seeds):
        for name in names:
            alone = NO_TERM | {"data.domains": (name,)}
            runs[APART][name].append(run(args, f"own {name}", seed, args.steps, alone)[name])
        for peer, changes in PEERS.items():
            for name, folder in run(args, peer.removeprefix("+ "), seed, steps, weight | changes).items():
                runs[peer][name].append(folder)
    known = vars(args) | {"roots": names, "teacher": pathlib.Path(args.teacher).name}
    result = {"arguments": {k: known[k] for k in known if k != "runs"} | weight, "domains": compare(runs)}
    (HERE / "domains.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(console(result["domains"]))


if __name__ == "__main__":
    main()
