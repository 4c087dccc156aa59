"""`ctd_jax.learning_curve` with runs that read their pictures and leave their files, but train nothing: what they find
is the truth and noise.

    python tests/untrained.py --configs=ft --out=runs/curve
"""

import json
import pathlib
import runpy
import zlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ctd_jax import files, metrics, run_folder, training_run
from ctd_jax.config import config_hash
from ctd_jax.metrics import mean_shape


def train_and_evaluate(config: ConfigDict, workdir: pathlib.Path, cache: pathlib.Path) -> dict[str, Any]:
    """Takes the place of `training_run.train_and_evaluate`; the noise differs between configurations."""
    pictures = training_run.prepare(config, cache)[0].pictures
    run_folder.begin(workdir, config, pictures.rows())
    random = np.random.default_rng(zlib.crc32(config_hash(config).encode()))
    part, known = pictures.split(config.eval.split), pictures.targets.landmarks
    xy = part.targets.xy + random.normal(0, random.uniform(1, 3), part.targets.xy.shape)
    table = metrics.Predictions.from_points(
        part.images, part.subjects, known.names, xy, true_xy=part.targets.xy, spacing=part.spacing
    )
    shape = mean_shape.predictions(mean_shape.of(pictures.split("train"), pictures.split("val")), part)
    for name, content in (("predictions", table), ("mean_shape", shape)):
        metrics.write_predictions(workdir / f"{name}.csv", content)
    table, shape = (metrics.read_predictions(workdir / f"{name}.csv") for name in ("predictions", "mean_shape"))
    settings = {"normalizer": known.normalizer, "thresholds": config.eval.threshold.to_dict(), "radii_mm": ()}
    result = {"split": config.eval.split} | metrics.summarize(table, **settings) | {"gflops": 0.5}
    result |= {"normalizer": known.normalizer, "mean_shape": mean_shape.summarize(table, shape, settings)}
    result |= {"config_hash": config_hash(config), "seconds": 1.0}
    errors = random.uniform(size=2) * (0.1 if config.eval.split == "val" else 1.0)  # while choosing they are lower
    files.write_csv(workdir / "log.csv", ("step", "val_error"), [(1, ""), (2, errors[0]), (4, errors[1])])
    (workdir / "checkpoints" / "4").mkdir(parents=True)
    files.write_text(workdir / "metrics.json", json.dumps(result))
    files.write_text(workdir / "report.html", "")
    return result


training_run.train_and_evaluate = train_and_evaluate  # a worker of --cluster imports this file
if __name__ == "__main__":
    runpy.run_module("ctd_jax.learning_curve", run_name="__main__")
