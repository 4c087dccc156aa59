"""What a prediction has done so far, on the disk beside its result: the same command goes on where it was stopped.

`OUT.unfinished` has a folder for each process that shares the work, as 1-of-4, with a lock and a file: its first line
says what it is of, each further one is a batch, in order, and is on the disk before the next batch counts. A line that
was cut off doesn't count. The process that comes last finds all batches there, and makes the result of them.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ctd_jax import files, lock
from ctd_jax.errors import UserError

SUFFIX = ".unfinished"
FILE = "batches.jsonl"


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of the work that is this process's: the `number`-th, from 1 on, of `among`."""

    number: int = 1
    among: int = 1

    @classmethod
    def parse(cls, text: str) -> "Share":
        """The share that `--shard` gives; raises UserError."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"--shard is {text}; expected I/N, the I-th (1 to N) of N parts, as 1/4")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}-of-{self.among}"

    def of(self, batches: int) -> range:
        """Which of all batches are its own."""
        return range(batches * (self.number - 1) // self.among, batches * self.number // self.among)


class Unfinished:
    """The batches that are done. One process at a time has the share, see `held`.

    Args:
      folder: where they are kept.
      facts: what the result depends on, name -> digest.
      share: of this process.
      batches: number of all batches.
    """

    def __init__(self, folder: pathlib.Path, facts: Mapping[str, str], share: Share, batches: int):
        self.folder, self._share, self._batches = folder, share, batches
        self._facts = {**facts, "shards": str(share.among)}
        self._file = folder / str(share) / FILE
        self._end = 0  # of what is whole in it
        self.done = 0  # batches of this share

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While the block runs, the share is this process's.

        Raises:
          UserError: it is another's, or what is kept there is of another command.
        """
        with lock.held(self._file.parent):
            for file in self.folder.glob(f"*/{FILE}"):
                self._check(file)
            ends = [end for end, _ in _whole_lines(self._file)]
            if len(ends) > 1:  # the first line is no batch
                self._end, self.done = ends[-1], len(ends) - 1
            yield
        for folder in (self._file.parent, self.folder):
            with contextlib.suppress(OSError):  # something is in it
                folder.rmdir()

    def _check(self, file: pathlib.Path) -> None:
        lines = _whole_lines(file)
        found = next((facts for _, facts in lines), self._facts)
        differ = [name for name, fact in self._facts.items() if found.get(name) != fact]
        if not differ or not any(True for _ in lines):
            return
        if not set(self._facts) <= set(found):
            raise UserError(
                f"{self.folder} has what an older version has begun, and this one can't go on there; remove that "
                "folder, or give another --out"
            )
        raise UserError(
            f"{self.folder} has what another command has begun, with other {' and '.join(differ)}; give that command "
            "again, which goes on there, or another --out, or remove that folder"
        )

    @property
    def to_do(self) -> range:
        """The batches of this share that are not done."""
        return self._share.of(self._batches)[self.done :]

    def append(self, batch: Mapping[str, Any]) -> None:
        """Keeps the next batch of this share: JSON."""
        lines = [] if self.done else [self._facts]
        content = "".join(f"{json.dumps(one)}\n" for one in [*lines, batch]).encode()
        with files.naming(self._file), self._file.open("ab") as file:
            file.truncate(self._end)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            self._end = file.tell()
        self.done += 1

    def read(self, *, own: bool = False) -> Iterator[dict[str, Any]]:
        """The batches of all shares that are done, in order; `own`: of this share alone."""
        for file in [self._file] if own else self._files():
            lines = _whole_lines(file)
            next(lines, None)
            yield from (batch for _, batch in lines)

    def lacking(self) -> int:
        """The number of batches, of all shares, that are not done."""
        return self._batches - sum(1 for _ in self.read())

    def finish(self, work: Callable[[], None]) -> int:
        """`work()`, if all batches of all shares are done and no other process was here before; nothing is kept then.
        Returns `lacking`."""
        with lock.held(self.folder, wait=True):
            if not self._file.exists():
                return 0  # another share was the last, or this one has no batch
            if lacking := self.lacking():
                return lacking
            work()
            for file in self._files():
                file.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # its process is about to leave it
                    file.parent.rmdir()
        return 0

    def _files(self) -> list[pathlib.Path]:
        among = self._share.among
        return [self.folder / str(Share(number, among)) / FILE for number in range(1, among + 1)]


@contextlib.contextmanager
def beside(out: pathlib.Path, batches: int) -> Iterator[pathlib.Path]:
    """The folder for what is done of the result `out`; a temporary one for a stream, or for so few batches that there
    is nothing to go on from.

    Raises:
      KeyboardInterrupt: again, with a message for the user, where something is kept.
    """
    if batches > 1 and not files.is_stream(out):
        place = out if out.name not in ("", "..") else out.resolve()
        folder = place.with_name(place.name + SUFFIX)
        try:
            yield folder
        except KeyboardInterrupt as error:
            kept = f"stopped; what is done is kept in {folder}, and the same command goes on there"
            raise KeyboardInterrupt(kept if folder.exists() else "stopped; nothing was done") from error
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield pathlib.Path(temporary) / "unfinished"


def _whole_lines(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line that is whole, up to the first that isn't, with the place where it ends."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        end = 0
        for line in file:
            end += len(line)
            try:
                content = json.loads(line) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                return
            if not isinstance(content, dict):
                return
            yield end, content
