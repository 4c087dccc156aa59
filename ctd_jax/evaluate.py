"""From a trained network to a table of predictions, and from that table to every number and picture of the result."""

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ctd_jax import agreement, data, metrics, report
from ctd_jax import workdir as workdirs
from ctd_jax.metrics import Predictions
from ctd_jax.parallel import Parallel


def predict(
    forward: Callable, variables: Any, dataset: data.Dataset, parallel: Parallel, batch_size: int
) -> Predictions:
    """Every picture of `dataset`, in batches of one size: the last is filled up and the filling dropped.

    Args:
      forward: `LandmarkTask.forward`, compiled by `parallel` with `sharded=True`.
      variables: of the network, on the devices.
      batch_size: pictures; rounded up to the number of devices.
    """
    devices = len(parallel.devices)
    size = -(-batch_size // devices) * devices
    xy, confidence = [], []
    parts = [np.arange(start, min(start + size, len(dataset))) for start in range(0, len(dataset), size)]
    for indices, batch in zip(parts, dataset.batches(parts), strict=True):
        filled = np.pad(batch["picture"], ((0, size - len(indices)), (0, 0), (0, 0), (0, 0)))
        points, peaks = parallel.gather(forward(variables, parallel.shard({"picture": filled})))
        points = points[: len(indices)].astype(np.float64)
        xy.append((points - batch["offset"][:, None]) / batch["scale"][:, None, None])
        confidence.append(peaks[: len(indices)])
    return Predictions.from_points(
        dataset.images,
        dataset.subjects,
        dataset.landmarks.names,
        np.concatenate(xy),
        true_xy=dataset.xy,
        spacing=dataset.spacing,
        confidence=np.concatenate(confidence),
    )


def summarize(predictions: Predictions, known: data.Landmarks, config: ConfigDict) -> dict[str, Any]:
    """The numbers of metrics.json that the table alone decides."""
    return metrics.summarize(
        predictions,
        normalizer=known.normalizer,
        thresholds=config.eval.threshold.to_dict(),
        radii_mm=known.success_radii_mm,
        bootstrap=config.eval.bootstrap,
        seed=config.seed,
    )


def evaluate(
    forward: Callable,
    variables: Any,
    source: data.Source,
    parallel: Parallel,
    config: ConfigDict,
    workdir: pathlib.Path,
    *,
    began: float,
) -> dict[str, Any]:
    """Reads the splits that `config.eval.split` names, once; writes predictions.csv, metrics.json (all of them pooled;
    metrics_<split>.json for each of several) and the report; where dataset.json has measurements, measurements.csv too.

    Args:
      began: `time.monotonic()` at the start of the run, for `seconds`.

    Returns:
      The content of metrics.json.
    """
    known = source.landmarks
    parts = {
        name: predict(forward, variables, source.split(name), parallel, config.eval.batch_size)
        for name in source.names
        if name in source.covered(config.eval.split)
    }
    pooled = metrics.concatenate(list(parts.values()))
    metrics.write_predictions(workdir / "predictions.csv", pooled)
    pooled = metrics.read_predictions(workdir / "predictions.csv")  # every number is that of the file
    if known.measurements:
        spacing = np.concatenate([source.split(name).spacing for name in parts])
        measured = agreement.Measured.from_predictions(pooled, known.measurements, spacing)
        agreement.write(workdir / "measurements.csv", measured)
        measured = agreement.read(workdir / "measurements.csv")
    facts = {
        "normalizer": known.normalizer,
        "n_params": sum(x.size for x in jax.tree.leaves(variables["params"])),
        "config_hash": workdirs.config_hash(config),
    }

    def write(name: str, file: str, table: Predictions) -> dict[str, Any]:
        summary = {"split": name} | summarize(table, known, config) | facts
        if known.measurements:
            summary["measurements"] = agreement.summarize(
                measured.rows(np.isin(measured.images, table.images)),
                known.measurements,
                bootstrap=config.eval.bootstrap,
                seed=config.seed,
            )
        summary["seconds"] = round(time.monotonic() - began, 1)
        workdirs.write_text(workdir / file, json.dumps(summary, indent=1))
        return summary

    if len(parts) > 1:
        for name, table in parts.items():
            write(name, f"metrics_{name}.json", table)
    result = write(config.eval.split, "metrics.json", pooled)
    report.write(workdir, source.picture)
    return result
