"""The mean shape of the training labels, placed without a look at the picture: what a network has to beat.

Placed as well as may be: in the network's square, which the size of the picture or its box decides. Each landmark lies
at the mean or at the median (of each axis) of its training points there, whichever is nearer on average to its points
in train and val; one without a training point lies in the middle. The test pictures decide nothing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctd_jax import metrics
from ctd_jax.data import Dataset
from ctd_jax.metrics import Predictions, paired


def of(train: Dataset, val: Dataset) -> np.ndarray:
    """`[K, 2]` place of each landmark, network pixels."""
    learned, both = _points(train), np.concatenate([_points(train), _points(val)])
    shape = np.full(learned.shape[1:], (train.size - 1) / 2)
    for k in range(len(shape)):
        points, judged = (part[:, k][np.isfinite(part[:, k]).all(axis=-1)] for part in (learned, both))
        if len(points):
            places = points.mean(axis=0), np.median(points, axis=0)
            shape[k] = min(places, key=lambda place: np.linalg.norm(judged - place, axis=-1).mean())
    return shape


def _points(dataset: Dataset) -> np.ndarray:
    """`[N, K, 2]` annotated points, network pixels; NaN: not annotated."""
    scale, offset = dataset.frames()
    return dataset.xy * scale[:, None, None] + offset[:, None]


def predictions(shape: np.ndarray, dataset: Dataset) -> Predictions:
    """The shape as if it had been found in every picture of `dataset`; it has no confidence."""
    scale, offset = dataset.frames()
    return Predictions.from_points(
        dataset.images,
        dataset.subjects,
        dataset.landmarks.names,
        (shape - offset[:, None]) / scale[:, None, None],
        true_xy=dataset.xy,
        spacing=dataset.spacing,
    )


def summarize(table: Predictions, blind: Predictions, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What metrics.json holds of the mean shape: each metric of `metrics.summarize`, and `network_minus_it`, which is
    `paired.difference` in the measure that the CED is built from, of all landmarks and of each (`per_landmark`).

    `beaten`: see there.

    Args:
      table: of the network; blind: of the mean shape, see `predictions`.
      settings: of `metrics.summarize`.
    """
    summary = metrics.summarize(blind, **settings)
    difference = paired.difference([table], [blind], **settings)
    measure = difference["ced_measure"]
    minus = {key: difference["differences"][measure][key] for key in ("difference", "ci95", "p")
             if key in difference["differences"][measure]}  # fmt: skip
    numbers = {key: value for key, value in summary.items() if isinstance(value, float)}
    return numbers | {
        "ci95": summary["ci95"],
        "per_landmark": summary["per_landmark"],
        "network_minus_it": {"measure": measure} | minus,
        "beaten": beaten(minus),
    }


def beaten(minus: Mapping[str, Any]) -> bool:
    """Whether the network's error is less, and the 95 % interval of the difference leaves out 0; where there is no
    interval (one subject), the first is enough. `minus`: `difference`, and `ci95` if any."""
    return minus["difference"] < 0 and minus.get("ci95", (0, -1))[1] < 0
