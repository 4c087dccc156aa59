"""The mean shape of the training labels, placed without looking at the picture: the baseline of landmarks.

It is placed as well as is possible: in the network's square, which the size of the picture or its box decides. Each
landmark lies at the mean or at the median (of each axis) of its training points there, whichever is nearer on average
to its points in train and val; one without a training point has no place. The test pictures decide nothing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctd_jax import metrics
from ctd_jax.data import Dataset, Points
from ctd_jax.metrics import Predictions, paired


def of(train: Dataset[Points], val: Dataset[Points]) -> np.ndarray:
    """`[K, 2]` place of each landmark, in pixels of the network's picture; NaN: no training picture has it."""
    learned, both = _points(train), np.concatenate([_points(train), _points(val)])
    shape = np.full(learned.shape[1:], np.nan)
    for k in range(len(shape)):
        points, known = (part[:, k][np.isfinite(part[:, k]).all(axis=-1)] for part in (learned, both))
        if len(points):
            places = np.stack([points.mean(axis=0), np.median(points, axis=0)])
            distances = np.linalg.norm(known - places[:, None], axis=-1).mean(axis=1)
            shape[k] = places[distances.argmin()]
    return shape


def _points(dataset: Dataset[Points]) -> np.ndarray:
    """`[N, K, 2]` annotated points, in pixels of the network's picture; NaN: not annotated."""
    scale, offset = dataset.frames()
    return dataset.targets.xy * scale[:, None, None] + offset[:, None]


def predictions(shape: np.ndarray, dataset: Dataset[Points]) -> Predictions:
    """`shape`, `[K, 2]` of `of`, as if it had been predicted in every picture of `dataset`; without a confidence."""
    scale, offset = dataset.frames()
    return Predictions.from_points(
        dataset.images,
        dataset.subjects,
        dataset.targets.landmarks.names,
        (shape - offset[:, None]) / scale[:, None, None],
        true_xy=dataset.targets.xy,
        spacing=dataset.spacing,
    )


def summarize(table: Predictions, baseline: Predictions, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The `mean_shape` of metrics.json: each metric of `metrics.summarize`; `network_minus_it`, the `paired.difference`
    in the measure that the CED is built from; and `beaten`, see there.

    Args:
      table: of the network.
      baseline: of the mean shape, see `predictions`.
      settings: of `metrics.summarize`.
    """
    summary = metrics.summarize(baseline, **settings)
    difference = paired.difference([table], [baseline], **settings)
    measure = difference["ced_measure"]
    of_measure = difference["differences"][measure]
    minus = {key: of_measure[key] for key in ("difference", "ci95", "p") if key in of_measure}
    numbers = {key: value for key, value in summary.items() if isinstance(value, float)}
    return numbers | {
        "ci95": summary["ci95"],
        "per_landmark": summary["per_landmark"],
        "network_minus_it": {"measure": measure} | minus,
        "beaten": beaten(minus),
    }


def beaten(minus: Mapping[str, Any]) -> bool:
    """Whether the network is better than the mean shape: its error is less, and the 95 % interval of the difference
    leaves out 0; where there is no interval (one subject), the first is enough.

    Args:
      minus: the network's error less that of the mean shape, as `difference`, and its `ci95` if it has one.
    """
    is_less = minus["difference"] < 0
    return is_less and ("ci95" not in minus or minus["ci95"][1] < 0)
