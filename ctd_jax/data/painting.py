"""Paints a drawn face and its surroundings, from back to front, and exposes the picture: the brush of `synthetic`."""

from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageFilter

from ctd_jax.data.canvas import OVERSAMPLE, Canvas, arc, between, loop, oval, ribbon

SIDES = {"left": -1.0, "right": 1.0}  # of the picture; where they lie in head coordinates


def background(canvas: Canvas, rng: np.random.Generator) -> None:
    cells = 255 * (0.4 * rng.random((rng.integers(2, 6), rng.integers(2, 6), 3)) + 0.6 * rng.random())
    smooth = Image.fromarray(cells.astype(np.uint8)).resize(canvas.colours.size, Image.Resampling.BILINEAR)
    canvas.colours.paste(smooth)
    for _ in range(rng.integers(0, 14)):
        rx, ry = rng.uniform(0.02, 0.25, 2)
        canvas.fill(oval(rng.random(2), rx, ry, rng.uniform(0.2, 1.5)), rng.uniform(0, 255, 3))


def face(canvas: Canvas, p: SimpleNamespace, m: SimpleNamespace, at: dict[str, np.ndarray]) -> None:
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
    _behind(canvas, p, m, at["chin"][1])
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
    for side, x in SIDES.items():
        _eye(
            canvas,
            p,
            m,
            {name.removeprefix(f"{side}_"): xyz for name, xyz in at.items() if name.startswith(side)},
            np.sign(m.light[0]),
        )
        _half_nose(canvas, p, m, at, side, x)
    _mouth(canvas, p, m, at)
    if not p.bald:
        _fringe(canvas, p)
    if p.glasses and not m.glasses_off:
        _glasses(canvas, p)


def _behind(canvas: Canvas, p: SimpleNamespace, m: SimpleNamespace, chin_y: float) -> None:
    def symmetric(*half: tuple[float, float, float]) -> np.ndarray:
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
    for x in SIDES.values():
        canvas.fill(oval((x * (p.cheek_w + 0.04), 0.22, -0.15), 0.6 * p.ear, 1.4 * p.ear), 0.92 * p.skin)
        canvas.fill(oval((x * (p.cheek_w + 0.06), 0.22, -0.15), 0.3 * p.ear, 0.8 * p.ear), 0.72 * p.skin)


def _eye(canvas: Canvas, p: SimpleNamespace, m: SimpleNamespace, at: dict[str, np.ndarray], lit: float) -> None:
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


def _half_nose(canvas: Canvas, p: SimpleNamespace, m: SimpleNamespace, at: dict, side: str, x: float) -> None:
    ala, base, tip = at[f"{side}_ala"], at["subnasale"], at["nose_tip"]
    fold = at[f"{side}_mouth"] + (x * 0.1, -0.02, 0)
    canvas.shade(np.stack([at["nasion"] + (x * 0.1, 0, -0.1), tip, ala]), 128 + int(14 * np.sign(x * m.light[0])))
    canvas.shade(oval(tip + (x * 0.02, -0.15, 0), 0.03, 0.2), 146)
    canvas.fill(ribbon(arc(ala + (-x * 0.02, -0.1, 0), ala, ala + (-x * 0.05, 0.06, 0)), 0.026), 0.7 * p.skin)
    canvas.fill(oval((base + ala) / 2 + (0, 0.015, 0), 0.3 * p.nose_w, 0.025), 0.4 * p.skin)
    canvas.fill(ribbon(arc(base, base * 0.7 + ala * 0.3 + (0, 0.01, 0), (base + ala) / 2), 0.02), 0.7 * p.skin)
    canvas.fill(ribbon(arc(ala + (x * 0.06, 0, 0), (ala + fold) / 2 + (x * 0.06, 0, 0), fold), 0.016), 0.85 * p.skin)


def _mouth(canvas: Canvas, p: SimpleNamespace, m: SimpleNamespace, at: dict[str, np.ndarray]) -> None:
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


def _fringe(canvas: Canvas, p: SimpleNamespace) -> None:
    w, v, low = p.cheek_w, p.volume, p.hairline + p.drop + 0.1
    edge = np.array(
        [(0.95 * w, 0, 0.1), (0.62, low, 0.5), (p.part, p.hairline, 0.65), (-0.62, low, 0.5), (-0.95 * w, 0, 0.1)]
    )
    side, crown = np.array([(w + 0.03 + 0.6 * v, -0.15, -0.1), (0.72 * w + 0.5 * v, -0.95 - 0.5 * v, 0)])
    over = np.array([side, crown, (0, -1.15 - v, 0), crown * (-1, 1, 1), side * (-1, 1, 1)])
    canvas.fill(loop(between(edge, over)), p.hair)
    for share, tone in ((0.2, 0.8), (0.5, 1.2), (0.8, 0.8)):
        canvas.fill(ribbon(loop(share * edge + (1 - share) * over)[:24], 0.025), tone * p.hair + 6)


def _glasses(canvas: Canvas, p: SimpleNamespace) -> None:
    for x in SIDES.values():
        lens = oval((x * p.eye_x, 0.03, 0.85), p.frame_w, p.frame_h, p.frame_power)
        canvas.fill(ribbon(np.concatenate([lens, lens[:2]]), 0.035), p.frame)
        hinge = (x * (p.eye_x + p.frame_w), 0.03, 0.85)
        canvas.fill(ribbon(arc(hinge, (x * 0.9, 0.0, 0.45), (x * p.cheek_w, 0.05, 0)), 0.03), p.frame)
    gap = p.eye_x - p.frame_w
    canvas.fill(ribbon(arc((-gap, 0, 0.85), (0, -0.06, 0.88), (gap, 0, 0.85)), 0.035), p.frame)


def occluder(canvas: Canvas, p: SimpleNamespace, rng: np.random.Generator) -> None:
    """Paints a patch, a hand or strands of hair over one picture in three."""
    kind = rng.integers(9)
    parts: list[tuple[np.ndarray, np.ndarray]] = []  # outlines and colours
    if kind == 0:
        rx, ry = rng.uniform(0.06, 0.2, 2)
        parts = [(oval(rng.uniform(0.15, 0.85, 2), rx, ry, rng.uniform(0.2, 1.2)), rng.uniform(0, 255, 3))]
    elif kind == 1:
        palm, turn = rng.uniform((0.2, 0.5), (0.8, 0.95)), rng.uniform(-1, 1)
        tips = [palm + 0.24 * np.array([np.sin(a), -np.cos(a)]) for a in turn + np.array([-0.45, -0.15, 0.15, 0.45])]
        parts = [(ribbon(arc(palm, (palm + tip) / 2, tip), 0.05), 0.88 * p.skin) for tip in tips]
        parts.append((oval(palm, 0.1, 0.1), 0.95 * p.skin))
    elif kind == 2:
        top = rng.uniform((0.2, 0.0), (0.8, 0.2))
        ends = top + rng.uniform((-0.2, 0.3), (0.2, 0.6), (5, 2))
        bends = (top + ends) / 2 + rng.normal(0, 0.05, (5, 2))
        parts = [(ribbon(arc(top, bend, end), 0.02), p.hair) for bend, end in zip(bends, ends, strict=True)]
    for shape, colour in parts:
        canvas.fill(shape, colour)
        canvas.shade(shape, 128)  # no shadow of what it covers


def expose(canvas: Canvas, m: SimpleNamespace, rng: np.random.Generator) -> np.ndarray:
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
