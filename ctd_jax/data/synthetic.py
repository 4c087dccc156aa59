"""Drawn faces: the embedded data of the demo, with identities, and with landmarks as by-products of the drawing.

identity -> proportions and colours (`_person`); shot -> pose, expression, light (`_moment`); both -> points of the head
in three dimensions (`_head`) -> projection -> `painting`.

Head coordinates: x to the right of the picture, y down, z towards the camera; the eyes lie at y = 0, the cheeks near
x = 1. Every curve is given in them and projected as the landmarks are: a landmark is exact wherever its feature goes,
and stays so when something covers it. Left and right are those of the picture.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TypedDict

import numpy as np

from ctd_jax.data import painting
from ctd_jax.data.canvas import Canvas
from ctd_jax.data.painting import SIDES

_PAIRED = (
    "brow_outer",
    "brow_peak",
    "brow_inner",
    "eye_outer",
    "eye_top",
    "eye_inner",
    "eye_bottom",
    "pupil",
    "ala",
    "mouth",
    "cheek",
    "jaw",
)
_MIDDLE = ("nasion", "nose_tip", "subnasale", "upper_lip", "lower_lip", "chin")
LANDMARKS: tuple[str, ...] = tuple(f"{side}_{name}" for side in SIDES for name in _PAIRED) + _MIDDLE
FLIP_PAIRS: tuple[tuple[str, str], ...] = tuple((f"left_{name}", f"right_{name}") for name in _PAIRED)
NORMALIZER = ("left_eye_outer", "right_eye_outer")
MEASUREMENTS = {
    "left_palpebral_fissure": ("left_eye_outer", "left_eye_inner"),
    "left_eye_opening": ("left_eye_top", "left_eye_bottom"),
    "left_eye_openness": {"ratio": ("left_eye_opening", "left_palpebral_fissure")},
    "philtrum_length": ("subnasale", "upper_lip"),
    "mouth_width": ("left_mouth", "right_mouth"),
    "chin_angle": ("left_jaw", "chin", "right_jaw"),
}
FILM_LANDMARKS = ("left_eye_outer", "right_eye_outer", "left_mouth", "right_mouth", *_MIDDLE)

_SKIN = np.array([[250, 222, 200], [236, 188, 150], [196, 140, 100], [140, 92, 62], [86, 56, 42]], float)
_HAIR = np.array([[24, 20, 20], [62, 40, 28], [118, 74, 40], [206, 164, 96], [150, 60, 28], [170, 168, 166]], float)
_IRIS = np.array([[70, 44, 26], [120, 80, 40], [72, 110, 70], [80, 126, 170], [110, 120, 126]], float)


@dataclasses.dataclass(frozen=True)
class Setting:
    """How people are photographed. A pair of numbers is the range that a quantity is uniform in.

    Attributes:
      yaw, pitch: most degrees that a head is turned to a side, and up or down.
      roll: standard deviation and most degrees that it is tilted.
      scale: pictures' sides that a head unit has.
      centre: most of the picture's side that a face is off its middle.
      ambient: share of the light that comes from everywhere.
      gain, gamma, cast: of the exposure; `cast` is the gain of each colour.
      blur: standard deviation in pictures' sides; below 0: sharp.
      noise: most standard deviation, of full brightness.
      covered: whether something is in front of one face in three, some wear glasses, and lids droop in one in seven.
    """

    yaw: float
    pitch: float
    roll: tuple[float, float]
    scale: tuple[float, float]
    centre: float
    ambient: tuple[float, float]
    gain: tuple[float, float]
    gamma: tuple[float, float]
    cast: tuple[float, float]
    blur: tuple[float, float]
    noise: float
    covered: bool


ANYWHERE = Setting(
    yaw=26, pitch=14, roll=(10, 25), scale=(0.20, 0.30), centre=0.08, ambient=(0.3, 0.8), gain=(0.8, 1.4),
    gamma=(0.75, 1.4), cast=(0.86, 1.14), blur=(-0.008, 0.01), noise=0.05, covered=True,
)  # fmt: skip
# A clinical photograph: from the front, at one distance, evenly lit, without glasses or anything else before the face.
CLINIC = Setting(
    yaw=10, pitch=6, roll=(3, 8), scale=(0.37, 0.42), centre=0.02, ambient=(0.6, 0.9), gain=(0.9, 1.15),
    gamma=(0.9, 1.15), cast=(0.94, 1.06), blur=(-0.008, 0.005), noise=0.02, covered=False,
)  # fmt: skip


def draw(
    identity: int, shot: int, *, size: int, seed: int, setting: Setting = ANYWHERE
) -> tuple[np.ndarray, np.ndarray]:
    """One picture of one person; the same arguments give the same bytes, whatever was drawn before.

    Args:
      identity, shot, seed: integers >= 0. `identity` fixes the person, `shot` everything that changes between pictures.
      size: side of the picture, pixels.
      setting: how the person is photographed.

    Returns:
      picture: `[size, size, 3]` uint8 RGB.
      xy: `[K, 2]` float32 in the order of `LANDMARKS`, pixels, (0, 0) the centre of the top-left pixel.
    """
    person = _person(np.random.default_rng([seed, identity, 0]))  # [a, b] and [a, b, 0] seed alike: shots count from 1
    rng = np.random.default_rng([seed, identity, shot + 1])
    moment = _moment(rng, setting)
    head = _head(person, moment)
    canvas = Canvas(size, moment.projection)
    painting.background(canvas, rng)
    painting.face(canvas, person, moment, head)
    if setting.covered:
        painting.occluder(canvas, person, rng)
    xy = canvas.project(np.stack([head[name] for name in LANDMARKS])) * size - 0.5
    return painting.expose(canvas, moment, rng), xy.astype(np.float32)


class Faces(TypedDict):
    """N drawn pictures, those of a person in a row."""

    pictures: np.ndarray  # [N, size, size, 3] uint8
    xy: np.ndarray  # [N, K, 2] float32
    subjects: list[str]


def faces(
    identities: Sequence[int],
    shots: int | Sequence[int] | np.ndarray,
    *,
    size: int,
    seed: int,
    setting: Setting = ANYWHERE,
) -> Faces:
    """Pictures of several people.

    Args:
      identities: the people, integers >= 0.
      shots: number of pictures of each: one number, or one for each.
      size, seed, setting: see `draw`.
    """
    taken = [
        (i, shot) for i, n in zip(identities, np.broadcast_to(shots, len(identities)), strict=True) for shot in range(n)
    ]
    drawn = [draw(identity, shot, size=size, seed=seed, setting=setting) for identity, shot in taken]
    return {
        "pictures": np.stack([picture for picture, _ in drawn]),
        "xy": np.stack([xy for _, xy in drawn]),
        "subjects": [f"person_{identity:05d}" for identity, _ in taken],
    }


def films(identities: Sequence[int], shots: int | Sequence[int] | np.ndarray, *, size: int, seed: int) -> Faces:
    """As `faces`, of other people, as on a film: grey, light where they are dark, lying on their side; and only the
    landmarks of `FILM_LANDMARKS`. A second domain for a demo of several."""
    drawn = faces(identities, shots, size=size, seed=seed + 1_000_000)
    grey = 255 - drawn["pictures"].mean(-1, keepdims=True).astype(np.uint8)
    chosen = [LANDMARKS.index(name) for name in FILM_LANDMARKS]
    xy = drawn["xy"][:, chosen, ::-1]
    pictures = np.ascontiguousarray(grey.swapaxes(1, 2).repeat(3, -1))
    return {"pictures": pictures, "xy": xy, "subjects": drawn["subjects"]}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of drawing, as a landmark folder would describe it."""

    draw: Callable[..., Faces]
    landmarks: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...] | None = None
    normalizer: tuple[str, str] | None = None
    measurements: Mapping | None = None


