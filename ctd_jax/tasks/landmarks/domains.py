"""Landmarks of several domains in one network: what of the tables is whose, and what is warned of."""

import dataclasses
import logging
from typing import Any

import numpy as np

from ctd_jax import metrics
from ctd_jax.data import Dataset, SplitPictures
from ctd_jax.metrics import Predictions

_log = logging.getLogger(__name__)
SAMPLE = 64  # pictures of a domain, to learn how large its landmarks are
UNLIKE = 1.3  # ratio of sizes that is warned of


def warn_of_sizes(pictures: SplitPictures) -> None:
    """Warns of a helping domain whose landmarks are much larger or smaller in the picture than those it is to help."""
    if not (pictures.helping and pictures.parts):
        return
    spans = {name: _span(part.split("train")) for name, part in pictures.parts.items()}
    for helper in pictures.helping:
        ratios = {name: spans[helper] / spans[name] for name in pictures.evaluated if spans[name] * spans[helper] > 0}
        name = min(ratios, key=lambda name: abs(np.log(ratios[name])), default=None)
        if name and not 1 / UNLIKE < ratios[name] < UNLIKE:
            _log.warning(
                "%s: its landmarks span %.0f %% of a picture, those of %s %.0f %%; a helping domain helps more where "
                "they are of one size: give it box columns and data.margin",
                *(helper, 100 * spans[helper], name, 100 * spans[name]),
            )


def _span(train: Dataset) -> float:
    """The part of the network's picture, 0 to 1, that a picture's landmarks span: the longer side of their box, median
    over the first pictures; 0 where nothing is annotated."""
    few = np.arange(min(len(train), SAMPLE))
    batch = train.take(few).batch(few)
    sides = [
        np.ptp(xy[known], axis=0).max() for xy, known in zip(batch["xy"], batch["mask"], strict=True) if any(known)
    ]
    return float(np.median(sides or [0.0])) / train.size


def table_of(table: Predictions, domain: str) -> Predictions:
    """The pictures and landmarks of one domain, under their own names."""
    rows = np.char.startswith(table.images, f"{domain}/")
    found = table.rows(rows).columns(np.char.startswith(table.landmarks, f"{domain}/"))
    names = {key: _without(getattr(found, key), domain) for key in ("images", "subjects", "landmarks")}
    return dataclasses.replace(found, **names)


def _without(names: np.ndarray, domain: str) -> np.ndarray:
    return np.array([name.removeprefix(f"{domain}/") for name in names], dtype=str)


def validation_error(table: Predictions, pictures: SplitPictures) -> tuple[float, str]:
    """The error that chooses a checkpoint, and how a person reads it.

    For one domain it is the mean over its pictures, of `metrics.ced_measure`. For several it is the geometric mean of
    theirs: units don't matter, a tenth less error counts the same in each.
    """
    errors, texts = [], []
    for domain, part in pictures.evaluated.items():
        rows = table_of(table, domain) if domain else table
        of_images = metrics.image_errors(rows, part.targets.landmarks.normalizer)
        measure = metrics.ced_measure(of_images)
        value = float(np.nanmean(of_images[measure]))
        text = f"{100 * value:.2f} %" if measure.startswith("nme") else f"{value:.2f} {measure[3:]}"
        errors.append(value)
        texts.append(f"{domain} {text}".lstrip())
    if len(errors) == 1:
        return errors[0], texts[0].removeprefix(f"{domain} ")
    return float(np.exp(np.mean(np.log(np.maximum(errors, 1e-12))))), ", ".join(texts)


def meta(pictures: SplitPictures) -> list[dict[str, Any]] | None:
    """What `predict` and a later start need of each domain; None: there is one only."""
    return [
        {
            "name": name,
            "landmarks": list(part.targets.landmarks.names),
            "flip_pairs": part.targets.landmarks.flip_pairs,
            "normalizer": part.targets.landmarks.normalizer,
            "boxes": bool(np.isfinite(part.split("train").boxes).any()),
        }
        for name, part in pictures.parts.items()
    ] or None
