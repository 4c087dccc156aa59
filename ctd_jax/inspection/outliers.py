"""Pictures that are unlike the others in size, spacing, brightness or sharpness.

A picture is named where it lies beyond Tukey's outer fences (1977, Exploratory Data Analysis): `FAR` interquartile
ranges outside the quartiles, up to a quarter of the pictures may be wrong. Sizes, spacings and sharpness are compared
as ratios. Where the middle half is all alike, `LEAST` stands for its range.
"""

from collections.abc import Sequence

import numpy as np

from ctd_jax.inspection.findings import Finding, Item
from ctd_jax.inspection.looks import Look

FAR = 3.0
FEWEST = 8  # pictures that can tell what is usual
LEAST = {"size": 0.05, "shape": 0.03, "spacing": 0.05, "brightness": 6.0, "sharpness": 0.1}  # least range of the middle
# half; brightness in grey values, the others as a ratio less one


def fences(values: np.ndarray, least: float) -> tuple[float, float]:
    """Tukey's outer fences of the values that are not NaN; `least`: the least interquartile range."""
    low, high = np.nanpercentile(values, (25, 75))
    far = FAR * max(high - low, least)
    return float(low - far), float(high + far)


def find(domain: str, rows: Sequence[int] | np.ndarray, looks: Sequence[Look], spacing: np.ndarray) -> Finding:
    """The pictures of a domain that are unlike its others.

    Args:
      domain: its name; "": there is one kind of pictures.
      rows: indices of its n pictures.
      looks: at each of them.
      spacing: `[n, 2]` mm per pixel; NaN: unknown.
    """
    size = np.array([look.twin["size"] for look in looks], float)
    brightness, sharpness = (np.array([getattr(look, name) for look in looks]) for name in ("brightness", "sharpness"))
    mm = spacing.mean(1)
    measured = [
        ("size", np.log(size.prod(1)) / 2, [f"{w:.0f} x {h:.0f} pixels" for w, h in size], ("small", "large")),
        ("shape", np.log(size[:, 0] / size[:, 1]), [f"{w:.0f} x {h:.0f} pixels" for w, h in size], ("narrow", "wide")),
        ("spacing", np.log(mm), [f"{one:.4g} mm per pixel" for one in mm], ("fine", "coarse")),
        ("brightness", brightness, [f"mean grey value {one:.0f}" for one in brightness], ("dark", "bright")),
        ("sharpness", np.log(np.maximum(sharpness, 1e-3)), [f"sharpness {one:.2f}" for one in sharpness],
         ("blurred", "noisy or sharp")),
    ]  # fmt: skip
    items = []
    for name, values, words, (low_word, high_word) in measured:
        if np.isfinite(values).sum() < FEWEST:
            continue
        low, high = fences(values, LEAST[name])
        usual = words[int(np.nanargmin(abs(values - np.nanmedian(values))))]
        for row in np.flatnonzero((values < low) | (values > high)).tolist():
            word = low_word if values[row] < low else high_word
            items.append(Item(f"{word}: {words[row]}, usual is {usual}", (int(rows[row]),)))
    about = "Look at each: another machine, a crop, a failed export? Their points may be right all the same."
    title = f"Pictures unlike the others{f': {domain}' if domain else ''}"
    return Finding(title, False, about, items)
