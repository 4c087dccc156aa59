"""The one table that label files are read into and written from."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

from ctd_jax.errors import UserError

PLACED, HIDDEN, ABSENT = "placed", "hidden but placed", "absent"
STATES = (PLACED, HIDDEN, ABSENT)
COLUMNS = ("image", "width", "height", "subject", "point", "x", "y", "state", "confidence", "who")


@dataclasses.dataclass(frozen=True)
class Point:
    """A point that somebody or something has placed: pixels, (0, 0) the centre of the top-left one."""

    x: float
    y: float
    hidden: bool = False  # its place was inferred, because something lies before it
    confidence: float = math.nan


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A picture and its points; one that isn't among them is absent.

    Attributes:
      image: its file, below the folder of the pictures.
      size: width and height; None: unknown.
      spacing: mm of a pixel along x and y; None: unknown.
      who: placed the points.
      where: file and entry, for messages.
    """

    image: str
    points: Mapping[str, Point]
    size: tuple[int, int] | None = None
    subject: str = ""
    spacing: tuple[float, float] | None = None
    who: str = ""
    where: str = ""

    def known_size(self) -> tuple[int, int]:
        """Width and height.

        Raises:
          UserError: they are unknown.
        """
        if self.size is None:
            raise UserError(
                f"{self.image}: its width and height are unknown, and this format needs them; give the folder of the "
                "pictures, --images=DIR"
            )
        return self.size

    def all_points(self, names: Sequence[str], what: str) -> list[Point]:
        """The points in the order of `names`, for a format that knows them by their order; `what`: its name.

        Raises:
          UserError: one is absent.
        """
        absent = next((name for name in names if name not in self.points), None)
        if absent is not None:
            raise UserError(
                f"{self.image}: {absent} is absent, and {what} knows points by their order alone, so that none can be "
                "left out; take another format, or leave out the picture"
            )
        return [self.points[name] for name in names]


@dataclasses.dataclass(frozen=True)
class Labels:
    """Pictures with their points, and the names that these can have, in order."""

    names: tuple[str, ...]
    pictures: tuple[Labelled, ...]

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The table in the long form, of `COLUMNS`: a row for each picture and point, "" where unknown."""
        for picture in self.pictures:
            width, height = picture.size or ("", "")
            for name in self.names:
                point = picture.points.get(name)
                placed = ("", "", ABSENT, "") if point is None else _cells(point)
                x, y, state, confidence = placed
                yield (picture.image, f"{width}", f"{height}", picture.subject, name, x, y, state, confidence,
                       picture.who)  # fmt: skip


def _cells(point: Point) -> tuple[str, str, str, str]:
    confidence = "" if math.isnan(point.confidence) else repr(point.confidence)
    return repr(point.x), repr(point.y), HIDDEN if point.hidden else PLACED, confidence
