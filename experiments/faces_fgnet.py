"""FT against CTD-ED on faces_fgnet with 50 labelled pictures: everything chosen on val, test read once.

    python -m convert.mobilefacenet mobilefacenet.pt --out=teacher.safetensors
    python -m experiments.faces_fgnet --root=DIR --teacher=teacher.safetensors --runs=runs/faces_fgnet

Choose: seed 0, `eval.split=val`: FT over learning rates, then CTD-ED over its weight at FT's. Compare: both over three
seeds (initial decoder, order, augmentation, and the 50 pictures) with the same steps. Finished runs are not repeated.
Writes experiments/faces_fgnet.csv (a line per run) and .json (the table).
"""

import argparse
import json
import pathlib
from typing import Any

import numpy as np

from configs import ctd_ed, ft
from ctd_jax import cluster, command, files, metrics
from ctd_jax.data import splits
from ctd_jax.data.points import read_folder
from ctd_jax.study import Line, Run, Study, Trial, repeats

HERE = pathlib.Path(__file__).parent
METHODS = {"ft": ft, "ctd_ed": ctd_ed}
SEEDS = (0, 1, 2)
BUDGET = 50
LEARNING_RATES = ((1e-3, 1e-3), (3e-4, 1e-3), (1e-3, 3e-3), (3e-3, 3e-3))  # encoder, decoder
WEIGHTS = (0.0001, 0.001, 0.01, 0.1)
NME = metrics.nme_key(("left_eye_outer", "right_eye_outer"))
KEYS = {"me_px": "me_px", "nme": NME, "fr@0.1": "fr@0.1"}  # of the table -> of metrics.json


def split_file(root: pathlib.Path, seed: int) -> pathlib.Path:
    """The 50 training pictures of a seed, and the folder's val and test, as a file."""
    path = HERE / "splits" / f"faces_fgnet_{BUDGET}_seed{seed}.csv"
    if not path.exists():
        table = read_folder(root)
        names = splits.assign(table.images, table.subjects, given=table.splits, budget=BUDGET, budget_seed=seed)
        path.parent.mkdir(exist_ok=True)
        rows = [(image, name) for image, name in zip(table.images, names, strict=True) if name != "unused"]
        files.write_csv(path, ("image", "split"), rows)
    return path


class Faces(Study[str, dict[str, float]]):
    """Settings have `encoder_lr`, `decoder_lr` and `ed_weight`."""

    def __init__(self, args: argparse.Namespace):
        super().__init__(pathlib.Path(args.runs), HERE / "faces_fgnet.csv")
        self._args = args

    def trial(self, method: str, setting: dict[str, float], seed: int, split: str | None) -> Trial:
        args, split = self._args, split or "test"
        config = METHODS[method].get_config()
        config.seed = config.data.seed = seed
        config.data.root, config.data.split = args.root, str(split_file(pathlib.Path(args.root), seed))
        config.data.budget = 0
        config.data.image_size = args.size
        config.teacher.weights = args.teacher
        config.model.decoder_channels = (128, 128)
        config.train.steps = args.steps
        config.train.encoder_lr, config.train.decoder_lr = setting["encoder_lr"], setting["decoder_lr"]
        config.constraints.ed.weight = setting["ed_weight"]
        config.eval.split = split
        config.eval.every = 100
        rates = f"lr{setting['encoder_lr']:g}-{setting['decoder_lr']:g}-ed{setting['ed_weight']:g}"
        name = f"{method}-{split}-seed{seed}-{rates}-{args.steps}"
        return Trial(name, config, {"method": method, "seed": seed, "split": split} | setting | {"steps": args.steps})

    def lines_of(self, run: Run) -> list[Line]:
        line = {"run": run.workdir.name} | run.cells | {key: run.result[known] for key, known in KEYS.items()}
        return [line | {"minutes": minutes(run), "config_hash": run.result["config_hash"]}]


def nme(run: Run) -> float:
    return float(run.result[NME])


def minutes(run: Run) -> float:
    return float(run.result["seconds"]) / 60


def table_of(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """Mean over the seeds, with a 95 % interval over subjects; and the paired difference CTD-ED minus FT."""
    repeated = {method: repeats(found) for method, found in runs.items()}
    result: dict[str, Any] = {}
    for method, found in runs.items():
        levels = repeated[method].levels()
        result[method] = {key: levels[known] for key, known in KEYS.items()}
        result[method] |= {"nme_of_seeds": [nme(run) for run in found]}
        result[method] |= {"minutes": float(np.mean([minutes(run) for run in found]))}
    differences = repeated["ctd_ed"].minus(repeated["ft"])
    result["ctd_ed - ft"] = {
        key: {"mean": differences[known]["difference"], "ci95": differences[known]["ci95"]}
        for key, known in KEYS.items()
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the landmark folder faces_fgnet")
    parser.add_argument("--teacher", required=True, help="MobileFaceNet's .safetensors")
    parser.add_argument("--runs", default="runs/faces_fgnet", help="folder of the runs")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--size", type=int, default=112, help="pixels")
    parser.add_argument("--cluster", default="", help=cluster.HELP)
    args = parser.parse_args()
    study = Faces(args)

    rates = [{"encoder_lr": encoder, "decoder_lr": decoder, "ed_weight": 0.0} for encoder, decoder in LEARNING_RATES]
    with cluster.joined(args.cluster, pathlib.Path(args.runs)) as study.workers:
        of_ft = study.choose("ft", rates, nme, seeds=(0,))
        of_ctd_ed = study.choose("ctd_ed", [of_ft | {"ed_weight": weight} for weight in WEIGHTS], nme, seeds=(0,))
        result = table_of(study.repeat({"ft": of_ft, "ctd_ed": of_ctd_ed}, SEEDS)) | of_ctd_ed
    study.write(result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    command.run_study(main)
