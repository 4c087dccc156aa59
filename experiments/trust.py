"""How sure finished runs are, and whether they tell pictures unlike those of their training.

    python -m experiments.trust --folder=DIR --runs=RUN,RUN,...

1. The radius, for each run: what it covers on test with its interval over subjects, its mean beside that of a constant
   radius, and the rank correlation of radius and error; the same for every sign of doubt, and for none, though val
   chooses one of them. And what it would cover had chance drawn val otherwise: as many people as val has are drawn
   from val and test together, `REDRAWN` times; each time they give the radius, and the others are counted. Where that
   has a mean of 90 %, the rule holds, and a miss of the run's own val is that val's: a small one, that chose the
   checkpoint too.
2. The score of unlike pictures: how well it tells the run's test pictures from others, as the area under the ROC curve
   (AUC), for the Mahalanobis distance, which is kept, and for the distance to the nearest neighbours of the training
   (Sun et al. 2022: features of length 1, the mean of the `NEIGHBOURS` nearest); and how many pictures of each kind lie
   beyond the threshold. Other pictures are those of the folders of `SETS` in DIR, and the test pictures upside down,
   inverted, blurred and under noise. At most `MAX_PICTURES` of each kind, evenly spread.

Writes trust.json beside this file, and prints the tables.
"""

import argparse
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage, stats

from ctd_jax import command, data, files, metrics, tasks
from ctd_jax.data.dataset import Dataset, evenly_spread
from ctd_jax.data.pictures import SUFFIXES
from ctd_jax.errors import UserError
from ctd_jax.metrics import Predictions
from ctd_jax.tasks.landmarks import evaluate
from ctd_jax.tasks.trained import Trained
from ctd_jax.text_table import text_table
from ctd_jax.training import inference
from ctd_jax.training.parallel import Parallel
from ctd_jax.trust import Radius, coverage, evidence
from ctd_jax.trust.unlike import MAX_PICTURES as MAX_TRAIN

HERE = pathlib.Path(__file__).parent
SETS = {
    "faces_fgnet": "faces_fgnet/images", "faces_ytf": "faces_ytf/images", "ceph_isbi2015": "ceph_isbi2015/images",
    "fetal_head_us": "multidomain/fetal_head_us/images", "nerve_us": "multidomain/nerve_us/images",
    "cardiac_mr": "multidomain/cardiac_mr/images",
}  # fmt: skip
BLUR, NOISE = 0.02, 40.0  # standard deviations: a part of the picture's longer side, and grey values
MAX_PICTURES = 100
NEIGHBOURS = 5
REDRAWN = 500


