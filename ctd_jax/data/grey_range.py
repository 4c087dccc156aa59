"""Which values of a picture of more than 8 bits become black and white: its grey range.

One range serves all pictures of a folder that are stored alike (`integer` or `float`), so that the same value is the
same grey everywhere. It goes from 0, or from a power of two below, to the largest value of a bit depth: 0 to 1 (float
only), 255, 4095, 65535, -1024 to 4095, ...
"""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

Range = tuple[float, float]  # the values that become 0 and 255
Grey = Mapping[str, Range]  # "integer" or "float" -> range

FEW = 0.001  # of the pixels of a picture may lie beyond what counts as its darkest and its brightest
MARKER = 0.05  # of the pixels: a side marker burnt in, more than `APART` times brighter than all the rest
PADDING = 0.3  # of the pixels: what lies outside the field of view, more than `APART` times further below 0
APART = 4.0
OVERSHOOT = 1.1  # fractional values so far above a bit depth's largest are still of that depth, as after resampling
UNDERSHOOT = 0.05  # of the largest: values so little below 0 are black
BITS_APART = 2  # a picture of more bits than this above the others' does not widen the range
SAMPLE = 2**20  # pixels of a picture that are looked at, where they are not 16-bit integers


def kind(values: np.ndarray) -> str:
    return "float" if values.dtype.kind == "f" else "integer"


def bounds(values: np.ndarray) -> Range:
    """The darkest and the brightest value of one picture, without the few pixels that are beyond the rest."""
    if values.dtype == np.uint16:
        counts = np.bincount(values.ravel(), minlength=1)
        distinct = np.flatnonzero(counts)
        counts = counts[distinct]
    else:
        flat = values.ravel()[:: max(1, values.size // SAMPLE)]
        distinct, counts = np.unique(flat[np.isfinite(flat)], return_counts=True)
    if not len(distinct):
        return 0.0, 0.0
    distinct, floor = distinct.astype(np.float64), 1.0 if kind(values) == "float" else 255.0
    high = _top(distinct, counts, MARKER, floor)
    return -_top(-distinct[::-1], counts[::-1], PADDING, floor), high


def _top(distinct: np.ndarray, counts: np.ndarray, share: float, floor: float) -> float:
    """The largest of ascending values with their counts, without outliers: see `FEW` and `APART`."""
    above = counts.sum() - np.cumsum(counts)
    ordinary = distinct[np.argmax(above <= FEW * counts.sum())]
    empty = distinct[1:] > APART * np.maximum(distinct[:-1], floor)
    gaps = np.flatnonzero(empty & (above[:-1] <= share * counts.sum()))
    return float(min(ordinary, distinct[gaps[0]]) if len(gaps) else ordinary)


def shared(found: Sequence[Range], kind: str) -> Range:
    """The range of pictures of one kind, from the `bounds` of each: the largest bit depth that any of them needs, but
    for those with `BITS_APART` more than most. It starts at 0 unless half of the pictures go further below."""
    highest = 2 ** _most([_depth(high, kind) for _, high in found]) - 1
    below = [low for low, _ in found if low < -UNDERSHOOT * highest]
    lowest = (
        -(2 ** _most([max(0, int(np.ceil(np.log2(-low)))) for low in below])) if 2 * len(below) >= len(found) else 0
    )
    return float(lowest), float(highest)


def _depth(value: float, kind: str) -> int:
    """Bits that `value` needs."""
    if kind == "integer":
        return max(8, int(max(value, 0.0)).bit_length())
    return max(1, int(np.ceil(np.log2(max(value, 0.0) / OVERSHOOT + 1))))


def _most(depths: Sequence[int]) -> int:
    return max(depth for depth in depths if depth <= statistics.median_low(depths) + BITS_APART)


def to_8_bits(values: np.ndarray, range_: Range) -> np.ndarray:
    """uint8 of the same shape: `range_` on 0 to 255, values beyond it black or white, and black what is no number."""
    low, high = range_
    if values.dtype == np.uint16:
        return to_8_bits(np.arange(2**16, dtype=np.float64), range_)[values]
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    if kind(values) == "float":
        scaled = np.nan_to_num(scaled, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
