"""Digests of trees of arrays: short texts that change with any bit of what they are made from."""

import hashlib

import jax
import numpy as np

from ctd_jax.typing import Tree


def of_tree(tree: Tree) -> str:
    """64 hexadecimal digits (SHA-256) of all NumPy arrays of a tree, and of their names, types and shapes."""
    content = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        content.update(f"{name} {array.dtype} {np.shape(leaf)}\n".encode())
        content.update(array.reshape(-1).view(np.uint8).data)
    return content.hexdigest()
