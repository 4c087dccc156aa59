"""From a trained segmentation network to class maps, to a table, and from that table to every number of the result."""

import functools
import json
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ctd_jax import data, files, report, trust, versions
from ctd_jax.config import config_hash
from ctd_jax.data.prefetch import map_in_threads
from ctd_jax.metrics import mean_map, segmentation
from ctd_jax.tasks.segmentation.network import mirrors
from ctd_jax.tasks.segmentation.trained import class_map
from ctd_jax.tasks.student import Facts
from ctd_jax.training import checkpoint, hosts, inference
from ctd_jax.training.parallel import Parallel


def mask_path(workdir: pathlib.Path, image: str) -> pathlib.Path:
    """Where the predicted class map of a picture lies."""
    return workdir / "masks" / f"{image}.png"


def evaluate(
    forward: Callable,
    variables: Any,
    pictures: data.SplitPictures,
    parallel: Parallel,
    config: ConfigDict,
    workdir: pathlib.Path,
    facts: Facts,
    untrained: Mapping[tuple[str, str], int],
) -> dict[str, Any]:
    """Reads the splits that `config.eval.split` names, once; writes masks/, segmentation_metrics.csv, mean_map.csv (the
    same of the mean class map, see `mean_map`), metrics.json (all splits pooled; metrics_<split>.json for each of
    several) and, last of all, the report.

    Args:
      forward: `segmentation.forward`, compiled by `parallel` with `sharded=True`.
      variables: of the network, on the devices.
      pictures: all of the configuration.
      parallel: the devices.
      config: of the run.
      workdir: of the run.
      facts: of the run.
      untrained: see `cautions.of_class_maps`.

    Returns:
      The content of metrics.json.
    """
    rows, unseen = [], []
    means = mean_map.of(pictures.split("train"), pictures.split("val")) if hosts.is_first() else np.empty(0)
    for name in pictures.splits_called(config.eval.split):
        part, start = pictures.split(name), 0
        for batch in inference.each(forward, variables, part, parallel, config.eval.batch_size):
            if hosts.is_first():
                examples = zip(range(start, start + len(batch[0])), *batch, strict=True)
                for found, blind in map_in_threads(functools.partial(_judge, part, means, workdir), examples):
                    rows += found
                    unseen += blind
            start += len(batch[0])
    hosts.by_first(lambda: _write(rows, unseen, pictures, config, workdir, facts, untrained))
    return json.loads((workdir / "metrics.json").read_text("utf-8"))


def learn(
    features: Callable,
    variables: Any,
    pictures: data.SplitPictures,
    parallel: Parallel,
    config: ConfigDict,
    workdir: pathlib.Path,
    facts: Facts,
) -> None:
    """Writes what tells pictures unlike those of the training, for each domain; see `trust.evidence`.

    Args:
      features: `models.pooled` of the network, compiled by `parallel` with `sharded=True`.
      variables, pictures, parallel, config, workdir, facts: as of `evaluate`.
    """
    train, val = pictures.trained_on, pictures.split("val")
    few = train.take(train.spread(trust.unlike.MAX_PICTURES))
    of_train, of_val = (
        inference.apply(features, variables, part, parallel, config.eval.batch_size)[0] for part in (few, val)
    )

    def write() -> None:
        found = {}
        for i, domain in enumerate(val.domains):
            here = np.flatnonzero(val.domain == i)
            known = of_train[few.domain == i]
            if not len(here) or not len(known):
                continue
            images = np.array([val.images[j] for j in here], dtype=str)
            subjects = np.array([val.subjects[j] for j in here], dtype=str)
            subjects = np.where(subjects == "", images, subjects)
            score = trust.Unlike.fit(known, of_val[here], subjects)
            nothing = np.zeros((len(here), 0, 2))
            found[domain] = trust.Evidence(images, subjects, (), nothing, {}, mirrors(config), (score,))
        trust.evidence.write(workdir, facts.digest, checkpoint.best_step(workdir), found)

    hosts.by_first(write)


def _judge(
    part: data.Dataset[data.ClassMaps],
    means: np.ndarray,
    workdir: pathlib.Path,
    picture: tuple[int, np.ndarray, np.ndarray, np.ndarray],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Writes the class map of one picture; its rows of the table, and those of the mean map.

    Args:
      part: the pictures.
      means: of `mean_map.of`.
      workdir: of the run.
      picture: its index, `[S, S, M]` probabilities, and `[2]` offset and `[]` scale of its frame.
    """
    index, probabilities, offset, scale = picture
    true = part.targets.class_map(index)
    frame = data.Frame(float(scale), (float(offset[0]), float(offset[1])), part.size)
    found = class_map(probabilities, frame, true.shape[1], true.shape[0])
    path = mask_path(workdir, part.images[index])
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, report.parts.png_bytes(Image.fromarray(found)))
    domain = part.domains[part.domain[index]]
    names = {"image": part.images[index], "subject": part.subjects[index], "domain": domain}
    blind = class_map(means[part.domain[index]], frame, true.shape[1], true.shape[0])

    def rows(classes: np.ndarray) -> list[dict[str, Any]]:
        return [
            names | {"class": name} | segmentation.measure(true == i, classes == i, part.spacing[index])
            for i, name in enumerate(part.targets.classes[domain])
            if i
        ]

    return rows(found), rows(blind)


def _write(
    rows: list[dict[str, Any]],
    unseen: list[dict[str, Any]],
    pictures: data.SplitPictures,
    config: ConfigDict,
    workdir: pathlib.Path,
    facts: Facts,
    untrained: Mapping[tuple[str, str], int],
) -> None:
    scores, blind = (_written(workdir / f"{name}.csv", table)
                     for name, table in (("segmentation_metrics", rows), ("mean_map", unseen)))  # fmt: skip
    classes = {domain: list(pictures.targets.classes[domain]) for domain in pictures.evaluated}

    def write(name: str, file: str, of_network: segmentation.Scores, of_mean: segmentation.Scores) -> None:
        summary = {"split": name, "classes": classes} | segmentation.summarize(of_network, classes)
        summary["mean_map"] = mean_map.summarize(of_network, of_mean, classes)
        summary["cautions"] = report.cautions.of_class_maps(summary, of_network, untrained, size=config.data.image_size)
        summary |= {
            "n_params": facts.n_params,
            "config_hash": config_hash(config),
            **facts.of_start,
            "versions": versions.describe(),
            "seconds": round(time.monotonic() - facts.began, 1),
        }
        files.write_text(workdir / file, json.dumps(summary, indent=1))

    splits = pictures.splits_called(config.eval.split)
    for name in splits if len(splits) > 1 else ():
        here = np.isin(scores.names["image"], pictures.split(name).images)
        write(name, f"metrics_{name}.json", scores.rows(here), blind.rows(here))
    write(config.eval.split, "metrics.json", scores, blind)
    everything = pictures.everything
    places = {image: i for i, image in enumerate(everything.images)}
    report.segmentation.write(
        workdir,
        lambda image: (
            everything.original(places[image]),
            everything.targets.class_map(places[image]),
            np.asarray(Image.open(mask_path(workdir, image), formats=("PNG",))),
        ),
        lambda image: everything.original(places[image]),
    )


def _written(path: pathlib.Path, rows: list[dict[str, Any]]) -> segmentation.Scores:
    """The rows, written and read back: every number is that of the file."""
    segmentation.write(path, rows)
    return segmentation.read(path)
