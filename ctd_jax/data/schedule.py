"""In which order the training pictures come, where there are several domains, or some without labels."""

import math
from typing import Any

import numpy as np

EPOCHS = 2**32  # endless; Grain's own endless order has a length that batches of one picture overflow
KINDS = ("proportional", "balanced", "temperature")


def shares(counts: np.ndarray, *, kind: str, temperature: float) -> np.ndarray:
    """`[D]` share of each domain in the training batches, sum 1, from its number of pictures n_d.

    proportional:  p_d ~ n_d
    balanced:      p_d ~ 1
    temperature:   p_d ~ n_d^(1 / T), between the two for T > 1      (Arivazhagan et al. 2019, arXiv 1907.05019)
    """
    power = {"proportional": 1.0, "balanced": 0.0, "temperature": 1 / temperature}[kind]
    weights = np.asarray(counts, np.float64) ** power
    return weights / weights.sum()


def order_of_domains(domain: np.ndarray, *, seed: int, kind: str, temperature: float) -> Any:
    """Endless order of pictures, a `grain.MapDataset` of indices that depends on its arguments alone.

    Domains take turns, evenly spread, so that every batch has each of them in its share to within a picture or so. Each
    domain's pictures are shuffled and all seen before any is seen again.

    Args:
      domain: `[N]` index of each picture's domain.
      seed: of the shuffling.
      kind, temperature: see `shares`.
    """
    import grain

    members = [np.flatnonzero(domain == d) for d in np.unique(domain)]
    parts = [grain.MapDataset.source(indices).seed(seed).shuffle().repeat(EPOCHS) for indices in members]
    counts = np.array([len(indices) for indices in members])
    return grain.MapDataset.mix(parts, shares(counts, kind=kind, temperature=temperature).tolist())


def evenly(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Both, `[B]` and `[U]`, in one `[B + U]`: as many equal groups as there can be, each with its share of the first
    and then of the second. So a batch that is divided into equal parts, for devices or one after the other, has the
    same shares in each part if their number divides both B and U, and its order does not depend on that number."""
    groups = math.gcd(len(first), len(second))
    return np.concatenate([first.reshape(groups, -1), second.reshape(groups, -1)], axis=1).ravel()
