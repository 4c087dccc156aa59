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
from typing import Any, NamedTuple

import numpy as np

from configs import domains as domains_config
from ctd_jax.study import Line, Run, Study, Trial, repeats

HERE = pathlib.Path(__file__).parent
APART = "one network each"
WEIGHT = "constraints.contrastive.weight"
NO_TERM = {WEIGHT: 0.0}
SCHEMES: dict[str, dict[str, Any]] = {  # of one common network
    "joint": NO_TERM | {"domains.norm": False, "domains.heads": False},
    "+ heads": NO_TERM | {"domains.norm": False},
    "+ batch norm": NO_TERM,
    "+ contrastive": {},
    "+ multi-scale": {"constraints.contrastive.layers": ("encoder", "deconv1", "deconv2")},
}
CHOICE = "val contrastive"  # the scheme whose weight is chosen


class Method(NamedTuple):
    """A scheme; of `APART`, the network of one domain."""

    scheme: str
    domain: str = ""


class Domains(Study[Method, float]):
    """A setting is the weight of the contrastive term."""

    def __init__(self, args: argparse.Namespace, domains: list[str]):
        super().__init__(pathlib.Path(args.runs), HERE / "domains.csv")
        self._args, self._domains = args, domains

    def trial(self, method: Method, setting: float, seed: int, split: str | None) -> Trial:
        args, alone = self._args, method.scheme == APART
        steps = args.steps if alone else args.steps * len(self._domains)
        config = domains_config.get_config()
        config.seed = config.data.budget_seed = seed
        config.data.root = args.roots
        config.data.budget = args.budget
        config.data.image_size = args.size
        config.teacher.weights = args.teacher
        config.train.steps, config.train.batch_size, config.train.encoder_lr = steps, args.batch, args.encoder_lr
        config.eval.every = max(steps // 4, 1)
        config.eval.split = split or config.eval.split
        changes = NO_TERM | {"data.domains": (method.domain,)} if alone else SCHEMES.get(method.scheme, {})
        config.update_from_flattened_dict({WEIGHT: setting} | changes)
        names = {APART: f"own {method.domain}", CHOICE: f"{CHOICE} {setting:g}"}
        name = names.get(method.scheme, method.scheme.removeprefix("+ ")).replace(" ", "_")
        size = f"{steps}x{args.batch}-{args.size}px-lr{args.encoder_lr:g}-budget{args.budget or 'all'}"
        cells = {"scheme": method.scheme, "domain": method.domain, "seed": seed, "split": config.eval.split}
        return Trial(f"{name}-seed{seed}-{size}", config, cells)

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
                low, high = (scale * bound for bound in difference["ci95"])
                text += f"   minus own network {scale * difference['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
                text += f", p {difference['p']:.4f}"
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
    study = Domains(args, names)
    weight = study.choose(Method(CHOICE), args.weights, log_error)
    methods = [*(Method(APART, name) for name in names), *(Method(scheme) for scheme in SCHEMES)]
    trained = study.repeat(dict.fromkeys(methods, weight), range(args.seeds))
    runs = {APART: {name: trained[Method(APART, name)] for name in names}}
    for scheme in SCHEMES:
        runs[scheme] = {name: [parts(run)[name] for run in trained[Method(scheme)]] for name in names}
    arguments = {key: value for key, value in vars(args).items() if key != "runs"}
    arguments |= {"roots": names, "teacher": pathlib.Path(args.teacher).name, WEIGHT: weight}
    result = {"arguments": arguments, "domains": compare(runs)}
    study.write(result)
    print(console(result["domains"]))


if __name__ == "__main__":
    main()
