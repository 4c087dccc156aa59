"""From a trained network to a table of predictions, and from that table to every number and picture of the result."""

import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ctd_jax import data, files, metrics, report, versions
from ctd_jax.config import config_hash
from ctd_jax.metrics import Predictions, agreement, mean_shape, procrustes, raters
from ctd_jax.tasks.landmarks import domains
from ctd_jax.tasks.landmarks.trained import original_xy
from ctd_jax.tasks.student import Facts
from ctd_jax.training import hosts, inference
from ctd_jax.training.parallel import Parallel

TABLES = ("predictions", "mean_shape")  # files of a run, and what a `Pair` has
Pair = tuple[Predictions, Predictions]


def predict(
    forward: Callable, variables: Any, dataset: data.Dataset, parallel: Parallel, batch_size: int
) -> Predictions:
    """The landmarks of every picture of `dataset`; the same for every batch size and number of devices.

    Args:
      forward: `landmarks.forward`, compiled by `parallel` with `sharded=True`.
      variables, dataset, parallel, batch_size: see `inference.apply`.
    """
    (points, confidence), offset, scale = inference.apply(forward, variables, dataset, parallel, batch_size)
    return Predictions.from_points(
        dataset.images,
        dataset.subjects,
        dataset.targets.landmarks.names,
        original_xy(points, offset, scale),
        true_xy=dataset.targets.xy,
        spacing=dataset.spacing,
        confidence=confidence,
    )


def summarize(predictions: Predictions, known: data.Landmarks, config: ConfigDict) -> dict[str, Any]:
    """The numbers of metrics.json that the table alone decides."""
    return metrics.summarize(predictions, **_settings(known, config))


def _settings(known: data.Landmarks, config: ConfigDict) -> dict[str, Any]:
    return {
        "normalizer": known.normalizer,
        "thresholds": config.eval.threshold.to_dict(),
        "radii_mm": known.success_radii_mm,
    }


def evaluate(
    forward: Callable,
    variables: Any,
    pictures: data.SplitPictures,
    parallel: Parallel,
    config: ConfigDict,
    workdir: pathlib.Path,
    facts: Facts,
) -> dict[str, Any]:
    """Reads the splits that `config.eval.split` names, once; writes predictions.csv, mean_shape.csv (see `mean_shape`),
    metrics.json (all splits pooled; metrics_<split>.json for each of several) and, last of all, the report; where
    dataset.json has measurements, measurements.csv too.
    Where several domains are evaluated, each has these files in a folder of its name, and the workdir's metrics.json
    has them under `domains`. Numbers of different domains are never pooled.

    Args:
      forward: `landmarks.forward`, compiled by `parallel` with `sharded=True`.
      variables: of the network, on the devices.
      pictures: all of the configuration.
      parallel: the devices.
      config: of the run.
      workdir: of the run.
      facts: of the run.

    Returns:
      The content of metrics.json.
    """
    splits = {name: pictures.split(name) for name in pictures.splits_called(config.eval.split)}
    size = config.eval.batch_size
    found = {name: predict(forward, variables, part, parallel, size) for name, part in splits.items()}

    def write() -> None:
        shape = mean_shape.of(pictures.split("train"), pictures.split("val"))
        both = {name: (table, mean_shape.predictions(shape, splits[name])) for name, table in found.items()}
        _write_all(both, pictures, config, workdir, facts)

    hosts.by_first(write)
    return json.loads((workdir / "metrics.json").read_text("utf-8"))


def _write_all(
    found: dict[str, Pair], pictures: data.SplitPictures, config: ConfigDict, workdir: pathlib.Path, facts: Facts
) -> None:
    """The results of each domain that is evaluated; those of one alone lie in the workdir itself."""
    evaluated = pictures.evaluated
    for domain, part in evaluated.items():
        tables = {split: _of_domain(found[split], domain) for split in part.splits_called(config.eval.split)}
        folder = workdir / domain if len(evaluated) > 1 else workdir
        if len(evaluated) > 1:
            folder.mkdir(exist_ok=True)
            files.write_text(folder / "split.csv", data.splits.text(part.rows()))
            data.twins.write(folder, part.twins)
            for name in ("config.json", "log.csv"):
                if (workdir / name).exists():
                    files.write_text(folder / name, (workdir / name).read_text("utf-8"))
        _write(tables, part, config, folder, facts)
    if len(evaluated) > 1:
        each = {domain: json.loads((workdir / domain / "metrics.json").read_text("utf-8")) for domain in evaluated}
        summary = {
            "split": config.eval.split,
            "n_images": sum(one["n_images"] for one in each.values()),
            "domains": each,
            "n_params": facts.n_params,
            "gflops": facts.gflops,
            "config_hash": config_hash(config),
            "versions": versions.describe(),
            "seconds": round(time.monotonic() - facts.began, 1),
        }
        files.write_text(workdir / "metrics.json", json.dumps(summary, indent=1))
        report.domains.write(workdir)


