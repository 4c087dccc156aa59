"""The list of the pictures to label next: a run's look at the candidates, and the order that follows."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ctd_jax.review import order
from ctd_jax.review.candidates import Candidates
from ctd_jax.review.expected import Expected

RANDOM, ERROR, UNLIKE = "random", "expected error", "unlike the others"  # why a picture is in the list
MAX_TRAINED_ON = 500  # pictures of the training that the others are compared with


@dataclasses.dataclass(frozen=True)
class Listing:
    """The first n of the candidates.

    Attributes:
      images: in their order.
      is_random: `[n]` whether each was drawn, and not chosen.
      px: `[n]` the error that is expected, in pixels of each picture; NaN: nothing tells it.
      sign: what tells it, a key of `expected.MEANINGS`.
    """

    images: tuple[str, ...]
    is_random: np.ndarray
    px: np.ndarray
    sign: str

    @property
    def why(self) -> list[str]:
        """Of each."""
        chosen = ERROR if self.sign else UNLIKE
        return [RANDOM if one else chosen for one in self.is_random]


def looked_at(candidates: Candidates) -> tuple[str, ...]:
    """The pictures that a run has to look at: those that may be labelled next, and some that it was trained on."""
    few = np.unique(np.linspace(0, len(candidates.trained_on) - 1, MAX_TRAINED_ON).round().astype(int))
    return (*candidates.free, *(candidates.trained_on[i] for i in few if candidates.trained_on))


def drawn(candidates: Candidates, *, number: int, seed: int) -> Listing:
    """A list of random pictures alone, for which no network is needed; arguments as of `make`."""
    n = len(candidates.free)
    nothing = Expected(np.ones(n), np.full(n, np.nan), np.empty((n, 0)))
    return make(candidates, candidates.free, nothing, "", number=number, seed=seed, share=1.0)


def make(
    candidates: Candidates, images: Sequence[str], what: Expected, sign: str, *, number: int, seed: int, share: float
) -> Listing:
    """The list.

    Args:
      candidates: of the folder.
      images: N of `looked_at`, those that could be read.
      what: is expected of these.
      sign: what tells it.
      number, seed, share: see `order.order`.
    """
    subject_of = dict(zip(candidates.free, candidates.subjects, strict=True))
    is_free = np.array([image in subject_of for image in images], bool)
    free = [image for image in images if image in subject_of]
    found = order.order(
        what.share[is_free], what.features[is_free], [subject_of[image] for image in free],
        number=number, seed=seed, share=share, labelled=what.features[~is_free],
    )  # fmt: skip
    return Listing(tuple(free[i] for i in found.indices), found.is_random, what.px[is_free][found.indices], sign)
