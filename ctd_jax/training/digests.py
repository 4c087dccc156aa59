"""Short words that change with any bit of what they are made of."""

import hashlib
from typing import Any

import jax
import numpy as np


def of_tree(tree: Any) -> str:
    """64 hexadecimal digits (SHA-256) of all arrays of a tree (NumPy), and of their names, types and shapes."""
    content = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        content.update(f"{name} {array.dtype} {np.shape(leaf)}\n".encode())
        content.update(array.reshape(-1).view(np.uint8))
    return content.hexdigest()
