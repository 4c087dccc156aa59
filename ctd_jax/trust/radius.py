"""How far from a predicted point the true one may lie: a radius that holds it with 90 % probability.

Split conformal prediction (Vovk, Gammerman and Shafer 2005; Lei et al. 2018, JASA 113:1094-1111): pictures that were
not trained on, those of val, have scores s = error / scale, where scale is larger where more error is expected. With n
subjects of one picture each, the radius of a new picture is q * scale, where q is the k-th smallest score and

    k = ceil((n + 1) * 0.9)

A new picture of a new subject, exchangeable with those of val, is then covered with a probability of k / (n + 1), at
least 90 %: exactly, whatever the network and the distribution of its errors. There is no such q of fewer than 9
subjects, as k > n: then there is no radius.

Pictures of one subject, and landmarks of one picture, are not exchangeable with those of others; subjects are. So each
subject counts once, all its scores together, and q is the smallest score that k / (n + 1) of the subjects' scores lie
below or at. With one score of each subject that is the rule above; with several it is CDF pooling (Dunn, Wasserman and
Ramdas 2023, JASA 118:2491-2502), which covers 90 % of the points as the number of subjects grows. The bound that holds
exactly with any number of subjects (Lee, Barber and Willett 2023, arXiv:2306.06342) takes of 10 subjects the 99 %
quantile: it covers 98 to 99 % of the points, and says less.

A landmark that at least `MIN_OWN` subjects have in val has a q of its own; the others share the pooled scores of all
landmarks, whose scale then has a factor of each landmark. What the scale is made from is chosen on val as well: the
doubt whose mean radius is the smallest, or none. Its parameters are few (a slope, and a factor of each landmark), and
pooled scores and the choice use parameters that are fitted without the subject's fold; still, the same val serves for
choosing and for calibrating, and has chosen the checkpoint, so that the rule is exact for a constant radius only. What
is covered on test is therefore always measured, and said.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np

LEVEL = 0.9  # probability that a radius holds the true point
MIN_OWN = 30  # subjects that a landmark needs for a q of its own: the coverage is then k / (n + 1) +- 5 %
FOLDS = 5  # of subjects, for what is fitted
PRIOR = 5  # points of the average landmark that each landmark's factor is shrunk by
GAIN = 0.05  # by which a doubt must make the mean radius smaller to be used; chance alone makes some
MAX_SLOPE = 3.0  # of the logarithms; a doubt that hardly varies would have any
FLOOR = 0.1  # of the median: errors and doubts below it count as that, because their logarithms are noise


def rank(n: int, level: float = LEVEL) -> int:
    """k of n scores; more than n: there are too few."""
    return math.ceil((n + 1) * level)


def quantile(scores: np.ndarray, subjects: np.ndarray, level: float = LEVEL) -> float:
    """q, see the module; NaN where there are too few subjects.

    Args:
      scores: `[M]` finite.
      subjects: `[M]` names.
      level: the probability.
    """
    n = len(np.unique(subjects))
    k = rank(n, level)
    return pooled_quantile(scores, subjects, k / (n + 1)) if k <= n else math.nan


def pooled_quantile(scores: np.ndarray, subjects: np.ndarray, share: float) -> float:
    """The smallest of the scores that this share of them lie below or at, where each subject counts once.

    Args:
      scores, subjects: see `quantile`.
      share: 0 to 1.
    """
    _, unit, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    shares = np.cumsum(1 / (len(counts) * counts[unit[order]]))
    return float(scores[order[np.searchsorted(shares, share - 1e-9)]])


@dataclasses.dataclass(frozen=True)
class Scale:
    """The error that is expected of a point, but for a factor that is the same for all: factor_k * doubt^slope.

    Attributes:
      factor: `[K]`.
      slope: 0 to `MAX_SLOPE`; 0: doubts are not used.
      low, high: bounds of the doubt as val has it; beyond, the scale stays as it is there.
    """

    factor: np.ndarray
    slope: float
    low: float
    high: float

    @classmethod
    def fit(cls, error: np.ndarray, doubt: np.ndarray | None) -> "Scale":
        """Least squares of the logarithms; `error` and `doubt` are `[N, K]`, NaN where unknown."""
        known = np.isfinite(error)
        log_error = np.log(np.maximum(error, max(FLOOR * float(np.nanmedian(error)), 1e-9)))
        slope, low, high, log_doubt = 0.0, 1.0, 1.0, np.zeros(error.shape)
        if doubt is not None:
            low, high = max(FLOOR * float(np.median(doubt[known])), 1e-9), max(float(doubt[known].max()), 1e-9)
            log_doubt = np.log(np.clip(doubt, low, high))
            x, y = (np.where(known, v - _means(v, known), 0.0) for v in (log_doubt, log_error))
            slope = float(np.clip((x * y).sum() / max((x * x).sum(), 1e-12), 0.0, MAX_SLOPE))
        rest = np.where(known, log_error - slope * log_doubt, 0.0)
        mean, number = rest.sum() / known.sum(), known.sum(axis=0)
        return cls(np.exp((rest.sum(axis=0) + PRIOR * mean) / (number + PRIOR)), slope, low, high)

    def growth(self, doubt: np.ndarray) -> np.ndarray:
        """doubt^slope, `[N, K]`, inside the bounds."""
        return doubt.clip(self.low, self.high) ** self.slope

    def of(self, doubt: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
        """`[N, K]` of the points of N pictures."""
        return np.broadcast_to(self.factor, shape) if doubt is None else self.factor * self.growth(doubt)


def _means(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`[K]` means over the pictures."""
    return np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