def _of_domain(pair: Pair, domain: str) -> Pair:
    """The tables of one domain; "": the run has one kind of pictures."""
    predicted, mean = pair
    return (domains.table_of(predicted, domain), domains.table_of(mean, domain)) if domain else pair


def _write(
    parts: dict[str, Pair],
    pictures: data.SplitPictures,
    config: ConfigDict,
    workdir: pathlib.Path,
    facts: Facts,
) -> None:
    known = pictures.targets.landmarks
    pooled, blind = (_pooled(workdir / f"{name}.csv", tables)
                     for name, tables in zip(TABLES, zip(*parts.values(), strict=True), strict=True))  # fmt: skip
    spacing = np.concatenate([pictures.split(name).spacing for name in parts])
    if known.measurements:
        measured = agreement.Measured.from_predictions(pooled, known.measurements, spacing)
        agreement.write(workdir / "measurements.csv", measured)
        measured = agreement.read(workdir / "measurements.csv")
    annotated = np.isfinite(pictures.split("train").targets.xy).all(axis=-1)  # [N, K]
    of_run = {
        "normalizer": known.normalizer,
        "n_train": int(annotated.any(axis=1).sum()),
        "n_params": facts.n_params,
        "gflops": None if facts.gflops is None else round(facts.gflops, 6),
        "config_hash": config_hash(config),
        "versions": versions.describe(),
    }

    def write(name: str, file: str, table: Predictions) -> None:
        summary = {"split": name} | summarize(table, known, config) | of_run
        for landmark, n in zip(known.names, annotated.sum(axis=0), strict=True):
            summary["per_landmark"][landmark]["n_train"] = int(n)
        unseen = blind.rows(np.isin(blind.images, table.images))
        summary["mean_shape"] = mean_shape.summarize(table, unseen, _settings(known, config))
        summary["cautions"] = report.cautions.of_landmarks(summary, table, unseen)
        summary["shape"] = procrustes.summarize(table, spacing[np.isin(pooled.images, table.images)])
        if known.measurements:
            summary["measurements"] = agreement.summarize(
                measured.rows(np.isin(measured.images, table.images)),
                known.measurements,
            )
        summary |= _of_raters(table, pictures, list(parts), config)
        summary["seconds"] = round(time.monotonic() - facts.began, 1)
        files.write_text(workdir / file, json.dumps(summary, indent=1))

    if len(parts) > 1:
        for name in parts:
            write(name, f"metrics_{name}.json", pooled.rows(np.isin(pooled.images, parts[name][0].images)))
    write(config.eval.split, "metrics.json", pooled)
    report.landmarks.write(workdir, pictures.picture)


def _of_raters(
    table: Predictions, pictures: data.SplitPictures, splits: Sequence[str], config: ConfigDict
) -> dict[str, Any]:
    """The `raters` of metrics.json: see `raters.summarize`. Empty where the folder has none, and with several folders.

    Args:
      table: of pictures of these splits.
      pictures: of the run.
      splits: names of splits.
      config: of the run.
    """
    known = pictures.targets.landmarks
    if not known.raters or len(folders := data.roots.listed(config.data)) > 1:
        return {}
    points = data.raters.points(pathlib.Path(folders[0]), known, table.images.tolist())
    parts = [pictures.split(name) for name in splits]
    spacing = {image: mm for part in parts for image, mm in zip(part.images, part.spacing, strict=True)}
    found = raters.summarize(table, points, known.raters, np.array([spacing[image] for image in table.images]))
    return {"raters": found} if found else {}


def _pooled(path: pathlib.Path, tables: Sequence[Predictions]) -> Predictions:
    """The tables in one, as it is written and read back: every number is that of the file."""
    metrics.write_predictions(path, metrics.concatenate(tables))
    return metrics.read_predictions(path)
