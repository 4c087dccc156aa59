"""Between a picture's own pixels and the square picture that the network sees.

Both use (x, y) with (0, 0) at the centre of the top-left pixel. One scale serves both axes: nothing is squeezed.
"""

import dataclasses

import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Frame:
    """A square window of a picture, seen at `size` x `size` pixels: `network = scale * picture + offset`."""

    scale: float
    offset: tuple[float, float]
    size: int

    @classmethod
    def fit(cls, width: int, height: int, size: int, box: np.ndarray | None = None, margin: float = 0.0) -> "Frame":
        """The smallest square about a picture, or about a box in it.

        Args:
          width: of the picture, pixels.
          height: of the picture, pixels.
          size: side of the network's picture, pixels.
          box: `[4]` x0, y0, x1, y1, pixels of the picture; None: the whole picture.
          margin: added on each side of the box, as a share of its longer side.
        """
        x0, y0, x1, y1 = (-0.5, -0.5, width - 0.5, height - 0.5) if box is None else box
        side = max(x1 - x0, y1 - y0) * (1.0 if box is None else 1 + 2 * margin)
        scale = size / side
        middle = (size - 1) / 2
        return cls(scale, (middle - scale * (x0 + x1) / 2, middle - scale * (y0 + y1) / 2), size)

    def to_network(self, xy: np.ndarray) -> np.ndarray:
        """`[..., 2]` picture coordinates -> `[..., 2]` network coordinates."""
        return xy * self.scale + np.asarray(self.offset)

    def to_picture(self, xy: np.ndarray) -> np.ndarray:
        """`[..., 2]` network coordinates -> `[..., 2]` picture coordinates."""
        return (xy - np.asarray(self.offset)) / self.scale

    def resample_classes(self, classes: np.ndarray, outside: int) -> np.ndarray:
        """`[H, W]` classes -> `[size, size]` of the same type: the nearest pixel's, `outside` off the picture."""
        row, no_row = self._nearest(classes.shape[0], self.offset[1])
        column, no_column = self._nearest(classes.shape[1], self.offset[0])
        return np.where(no_row[:, None] | no_column, classes.dtype.type(outside), classes[row][:, column])

    def _nearest(self, length: int, offset: float) -> tuple[np.ndarray, np.ndarray]:
        """The picture's pixel at each network pixel along an axis, and whether that lies outside the picture; both
        `[size]`."""
        place = (np.arange(self.size) - offset) / self.scale
        pixel = np.floor(place + 0.5).astype(int)
        return np.clip(pixel, 0, length - 1), (pixel < 0) | (pixel >= length)

    def restore(self, maps: np.ndarray, width: int, height: int) -> np.ndarray:
        """`[size, size, C]` maps of the network -> `[height, width, C]` float32 of the picture, linear in between."""
        x, y = (
            np.clip(self.scale * np.arange(length) + offset, 0, self.size - 1)
            for length, offset in ((width, self.offset[0]), (height, self.offset[1]))
        )
        maps = np.asarray(maps, np.float32)
        for places, axis in ((y, 0), (x, 1)):
            first = np.minimum(np.floor(places).astype(int), self.size - 2)
            part = (places - first).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
            maps = maps.take(first, axis) * (1 - part) + maps.take(first + 1, axis) * part
        return maps

    def resample(self, picture: np.ndarray) -> np.ndarray:
        """`[H, W, 3]` uint8 -> `[size, size, 3]` uint8, antialiased; black where the window leaves the picture."""
        network = np.zeros((self.size, self.size, 3), np.uint8)
        height, width = picture.shape[:2]
        # Whole network pixels that lie inside the picture, and the (fractional) part of the picture that they cover.
        start, stop = [], []
        for length, offset in ((width, self.offset[0]), (height, self.offset[1])):
            first, last = (self.scale * edge + offset + 0.5 for edge in (-0.5, length - 0.5))
            start.append(int(np.ceil(max(0.0, first) - 1e-6)))
            stop.append(int(np.floor(min(float(self.size), last) + 1e-6)))
        if start[0] >= stop[0] or start[1] >= stop[1]:
            return network
        corners = np.array([start, stop], np.float64)
        box = (corners - 0.5 - np.asarray(self.offset)) / self.scale + 0.5
        box = np.clip(box, 0, (width, height)).ravel()
        shape = (stop[0] - start[0], stop[1] - start[1])
        part = Image.fromarray(picture).resize(shape, Image.Resampling.BILINEAR, box=tuple(box))
        network[start[1] : stop[1], start[0] : stop[0]] = np.asarray(part)
        return network
