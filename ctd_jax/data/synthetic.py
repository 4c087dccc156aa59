"""Drawn faces: the embedded data of the demo, with identities, and with landmarks as by-products of the drawing.

identity -> proportions and colours (`_person`); shot -> pose, expression, light (`_moment`); both -> points of the head
in three dimensions (`_head`) -> projection -> painting (`_paint_face`) -> light and noise (`_expose`).

Head coordinates: x to the right of the picture, y down, z towards the camera; the eyes lie at y = 0, the cheeks near
x = 1. Every curve is given in them and projected as the landmarks are: a landmark is exact wherever its feature goes,
and stays so when something covers it. Left and right are those of the picture.
"""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageFilter

from ctd_jax.data.canvas import OVERSAMPLE, Canvas, arc, between, loop, oval, ribbon

_SIDES = {"left": -1.0, "right": 1.0}
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
LANDMARKS: tuple[str, ...] = tuple(f"{side}_{name}" for side in _SIDES for name in _PAIRED) + _MIDDLE
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

_SKIN = np.array([[250, 222, 200], [236, 188, 150], [196, 140, 100], [140, 92, 62], [86, 56, 42]], float)
_HAIR = np.array([[24, 20, 20], [62, 40, 28], [118, 74, 40], [206, 164, 96], [150, 60, 28], [170, 168, 166]], float)
_IRIS = np.array([[70, 44, 26], [120, 80, 40], [72, 110, 70], [80, 126, 170], [110, 120, 126]], float)


