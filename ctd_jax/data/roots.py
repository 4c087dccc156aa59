"""What `data.root` lists: folders, TFDS data sets, or kinds of drawn pictures."""

import os

from ml_collections import ConfigDict

from ctd_jax.data import picture_files
from ctd_jax.errors import UserError

MISSING = (
    "no data: give a folder with landmarks.csv, dataset.json and pictures, --config.data.root=DIR (docs/data.md says "
    "how to make one), or the drawn faces of the demo, --config.data.root=synthetic"
)
TFDS = "tfds:"  # begins the name of a TFDS data set
IN_PYTHON = "python"  # of a run whose pictures were given to `from_lists`


def listed(config: ConfigDict) -> list[str]:
    """The folders, TFDS data sets and kinds of drawn pictures in `config.root`, which are separated by commas.

    Raises:
      UserError: there is none, or one is a URL.
    """
    if not config.root:
        raise UserError(MISSING)
    if os.path.isdir(config.root):
        return [config.root]
    if config.root == IN_PYTHON:
        raise UserError(
            f"data.root is {IN_PYTHON!r}: the pictures were lists in Python, which a command can't read; give a folder "
            "of them, --config.data.root=DIR"
        )
    found = [root.strip() for root in config.root.split(",") if root.strip()]
    url = next(filter(picture_files.is_url, found), None)
    if url:
        raise UserError(f"data.root is {url}, a URL; download it first, and give the folder")
    return found


def drawn_size(config: ConfigDict) -> int:
    """Side of drawn pictures, pixels.

    Args:
      config: `data` of configs/default.py.

    Raises:
      UserError: it is to be chosen from the pictures.
    """
    if not config.image_size:
        raise UserError(
            "data.image_size is 0, to be chosen from the pictures, but drawn pictures have the size that is asked for; "
            "give a number of pixels"
        )
    return config.image_size