def blurred(picture: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(picture, [BLUR * max(picture.shape)] * 2 + [0])


def under_noise(picture: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, NOISE, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "upside down": lambda picture: picture[::-1],
    "inverted": lambda picture: 255 - picture,
    "blurred": blurred,
    "under noise": under_noise,
}


class Network:
    """The network of a run on the devices."""

    def __init__(self, trained: Trained):
        self.trained = trained
        self._parallel = Parallel(trained.config.parallel)
        self._look = self._parallel.compile(trained.look, sharded=True)
        self._variables = self._parallel.replicate(trained.folded())

    def look_at(self, pictures: Dataset) -> evaluate.Looked:
        return evaluate.look_at(self._look, self._variables, pictures, self._parallel, 8)

    def features(self, pictures: Dataset) -> np.ndarray:
        return inference.apply(self._look, self._variables, pictures, self._parallel, 8)[0]["features"]

    def features_of(self, names: Sequence[str], picture: Callable[[int], np.ndarray]) -> np.ndarray:
        """`[N, C]` of pictures without boxes; `picture` gives the i-th, `[H, W, 3]` uint8."""
        nowhere = np.full((len(names), 4), np.nan)
        size = self.trained.config.data.image_size
        return self.features(Dataset.unlabelled(tuple(names), picture, boxes=nowhere, size=size, margin=0.0))


def of_radius(network: Network, pictures: data.SplitPictures) -> dict[str, Any]:
    """What each sign of doubt makes of the radius; `chosen` is the one that val chooses."""
    val = network.trained.evidence
    if val is None:
        raise UserError(network.trained.lacks)
    error = np.linalg.norm(val.offset, axis=-1)
    looked = [network.look_at(pictures.split(name)) for name in pictures.splits_called("test")]
    table = metrics.concatenate([one.table for one in looked])
    side = np.concatenate([one.side for one in looked])[:, None]
    doubts = {name: np.concatenate([one.doubts[name] for one in looked]) for name in val.doubts}
    rows = {}
    for name in ("none", *val.doubts):
        radius = Radius.of_doubt(None if name == "none" else name, error, val.doubts, val.subjects)
        rows[name] = covered(table, radius, doubts, side)
    test_error = np.where(np.isfinite(table.error_px), table.error_px, np.nan) / side
    both = {name: np.concatenate([val.doubts[name], doubts[name]]) for name in doubts}
    subjects = np.concatenate([val.subjects, [f"test {unit}" for unit in metrics.subject_units(table)]])
    shares = redrawn(np.concatenate([error, test_error]), both, subjects, val.radius.n_of_all)
    about = {"mean": float(shares.mean()), "range95": np.quantile(shares, (0.025, 0.975)).tolist()}
    return {"doubts": rows, "chosen": val.radius.doubt or "none", "n_subjects": val.radius.n_of_all, "redrawn": about}


def redrawn(error: np.ndarray, doubts: Mapping[str, np.ndarray], subjects: np.ndarray, n_val: int) -> np.ndarray:
    """`[REDRAWN]` shares of the points that the radius of a val of chance covers among the other pictures.

    Args:
      error: `[N, K]`, NaN where not annotated.
      doubts: name -> `[N, K]`.
      subjects: `[N]`.
      n_val: number of subjects of val.
    """
    names, of_picture = np.unique(subjects, return_inverse=True)
    rng = np.random.default_rng(0)
    shares = np.empty(REDRAWN)
    for i in range(REDRAWN):
        drawn = np.isin(of_picture, rng.permutation(len(names))[:n_val])
        radius = Radius.fit(error[drawn], {name: d[drawn] for name, d in doubts.items()}, subjects[drawn])
        radii = radius({name: d[~drawn] for name, d in doubts.items()}, int((~drawn).sum()))
        known = np.isfinite(error[~drawn]) & np.isfinite(radii)
        shares[i] = (error[~drawn] <= radii)[known].mean()
    return shares


def covered(table: Predictions, radius: Radius, doubts: dict[str, np.ndarray], side: np.ndarray) -> dict[str, Any]:
    """See `coverage.summarize`, without what is of each landmark."""
    n = len(side)
    at_level = np.stack([radius(doubts, n, level) * side for level in coverage.LEVELS])
    made = Predictions.from_points(
        table.images,
        table.subjects,
        table.landmarks,
        table.xy,
        true_xy=table.true_xy,
        radius_px=radius(doubts, n) * side,
    )
    found = coverage.summarize(made, coverage.Compared(at_level, radius.constant() * side), radius)
    return {key: value for key, value in found.items() if key != "per_landmark"}


def of_unlike(network: Network, pictures: data.SplitPictures, own: str, folder: pathlib.Path) -> dict[str, Any]:
    """AUC of both scores, and the share beyond the threshold, for each kind of other pictures.

    Args:
      network: of the run.
      pictures: of the run.
      own: the set of `SETS` that they are of.
      folder: that has the sets.
    """
    val = network.trained.evidence
    if val is None or not val.unlike:
        raise UserError(network.trained.lacks)
    mahalanobis, train = val.unlike[0], pictures.trained_on
    of_train = network.features(train.take(train.spread(MAX_TRAIN)))
    whole = pictures.everything
    tests = np.flatnonzero([split.startswith("test") for split in pictures.split_of])
    tests = tests[evenly_spread(len(tests), MAX_PICTURES)]

    def neighbours(features: np.ndarray) -> np.ndarray:
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features, of_train))
        return np.sort(np.linalg.norm(a[:, None] - b[None], axis=-1), axis=1)[:, :NEIGHBOURS].mean(axis=1)

    def judged(features: np.ndarray) -> dict[str, float]:
        return {
            "mahalanobis": auc(mahalanobis(like), mahalanobis(features)),
            "neighbours": auc(neighbours(like), neighbours(features)),
            "beyond": float((mahalanobis(features) > 1).mean()),
        }

    like = network.features(whole.take(tests))
    rows = {"test": {"beyond": float((mahalanobis(like) > 1).mean())}}
    for name, change in CHANGES.items():
        originals = [change(whole.original(i)) for i in tests]
        rows[name] = judged(network.features_of([f"{i}" for i in tests], originals.__getitem__))
    for name, place in SETS.items():
        if name != own:
            found = sorted(p for p in (folder / place).rglob("*") if p.suffix.lower() in SUFFIXES)
            few = [found[i] for i in evenly_spread(len(found), MAX_PICTURES)]
            read = [np.asarray(Image.open(path).convert("RGB")) for path in few]
            rows[name] = judged(network.features_of([path.name for path in few], read.__getitem__))
    return rows


