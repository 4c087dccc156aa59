"""How far the program may be ahead of the devices."""

import collections

import jax

from ctd_jax.typing import Tree


class Pace:
    """Waits for steps that are still computed. Calls of compiled functions return at once, and the steps queue up.

    An accelerator has one step waiting while it computes another, so that it never waits for the program. On a CPU each
    step gets its memory when it is called, not when it begins: there, none is waiting.

    Args:
      platform: of the devices, "cpu" or another.
    """

    def __init__(self, platform: str):
        self._ahead = 0 if platform == "cpu" else 1
        self._called: collections.deque[Tree] = collections.deque()

    def add(self, result: Tree) -> None:
        """`result` of the step that was called just now, of which nothing is donated to the next."""
        self._called.append(result)
        if len(self._called) > self._ahead:
            jax.block_until_ready(self._called.popleft())
