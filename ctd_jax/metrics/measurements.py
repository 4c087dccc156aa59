"""Measurements that are computed from landmarks: their definitions (`measurements` of dataset.json) and values."""

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctd_jax.errors import UserError

FORMS = 'two landmarks (a distance), three (the angle at the middle one), or {"ratio": [two other measurements]}'
UNSIGNED = "deg unsigned"  # the unit of an angle: 0 to 180 degrees, whichever way it opens
_KINDS = {2: "distance", 3: "angle"}


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One entry of `measurements`. A ratio divides the first of its two measurements by the second."""

    name: str
    kind: str  # distance, angle or ratio
    of: tuple[str, ...]  # landmarks; for a ratio two measurements

    @property
    def definition(self) -> list[str] | dict[str, list[str]]:
        """`of` as dataset.json has it."""
        return {"ratio": list(self.of)} if self.kind == "ratio" else list(self.of)


def parse(content: Any, landmarks: Sequence[str], where: str) -> tuple[Measurement, ...]:
    """The measurements of dataset.json, each with its name:

        {"fissure": ["outer", "inner"],               distance of two landmarks
         "opening": ["top", "bottom"],
         "nasal_angle": ["nasion", "tip", "base"],    angle at the middle one, 0 to 180 degrees, without sign
         "openness": {"ratio": ["opening", "fissure"]}}    of two distances, or two angles: first / second

    Args:
      content: value of the key `measurements`; None: there are none.
      landmarks: names of the landmarks.
      where: file, for messages.

    Raises:
      UserError: another form; a landmark or measurement that is unknown, or twice in one; a ratio of a distance and an
        angle, or of a ratio.
    """
    if content is None:
        return ()
    if not isinstance(content, dict):
        raise UserError(f"{where}: measurements is {content}; expected an object, each name with {FORMS}")
    parsed = {}
    for name, value in content.items():
        is_ratio = isinstance(value, dict) and set(value) == {"ratio"}
        of = value["ratio"] if is_ratio else value
        names = isinstance(of, list | tuple) and all(isinstance(one, str) for one in of) and len(set(of)) == len(of)
        if not name.strip() or not names or len(of) not in ((2,) if is_ratio else _KINDS):
            raise UserError(f"{where}: measurement {name!r} has {value}; expected a name with {FORMS}, all different")
        known, what = (content, "measurements") if is_ratio else (landmarks, "landmarks")
        for one in of:
            if one not in known:
                near = difflib.get_close_matches(one, [k for k in known if k != name], 1)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                raise UserError(f"{where}: measurement {name!r} names {one!r}, which is not one of the {what}{hint}")
        parsed[name] = Measurement(name, "ratio" if is_ratio else _KINDS[len(of)], tuple(of))
    for one in parsed.values():
        kinds = [parsed[other].kind for other in one.of] if one.kind == "ratio" else []
        if kinds and (kinds[0] != kinds[1] or "ratio" in kinds):
            parts = " by ".join(f"{other!r} (kind: {kind})" for other, kind in zip(one.of, kinds, strict=True))
            raise UserError(f"{where}: the ratio {one.name!r} divides {parts}; expected two distances, or two angles")
    return tuple(parsed.values())


def values(
    measurements: Sequence[Measurement], landmarks: Sequence[str], xy: np.ndarray, spacing: np.ndarray
) -> np.ndarray:
    """Every measurement of N pictures.

    Args:
      measurements: M definitions.
      landmarks: K names.
      xy: `[N, K, 2]` points (x, y), pixels of the original picture, NaN where unknown.
      spacing: `[N, 2]` mm per pixel along x and y; NaN where unknown: pixels are then taken to be square.

    Returns:
      `[N, M]` distances in mm, or in pixels where the spacing is unknown; angles in degrees; ratios. NaN where a
      landmark is unknown, an angle has a side of no length, or a ratio divides by 0.
    """
    points = xy * np.where(np.isnan(spacing), 1.0, spacing)[:, None, :]
    at = {name: points[:, k] for k, name in enumerate(landmarks)}
    found: dict[str, np.ndarray] = {}
    for one in sorted(measurements, key=lambda one: one.kind == "ratio"):  # ratios need the others
        parts = [(found if one.kind == "ratio" else at)[name] for name in one.of]
        if one.kind == "distance":
            found[one.name] = np.linalg.norm(parts[0] - parts[1], axis=-1)
        elif one.kind == "angle":
            found[one.name] = _angle(parts[0] - parts[1], parts[2] - parts[1])
        else:
            found[one.name] = parts[0] / np.where(parts[1] > 0, parts[1], np.nan)
    return np.stack([found[one.name] for one in measurements], axis=1)


def _angle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """`[N]` degrees between two `[N, 2]` vectors, by the arc tangent: the arc cosine is imprecise near 0 and 180."""
    cross = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    angle = np.degrees(np.arctan2(cross, (u * v).sum(axis=-1)))
    return np.where((u != 0).any(axis=-1) & (v != 0).any(axis=-1), angle, np.nan)


def units(measurements: Sequence[Measurement], spacing: np.ndarray) -> np.ndarray:
    """`[N, M]` unit: "mm" or "px", `UNSIGNED` for an angle, "" for a ratio; arguments as in `values`."""
    length = np.where(np.isnan(spacing).any(axis=-1), "px", "mm")
    of_kind = {"distance": length, "angle": np.full(length.shape, UNSIGNED), "ratio": np.full_like(length, "")}
    return np.stack([of_kind[one.kind] for one in measurements], axis=1)
