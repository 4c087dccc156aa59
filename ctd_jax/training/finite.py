"""Numbers that are not finite are never kept, chosen or predicted: the checks, and their messages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ctd_jax.errors import UserError
from ctd_jax.training.step import GRADIENT
from ctd_jax.typing import Tree

SHOWN = 3  # names in a message
RUN_AWAY = "training has run away; train with a lower train.encoder_lr and train.decoder_lr, in a new --workdir"


class NotFinite(UserError):
    """NaN or infinite numbers where only finite ones have a meaning."""


class RanAway(UserError):
    """A training whose numbers are not finite any more."""


def check_arrays(tree: Tree, what: str, advice: str = RUN_AWAY) -> None:
    """Checks that all numbers of a tree of NumPy arrays are finite.

    Args:
      tree: the arrays.
      what: begins the message.
      advice: ends it.

    Raises:
      NotFinite: some are not; the message names the first of these arrays.
    """
    bad = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if not np.isfinite(leaf).all()
    ]
    if bad:
        raise NotFinite(f"{what} NaN or infinite numbers in {_some(bad)}: {advice}")


def check_outputs(outputs: Tree, images: Sequence[str]) -> None:
    """Checks that a network's outputs are finite.

    Args:
      outputs: tree of arrays `[n, ...]`.
      images: names of the n pictures.

    Raises:
      NotFinite: some are not; the message names the first of these pictures.
    """
    finite = [np.isfinite(leaf).reshape(len(leaf), -1).all(-1) for leaf in jax.tree.leaves(outputs)]
    bad = [image for image, good in zip(images, np.all(finite, axis=0), strict=True) if not good]
    if bad:
        raise NotFinite(
            f"what the network says is NaN or infinite for {len(bad)} of {len(images)} pictures, {_some(bad)}: "
            f"{RUN_AWAY}"
        )


class Watch:
    """The means of the training steps since the last look. They stay on the devices, and only every few steps the last
    of them are read: a number that is not finite once stays so, and then the steps before show where it began.

    Args:
      fetch: NumPy copy of a tree on the devices.
      names: of the terms of the loss, as a message calls them.
    """

    def __init__(self, fetch: Callable[[Any], Any], names: Mapping[str, str]):
        self._fetch, self._names = fetch, names
        self._seen: list[tuple[int, Any]] = []
        self._looked = 0

    def add(self, step: int, means: dict[str, Any]) -> None:
        """`means` of the step, or `[n]` of the n steps that end with it."""
        self._seen.append((step, means))

    def look(self) -> dict[str, float]:
        """The means of the last step.

        Raises:
          NotFinite: they aren't finite; the message names the first terms that were not, and the step.
        """
        last = {key: float(np.ravel(value)[-1]) for key, value in self._fetch(self._seen[-1][1]).items()}
        if not all(map(np.isfinite, last.values())):
            raise NotFinite(self._first())
        self._looked = self.step
        self._seen.clear()
        return last

    @property
    def step(self) -> int:
        """Number of the last step that was added."""
        return self._seen[-1][0] if self._seen else self._looked

    def _first(self) -> str:
        for end, means in self._seen:
            table = {key: np.ravel(value) for key, value in self._fetch(means).items()}
            number = len(next(iter(table.values())))
            for i in range(number):
                bad = [key for key in dict.fromkeys([*self._names, *table]) if not np.isfinite(table[key][i])]
                if bad:
                    terms = [key for key in bad if key in self._names and key != GRADIENT] or bad[:1]
                    values = ", ".join(f"{self._names.get(key, key)} is {table[key][i]:.3g}" for key in terms)
                    return f"at step {end - number + 1 + i} {values}, the first that is not finite: {RUN_AWAY}"
        raise AssertionError("the last means are among those seen")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
