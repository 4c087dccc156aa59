"""Which pictures to label next: those that a network is probably most wrong about and that are unlike each other, and
between them random ones.

Every 1 / share-th picture is random: drawn before anything is known of the pictures, and never chosen otherwise, so
that these alone say what the error of new pictures is. All others are taken by the greedy rule for weighted centres

    next = argmax_i w_i * min_j d(i, j)     w_i: error that is expected of i; j: pictures that are taken or labelled

(Dyer and Frieze 1985, Operations Research Letters 3:285-288), with d the distance of the means of the encoder's
channels. With equal weights it is the farthest-first rule of Gonzalez (1985), by which Sener and Savarese (2018,
arXiv:1708.00489) choose the core set of a training.

Among those that the rule may take are only pictures of the subjects that have the fewest in the list so far. Random
pictures are drawn in turn as well: the first of every subject before anybody's second.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ctd_jax.data import splits

SHARE = 0.25  # of the list that is random


@dataclasses.dataclass(frozen=True)
class Order:
    """The first n of N pictures.

    Attributes:
      indices: `[n]` of the pictures.
      is_random: `[n]` whether each was drawn, or else chosen.
    """

    indices: np.ndarray
    is_random: np.ndarray


def order(
    error: np.ndarray,
    features: np.ndarray,
    subjects: Sequence[str],
    *,
    number: int,
    seed: int,
    share: float = SHARE,
    labelled: np.ndarray | None = None,
) -> Order:
    """The order of N pictures, or its beginning, which does not depend on `number`.

    Args:
      error: `[N]` that is expected of each, positive; all the same where nothing is known.
      features: `[N, C]`; C of 0: pictures are all alike.
      subjects: of each; a picture without one has a name of its own.
      number: of pictures in the list, if there are that many.
      seed: of the random ones.
      share: of these, 0 to 1.
      labelled: `[M, C]` features of pictures that are labelled; None: there are none.
    """
    drawn = splits.in_turn(np.random.default_rng(seed).permutation(len(error)), subjects)
    drawn = drawn[: int(np.ceil(share * len(error)))]
    greedy = _Greedy(error, features, subjects, labelled, reserved=drawn)
    taken: list[int] = []
    is_random: list[bool] = []
    coming = iter(drawn)
    for place in range(min(number, len(error))):
        turn = np.ceil(share * (place + 1)) > np.ceil(share * place)
        index = next(coming, None) if turn or not greedy.has_more else None
        is_random.append(index is not None)
        taken.append(greedy.best() if index is None else index)
        greedy.take(taken[-1])
    return Order(np.array(taken, int), np.array(is_random, bool))


class _Greedy:
    """The pictures that are still to be chosen from, and how far each is from all that are taken."""

    def __init__(
        self,
        error: np.ndarray,
        features: np.ndarray,
        subjects: Sequence[str],
        labelled: np.ndarray | None,
        reserved: Sequence[int],
    ):
        self._error, self._features = error, features.astype(np.float64)
        self._subject = np.unique(np.asarray(subjects, str), return_inverse=True)[1]
        self._number_of = np.zeros(len(error), int)  # of a subject, pictures that are taken
        self._is_free = np.ones(len(error), bool)
        self._is_free[list(reserved)] = False
        self._distance: np.ndarray | None = None  # None: nothing is taken or labelled
        for one in () if labelled is None else labelled:
            self._nearer(one)

    @property
    def has_more(self) -> bool:
        return bool(self._is_free.any())

    def best(self) -> int:
        """The next one, the first of equals."""
        number = self._number_of[self._subject]
        may_be = self._is_free & (number == number[self._is_free].min())
        worth = self._error if self._distance is None else self._error * self._distance
        return int(np.argmax(np.where(may_be, worth, -1.0)))

    def take(self, index: int) -> None:
        self._is_free[index] = False
        self._number_of[self._subject[index]] += 1
        self._nearer(self._features[index])

    def _nearer(self, centre: np.ndarray) -> None:
        if not self._features.shape[1]:
            return
        found = np.linalg.norm(self._features - centre, axis=1)
        self._distance = found if self._distance is None else np.minimum(self._distance, found)