KINDS = {
    "synthetic": Kind(faces, LANDMARKS, FLIP_PAIRS, NORMALIZER, MEASUREMENTS),
    "synthetic_clinic": Kind(functools.partial(faces, setting=CLINIC), LANDMARKS, FLIP_PAIRS, NORMALIZER, MEASUREMENTS),
    "synthetic_film": Kind(films, FILM_LANDMARKS),
}


def _person(rng: np.random.Generator) -> SimpleNamespace:
    """What stays: lengths in head coordinates, colours 0..255."""

    def about(mean: float, spread: float) -> float:
        return mean + spread * np.clip(rng.standard_normal(), -2, 2)

    skin = _palette(_SKIN, rng.uniform(0, 4)) + rng.normal(0, 5, 3)
    hair = _HAIR[rng.choice(6, p=[0.3, 0.25, 0.15, 0.14, 0.06, 0.1])] * rng.uniform(0.8, 1.15)
    long_hair, spotted = rng.random(2) < (0.5, 0.2)
    return SimpleNamespace(
        eye_x=about(0.44, 0.035),
        eye_w=about(0.20, 0.022),
        eye_h=about(0.085, 0.018),
        eye_tilt=about(0, 0.028),
        brow_y=about(-0.25, 0.035),
        brow_arch=about(0.07, 0.03),
        brow_tilt=about(0, 0.035),
        brow_w=about(0.045, 0.014),
        brow_l=about(0.25, 0.025),
        nose_y=about(0.58, 0.065),
        nose_w=about(0.19, 0.032),
        nose_z=about(0.24, 0.06),
        mouth_gap=about(0.32, 0.04),
        mouth_w=about(0.33, 0.045),
        lip_up=about(0.075, 0.02),
        lip_low=about(0.095, 0.025),
        chin_gap=about(0.43, 0.06),
        chin_w=about(0.30, 0.055),
        jaw_w=about(0.74, 0.07),
        cheek_w=about(0.93, 0.045),
        ear=about(0.17, 0.03),
        asymmetry=rng.normal(0, 0.011, (len(LANDMARKS), 3)),
        skin=skin,
        hair=hair,
        iris=_IRIS[rng.integers(5)],
        lips=skin * (0.88, 0.6, 0.6) + (rng.uniform(0, 40), 0, 0),
        bald=rng.random() < 0.1,
        volume=rng.uniform(0.02, 0.3),
        hairline=rng.uniform(-0.85, -0.45),
        hair_y=rng.uniform(0.9, 1.9) if long_hair else rng.uniform(-0.3, 0.1),
        part=rng.uniform(-0.5, 0.5),
        drop=rng.uniform(-0.1, 0.3),
        beard=rng.uniform(0.35, 0.9) * (rng.random() < 0.2),
        moustache=rng.random() < 0.18,
        glasses=rng.random() < 0.22,
        frame=_palette(_HAIR, rng.uniform(0, 2)) + rng.uniform(0, 60, 3),
        frame_w=about(0.29, 0.02),
        frame_h=rng.uniform(0.17, 0.27),
        frame_power=rng.uniform(0.45, 1),
        spots=rng.uniform((-0.7, 0.1), (0.7, 1.1), (rng.integers(8, 30) if spotted else rng.integers(0, 3), 2)),
    )