@dataclasses.dataclass(frozen=True)
class Radius:
    """The radii of new pictures. Lengths are of any unit that is the same for errors and radii.

    Attributes:
      doubt: name of the doubt that scales them; None: they are the same in every picture.
      scale: of them.
      error: `[N, K]` of the pictures of val.
      own: `[N, K]` their scales, for landmarks that have a q of their own.
      pooled: `[N, K]` their scales, for the others; fitted without the subject's fold.
      subjects: `[N]`.
    """

    doubt: str | None
    scale: Scale
    error: np.ndarray
    own: np.ndarray
    pooled: np.ndarray
    subjects: np.ndarray

    @classmethod
    def fit(cls, error: np.ndarray, doubts: Mapping[str, np.ndarray], subjects: np.ndarray) -> "Radius":
        """The radius whose mean is the smallest on val.

        Args:
          error: `[N, K]`, NaN where not annotated.
          doubts: name -> `[N, K]`, positive, the larger the less sure.
          subjects: `[N]`; each picture without one has a name of its own.
        """
        if not np.isfinite(error).any():
            ones = np.ones(error.shape)
            return cls(None, Scale(np.ones(error.shape[1]), 0.0, 1.0, 1.0), error, ones, ones, subjects)
        found = {name: cls.of_doubt(name, error, doubts, subjects) for name in (None, *doubts)}
        mean = {name: one._mean_of_pooled() for name, one in found.items()}
        best = min(mean, key=lambda name: mean[name])
        return found[best if mean[best] < (1 - GAIN) * mean[None] else None]

    @classmethod
    def of_doubt(
        cls, name: str | None, error: np.ndarray, doubts: Mapping[str, np.ndarray], subjects: np.ndarray
    ) -> "Radius":
        """The radius that one doubt scales, or none; arguments as of `fit`."""
        doubt = doubts[name] if name else None
        fold = np.unique(subjects, return_inverse=True)[1] % FOLDS
        pooled = np.ones(error.shape)
        for i in np.unique(fold):
            here, others = fold == i, fold != i
            if np.isfinite(error[others]).any():
                scale = Scale.fit(error[others], None if doubt is None else doubt[others])
                pooled[here] = scale.of(None if doubt is None else doubt[here], error[here].shape)
        scale = Scale.fit(error, doubt)
        return cls(name, scale, error, scale.of(doubt, error.shape), pooled, subjects)

    def _mean_of_pooled(self) -> float:
        """Mean radius of the points of val by the pooled scores, with scales that know nothing of their subjects."""
        known = np.isfinite(self.error)
        names = np.broadcast_to(self.subjects[:, None], known.shape)
        return quantile((self.error / self.pooled)[known], names[known]) * float(self.pooled[known].mean())

    @property
    def n_subjects(self) -> np.ndarray:
        """`[K]` subjects of val that have each landmark."""
        return np.array([len(np.unique(self.subjects[known])) for known in np.isfinite(self.error).T], int)

    @property
    def n_of_all(self) -> int:
        """Subjects of val that have any landmark."""
        return len(np.unique(self.subjects[np.isfinite(self.error).any(axis=1)]))

    def __call__(self, doubts: Mapping[str, np.ndarray], number: int, level: float = LEVEL) -> np.ndarray:
        """`[number, K]` radii of new pictures, NaN where val can't tell.

        Args:
          doubts: name -> `[number, K]`, at least that of `doubt`.
          number: of the pictures.
          level: probability that a radius holds the true point.
        """
        factors = self.factors(level)
        return factors * self.scale.growth(doubts[self.doubt]) if self.doubt else np.tile(factors, (number, 1))

    def factors(self, level: float = LEVEL) -> np.ndarray:
        """`[K]` radii but for `scale.growth` of the doubt, where there is one."""
        if level not in self._factors:
            self._factors[level] = self._quantiles(self.own, self.pooled, level) * self.scale.factor
        return self._factors[level]

    @functools.cached_property
    def _factors(self) -> dict[float, np.ndarray]:
        return {}

    def constant(self, level: float = LEVEL) -> np.ndarray:
        """`[K]` radii that are the same in every picture, and for landmarks without a q of their own the same too."""
        return self._quantiles(np.ones(self.error.shape), np.ones(self.error.shape), level)

    def _quantiles(self, own: np.ndarray, pooled: np.ndarray, level: float) -> np.ndarray:
        """`[K]` q of each landmark, of the scores by these scales."""
        known = np.isfinite(self.error)
        names = np.broadcast_to(self.subjects[:, None], known.shape)
        of_all = quantile((self.error / pooled)[known], names[known], level) if known.any() else math.nan
        scores = self.error / own
        of_each = [
            quantile(scores[known[:, k], k], self.subjects[known[:, k]], level) if n >= MIN_OWN else of_all
            for k, n in enumerate(self.n_subjects)
        ]
        return np.where(self.n_subjects > 0, of_each, np.nan)
