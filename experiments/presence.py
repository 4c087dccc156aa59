"""Does a network learn which landmarks are in the picture?

    python -m experiments.presence ../shared/data/faces_fgnet --out=DIR

Makes DIR/covered, a copy of the landmark folder in which every picture has one rectangle of one random grey. In half
of the pictures it covers one of `LANDMARKS`, whose cells are emptied and which dataset.json names as `absent`; in the
other half it lies elsewhere, so that a rectangle alone tells nothing. Then it trains the recipe on it, with each of
`--weights` for presence (0: none), and prints precision and recall on test, the mean error, and how well probabilities
fit before and after the temperature of val. Writes experiments/presence.json.
"""

import argparse
import csv
import json
import pathlib
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from configs import recipe
from ctd_jax import command, metrics, training_run
from ctd_jax.data import landmark_folder
from ctd_jax.metrics import presence
from ctd_jax.text_table import text_table

HERE = pathlib.Path(__file__).parent
LANDMARKS = ("chin", "nose_tip", "left_eye_pupil", "right_eye_pupil")
SIDE = 0.2  # of the rectangle, of the distance between the outermost landmarks
KEYS = {"data.image_size": 96, "train.steps": 800, "eval.every": 200, "teacher.weights": "embedded"}


def cover(root: pathlib.Path, out: pathlib.Path, seed: int = 0) -> None:
    """Writes the copy, see above."""
    random, table = np.random.default_rng(seed), landmark_folder.read(root)
    names = table.landmarks.names
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for i, image in enumerate(table.images):
        with (root / image).open("rb") as file:  # by its path, Pillow opens some that it then doesn't turn upright
            picture = np.array(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
        xy = table.xy[i].copy()
        half = SIDE * np.ptp(xy, axis=0).max() / 2
        may_be = [names.index(name) for name in LANDMARKS]
        hidden = int(random.choice(may_be)) if i % 2 else None
        centre = _centre(random, xy[may_be], half, picture.shape, None if hidden is None else xy[hidden])
        (x0, y0), (x1, y1) = (np.maximum(centre + d * half, 0).round().astype(int) for d in (-1, 1))
        picture[y0:y1, x0:x1] = random.integers(256)
        if hidden is not None:
            xy[hidden] = np.nan
        Image.fromarray(picture).save(out / "images" / f"{i:04d}.png")
        cells = ["" if np.isnan(v) else f"{v:.2f}" for v in xy.ravel()]
        rows.append([f"images/{i:04d}.png", table.subjects[i], table.splits[i], *cells])
    with (out / "landmarks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "subject", "split", *(f"{name}_{axis}" for name in names for axis in "xy")])
        writer.writerows(rows)
    about = json.loads((root / "dataset.json").read_text("utf-8"))
    (out / "dataset.json").write_text(json.dumps(about | {"absent": LANDMARKS}), "utf-8")


def _centre(
    random: np.random.Generator, points: np.ndarray, half: float, shape: tuple[int, ...], hidden: np.ndarray | None
) -> np.ndarray:
    """Middle of the rectangle: near the point that it hides, else where it hides none of `points`."""
    if hidden is not None:
        return hidden + random.uniform(-half / 2, half / 2, 2)
    while True:
        centre = random.uniform(0, [shape[1], shape[0]])
        if (np.abs(points - centre).max(axis=1) > 1.2 * half).all():
            return centre


def run(root: pathlib.Path, out: pathlib.Path, weight: float, **keys: Any) -> dict[str, Any]:
    """The numbers of one training."""
    config = recipe.get_config("own")
    config.update_from_flattened_dict(KEYS | keys | {"data.root": str(root), "presence.weight": weight})
    workdir = out / f"weight_{weight:g}"
    result = training_run.train_and_evaluate(config, workdir)
    numbers = {key: result[key] for key in ("me_px", "ci95", "presence") if key in result}
    if "presence" in numbers:
        table = metrics.read_predictions(workdir / "predictions.csv")
        true = presence.truth(table.true_xy, np.isin(table.landmarks, LANDMARKS))
        numbers["cross_entropy"] = _cross_entropy(table.present, true)
        logit = np.log(table.present / (1 - table.present)) * (numbers["presence"]["temperature"] or 1)
        numbers["cross_entropy_uncalibrated"] = _cross_entropy(1 / (1 + np.exp(-logit)), true)
    return numbers


def _cross_entropy(probability: np.ndarray, true: np.ndarray) -> float:
    p = np.clip(np.where(true == 1, probability, 1 - probability), 1e-4, 1)
    return float(-np.log(p[np.isfinite(true)]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the copy and the runs")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.01])
    parser.add_argument("--budget", type=int, default=0, help="labelled training pictures; 0: all")
    arguments = parser.parse_args()
    covered = arguments.out / "covered"
    if not (covered / "dataset.json").exists():
        cover(arguments.folder, covered)
    results = {
        f"{weight:g}": run(covered, arguments.out, weight, **{"data.budget": arguments.budget})
        for weight in arguments.weights
    }
    content = {"folder": arguments.folder.name, "budget": arguments.budget, "keys": KEYS, "weights": results}
    (HERE / "presence.json").write_text(json.dumps(content, indent=1), "utf-8")
    rows = [("weight", "me_px", *presence.RATES, "absent", "cross-entropy", "uncalibrated")]
    for weight, one in results.items():
        of = one.get("presence", {})
        rates = [f"{100 * of[key]:.1f} %" if key in of else "" for key in presence.RATES]
        entropy = [f"{one[key]:.3f}" if key in one else "" for key in ("cross_entropy", "cross_entropy_uncalibrated")]
        rows.append((weight, f"{one['me_px']:.2f}", *rates, str(of.get("n_absent", "")), *entropy))
    print("\n".join(text_table(rows, ">  " * len(rows[0]), rule=True)))


if __name__ == "__main__":
    command.run_study(main)
