"""From a trained network to a table of predictions, and from that table to every number and picture of the result."""

import dataclasses
import itertools
import json
import logging
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ctd_jax import data, files, metrics, report, trust, versions
from ctd_jax.config import config_hash
from ctd_jax.metrics import Predictions, agreement, mean_shape, presence, procrustes, raters
from ctd_jax.tasks.landmarks import domains
from ctd_jax.tasks.landmarks.network import flip_order_of
from ctd_jax.tasks.landmarks.trained import doubts_of, may_be_absent, original_xy
from ctd_jax.tasks.student import Facts
from ctd_jax.tasks.trained import Seen
from ctd_jax.training import checkpoint, hosts, inference
from ctd_jax.training.parallel import Parallel
from ctd_jax.trust import coverage

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Looked:
    """What the network says of N pictures, and what it learns about itself from that.

    Attributes:
      table: their landmarks.
      doubts: name -> `[N, K]`, see `doubts_of`.
      side: `[N]` of the square that the network sees, in pixels of each picture.
      features: `[N, C]`; None: the network has no encoder.
      logits: `[N, K]` of presence; None: the network did not learn it.
    """

    table: Predictions
    doubts: dict[str, np.ndarray]
    side: np.ndarray
    features: np.ndarray | None
    logits: np.ndarray | None = None

    def of_domain(self, domain: str, *, mirrored: bool) -> "Looked":
        """Pictures and landmarks of one domain, see `domains.table_of`; "": all, there is one. Without the doubt of
        mirror images, where those are not averaged."""
        doubts = {name: values for name, values in self.doubts.items() if mirrored or name != "mirror"}
        if not domain:
            return dataclasses.replace(self, doubts=doubts)
        rows, columns = (np.char.startswith(x, f"{domain}/") for x in (self.table.images, self.table.landmarks))
        doubts = {name: values[rows][:, columns] for name, values in doubts.items()}
        features = None if self.features is None else self.features[rows]
        logits = None if self.logits is None else self.logits[rows][:, columns]
        return Looked(domains.table_of(self.table, domain), doubts, self.side[rows], features, logits)


@dataclasses.dataclass(frozen=True)
class Part:
    """A split's table of predictions, that of the mean shape, and what the radii are compared with."""

    table: Predictions
    blind: Predictions
    compared: coverage.Compared


def predict(
    forward: Callable, variables: Any, dataset: data.Dataset, parallel: Parallel, batch_size: int
) -> Predictions:
    """The landmarks of every picture of `dataset`; the same for every batch size and number of devices.

    Args:
      forward: `landmarks.forward`, compiled by `parallel` with `sharded=True`.
      variables, dataset, parallel, batch_size: see `inference.apply`.
    """
    (points, confidence), offset, scale = inference.apply(forward, variables, dataset, parallel, batch_size)
    return _table(dataset, points, confidence, offset, scale)


def look_at(look: Callable, variables: Any, dataset: data.Dataset, parallel: Parallel, batch_size: int) -> Looked:
    """As `predict`, of `landmarks.look`.

    Args:
      look: compiled by `parallel` with `sharded=True`.
      variables, dataset, parallel, batch_size: see `inference.apply`.
    """
    seen = Seen(*inference.apply(look, variables, dataset, parallel, batch_size), size=dataset.size)
    table = _table(dataset, seen.outputs["xy"], seen.outputs["confidence"], seen.offset, seen.scale)
    doubts, logits = doubts_of(seen.outputs, seen.size), seen.outputs.get("presence")
    return Looked(table, doubts, seen.side, seen.outputs.get("features"), logits)


def _table(
    dataset: data.Dataset, points: np.ndarray, confidence: np.ndarray, offset: np.ndarray, scale: np.ndarray
) -> Predictions:
    return Predictions.from_points(
        dataset.images,
        dataset.subjects,
        dataset.targets.landmarks.names,
        original_xy(points, offset, scale),
        true_xy=dataset.targets.xy,
        spacing=dataset.spacing,
        confidence=confidence,
    )


