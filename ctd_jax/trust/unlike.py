"""Which pictures are unlike those that a network was trained on: a score from the means of its encoder's channels.

The score is the Mahalanobis distance from the training pictures (Lee et al. 2018, "A simple unified framework for
detecting out-of-distribution samples", with one class), whose covariance is shrunk as Ledoit and Wolf (2004, J.
Multivariate Analysis 88:365-411) do it, because there are often fewer pictures than channels. It is given over a
threshold that 95 % of the pictures of new subjects stay below, by the rule of `radius` for the scores of val. Fewer
than 19 subjects in val can't give that: the threshold is then what 95 % of their own pictures stay below, and of those
of new subjects more than 5 % may be beyond.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ctd_jax.errors import UserError
from ctd_jax.trust import radius

if TYPE_CHECKING:
    from ctd_jax.predictor import Pictures, Predictor

LEVEL = 0.95  # share of pictures like those of training that stay below the threshold
MAX_PICTURES = 500  # of the training, that are looked at
MAX_RANK = 128  # directions of the covariance that are kept; in the others it is the same


@dataclasses.dataclass(frozen=True)
class Unlike:
    """The score of new pictures, over its threshold: above 1, a picture is unlike those of the training.

    Attributes:
      mean: `[C]` of the training pictures' features.
      basis: `[C, R]` directions in which the features differ.
      inverse: `[R]` one over the standard deviation in each of these directions.
      rest: the same in every other direction.
      threshold: of the distance.
      n_subjects: of val, that the threshold is from.
    """

    mean: np.ndarray
    basis: np.ndarray
    inverse: np.ndarray
    rest: float
    threshold: float
    n_subjects: int

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, subjects: np.ndarray) -> "Unlike":
        """What the features `[M, C]` of training pictures and `[N, C]` of those of val tell.

        Args:
          train, val: the features.
          subjects: `[N]` of val; each picture without one has a name of its own.
        """
        mean = train.mean(axis=0)
        variances, directions = np.linalg.eigh(_shrunk_covariance(train - mean))
        variances, directions = variances[::-1], directions[:, ::-1]
        kept = min(MAX_RANK, len(train) - 1, len(mean) - 1)
        rest = 1 / math.sqrt(variances[kept:].mean())
        made = cls(mean, directions[:, :kept], 1 / np.sqrt(variances[:kept]), rest, 1.0, len(np.unique(subjects)))
        scores = made(val)
        threshold = radius.quantile(scores, subjects, LEVEL)
        if math.isnan(threshold):
            threshold = radius.pooled_quantile(scores, subjects, LEVEL)
        return dataclasses.replace(made, threshold=threshold)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """`[N]` of features `[N, C]`."""
        apart = features.astype(np.float64) - self.mean
        along = apart @ self.basis
        outside = np.maximum((apart**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        return np.sqrt(((along * self.inverse) ** 2).sum(axis=1) + self.rest**2 * outside) / self.threshold


def _shrunk_covariance(centred: np.ndarray) -> np.ndarray:
    """The covariance `[C, C]` of `[M, C]`, shrunk to a multiple of the identity (Ledoit and Wolf 2004, lemma 3.2)."""
    centred = centred.astype(np.float64)
    M, C = centred.shape
    sample = centred.T @ centred / M
    mu = np.trace(sample) / C
    apart = ((sample - mu * np.eye(C)) ** 2).sum() / C
    noise = (((centred**2).sum(axis=1) ** 2).sum() / M - (sample**2).sum()) / C / M
    share = min(noise / apart, 1.0) if apart > 0 else 1.0
    return (1 - share) * sample + max(share * mu, 1e-12) * np.eye(C)


def find(predictor: "Predictor", pictures: "Pictures", **boxes: Any) -> list[tuple[str, float]]:
    """Name and score of each picture that is unlike those of the run's training, the most unlike first.

    Args:
      predictor: of a run.
      pictures: see `Predictor`.
      boxes: `boxes`, where the predictor needs them.

    Raises:
      UserError: as `Predictor` does, or the run can't tell.
    """
    if not (predictor.trained.evidence and predictor.trained.evidence.unlike):
        why = predictor.trained.lacks or "its network has no encoder"
        raise UserError(
            f"{predictor.trained.workdir} can't tell which pictures are unlike those of its training: {why}"
        )
    result: Any = predictor(pictures, **boxes)
    beyond = [(str(name), float(score)) for name, score in zip(result.images, result.unlike, strict=True) if score > 1]
    return sorted(beyond, key=lambda one: -one[1])
