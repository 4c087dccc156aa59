"""The contract of a kind of targets: where its pictures come from. A new kind is one file, and one object of `Kind`."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from ml_collections import ConfigDict

from ctd_jax.data.dataset import Dataset
from ctd_jax.data.grey_range import Grey
from ctd_jax.data.targets import Targets

T = TypeVar("T", bound=Targets)


@dataclasses.dataclass(frozen=True)
class Prepared(Generic[T]):
    """N pictures that can be read.

    Attributes:
      dataset: all of them.
      sha256: of each picture's files, or of its values.
      looks: `[N]` of `twins.LOOK`; None: drawn pictures, no two of which are alike.
      grey: ranges of those of more than 8 bits.
    """

    dataset: Dataset[T]
    sha256: tuple[str, ...]
    looks: np.ndarray | None = None
    grey: Grey = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Listed(Generic[T]):
    """N pictures of one domain that are listed, and not read yet.

    Attributes:
      images: their names.
      subjects: who or what each is of.
      splits: what the folder says of each; None: nothing.
      annotated: whether each has any annotation; None: all have.
      prepare: makes them readable and warns of what is strange in their annotations, given the split of each; raises
        UserError if one can't be read.
      drawn: they are drawn ones, on which the embedded teacher is at home.
    """

    images: tuple[str, ...]
    subjects: tuple[str, ...]
    splits: Sequence[str] | None
    annotated: Sequence[bool] | None
    prepare: Callable[[Sequence[str]], Prepared[T]]
    drawn: bool = False


class Kind(Protocol[T]):
    """Where pictures of one kind of targets come from.

    Attributes:
      named: pictures are called `<domain>/<image>` and have a domain, even where there is one only.
      fewest: training pictures that each of several domains must have.
    """

    @property
    def named(self) -> bool: ...

    @property
    def fewest(self) -> int: ...

    def domains(self, config: ConfigDict, cache: pathlib.Path) -> Mapping[str, Callable[[], Listed[T]]]:
        """Domain -> function that lists its pictures, of all domains of `config.root`.

        Args:
          config: `data` of configs/default.py.
          cache: folder for prepared pictures.

        Raises:
          UserError: domains that can't be told apart, or folders that can't be read.
        """
        ...
