"""The mean class map of the training labels, placed without a look at the picture: what a segmentation network has to
beat.

Of each domain the share of the training pictures that have a class at a pixel of the network's square, which the size
of the picture decides; what is found there is the largest share. A small class would so be found nowhere: the share of
the background is therefore multiplied by one of `WEIGHTS`, whichever has the highest mean Dice on val.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ctd_jax.data import ClassMaps
from ctd_jax.metrics import intervals, segmentation
from ctd_jax.metrics.segmentation import Scores

WEIGHTS = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
_AT_ONCE = 32  # pictures


def of(train: ClassMaps, val: ClassMaps) -> np.ndarray:
    """`[D, S, S, M]` float32 of D domains: weighted share of each class; the largest of a pixel is what is found."""
    number = max(map(len, train.classes.values()))
    shares = np.zeros((len(train.domains), train.size, train.size, number), np.float32)
    for domain, classes in _maps(train):
        for i in range(number):
            shares[domain, ..., i] += classes == i
    shares[..., 0] += shares.sum(axis=-1) == 0  # where no training picture reaches
    shares /= shares.sum(axis=-1, keepdims=True)
    found = np.stack([_weighted(shares, weight).argmax(axis=-1) for weight in WEIGHTS])  # [W, D, S, S]
    dice: dict[int, list[np.ndarray]] = {}
    for domain, classes in _maps(val):
        true = np.broadcast_to(classes, (len(WEIGHTS), *classes.shape))
        dice.setdefault(domain, []).append(segmentation.class_dice(found[:, domain], true, number))
    for domain, of_pictures in dice.items():
        stacked = np.stack(of_pictures)  # [N, W, M - 1]
        means = np.nan_to_num(stacked).sum(0) / np.maximum(np.isfinite(stacked).sum(0), 1)
        shares[domain] = _weighted(shares[domain], WEIGHTS[int(means.mean(axis=-1).argmax())])
    return shares


def _weighted(shares: np.ndarray, weight: float) -> np.ndarray:
    return np.concatenate([shares[..., :1] * weight, shares[..., 1:]], axis=-1)


def _maps(dataset: ClassMaps) -> Iterator[tuple[int, np.ndarray]]:
    """Domain and `[S, S]` classes of one picture after the other."""
    starts = range(0, len(dataset), _AT_ONCE)
    for batch in dataset.batches(np.arange(start, min(start + _AT_ONCE, len(dataset))) for start in starts):
        yield from zip(batch["domain"].tolist(), batch["classes"], strict=True)


def summarize(scores: Scores, blind: Scores, classes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What metrics.json holds of the mean map: each number of `segmentation.summarize`, and of each domain
    `beaten`: the Dice of the network is higher, picture by picture and class by class (one that is rightly found
    nowhere has 1), and the 95 % interval of the mean difference, over subjects, leaves out 0; where there is no
    interval (one subject), the first is enough.

    Args:
      scores: of the network; blind: of the mean map, the same rows.
    """
    summary = segmentation.summarize(blind, classes)
    difference = np.nan_to_num(scores.values["dice"], nan=1.0) - np.nan_to_num(blind.values["dice"], nan=1.0)
    beaten = {}
    for domain in classes:
        mine = scores.of(domain)
        if mine.any():
            own, subjects = difference[mine][:, None], scores.names["subject"][mine]
            estimate = intervals.of_ratios(own, np.ones_like(own), subjects)
            low = intervals.bounds(estimate, "difference of fractions")[0, 0]
            beaten[domain] = bool(own.mean() > 0 and not low <= 0)
    numbers = {key: value for key, value in summary.items() if isinstance(value, float)}
    return numbers | {"ci95": summary["ci95"], "beaten": beaten}
