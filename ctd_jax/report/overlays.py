"""Pictures with what is annotated and what is predicted painted over them.

A true landmark is a hollow circle, a predicted one a cross, with a thin line between the two; the thin circle about the
cross holds the true point with 90 % probability. The region of a class is
an outline. Annotations are blue and predictions orange (Okabe and Ito), which the colour-blind can tell apart; circles
and crosses differ in grey, too. A dark rim keeps all of them visible on any background.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import scipy
from PIL import Image, ImageDraw, ImageFont

TRUTH, PREDICTION, LINE, RIM = (86, 180, 233), (255, 159, 0), (255, 255, 255), (0, 0, 0)
MEASURED = (0, 158, 115)  # bluish green
SMALLEST_SIDE = 640  # a smaller picture is enlarged until its longer side has this many pixels
LEGEND_HEIGHT, WIDTH_OF_LEGEND = 44, 560  # pixels


def paint_points(
    picture: np.ndarray,
    xy: np.ndarray,
    true_xy: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    *,
    radius: np.ndarray | None = None,
    side: int | None = None,
) -> Image.Image:
    """The whole picture with its points.

    Args:
      picture: `[H, W, 3]` uint8.
      xy: `[K, 2]` predicted (x, y) in pixels of the picture, (0, 0) the centre of the top-left one; NaN: not drawn.
      true_xy: `[K, 2]` annotated points, NaN where not annotated.
      names: K names, written beside the predictions.
      radius: `[K]` of a thin circle about each prediction, in pixels of the picture; NaN: not drawn.
      side: longer side of the result; by default that of the picture, at least `SMALLEST_SIDE`.

    Returns:
      RGB, resized by one factor; a point (x, y) lies at `(x + 0.5) * factor - 0.5`.
    """
    factor, size = _frame(picture, side or max(*picture.shape[:2], SMALLEST_SIDE))
    image = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.BOX)
    mark = max(0.01 * max(size), 3.5)
    true_xy = np.full_like(xy, np.nan, dtype=np.float64) if true_xy is None else true_xy
    predicted, true = ((points + 0.5) * factor - 0.5 for points in (np.asarray(xy, np.float64), np.asarray(true_xy)))

    marks = _Marks(size, mark)
    for point, r in zip(predicted, [] if radius is None else radius * factor, strict=radius is not None):
        marks.reach(point, r)
    for a, b in zip(predicted, true, strict=True):
        marks.line(a, b)
    for point in true:
        marks.circle(point)
    for point in predicted:
        marks.cross(point)
    marks.onto(image)

    if names is not None:
        pen, font = ImageDraw.Draw(image), _font(max(2 * mark, 8.5))
        for (x, y), name in zip(predicted, names, strict=True):
            if np.isfinite([x, y]).all():
                at = (min(x + 1.5 * mark, size[0] - font.getlength(name) - mark), y - 2.8 * mark)
                pen.text(at, name, fill=LINE, font=font, stroke_width=max(round(mark / 4), 1), stroke_fill=RIM)
    return image


def paint_lines(image: Image.Image, picture: np.ndarray, lines: np.ndarray) -> None:
    """Draws thin lines of what is measured onto what `paint_points` gave of a picture `[H, W, 3]`; `lines` is
    `[L, 2, 2]`, both ends of each in pixels of the picture."""
    factor = max(image.size) / max(picture.shape[:2])
    pen, width = ImageDraw.Draw(image), max(round(max(image.size) / 500), 1)
    for (ax, ay), (bx, by) in ((lines + 0.5) * factor - 0.5).tolist():
        pen.line([(ax, ay), (bx, by)], fill=MEASURED, width=width)


def paint_outlines(picture: np.ndarray, found: np.ndarray, true: np.ndarray | None = None, *, side: int) -> Image.Image:
    """The whole picture with the outlines of its classes.

    Args:
      picture: `[H, W, 3]` uint8.
      found: `[H, W]` predicted classes, 0 the background.
      true: `[H, W]` annotated classes.
      side: longer side of the result.

    Returns:
      RGB, resized by one factor.
    """
    _, size = _frame(picture, side)
    image = np.array(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    thin = max(round(side / 210), 1)
    for classes, colour, width in ((true, TRUTH, 2 * thin), (found, PREDICTION, thin)):
        if classes is None:
            continue
        large = np.asarray(Image.fromarray(classes).resize(size, Image.Resampling.NEAREST))
        for i in np.unique(large[large > 0]):
            region = np.pad(large == i, 1)
            inner = scipy.ndimage.binary_erosion(region, iterations=width)
            rim = scipy.ndimage.binary_dilation(region)
            image[(rim & ~region)[1:-1, 1:-1]] = RIM
            image[(region & ~inner)[1:-1, 1:-1]] = colour
    return Image.fromarray(image)


def _font(size: float) -> ImageFont.FreeTypeFont:
    """One that knows the letters of Europe and beyond; Pillow's own has ASCII alone."""
    import matplotlib  # a tenth of a second, which only a report needs

    return ImageFont.truetype(pathlib.Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


def _frame(picture: np.ndarray, side: int) -> tuple[float, tuple[int, int]]:
    """The factor that makes `side` of the longer side of a picture `[H, W, ...]`, and width and height by it."""
    H, W = picture.shape[:2]
    factor = side / max(H, W)
    return factor, (max(round(W * factor), 1), max(round(H * factor), 1))


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

    def reach(self, centre: np.ndarray, radius: float) -> None:
        """The thin circle about a prediction, of a radius in pixels of the picture."""
        if np.isfinite([*centre, radius]).all():
            x, y = self._at(centre)
            for colour, rim in ((RIM, self.rim // 2), (PREDICTION, 0)):
                r = radius * self.fine + rim
                self.pen.ellipse([x - r, y - r, x + r, y + r], outline=colour, width=self.rim + 2 * rim)

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

    group: str  # "best", "median" or "worst", or a domain
    name: str
    caption: str  # the result with its unit
    image: Image.Image


def choose(errors: np.ndarray, each: int = 3) -> dict[str, list[int]]:
    """Group -> indices of the best, median and worst pictures, none twice, in the order of their errors.

    Args:
      errors: `[N]`; a picture whose error is NaN is not chosen.
      each: largest number of pictures in a group.
    """
    order = [int(i) for i in np.argsort(errors, kind="stable") if np.isfinite(errors[i])]
    each = min(each, max(len(order) // 3, 1))
    middle = (len(order) - each) // 2
    groups = {"best": order[:each], "worst": order[max(len(order) - each, each) :]}
    taken = groups["best"] + groups["worst"]
    median = [i for i in order[middle : middle + each] if i not in taken]
    return {"best": groups["best"], "median": median, "worst": groups["worst"]}


def legend_of_points(width: int, measured: bool = False) -> Image.Image:
    """A strip, `width` pixels wide, that shows what the marks of `paint_points` mean, and if there is something
    `measured`, those of `paint_lines`."""
    strip, pen, font = _strip(width)
    marks, middle = _Marks(strip.size, 8), LEGEND_HEIGHT / 2

    def error(place: np.ndarray) -> None:
        marks.line(place - [10, 0], place + [10, 0])

    def radius(place: np.ndarray) -> None:
        marks.reach(place, 13)

    def measurement(place: np.ndarray) -> None:
        pen.line([*(place - [10, 0]), *(place + [10, 0])], fill=MEASURED, width=2)

    entries = [("annotated", marks.circle), ("predicted", marks.cross), ("error", error), ("90 % sure", radius)]
    if measured:
        entries.append(("measured", measurement))
    left = 18.0
    for text, draw in entries:
        draw(np.array([left, middle]))
        pen.text((left + 18, middle), text, fill=(20, 20, 20), font=font, anchor="lm")
        left += 18 + pen.textlength(text, font=font) + 28
    marks.onto(strip)
    return strip


def legend_of_outlines(width: int) -> Image.Image:
    """A strip, `width` pixels wide, that shows what the outlines of `paint_outlines` mean."""
    strip, pen, font = _strip(width)
    for x, colour, text in ((10, TRUTH, "annotated"), (170, PREDICTION, "predicted")):
        pen.rectangle([x, 12, x + 30, 32], outline=colour, width=4)
        pen.text((x + 42, 22), text, fill=(20, 20, 20), font=font, anchor="lm")
    return strip


def _strip(width: int) -> tuple[Image.Image, ImageDraw.ImageDraw, ImageFont.FreeTypeFont]:
    strip = Image.new("RGB", (width, LEGEND_HEIGHT), (255, 255, 255))
    return strip, ImageDraw.Draw(strip), _font(14)


def montage(panels: Sequence[Panel], side: int, legend: Callable[[int], Image.Image]) -> Image.Image:
    """One row of pictures for each group; below each picture its caption and name, above all of them the legend.

    Args:
      panels: the pictures.
      side: pixels of their longer side.
      legend: gives the legend of a width.
    """
    rows = [[p for p in panels if p.group == group] for group in dict.fromkeys(p.group for p in panels)]
    gap, text = 14, 46
    width = max([sum(p.image.width + gap for p in row) + gap for row in rows], default=0)
    width = max(width, side + 2 * gap, WIDTH_OF_LEGEND)
    heights = [max(p.image.height for p in row) + text + gap for row in rows]
    sheet = Image.new("RGB", (width, LEGEND_HEIGHT + sum(heights)), (255, 255, 255))
    sheet.paste(legend(width), (gap, 0))
    pen, bold, small = ImageDraw.Draw(sheet), _font(15), _font(12.5)
    top = LEGEND_HEIGHT
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
    """A name, or its end where it is longer than `width` pixels: names of pictures differ at the end."""
    start = next((i for i in range(len(name)) if font.getlength("..." + name[i:]) <= width), len(name))
    return name if font.getlength(name) <= width else "..." + name[start:]
