"""Class maps: how large each class is in each picture, and of how many pieces."""

import numpy as np
from scipy import ndimage

Regions = dict[int, tuple[int, int]]  # class -> its pixels, and the number of pieces that touch nowhere


def regions(classes: np.ndarray) -> Regions:
    """The regions of a class map `[H, W]`, 0 the background; pixels that share a corner are of one piece."""
    found = {}
    for one in np.unique(classes[classes > 0]).tolist():
        region = classes == one
        found[one] = int(region.sum()), int(ndimage.label(region, np.ones((3, 3)))[1])
    return found
