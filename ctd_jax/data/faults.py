"""All that is wrong with a folder, in one message."""

import contextlib
from collections.abc import Iterator

from ctd_jax.errors import UserError


class Fault(UserError):
    """A fault of one kind, such as "unreadable picture"; `Faults` counts those of a kind together."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class Faults:
    """Collects faults while a folder is read on.

        faults = Faults("faces/landmarks.csv")
        faults.add("half a point", "faces/landmarks.csv, row 3: ...")
        with faults.collecting("unreadable picture"):
            check(...)  # what it raises is added
        faults.raise_if_any()

    Args:
      title: what they are faults of; the message begins with it if there is more than one.
    """

    def __init__(self, title: str):
        self._title = title
        self._found: dict[str, list[str]] = {}  # kind -> messages

    def __len__(self) -> int:
        return sum(map(len, self._found.values()))

    def count(self, kind: str) -> int:
        return len(self._found.get(kind, ()))

    def by_kind(self) -> dict[str, tuple[str, ...]]:
        """Kind -> the messages of its faults, in the order in which they were found."""
        return {kind: tuple(messages) for kind, messages in self._found.items()}

    def add(self, kind: str, message: str) -> None:
        """Adds a fault of `kind`, a few words; `message`: file and row, what was found and expected, what to do."""
        self._found.setdefault(kind, []).append(message)

    def take(self, kind: str, error: UserError | None) -> None:
        """Adds `error`, if it is one: under its own kind if it is a `Fault`."""
        if error is not None:
            self.add(getattr(error, "kind", kind), str(error))

    @contextlib.contextmanager
    def collecting(self, kind: str) -> Iterator[None]:
        """Takes the UserError that the block ends with, if any."""
        try:
            yield
        except UserError as error:
            self.take(kind, error)

    def raise_if_any(self) -> None:
        """Raises a UserError that says the only fault, or the first of each kind and their numbers."""
        if not self._found:
            return
        if len(self) == 1:
            raise UserError(next(messages[0] for messages in self._found.values()))
        lines = [f"{len(messages)} x {kind}: {messages[0]}" for kind, messages in self._found.items()]
        many = "the first of each kind" if len(lines) > 1 else "the first"
        raise UserError("\n".join([f"{self._title}: {len(self)} faults; {many}:", *(f"- {line}" for line in lines)]))