def _evidence(val: Looked, features: np.ndarray | None, known: data.Landmarks, *, mirrored: bool) -> trust.Evidence:
    """What the pictures of val of a domain show, whose landmarks are `known`; `features` are those of its training
    pictures."""
    table, subjects = val.table, metrics.subject_units(val.table)
    unlike: tuple[trust.Unlike, ...] = ()
    if features is not None and val.features is not None and len(features):
        unlike = (trust.Unlike.fit(features, val.features, subjects),)
    offset = (table.xy - table.true_xy) / val.side[:, None, None]
    temperature = None
    if val.logits is not None:
        temperature = trust.temperature.fit(val.logits, presence.truth(table.true_xy, may_be_absent(known)))
    return trust.Evidence(
        table.images, subjects, tuple(table.landmarks), offset, val.doubts, mirrored, unlike, temperature
    )


def _with_trust(
    found: Looked, evidence: trust.Evidence, known: data.Landmarks, spacing: np.ndarray
) -> tuple[Predictions, coverage.Compared]:
    """The table with its radii, scores of unlike pictures and probabilities of presence, and what the radii are
    compared with."""
    side, radius, n = found.side[:, None], evidence.radius, len(found.side)
    at_level = np.stack([radius(found.doubts, n, level) * side for level in coverage.LEVELS])
    radius_px = radius(found.doubts, n) * side
    unlike = np.full(n, np.nan)
    if evidence.unlike and found.features is not None:
        unlike = evidence.unlike[0](found.features)
    table = dataclasses.replace(
        found.table, radius_px=radius_px, radius_mm=radius_px * spacing.max(axis=1, keepdims=True), unlike=unlike
    )
    if found.logits is not None:
        present = trust.temperature.probability(found.logits, evidence.temperature)
        table = dataclasses.replace(table, present=np.where(may_be_absent(known), present, np.nan))
    table = table.masked(np.isfinite(table.xy).all(axis=-1))
    return table, coverage.Compared(at_level, radius.constant() * side)


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
    look: Callable,
    variables: Any,
    pictures: data.SplitPictures,
    parallel: Parallel,
    config: ConfigDict,
    workdir: pathlib.Path,
    facts: Facts,
) -> dict[str, Any]:
    """Reads the splits that `config.eval.split` names, once; writes trust.safetensors (see `trust.evidence`),
    predictions.csv, mean_shape.csv (see `mean_shape`), metrics.json (all splits pooled; metrics_<split>.json for each
    of several) and, last of all, the report; where dataset.json has measurements, measurements.csv too.
    Where several domains are evaluated, each has these files in a folder of its name, and the workdir's metrics.json
    has them under `domains`. Numbers of different domains are never pooled.

    Args:
      look: `landmarks.look`, compiled by `parallel` with `sharded=True`.
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
    train = pictures.trained_on
    learned = train.targets.taught.any(axis=0) | np.isin(pictures.targets.landmarks.names, facts.learned_before)

    def looked(part: data.Dataset) -> Looked:
        found = look_at(look, variables, part, parallel, size)
        return dataclasses.replace(found, table=found.table.masked(learned))

    found = {name: looked(part) for name, part in splits.items()}
    val = found["val"] if "val" in found else looked(pictures.split("val"))
    few = train.take(train.spread(trust.unlike.MAX_PICTURES))
    of_train = looked(few)

    def write() -> None:
        evidence = {}
        for domain, part in pictures.evaluated.items():
            mirrored = flip_order_of(config, part.targets.landmarks) is not None
            here = val.of_domain(domain, mirrored=mirrored)
            features = of_train.of_domain(domain, mirrored=mirrored).features
            evidence[domain] = _evidence(here, features, part.targets.landmarks, mirrored=mirrored)
        trust.evidence.write(workdir, facts.digest, checkpoint.best_step(workdir), evidence)
        shape = mean_shape.of(pictures.split("train"), pictures.split("val"))
        blind = {name: mean_shape.predictions(shape, part) for name, part in splits.items()}
        _write_all(found, blind, pictures, config, workdir, facts)

    hosts.by_first(write)
    return json.loads((workdir / "metrics.json").read_text("utf-8"))


def _write_all(
    found: dict[str, Looked],
    blind: dict[str, Predictions],
    pictures: data.SplitPictures,
    config: ConfigDict,
    workdir: pathlib.Path,
    facts: Facts,
) -> None:
    """The results of each domain that is evaluated; those of one alone lie in the workdir itself. `found` and `blind`
    have what the network and the mean shape say of each split."""
    evaluated = pictures.evaluated
    for domain, part in evaluated.items():
        evidence, lacks = trust.evidence.read(workdir, facts.digest, domain)
        if not evidence:
            raise RuntimeError(lacks)
        parts = {}
        for split in part.splits_called(config.eval.split):
            looked = found[split].of_domain(domain, mirrored=evidence.mirrored)
            table, compared = _with_trust(looked, evidence, part.targets.landmarks, part.split(split).spacing)
            parts[split] = Part(table, _of_domain(blind[split], domain), compared)
        folder = workdir / domain if len(evaluated) > 1 else workdir
        if len(evaluated) > 1:
            folder.mkdir(exist_ok=True)
            files.write_text(folder / "split.csv", data.splits.text(part.rows()))
            data.twins.write(folder, part.twins)
            for name in ("config.json", "log.csv"):
                if (workdir / name).exists():
                    files.write_text(folder / name, (workdir / name).read_text("utf-8"))
        _write(parts, part, config, folder, facts, evidence)
    if len(evaluated) > 1:
        each = {domain: json.loads((workdir / domain / "metrics.json").read_text("utf-8")) for domain in evaluated}
        summary = {
            "split": config.eval.split,
            "n_images": sum(one["n_images"] for one in each.values()),
            "domains": each,
            "n_params": facts.n_params,
            "gflops": facts.gflops,
            "config_hash": config_hash(config),
            **facts.of_start,
            "versions": versions.describe(),
            "seconds": round(time.monotonic() - facts.began, 1),
        }
        files.write_text(workdir / "metrics.json", json.dumps(summary, indent=1))
        report.domains.write(workdir)


def _of_domain(table: Predictions, domain: str) -> Predictions:
    """The table of one domain; "": the run has one kind of pictures."""
    return domains.table_of(table, domain) if domain else table


def _write(
    parts: dict[str, Part],
    pictures: data.SplitPictures,
    config: ConfigDict,
    workdir: pathlib.Path,
    facts: Facts,
    evidence: trust.Evidence,
) -> None:
    known = pictures.targets.landmarks
    pooled = _pooled(workdir / "predictions.csv", [one.table for one in parts.values()])
    blind = _pooled(workdir / "mean_shape.csv", [one.blind for one in parts.values()])
    people = _people(workdir / "raters.csv", pooled, pictures)
    compared = coverage.concatenate([one.compared for one in parts.values()])
    spacing = np.concatenate([pictures.split(name).spacing for name in parts])
    if known.measurements:
        measured = agreement.Measured.from_predictions(presence.there_alone(pooled), known.measurements, spacing)
        agreement.write(workdir / "measurements.csv", measured)
        measured = agreement.read(workdir / "measurements.csv")
    annotated = pictures.split("train").targets.taught  # [N, K]
    predicted = np.isfinite(pooled.xy).all(axis=(0, 2))
    of_run = {
        "normalizer": known.normalizer,
        "n_train": int(annotated.any(axis=1).sum()),
        "n_params": facts.n_params,
        "gflops": None if facts.gflops is None else round(facts.gflops, 6),
        "config_hash": config_hash(config),
        **facts.of_start,
        "versions": versions.describe(),
    }

    def write(name: str, file: str, table: Predictions) -> None:
        summary = {"split": name} | summarize(table, known, config) | of_run
        for landmark, n, is_known in zip(known.names, annotated.sum(axis=0), predicted, strict=True):
            before = {"learned_before": True} if is_known and not n else {}
            summary["per_landmark"][landmark] |= {"n_train": int(n)} | before
        unseen = blind.rows(np.isin(blind.images, table.images))
        summary["mean_shape"] = mean_shape.summarize(table, unseen, _settings(known, config))
        here = np.isin(pooled.images, table.images)
        if name != "val":  # the radii are made from these
            summary["radius"] = coverage.summarize(table, compared.rows(here), evidence.radius)
        if np.isfinite(table.present).any():
            summary["presence"] = presence.summarize(table, known.absent, evidence.temperature)
        summary["cautions"] = report.cautions.of_landmarks(summary, table, unseen)
        summary["shape"] = procrustes.summarize(table, spacing[np.isin(pooled.images, table.images)])
        if known.measurements:
            summary["measurements"] = agreement.summarize(
                measured.rows(np.isin(measured.images, table.images)),
                known.measurements,
            )
        if people is not None:
            theirs = people.rows(here)
            summary |= _of_raters(table, theirs, summary, _settings(known, config))
            for measurement, one in agreement.between_raters(
                theirs.points, table, known.measurements, theirs.spacing
            ).items():
                summary["measurements"][measurement]["raters"] = one
        summary["seconds"] = round(time.monotonic() - facts.began, 1)
        files.write_text(workdir / file, json.dumps(summary, indent=1))

    if len(parts) > 1:
        for name in parts:
            write(name, f"metrics_{name}.json", pooled.rows(np.isin(pooled.images, parts[name].table.images)))
    write(config.eval.split, "metrics.json", pooled)
    report.landmarks.write(workdir, pictures.picture, spacing)


@dataclasses.dataclass(frozen=True)
class People:
    """What R raters annotated in N pictures, and how far they are from the network and from each other.

    Attributes:
      names: of the raters.
      points: `[R, N, K, 2]`, NaN where one annotated none.
      spacing: `[N, 2]` mm per pixel, NaN where unknown.
      distances: of these pictures.
    """

    names: tuple[str, ...]
    points: np.ndarray
    spacing: np.ndarray
    distances: raters.Distances

    def rows(self, chosen: np.ndarray) -> "People":
        return People(self.names, self.points[:, chosen], self.spacing[chosen], self.distances.rows(chosen))


def _people(path: pathlib.Path, table: Predictions, pictures: data.SplitPictures) -> People | None:
    """The raters who annotated any of the pictures of `table`, whose distances are written; None where these are fewer
    than two, or have no point in common. `pictures`: all of a domain."""
    of_raters, names = pictures.targets.of_raters, pictures.targets.landmarks.raters
    if of_raters is None or len(names) < 2:
        return None
    place = {image: i for i, image in enumerate(pictures.everything.images)}
    rows = [place[image] for image in table.images.tolist()]
    points, spacing = np.moveaxis(of_raters[rows], 1, 0), pictures.everything.spacing[rows]
    took_part = np.isfinite(points).any(axis=(1, 2, 3))
    if not took_part.all():
        others = ", ".join(itertools.compress(names, ~took_part))
        _log.warning("not compared with the network: %s, who annotated none of the evaluated pictures", others)
    names, points = tuple(itertools.compress(names, took_part)), points[took_part]
    found = raters.Distances.of(table.xy, points, names, spacing)
    if len(names) < 2 or not found.known.any():
        who = " and ".join(names) if len(names) > 1 else "two people"
        _log.warning("no comparison with people: no point of the evaluated pictures is annotated by %s", who)
        return None
    raters.write(path, table, found)
    return People(names, points, spacing, raters.read(path, table))


def _of_raters(table: Predictions, people: People, summary: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """The `raters` of metrics.json: see `raters.summarize`, `raters.beside` and `procrustes.between_raters`; empty
    where no point of these pictures is annotated by all.

    Args:
      table: of N pictures.
      people: of these pictures.
      summary: of the same pictures.
      settings: of `metrics.summarize`.
    """
    found = raters.summarize(table, people.points, people.names, people.spacing)
    if not found:
        return {}
    found |= raters.beside(table, people.distances, measure=summary["ced_measure"], **settings)
    shape = procrustes.between_raters(table, people.points, people.spacing)
    return {"raters": found | ({"shape": shape} if shape else {})}


def _pooled(path: pathlib.Path, tables: Sequence[Predictions]) -> Predictions:
    """The tables in one, as it is written and read back: every number is that of the file."""
    metrics.write_predictions(path, metrics.concatenate(tables))
    return metrics.read_predictions(path)