def auc(like: np.ndarray, others: np.ndarray) -> float:
    """The probability that one of the others has the larger score."""
    return float(stats.mannwhitneyu(others, like).statistic / (len(like) * len(others)))


def tables(found: dict[str, Any]) -> str:
    """Both tables, as text."""
    lines = []
    for name, one in found.items():
        rows = [("doubt", "covered, %", "95 % interval", "mean radius, px", "constant, px", "rank correlation")]
        for doubt, row in one["radius"]["doubts"].items():
            chosen = " *" if doubt == one["radius"]["chosen"] else ""
            if "coverage" not in row:
                continue
            low, high = row["ci95"]
            rows.append(
                (doubt + chosen, f"{100 * row['coverage']:.1f}", f"{100 * low:.1f} to {100 * high:.1f}",
                 f"{row['mean_px']:.2f}", f"{row['constant_px']:.2f}", f"{row.get('rank_correlation', 0):.2f}")
            )  # fmt: skip
        lines += ["", f"{name}: {one['radius']['n_subjects']} subjects in val", *text_table(rows, "<  >  >  >  >  >")]
        again = one["radius"]["redrawn"]
        low, high = again["range95"]
        lines += [f"any val of that many: covered {again['mean']:.1%} on average, 95 % of them {low:.1%} to {high:.1%}"]
        rows = [("other pictures", "Mahalanobis", "neighbours", "beyond, %")]
        for kind, row in one["unlike"].items():
            scores = [f"{row[key]:.3f}" if key in row else "" for key in ("mahalanobis", "neighbours")]
            rows.append((kind, *scores, f"{100 * row['beyond']:.1f}"))
        lines += ["", *text_table(rows, "<  >  >  >")]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="that has the folders of `SETS`")
    parser.add_argument("--runs", required=True, help="workdirs of finished runs, with commas between")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "trust.json", help="the file to write")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for workdir in map(pathlib.Path, args.runs.split(",")):
        trained = tasks.trained(workdir, None)
        config = trained.config
        config.data.split, config.data.budget, config.data.share = str(workdir / "split.csv"), 0, 1.0
        config.data.train_split = "train"
        pictures = data.load(config.data, workdir / "tfds", targets=tasks.of(config).targets)
        network, own = Network(trained), pathlib.Path(config.data.root).name
        name = f"{own}, {workdir}" if own in found else own
        found[name] = {"radius": of_radius(network, pictures), "unlike": of_unlike(network, pictures, own, args.folder)}
        found[name]["bytes"] = (workdir / evidence.FILE).stat().st_size
        print(tables({name: found[name]}), flush=True)
    files.write_text(args.out, json.dumps(found, indent=1))


if __name__ == "__main__":
    command.run_study(main)
