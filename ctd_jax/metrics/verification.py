"""How well a network tells people apart: from the cosines of its features, over all pairs of pictures."""

import dataclasses
import math

import numpy as np

from ctd_jax.metrics import intervals


def verification_auc(features: np.ndarray, subjects: np.ndarray) -> float:
    """Area under the ROC curve of "same person" by the cosine of two pictures' features, over all pairs.

    It is the probability that a pair of one person is more alike than a pair of two, ties counting half (Mann and
    Whitney 1947).

    Args:
      features: `[N, C]`.
      subjects: `[N]`.

    Returns:
      NaN where no two pictures are of one person, or all are.
    """
    first, second, rank = _pairs(features)
    is_same = np.asarray(subjects)[first] == np.asarray(subjects)[second]
    same, different = np.bincount(rank, is_same), np.bincount(rank, ~is_same)
    if not same.any() or not different.any():
        return math.nan
    return float(same @ (np.cumsum(different) - different / 2) / (same.sum() * different.sum()))


def verification_interval(features: np.ndarray, subjects: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of `verification_auc` over subjects, from its values without each of them (`intervals`: fraction).

    The degrees of freedom are those of the subjects' shares of the pairs of one person.

    Args:
      features: `[N, C]`.
      subjects: `[N]`.

    Returns:
      Lower and upper bound; None where fewer than two subjects have two pictures, or two are all there are.
    """
    _, group, pictures = np.unique(subjects, return_inverse=True, return_counts=True)
    pairs = pictures * (pictures - 1) / 2
    if (pairs > 0).sum() < 2:
        return None
    value, left_out = _auc_without_each(features, group)
    estimate = intervals.jackknife(np.array([value]), left_out[:, None], pictures[:, None].astype(float))
    df = np.maximum(pairs.sum(keepdims=True) ** 2 / (pairs**2).sum() - 1, 1)
    estimate = dataclasses.replace(estimate, df=df, n=(pairs > 0).sum(keepdims=True))
    low, high = intervals.bounds(estimate, "fraction")[:, 0]
    return (float(low), float(high)) if np.isfinite([low, high]).all() else None


def _auc_without_each(features: np.ndarray, group: np.ndarray) -> tuple[float, np.ndarray]:
    """`verification_auc`, and `[S]` its values without each of S people, NaN where no pairs of one kind are left.

    Instead of computing all pairs again, the pairs that a person takes part in are subtracted from the sum over all.

    Args:
      features: `[N, C]`.
      group: `[N]` person of each picture, 0 .. S - 1.
    """
    first, second, rank = _pairs(features)
    is_same = group[first] == group[second]
    same, different = np.bincount(rank, is_same), np.bincount(rank, ~is_same)
    below = np.cumsum(different) - different / 2  # pairs of two people that are less alike, by rank
    above = same.sum() - np.cumsum(same) + same / 2  # pairs of one person that are more alike
    concordant = same @ below
    ranks = np.zeros((len(group), len(group)), np.int64)
    ranks[first, second] = ranks[second, first] = rank
    left_out = np.full(group.max() + 1, np.nan)
    for i in range(len(left_out)):
        of_person = group == i
        pairs_of_person = ranks[np.ix_(of_person, of_person)][np.triu_indices(of_person.sum(), 1)]
        pairs_with_others = np.sort(ranks[np.ix_(of_person, ~of_person)], axis=None)
        both = sum(np.searchsorted(pairs_with_others, pairs_of_person, side).sum() for side in ("left", "right")) / 2
        left = (same.sum() - len(pairs_of_person)) * (different.sum() - len(pairs_with_others))
        if left:
            left_out[i] = (concordant - below[pairs_of_person].sum() - above[pairs_with_others].sum() + both) / left
    return float(concordant / (same.sum() * different.sum())), left_out


def _pairs(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pictures of every pair, and the rank of their cosine among the values that there are."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), 1)
    return first, second, np.unique((unit @ unit.T)[first, second], return_inverse=True)[1]