def draw(identity: int, shot: int, *, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One picture of one person; the same arguments give the same bytes, whatever was drawn before.

    Args:
      identity, shot, seed: integers >= 0. `identity` fixes the person, `shot` everything that changes between pictures.
      size: side of the picture, pixels.

    Returns:
      picture: `[size, size, 3]` uint8 RGB.
      xy: `[K, 2]` float32 in the order of `LANDMARKS`, pixels, (0, 0) the centre of the top-left pixel.
    """
    person = _person(np.random.default_rng([seed, identity, 0]))  # [a, b] and [a, b, 0] seed alike: shots count from 1
    rng = np.random.default_rng([seed, identity, shot + 1])
    moment = _moment(rng)
    head = _head(person, moment)
    canvas = Canvas(size, moment.projection)
    _paint_background(canvas, rng)
    _paint_face(canvas, person, moment, head)
    _paint_occluder(canvas, person, rng)
    xy = canvas.project(np.stack([head[name] for name in LANDMARKS])) * size - 0.5
    return _expose(canvas, moment, rng), xy.astype(np.float32)


def faces(
    identities: Sequence[int], shots: int | Sequence[int], *, size: int, seed: int
) -> dict[str, np.ndarray | list[str]]:
    """`shots` pictures of each person (one number, or one for each), N in all, those of a person in a row.

    Returns `{"pictures": [N, size, size, 3] uint8, "xy": [N, K, 2] float32, "subjects": N names}`."""
    taken = [
        (i, shot) for i, n in zip(identities, np.broadcast_to(shots, len(identities)), strict=True) for shot in range(n)
    ]
    drawn = [draw(identity, shot, size=size, seed=seed) for identity, shot in taken]
    return {
        "pictures": np.stack([picture for picture, _ in drawn]),
        "xy": np.stack([xy for _, xy in drawn]),
        "subjects": [f"person_{identity:05d}" for identity, _ in taken],
    }


def _person(rng: np.random.Generator) -> SimpleNamespace:
    """What stays: lengths in head coordinates, colours 0..255."""

    def about(mean, spread):
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


def _moment(rng: np.random.Generator) -> SimpleNamespace:
    """What changes from shot to shot; `projection` is `[2, 4]`, from head coordinates to fractions of the picture."""
    yaw, pitch = np.radians(rng.uniform((-26, -14), (26, 14)))
    roll = np.radians(np.clip(rng.normal(0, 10), -25, 25))
    scale, centre = rng.uniform(0.20, 0.30), 0.5 + rng.uniform(-0.08, 0.08, 2)
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
        lids=rng.uniform(0.1, 0.9) if rng.random() < 0.15 else rng.uniform(-0.15, 0.1),
        glasses_off=rng.random() < 0.15,
        cloth=rng.uniform(20, 230, 3),
        light=light / np.linalg.norm(light),
        ambient=rng.uniform(0.3, 0.8),
        gain=rng.uniform(0.8, 1.4),
        gamma=rng.uniform(0.75, 1.4),
        cast=rng.uniform(0.86, 1.14, 3),
        blur=max(0, rng.uniform(-0.008, 0.01)),
        noise=rng.uniform(0, 0.05),
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
    points = {f"{s}_{name}": np.multiply(xyz, (x, 1, 1)) for s, x in _SIDES.items() for name, xyz in half.items()}
    points |= {name: np.array(xyz, float) for name, xyz in middle.items()}
    points = {name: points[name] + shift for name, shift in zip(LANDMARKS, p.asymmetry, strict=True)}
    for side in _SIDES:
        points[f"{side}_pupil"][:2] += m.gaze
    return points


def _palette(colours: np.ndarray, position: float) -> np.ndarray:
    """Colour `[3]` at a fractional row."""
    return np.array([np.interp(position, np.arange(len(colours)), channel) for channel in colours.T])


def _paint_background(canvas: Canvas, rng: np.random.Generator) -> None:
    cells = 255 * (0.4 * rng.random((rng.integers(2, 6), rng.integers(2, 6), 3)) + 0.6 * rng.random())
    smooth = Image.fromarray(cells.astype(np.uint8)).resize(canvas.colours.size, Image.Resampling.BILINEAR)
    canvas.colours.paste(smooth)
    for _ in range(rng.integers(0, 14)):
        rx, ry = rng.uniform(0.02, 0.25, 2)
        canvas.fill(oval(rng.random(2), rx, ry, rng.uniform(0.2, 1.5)), rng.uniform(0, 255, 3))


def _paint_face(canvas: Canvas, p: SimpleNamespace, m: SimpleNamespace, at: dict[str, np.ndarray]) -> None:
    """Paints person `p` at moment `m`, from back to front, with the features through the landmarks `at`."""
    beside = np.array([p.chin_w, -0.07, -0.1])
    outline = loop(
        [
            (0, -1.15, 0),
            (0.62 * p.cheek_w, -0.98, 0),
            (0.98 * p.cheek_w, -0.35, -0.05),
            at["right_cheek"],
            at["right_jaw"],
            at["chin"] + beside,
            at["chin"],
            at["chin"] + beside * (-1, 1, 1),
            at["left_jaw"],
            at["left_cheek"],
            (-0.98 * p.cheek_w, -0.35, -0.05),
            (-0.62 * p.cheek_w, -0.98, 0),
        ]
    )
    _paint_behind(canvas, p, m, at["chin"][1])
    canvas.fill(outline, p.skin)
    for x, y in p.spots:
        canvas.fill(oval((x, y, 0.8 - 0.5 * abs(x)), 0.022, 0.022), 0.6 * p.skin)
    if p.beard:
        inside = loop(
            [
                at["right_cheek"] * (0.8, 1, 1),
                at["right_mouth"],
                at["lower_lip"],
                at["left_mouth"],
                at["left_cheek"] * (0.8, 1, 1),
            ]
        )[:25]
        canvas.fill(between(outline[18:55], inside), p.beard * p.hair + (1 - p.beard) * p.skin)
    for side, x in _SIDES.items():
        _paint_eye(canvas, p, m, {name: at[f"{side}_{name}"] for name in _PAIRED}, np.sign(m.light[0]))
        _paint_half_nose(canvas, p, m, at, side, x)
    _paint_mouth(canvas, p, m, at)
    if not p.bald:
        _paint_fringe(canvas, p)
    if p.glasses and not m.glasses_off:
        _paint_glasses(canvas, p)


def _paint_behind(canvas: Canvas, p: SimpleNamespace, m: SimpleNamespace, chin_y: float) -> None:
    def symmetric(*half):
        return loop(np.concatenate([half, np.multiply(half, (-1, 1, 1))[::-1]]))

    if not p.bald:
        wide = p.cheek_w + 0.8 * p.volume
        canvas.fill(
            symmetric(
                (0.4, -1.12 - p.volume, -0.2),
                (wide, -0.5, -0.3),
                (wide, 0.4 * p.hair_y, -0.3),
                (0.9 * wide, p.hair_y, -0.3),
            ),
            0.7 * p.hair,
        )
    canvas.fill(symmetric((0.5, 0.7, -0.2), (0.5, chin_y + 0.1, -0.2), (0.6, 3.5, -0.2)), 0.8 * p.skin)
    canvas.fill(symmetric((0.5, chin_y + 0.35, -0.3), (1.5, chin_y + 0.65, -0.3), (1.8, 4.0, -0.3)), m.cloth)
    canvas.fill(oval((0, -0.25, -0.3), 0.97 * p.cheek_w, 0.92), p.skin if p.bald else 0.85 * p.hair)
    for x in _SIDES.values():
        canvas.fill(oval((x * (p.cheek_w + 0.04), 0.22, -0.15), 0.6 * p.ear, 1.4 * p.ear), 0.92 * p.skin)
        canvas.fill(oval((x * (p.cheek_w + 0.06), 0.22, -0.15), 0.3 * p.ear, 0.8 * p.ear), 0.72 * p.skin)


def _paint_eye(canvas: Canvas, p: SimpleNamespace, m: SimpleNamespace, at: dict[str, np.ndarray], lit: float) -> None:
    outer, top, inner, bottom = (at[f"eye_{name}"] for name in ("outer", "top", "inner", "bottom"))
    upper, lower = arc(outer, top, inner), arc(outer, bottom, inner)
    canvas.shade(oval((outer + inner) / 2, 0.27, 0.2), 104)
    canvas.fill(between(upper, lower), (236, 232, 228))
    canvas.fill(oval(at["pupil"], 0.095, 0.095), p.iris)
    canvas.fill(oval(at["pupil"], 0.045, 0.045), (12, 10, 10))
    canvas.fill(oval(at["pupil"] + (0.05 * lit, -0.05, 0), 0.018, 0.018), (250, 250, 250))
    # the lids hide what the round iris has too much
    canvas.fill(between(upper, arc(outer, top - (0, 0.07 + 1.5 * p.eye_h * max(m.lids, 0), 0), inner)), 0.9 * p.skin)
    canvas.fill(between(lower, arc(outer, bottom + (0, 0.06, 0), inner)), p.skin)
    canvas.fill(ribbon(upper, 0.028), 0.25 * p.skin)
    canvas.fill(ribbon(lower, 0.012), 0.7 * p.skin)
    brow = arc(at["brow_inner"], at["brow_peak"], at["brow_outer"])
    canvas.fill(ribbon(brow, 2 * p.brow_w * np.linspace(1, 0.35, len(brow))), 0.85 * p.hair)


def _paint_half_nose(canvas: Canvas, p: SimpleNamespace, m: SimpleNamespace, at: dict, side: str, x: float) -> None:
    ala, base, tip = at[f"{side}_ala"], at["subnasale"], at["nose_tip"]
    fold = at[f"{side}_mouth"] + (x * 0.1, -0.02, 0)
    canvas.shade(np.stack([at["nasion"] + (x * 0.1, 0, -0.1), tip, ala]), 128 + int(14 * np.sign(x * m.light[0])))
    canvas.shade(oval(tip + (x * 0.02, -0.15, 0), 0.03, 0.2), 146)
    canvas.fill(ribbon(arc(ala + (-x * 0.02, -0.1, 0), ala, ala + (-x * 0.05, 0.06, 0)), 0.026), 0.7 * p.skin)
    canvas.fill(oval((base + ala) / 2 + (0, 0.015, 0), 0.3 * p.nose_w, 0.025), 0.4 * p.skin)
    canvas.fill(ribbon(arc(base, base * 0.7 + ala * 0.3 + (0, 0.01, 0), (base + ala) / 2), 0.02), 0.7 * p.skin)
    canvas.fill(ribbon(arc(ala + (x * 0.06, 0, 0), (ala + fold) / 2 + (x * 0.06, 0, 0), fold), 0.016), 0.85 * p.skin)


def _paint_mouth(canvas: Canvas, p: SimpleNamespace, m: SimpleNamespace, at: dict[str, np.ndarray]) -> None:
    left, right, upper, lower = (at[name] for name in ("left_mouth", "right_mouth", "upper_lip", "lower_lip"))
    seam = arc(left, upper + (0, p.lip_up, 0), right)
    floor = arc(left, lower - (0, p.lip_low, 0), right)
    bow = np.concatenate(
        [
            arc(left, (left + upper) / 2 + (0.03, -0.045, 0), upper),
            arc(upper, (right + upper) / 2 - (0.03, 0.045, 0), right),
        ]
    )
    canvas.shade(oval(lower + (0, 0.09, -0.1), 0.2, 0.05), 100)
    if p.moustache:
        canvas.fill(
            between(
                arc(left + (-0.04, 0.03, 0), at["subnasale"] + (0, 0.05, 0), right + (0.04, 0.03, 0)),
                arc(left, upper, right),
            ),
            0.9 * p.hair,
        )
    canvas.fill(between(seam, floor), (60, 18, 20))
    if m.mouth_open > 0.05:
        canvas.fill(between(seam, seam + (0, 0.05, 0))[2:-2], (235, 230, 220))
    canvas.fill(between(bow, seam), 0.9 * p.lips)
    canvas.fill(between(floor, arc(left, lower, right)), p.lips)
    canvas.fill(ribbon(seam, 0.02), 0.5 * p.lips)


def _paint_fringe(canvas: Canvas, p: SimpleNamespace) -> None:
    w, v, low = p.cheek_w, p.volume, p.hairline + p.drop + 0.1
    edge = np.array(
        [(0.95 * w, 0, 0.1), (0.62, low, 0.5), (p.part, p.hairline, 0.65), (-0.62, low, 0.5), (-0.95 * w, 0, 0.1)]
    )
    side, crown = np.array([(w + 0.03 + 0.6 * v, -0.15, -0.1), (0.72 * w + 0.5 * v, -0.95 - 0.5 * v, 0)])
    over = np.array([side, crown, (0, -1.15 - v, 0), crown * (-1, 1, 1), side * (-1, 1, 1)])
    canvas.fill(loop(between(edge, over)), p.hair)
    for share, tone in ((0.2, 0.8), (0.5, 1.2), (0.8, 0.8)):
        canvas.fill(ribbon(loop(share * edge + (1 - share) * over)[:24], 0.025), tone * p.hair + 6)


def _paint_glasses(canvas: Canvas, p: SimpleNamespace) -> None:
    for x in _SIDES.values():
        lens = oval((x * p.eye_x, 0.03, 0.85), p.frame_w, p.frame_h, p.frame_power)
        canvas.fill(ribbon(np.concatenate([lens, lens[:2]]), 0.035), p.frame)
        hinge = (x * (p.eye_x + p.frame_w), 0.03, 0.85)
        canvas.fill(ribbon(arc(hinge, (x * 0.9, 0.0, 0.45), (x * p.cheek_w, 0.05, 0)), 0.03), p.frame)
    gap = p.eye_x - p.frame_w
    canvas.fill(ribbon(arc((-gap, 0, 0.85), (0, -0.06, 0.88), (gap, 0, 0.85)), 0.035), p.frame)


def _paint_occluder(canvas: Canvas, p: SimpleNamespace, rng: np.random.Generator) -> None:
    """In one picture of three a patch, a hand or strands of hair."""
    kind = rng.integers(9)
    if kind == 0:
        rx, ry = rng.uniform(0.06, 0.2, 2)
        parts = [(oval(rng.uniform(0.15, 0.85, 2), rx, ry, rng.uniform(0.2, 1.2)), rng.uniform(0, 255, 3))]
    elif kind == 1:
        palm, turn = rng.uniform((0.2, 0.5), (0.8, 0.95)), rng.uniform(-1, 1)
        ends = [palm + 0.24 * np.array([np.sin(a), -np.cos(a)]) for a in turn + np.array([-0.45, -0.15, 0.15, 0.45])]
        parts = [(ribbon(arc(palm, (palm + end) / 2, end), 0.05), 0.88 * p.skin) for end in ends]
        parts.append((oval(palm, 0.1, 0.1), 0.95 * p.skin))
    elif kind == 2:
        top = rng.uniform((0.2, 0.0), (0.8, 0.2))
        ends = top + rng.uniform((-0.2, 0.3), (0.2, 0.6), (5, 2))
        bends = (top + ends) / 2 + rng.normal(0, 0.05, (5, 2))
        parts = [(ribbon(arc(top, bend, end), 0.02), p.hair) for bend, end in zip(bends, ends, strict=True)]
    else:
        parts = []
    for shape, colour in parts:
        canvas.fill(shape, colour)
        canvas.shade(shape, 128)  # no shadow of what it covers


def _expose(canvas: Canvas, m: SimpleNamespace, rng: np.random.Generator) -> np.ndarray:
    """`[size, size, 3]` uint8: blur, soft shadows, light as on a round thing where the head is, colour cast, noise."""
    size = canvas.size
    colours = canvas.colours.reduce(OVERSAMPLE).filter(ImageFilter.GaussianBlur(m.blur * size))
    shadows = canvas.shadows.reduce(OVERSAMPLE).filter(ImageFilter.GaussianBlur(0.012 * size))
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    reach = np.float32(1.1 * np.linalg.norm(m.projection[:, 1]))
    centre = canvas.project(np.array([[0, 0.2, 0]]))[0].astype(np.float32)
    u, v = (grid[None, :] - centre[0]) / reach, (grid[:, None] - centre[1]) / reach
    x, y, z = m.light.astype(np.float32)
    lambert = np.maximum(0, (u * x + v * y + z) / np.sqrt(1 + u**2 + v**2))  # (u, v, 1): normal of a paraboloid
    light = np.float32(m.ambient) + np.float32(1 - m.ambient) * lambert
    light *= np.asarray(shadows, np.float32) / 128
    tone = ((np.arange(256) / 255) ** m.gamma).astype(np.float32)
    picture = tone[np.asarray(colours)] * light[..., None] * (m.gain * m.cast).astype(np.float32)
    picture += np.float32(m.noise) * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.clip(255 * picture + 0.5, 0, 255).astype(np.uint8)
