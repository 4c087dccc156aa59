"""How far off a run's network probably is on pictures that nobody has labelled, and what they look like to it."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from ctd_jax import Predictor, trust
from ctd_jax.data.boxes import Box
from ctd_jax.tasks.landmarks.trained import doubts_of, original_xy

RADIUS, SPREAD, MIRROR, NOTHING = "radius", "spread", "mirror", ""
MEANINGS = {
    RADIUS: "the mean radius that holds a true point with 90 % probability",
    SPREAD: "the mean distance of the points of several networks from their mean",
    MIRROR: "the mean distance of the points of a picture from those of its mirror image",
    NOTHING: "not known: this run has nothing that tells pictures apart by how sure it is of them",
}


@dataclasses.dataclass(frozen=True)
class Expected:
    """What is expected of N pictures.

    Attributes:
      share: `[N]` the error, as a part of the side of the square that the network sees; 1 where nothing is known.
      px: `[N]` the same in pixels of each picture; NaN where nothing is known.
      features: `[N, C]` means of the encoder's channels; C of 0: the network has no encoder.
    """

    share: np.ndarray
    px: np.ndarray
    features: np.ndarray


def sign_of(radius: trust.Radius | None, doubts: Mapping[str, np.ndarray]) -> str:
    """What tells how far off the points of a picture are: a key of `MEANINGS`.

    Args:
      radius: of the run; one that is the same in every picture tells nothing.
      doubts: the names as `trust.average` gives them.
    """
    if radius and radius.doubt and np.isfinite(radius.factors()).any():
        return RADIUS
    return SPREAD if "networks" in doubts else MIRROR if "mirror" in doubts else NOTHING


def error(radius: trust.Radius | None, doubts: Mapping[str, np.ndarray], is_learned: np.ndarray) -> np.ndarray:
    """`[N]` error that is expected of N pictures, as a part of the side; NaN where nothing is known.

    Args:
      radius, doubts: see `sign_of`; each doubt is `[N, K]`.
      is_learned: `[K]` whether any training picture had the landmark.
    """
    number = len(doubts["peak"])
    sign = sign_of(radius, doubts)
    if sign == NOTHING:
        return np.full(number, np.nan)
    lengths = radius(doubts, number) if sign == RADIUS and radius else doubts[{SPREAD: "networks"}.get(sign, sign)]
    known = np.isfinite(lengths) & is_learned
    return np.where(known, lengths, 0.0).sum(axis=1) / known.sum(axis=1)


def predictor(workdirs: Sequence[pathlib.Path], domain: str | None = None) -> Predictor:
    """The networks of one run or several, which can say what `look` needs.

    Raises:
      UserError: see `Predictor`; or they find no points.
    """
    found = Predictor(workdirs, domain=domain, further_doubt="mirror")
    found.check_points()
    return found


def look(
    predictor: Predictor, pictures: Mapping[pathlib.Path, np.ndarray], boxes: Mapping[pathlib.Path, Box]
) -> tuple[Expected, str]:
    """What is expected of a few pictures, and what tells it, a key of `MEANINGS`.

    Args:
      predictor: of `predictor`.
      pictures, boxes: see `Predictor.see`.
    """
    seen, trained = predictor.look(pictures, boxes), predictor.trained
    points = [original_xy(one.outputs["xy"], one.offset, one.scale) / one.side[:, None, None] for one in seen]
    doubts, _ = trust.average([doubts_of(one.outputs, one.size) for one in seen], points)
    radius = trained.evidence.radius if trained.evidence else None
    found = error(radius, doubts, ~np.isin(trained.names, trained.never_annotated))
    features = [one.outputs.get("features", np.empty((len(found), 0))) for one in seen]
    known = np.where(np.isfinite(found), found, 1.0)
    return Expected(known, found * seen[0].side, np.concatenate(features, axis=1)), sign_of(radius, doubts)


def join(parts: Sequence[Expected]) -> Expected:
    """What is expected of the pictures of several calls."""
    names = [field.name for field in dataclasses.fields(Expected)]
    return Expected(*(np.concatenate([getattr(one, name) for one in parts]) for name in names))