def _moment(rng: np.random.Generator, setting: Setting) -> SimpleNamespace:
    """What changes from shot to shot; `projection` is `[2, 4]`, from head coordinates to fractions of the picture."""
    turned = np.array([setting.yaw, setting.pitch])
    yaw, pitch = np.radians(rng.uniform(-turned, turned))
    spread, most = setting.roll
    roll = np.radians(np.clip(rng.normal(0, spread), -most, most))
    scale, centre = rng.uniform(*setting.scale), 0.5 + rng.uniform(-setting.centre, setting.centre, 2)
    about_y = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    about_x = [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0]])
    turn = scale * about_z @ about_x @ about_y
    projection = np.column_stack([turn, centre - turn @ (0, 0.45, 0.1)])
    light = rng.normal(0, 1, 3) * (0.7, 0.5, 0.2) + (0, -0.3, 1.0)
    return SimpleNamespace(
        projection=projection,
        smile=rng.uniform(-0.5, 1.2),
        mouth_open=max(0, rng.uniform(-0.25, 0.25)),
        brow_up=rng.uniform(-0.04, 0.08),
        gaze=rng.uniform(-1, 1, 2) * (0.05, 0.015),
        lids=rng.uniform(0.1, 0.9) if rng.random() < 0.15 * setting.covered else rng.uniform(-0.15, 0.1),
        glasses_off=rng.random() < 0.15 or not setting.covered,
        cloth=rng.uniform(20, 230, 3),
        light=light / np.linalg.norm(light),
        ambient=rng.uniform(*setting.ambient),
        gain=rng.uniform(*setting.gain),
        gamma=rng.uniform(*setting.gamma),
        cast=rng.uniform(*setting.cast, 3),
        blur=max(0, rng.uniform(*setting.blur)),
        noise=rng.uniform(0, setting.noise),
    )


