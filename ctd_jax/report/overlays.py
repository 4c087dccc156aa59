"""Pictures with their landmarks drawn in: truth a hollow circle, prediction a cross, a thin line between the two.

Shape tells them apart in grey, orange and blue (Okabe and Ito) for the colour-blind; a dark rim keeps both visible on
any background.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TRUTH, PREDICTION, LINE, RIM = (86, 180, 233), (255, 159, 0), (255, 255, 255), (0, 0, 0)
SMALLEST_SIDE = 640  # a smaller picture is enlarged until its longer side has this many pixels


def draw(
    picture: np.ndarray,
    xy: np.ndarray,
    true_xy: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    *,
    side: int | None = None,
) -> Image.Image:
    """The whole picture with its points.

    Args:
      picture: `[H, W, 3]` uint8.
      xy: `[K, 2]` predicted (x, y) in pixels of the picture, (0, 0) the centre of the top-left one; NaN: not drawn.
      true_xy: `[K, 2]` annotated points, NaN where not annotated.
      names: K names, written beside the predictions.
      side: longer side of the result; by default that of the picture, at least `SMALLEST_SIDE`.

    Returns:
      RGB, resized by one factor; a point (x, y) lies at `(x + 0.5) * factor - 0.5`.
    """
    H, W = picture.shape[:2]
    factor = (side or max(H, W, SMALLEST_SIDE)) / max(H, W)
    size = (max(round(W * factor), 1), max(round(H * factor), 1))
    image = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.BOX)
    radius = max(0.01 * max(size), 3.5)
    true_xy = np.full_like(xy, np.nan, dtype=np.float64) if true_xy is None else true_xy
    predicted, true = ((points + 0.5) * factor - 0.5 for points in (np.asarray(xy, np.float64), np.asarray(true_xy)))

    marks = _Marks(size, radius)
    for a, b in zip(predicted, true, strict=True):
        marks.line(a, b)
    for point in true:
        marks.circle(point)
    for point in predicted:
        marks.cross(point)
    marks.onto(image)

    if names is not None:
        pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=max(2.2 * radius, 9))
        for (x, y), name in zip(predicted, names, strict=True):
            if np.isfinite([x, y]).all():
                at = (min(x + 1.5 * radius, size[0] - font.getlength(name) - radius), y - 2.8 * radius)
                pen.text(at, name, fill=LINE, font=font, stroke_width=max(round(radius / 4), 1), stroke_fill=RIM)
    return image


class _Marks:
    """A layer of marks, drawn larger and reduced, because ImageDraw does not smooth; large pictures do without."""

    def __init__(self, size: tuple[int, int], radius: float):
        self.fine = min(max(2400 // max(size), 1), 3)
        self.size, self.radius = size, radius * self.fine
        self.layer = Image.new("RGBA", (size[0] * self.fine, size[1] * self.fine))
        self.pen = ImageDraw.Draw(self.layer)
        self.stroke = max(round(0.42 * self.radius), 2)
        self.rim = max(round(0.12 * self.radius), 1)

    def _at(self, point: np.ndarray) -> np.ndarray:
        return (point + 0.5) * self.fine - 0.5

    def line(self, start: np.ndarray, end: np.ndarray) -> None:
        if np.isfinite([start, end]).all():
            for colour, width in ((RIM, 4 * self.rim), (LINE, 2 * self.rim)):
                self.pen.line([*self._at(start), *self._at(end)], fill=colour, width=width)

    def circle(self, centre: np.ndarray) -> None:
        if np.isfinite(centre).all():
            for colour, rim in ((RIM, self.rim), (TRUTH, 0)):
                x, y = self._at(centre)
                r = 1.35 * self.radius + rim
                self.pen.ellipse([x - r, y - r, x + r, y + r], outline=colour, width=self.stroke + 2 * rim)

    def cross(self, centre: np.ndarray) -> None:
        if np.isfinite(centre).all():
            x, y = self._at(centre)
            for colour, rim in ((RIM, self.rim), (PREDICTION, 0)):
                r = 0.85 * self.radius + rim
                for sign in (-1, 1):
                    ends = [x - r, y - sign * r, x + r, y + sign * r]
                    self.pen.line(ends, fill=colour, width=self.stroke + 2 * rim)

    def onto(self, image: Image.Image) -> None:
        layer = self.layer.resize(self.size, Image.Resampling.BOX)
        image.paste(layer, mask=layer)


@dataclasses.dataclass(frozen=True)
class Panel:
    """One picture of the report."""

    group: str  # "best", "median" or "worst"
    name: str
    caption: str  # the error with its unit
    image: Image.Image


def choose(errors: np.ndarray, each: int = 3) -> dict[str, list[int]]:
    """Indices of the best, median and worst pictures, up to `each` of a group, none twice; from left to right by error.

    `errors` is `[N]`; a picture whose error is NaN is not chosen.
    """
    order = [int(i) for i in np.argsort(errors, kind="stable") if np.isfinite(errors[i])]
    each = min(each, max(len(order) // 3, 1))
    middle = (len(order) - each) // 2
    groups = {"best": order[:each], "worst": order[max(len(order) - each, each) :]}
    taken = groups["best"] + groups["worst"]
    median = [i for i in order[middle : middle + each] if i not in taken]
    return {"best": groups["best"], "median": median, "worst": groups["worst"]}


def legend(width: int) -> Image.Image:
    """A strip that shows what the marks mean."""
    strip = Image.new("RGB", (width, 44), (255, 255, 255))
    marks, pen, font = _Marks(strip.size, 8), ImageDraw.Draw(strip), ImageFont.load_default(size=18)
    truth, prediction, start, end = (np.array([x, 22.0]) for x in (20.0, 180.0, 316.0, 346.0))
    marks.circle(truth)
    marks.cross(prediction)
    marks.line(start, end)
    for point, text in ((truth, "annotated"), (prediction, "predicted"), (end, "error")):
        pen.text((point[0] + 18, 22), text, fill=(20, 20, 20), font=font, anchor="lm")
    marks.onto(strip)
    return strip


def montage(panels: Sequence[Panel], side: int, legend: Callable[[int], Image.Image] = legend) -> Image.Image:
    """One row per group; below each picture its error and name, above all the legend."""
    rows = [[p for p in panels if p.group == group] for group in dict.fromkeys(p.group for p in panels)]
    gap, text = 14, 46
    width = max([sum(p.image.width + gap for p in row) + gap for row in rows], default=0)
    width = max(width, side + 2 * gap, 440)
    heights = [max(p.image.height for p in row) + text + gap for row in rows]
    sheet = Image.new("RGB", (width, 44 + sum(heights)), (255, 255, 255))
    sheet.paste(legend(width), (gap, 0))
    pen, bold, small = ImageDraw.Draw(sheet), ImageFont.load_default(size=17), ImageFont.load_default(size=14)
    top = 44
    for row, height in zip(rows, heights, strict=True):
        left = gap
        for panel in row:
            sheet.paste(panel.image, (left, top))
            below = top + panel.image.height + 4
            pen.text((left, below), f"{panel.group}: {panel.caption}", fill=(20, 20, 20), font=bold)
            pen.text(
                (left, below + 21), _shortened(panel.name, small, panel.image.width), fill=(90, 90, 90), font=small
            )
            left += panel.image.width + gap
        top += height
    return sheet


def _shortened(name: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The end of a name too long for `width` pixels: names of pictures differ at the end."""
    start = next((i for i in range(len(name)) if font.getlength("..." + name[i:]) <= width), len(name))
    return name if font.getlength(name) <= width else "..." + name[start:]
