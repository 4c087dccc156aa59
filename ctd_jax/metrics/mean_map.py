"""The mean class map of the training labels, placed without looking at the picture: the baseline of segmentation.

Each domain has, for each class, the share of its training pictures that have the class at a pixel of the network's
square; the size of the picture decides where that is. The class with the largest share is predicted. A small class
would thus be predicted nowhere: the share of the background is therefore multiplied by one of `BACKGROUND_FACTORS`,
the one with the highest mean Dice on val.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ctd_jax.data import ClassMaps, Dataset
from ctd_jax.metrics import intervals, segmentation
from ctd_jax.metrics.segmentation import Scores

BACKGROUND_FACTORS = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
_AT_ONCE = 32  # pictures


def of(train: Dataset[ClassMaps], val: Dataset[ClassMaps]) -> np.ndarray:
    """`[D, S, S, M]` float32 shares of the M classes in each of D domains, that of the background multiplied; the class
    with the largest share is predicted."""
    number = max(map(len, train.targets.classes.values()))
    shares = np.zeros((len(train.domains), train.size, train.size, number), np.float32)
    for domain, classes in _maps(train):
        for i in range(number):
            shares[domain, ..., i] += classes == i
    shares[..., 0] += shares.sum(axis=-1) == 0  # where no training picture reaches
    shares /= shares.sum(axis=-1, keepdims=True)
    found = np.stack([_multiplied(shares, factor).argmax(axis=-1) for factor in BACKGROUND_FACTORS])  # [F, D, S, S]
    dice: dict[int, list[np.ndarray]] = {}
    for domain, classes in _maps(val):
        true = np.broadcast_to(classes, (len(BACKGROUND_FACTORS), *classes.shape))
        dice.setdefault(domain, []).append(segmentation.class_dice(found[:, domain], true, number))
    for domain, of_pictures in dice.items():
        stacked = np.stack(of_pictures)  # [N, F, M - 1]
        means = np.nan_to_num(stacked).sum(0) / np.maximum(np.isfinite(stacked).sum(0), 1)
        shares[domain] = _multiplied(shares[domain], BACKGROUND_FACTORS[int(means.mean(axis=-1).argmax())])
    return shares


def _multiplied(shares: np.ndarray, factor: float) -> np.ndarray:
    """`shares` with that of the background, the first, multiplied."""
    return np.concatenate([shares[..., :1] * factor, shares[..., 1:]], axis=-1)


def _maps(dataset: Dataset[ClassMaps]) -> Iterator[tuple[int, np.ndarray]]:
    """The domain and the `[S, S]` classes of each picture."""
    starts = range(0, len(dataset), _AT_ONCE)
    for batch in dataset.batches(np.arange(start, min(start + _AT_ONCE, len(dataset))) for start in starts):
        yield from zip(batch["domain"].tolist(), batch["classes"], strict=True)


def summarize(scores: Scores, baseline: Scores, classes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The `mean_map` of metrics.json: each number of `segmentation.summarize`, and `beaten`: domain -> whether the
    network is better than the mean map. It is if its Dice is higher, paired by picture and class (a class that is
    rightly found nowhere has 1), and if the 95 % interval of the mean difference, over subjects, leaves out 0; where
    there is no interval (one subject), the first is enough.

    Args:
      scores: of the network.
      baseline: of the mean map, the same rows.
      classes: domain -> names of its classes, the background first.
    """
    summary = segmentation.summarize(baseline, classes)
    difference = np.nan_to_num(scores.values["dice"], nan=1.0) - np.nan_to_num(baseline.values["dice"], nan=1.0)
    beaten = {}
    for domain in classes:
        mine = scores.of(domain)
        if mine.any():
            of_domain, subjects = difference[mine][:, None], scores.names["subject"][mine]
            estimate = intervals.of_ratios(of_domain, np.ones_like(of_domain), subjects)
            low = intervals.bounds(estimate, "difference of fractions")[0, 0]
            beaten[domain] = bool(of_domain.mean() > 0 and not low <= 0)
    numbers = {key: value for key, value in summary.items() if isinstance(value, float)}
    return numbers | {"ci95": summary["ci95"], "beaten": beaten}
