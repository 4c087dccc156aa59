"""What the annotations of each split leave unknown."""

import logging
from collections.abc import Sequence

import numpy as np

from ctd_jax.data import splits, tables
from ctd_jax.data.about import Landmarks
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)


def annotated(xy: np.ndarray) -> list[bool] | None:
    """Whether each of N pictures has any landmark; None if there are none. `xy`: `[N, K, 2]`, NaN: unknown."""
    return (~np.isnan(xy).any(-1)).any(-1).tolist() if xy.shape[1] else None


def check(xy: np.ndarray, split_of: Sequence[str], title: str = "") -> None:
    """Checks that every split can be learned from or judged by.

    Args:
      xy: `[N, K, 2]`, NaN where not annotated.
      split_of: the split of each picture.
      title: what the message begins with.

    Raises:
      UserError: nothing is annotated in a split, or nothing that train has.
    """
    known, parts = ~np.isnan(xy).any(-1), splits.parts(split_of)
    of_train = known[parts["train"]].any(0)
    for name, rows in parts.items():
        if not known[rows].any():
            raise UserError(f"{title}none of the {len(rows)} pictures of split {name} has an annotated landmark")
        if not known[rows][:, of_train].any():
            raise UserError(
                f"{title}none of the {len(rows)} pictures of split {name} has a landmark that is annotated in train; "
                "annotate the same landmarks in all splits"
            )


def warn(where: str, landmarks: Landmarks, xy: np.ndarray, split_of: Sequence[str]) -> None:
    """Warns of landmarks that nobody annotated in train, and of test splits whose normalizer is never known.

    Args:
      where: file or folder, for messages.
      landmarks: the K landmarks.
      xy: `[N, K, 2]`, NaN where not annotated.
      split_of: the split of each picture.
    """
    known = ~np.isnan(xy).any(-1)
    for split, rows in splits.parts(split_of).items():
        if not len(rows):
            continue
        missing = [name for name, some in zip(landmarks.names, known[rows].any(0), strict=True) if not some]
        if split == "train" and missing:
            _log.warning(
                "%s: no training picture has the landmark %s; it can't be learned here, and its cells stay empty, "
                "unless the run that this one goes on from, or the teacher of constraints.kd, has learned it: annotate "
                "some, or take it out of `landmarks` of dataset.json", where, tables.listed(missing),
            )  # fmt: skip
        elif split.startswith("test") and landmarks.normalizer:
            both = known[rows][:, [landmarks.names.index(name) for name in landmarks.normalizer]].all(-1)
            if not both.any():
                _log.warning(
                    "%s: no picture of %s has both landmarks of the normalizer, %s: the normalized error (NME) is not "
                    "given", where, split, " and ".join(landmarks.normalizer),
                )  # fmt: skip