def _head(person: SimpleNamespace, moment: SimpleNamespace) -> dict[str, np.ndarray]:
    """Landmark name -> `[3]`, head coordinates."""
    p, m = person, moment
    mouth_y = p.nose_y + p.mouth_gap
    brow_y = p.brow_y - m.brow_up
    upper = -p.eye_h * (1 - m.lids) + 0.5 * p.eye_h * m.lids
    half = {
        "brow_inner": (p.eye_x - 0.9 * p.brow_l, brow_y + p.brow_tilt, 0.78),
        "brow_peak": (p.eye_x + 0.25 * p.brow_l, brow_y - p.brow_arch, 0.72),
        "brow_outer": (p.eye_x + 1.1 * p.brow_l, brow_y - p.brow_tilt + 0.03, 0.47),
        "eye_inner": (p.eye_x - p.eye_w, p.eye_tilt, 0.66),
        "eye_top": (p.eye_x, upper, 0.70),
        "eye_outer": (p.eye_x + p.eye_w, -p.eye_tilt, 0.50),
        "eye_bottom": (p.eye_x, 0.8 * p.eye_h, 0.67),
        "pupil": (p.eye_x, 0.0, 0.66),
        "ala": (p.nose_w, p.nose_y - 0.03, 0.72),
        "mouth": (p.mouth_w * (1 + 0.15 * m.smile), mouth_y - 0.06 * m.smile, 0.58),
        "cheek": (p.cheek_w, 0.4, 0.0),
        "jaw": (p.jaw_w, mouth_y + 0.08 + 0.3 * m.mouth_open, 0.12),
    }
    middle = {
        "nasion": (0, -0.06, 0.80),
        "nose_tip": (0, p.nose_y - 0.12, 0.80 + p.nose_z),
        "subnasale": (0, p.nose_y + 0.02, 0.80),
        "upper_lip": (0, mouth_y - p.lip_up - 0.2 * m.mouth_open, 0.80),
        "lower_lip": (0, mouth_y + p.lip_low + 0.8 * m.mouth_open, 0.77),
        "chin": (0, mouth_y + p.chin_gap + 0.7 * m.mouth_open, 0.55),
    }
    points = {f"{s}_{name}": np.multiply(xyz, (x, 1, 1)) for s, x in SIDES.items() for name, xyz in half.items()}
    points |= {name: np.array(xyz, float) for name, xyz in middle.items()}
    points = {name: points[name] + shift for name, shift in zip(LANDMARKS, p.asymmetry, strict=True)}
    for side in SIDES:
        points[f"{side}_pupil"][:2] += m.gaze
    return points


def _palette(colours: np.ndarray, position: float) -> np.ndarray:
    """Colour `[3]` at a fractional row."""
    return np.array([np.interp(position, np.arange(len(colours)), channel) for channel in colours.T])
