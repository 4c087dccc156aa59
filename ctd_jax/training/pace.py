"""How far the program may be ahead of the devices."""

import collections
import math
import time

import jax

from ctd_jax.training import memory
from ctd_jax.typing import Tree

PAUSE = 0.002  # seconds; a large step takes a hundred times as long
PATIENCE = 0.5  # seconds to wait for memory at most: something else may have got it in the meantime
KEPT = 1.5  # times a step's bytes


def wait_until_free(below: float) -> int | None:
    """Waits, `PATIENCE` at most, until fewer bytes are in use, and returns how many are: what a program on a CPU had is
    free a moment after its result is there, and one that is called before gets its own beside it."""
    began = time.monotonic()
    while (now := memory.in_use()) is not None and now >= below and time.monotonic() - began < PATIENCE:
        time.sleep(PAUSE)
    return now


class Pace:
    """Waits for steps that are still computed. Calls of compiled functions return at once, and the steps queue up.

    An accelerator has one step waiting while it computes another, so that it never waits for the program. On a CPU each
    step gets its memory when it is called, not when it begins: there, none is waiting. A step's memory is free a moment
    after its result is there, and much later where other programs want the cores: a step that is called before gets all
    of it anew, and the process grows to two and three times what it needs. So after a large one it is waited for. It
    also gets all of it anew where something small has been put in the middle of what the last one had: then what is
    free is given back to the system.

    Args:
      platform: of the devices, "cpu" or another.
      step: bytes that exist only during a step, see `memory.of_step`.
    """

    def __init__(self, platform: str, step: int):
        self._ahead = 0 if platform == "cpu" else 1
        self._awaited = step if platform == "cpu" and step > memory.LARGE else 0
        self._before, self._resident = memory.in_use(), memory.resident()  # before the next step, and the first
        self._called: collections.deque[Tree] = collections.deque()

    def add(self, result: Tree) -> None:
        """`result` of the step that was called just now, of which nothing is donated to the next."""
        self._called.append(result)
        if len(self._called) > self._ahead:
            jax.block_until_ready(self._called.popleft())
            if self._awaited:
                self._wait_for_memory()

    def _wait_for_memory(self) -> None:
        time.sleep(PAUSE)
        self._before = wait_until_free(math.inf if self._before is None else self._before + self._awaited / 2)
        if memory.resident() > self._resident + KEPT * self._awaited:
            memory.give_back()
            self._resident = memory.resident()
