"""From a trained network to a table of predictions, and from that table to every number and picture of the result."""

import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ctd_jax import agreement, data, domains, files, hosts, metrics, report
from ctd_jax import workdir as workdirs
from ctd_jax.metrics import Predictions
from ctd_jax.parallel import Parallel


def each(
    body: Callable, variables: Any, dataset: data.Dataset, parallel: Parallel, batch_size: int
) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """What `body` makes of the pictures of `dataset`, in batches of one size: the last is filled up and the filling
    dropped. Each process decodes its share of each batch and gets all results.

    Args:
      body: `(variables, {"picture": [B, S, S, 3] uint8}) -> tree of arrays`, compiled by `parallel`, `sharded=True`;
        where the dataset has domains, it gets "domain" [B] int32 too.
      variables: of the network, on the devices.
      batch_size: pictures; rounded up to the number of devices.

    Yields:
      Of one batch after the other, the tree of NumPy arrays `[n, ...]`; `offset` [n, 2] and `scale` [n] of each
      picture's frame.
    """
    devices = len(parallel.devices)
    size = -(-batch_size // devices) * devices
    starts = range(0, len(dataset), size)
    filled = (np.minimum(np.arange(start, start + size), len(dataset) - 1) for start in starts)
    parts = [np.unique(parallel.share(indices), return_inverse=True) for indices in filled]
    for start, (_, place), batch in zip(starts, parts, dataset.batches(indices for indices, _ in parts), strict=True):
        seen = {key: batch[key][place] for key in ("picture", "domain") if key in batch}
        seen, offset, scale = parallel.shard((seen, batch["offset"][place], batch["scale"][place]))
        found = parallel.gather((body(variables, seen), offset, scale))
        yield jax.tree.map(lambda x: x[: len(dataset) - start], found)  # noqa: B023 (called at once)


def apply(
    body: Callable, variables: Any, dataset: data.Dataset, parallel: Parallel, batch_size: int
) -> tuple[Any, np.ndarray, np.ndarray]:
    """All that `each` gives, in one: a tree of arrays `[N, ...]`, `offset` [N, 2] and `scale` [N]."""
    results = each(body, variables, dataset, parallel, batch_size)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def predict(
    forward: Callable, variables: Any, dataset: data.Dataset, parallel: Parallel, batch_size: int
) -> Predictions:
    """The landmarks of every picture of `dataset`; the same for every batch size and number of devices.

    Args:
      forward: `landmarks.forward`, compiled by `parallel` with `sharded=True`.
      variables, dataset, parallel, batch_size: see `apply`.
    """
    (points, confidence), offset, scale = apply(forward, variables, dataset, parallel, batch_size)
    xy = (points.astype(np.float64) - offset[:, None]) / scale[:, None, None]
    return Predictions.from_points(
        dataset.images,
        dataset.subjects,
        dataset.landmarks.names,
        xy,
        true_xy=dataset.xy,
        spacing=dataset.spacing,
        confidence=confidence,
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
    n_params: int,
    gflops: float,
    began: float,
) -> dict[str, Any]:
    """Reads the splits that `config.eval.split` names, once; writes predictions.csv, metrics.json (all of them pooled;
    metrics_<split>.json for each of several) and the report; where dataset.json has measurements, measurements.csv too.
    Where several domains are judged, each has these files in a folder of its name, and the workdir's metrics.json has
    them under `domains`. Numbers of different domains are never pooled.

    Args:
      n_params: of the network.
      gflops: see `cost.gflops`.
      began: `time.monotonic()` at the start of the run, for `seconds`.

    Returns:
      The content of metrics.json.
    """
    found = {
        name: predict(forward, variables, source.split(name), parallel, config.eval.batch_size)
        for name in source.covered(config.eval.split)
    }
    hosts.by_first(lambda: _write_all(found, source, config, workdir, n_params=n_params, gflops=gflops, began=began))
    return json.loads((workdir / "metrics.json").read_text("utf-8"))


def _write_all(
    found: dict[str, Predictions], source: data.Source, config: ConfigDict, workdir: pathlib.Path, **facts: Any
) -> None:
    """The results of each domain that is judged; of one alone they lie in the workdir itself."""
    judged = source.judged
    for domain, part in judged.items():
        tables = {split: domains.table_of(found[split], domain) if domain else found[split]
                  for split in part.covered(config.eval.split)}  # fmt: skip
        folder = workdir / domain if len(judged) > 1 else workdir
        if len(judged) > 1:
            folder.mkdir(exist_ok=True)
            files.write_text(folder / "split.csv", data.splits.text(part.rows()))
            for name in ("config.json", "log.csv"):
                if (workdir / name).exists():
                    files.write_text(folder / name, (workdir / name).read_text("utf-8"))
        _write(tables, part, config, folder, **facts)
    if len(judged) > 1:
        each = {domain: json.loads((workdir / domain / "metrics.json").read_text("utf-8")) for domain in judged}
        summary = {
            "split": config.eval.split,
            "n_images": sum(one["n_images"] for one in each.values()),
            "domains": each,
            "n_params": facts["n_params"],
            "gflops": facts["gflops"],
            "config_hash": workdirs.config_hash(config),
            "seconds": round(time.monotonic() - facts["began"], 1),
        }
        files.write_text(workdir / "metrics.json", json.dumps(summary, indent=1))
        report.write_index(workdir)


def _write(
    parts: dict[str, Predictions],
    source: data.Source,
    config: ConfigDict,
    workdir: pathlib.Path,
    *,
    n_params: int,
    gflops: float,
    began: float,
) -> None:
    known = source.landmarks
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
        "n_params": n_params,
        "gflops": round(gflops, 6),
        "config_hash": workdirs.config_hash(config),
    }

    def write(name: str, file: str, table: Predictions) -> None:
        summary = {"split": name} | summarize(table, known, config) | facts
        if known.measurements:
            summary["measurements"] = agreement.summarize(
                measured.rows(np.isin(measured.images, table.images)),
                known.measurements,
                bootstrap=config.eval.bootstrap,
                seed=config.seed,
            )
        summary["seconds"] = round(time.monotonic() - began, 1)
        files.write_text(workdir / file, json.dumps(summary, indent=1))

    if len(parts) > 1:
        for name, table in parts.items():
            write(name, f"metrics_{name}.json", table)
    write(config.eval.split, "metrics.json", pooled)
    report.write(workdir, source.picture)
