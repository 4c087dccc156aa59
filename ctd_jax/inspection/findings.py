"""What was found in a folder, in the form in which page and terminal show it."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Item:
    """One thing that was found.

    Attributes:
      text: what it is.
      rows: indices of the pictures it is about.
      images: pictures that show it, as data of the page, with what they show.
    """

    text: str
    rows: tuple[int, ...] = ()
    images: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
    """All that was found of one kind.

    Attributes:
      title: a few words.
      spoils: whether it would spoil a training or its result; else it is worth a look.
      about: what it means, and what to do.
      items: the most important first.
      counted: how many there are, where not all of them are items.
    """

    title: str
    spoils: bool
    about: str
    items: Sequence[Item]
    counted: int = 0

    @property
    def number(self) -> int:
        return max(self.counted, len(self.items))
