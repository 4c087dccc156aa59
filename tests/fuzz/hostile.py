"""Hostile contents made of right ones, and what is watched while the code reads them."""

import contextlib
import os
import pathlib
import random
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator

from ctd_jax.errors import UserError
from tests.fuzz.doors import Door

NUMBER = 15  # of each door
SECONDS, GIB = 30, 1.0  # that no input may exceed
NUMBERS = ("nan", "inf", "-inf", "1e999", "1e308", "-1e308", "1e-400", "-0", "0x10", "1_000", "\u0661\u0662", "1,5", "",
           " 7 ", "+5", "1e2", "NA", "null", "9" * 400, "=1+1", "1.2.3", "--1", "true", "\0", "-1", "0")  # fmt: skip
WORDS = ("../../outside.png", "/etc/passwd", "~root", "C:\\x", "con", "a" * 5000, "a" * 20000, "\u202egnp.a",
         "\U0001f4a5", "'", '"', '"\n"', "=cmd()", "http://example.org/a.png", "file:///etc/passwd", ".", "..", "", " ",
         "\n", "\r", "%s%n", "{}", "[" * 100_000, '{"a":' * 100_000, "$(touch ran)", "`touch ran`", "__proto__", "NaN",
         "a.png", "\ufeff", "image", "train", "test", "unused")  # fmt: skip
PICKLE = b"cposix\nsystem\n(S'touch ran'\ntR."
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink", "os.chmod")
RUNS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class", "socket.connect")


def is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def content(right: bytes, draw: random.Random) -> bytes:
    """One to three things done to the content of a file."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        right = draw.choice(OF_TEXT if is_text(right) else OF_BYTES)(right, draw)
    return right


def known(right: bytes) -> list[bytes]:
    """What a draw seldom hits: a pickle that runs a program; a list, brackets nested too deep, an integer with more
    digits than Python reads, a cell longer than `csv` takes, a zero byte; of what is no text, another last bit, a last
    number that is none, and JSON in JSON that is none."""
    if not is_text(right):
        changed = [
            right[:-1] + bytes([right[-1] ^ 1]),
            right[:-4] + b"\0\0\xc0\x7f",
            right.replace(b'{\\"', b'[\\"', 1),
        ]
        return [PICKLE, *changed]
    return [
        PICKLE,
        b"[1]",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        re.sub(rb"[:,] *\"?[\w.]+\"?", lambda found: found[0][:1] + b"9" * 5000, right, count=1),
        right + b"x" * 200_000,
        right.replace(b",", b",\0", 1),
    ]


def cut(right: bytes, draw: random.Random) -> bytes:
    return right[: draw.randrange(len(right) + 1)]


def flip(right: bytes, draw: random.Random) -> bytes:
    changed = bytearray(right)
    for _ in range(draw.choice((1, 1, 1, 8)) if right else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def insert(right: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(right) + 1)
    return right[:at] + draw.randbytes(draw.choice((1, 4, 1000))) + right[at:]


def _slice(right: bytes, draw: random.Random) -> tuple[int, int]:
    first = draw.randrange(len(right) + 1)
    return first, min(len(right), first + draw.choice((1, 4, 8, 40)))


def drop(right: bytes, draw: random.Random) -> bytes:
    first, last = _slice(right, draw)
    return right[:first] + right[last:]


def repeat(right: bytes, draw: random.Random) -> bytes:
    first, last = _slice(right, draw)
    return right[:last] + right[first:last] * draw.choice((1, 1, 1000)) + right[last:]


def fill(right: bytes, draw: random.Random) -> bytes:
    """A few bytes are the least or the largest: lengths and sizes in a head become 0, 4 billion or negative."""
    first, last = _slice(right, draw)
    return right[:first] + draw.choice((b"\0", b"\xff", b"\x7f")) * (last - first) + right[last:]


def append(right: bytes, draw: random.Random) -> bytes:
    return right + draw.choice((b"\0" * 4096, right, b"PK\x03\x04", b"<script>alert(1)</script>"))


def _exchange(pattern: str, others: tuple[str, ...], right: bytes, draw: random.Random) -> bytes:
    text = right.decode("utf-8", "surrogateescape")
    places = list(re.finditer(pattern, text))
    if not places:
        return right
    place = draw.choice(places)
    changed = text[: place.start()] + draw.choice(others) + text[place.end() :]
    return changed.encode("utf-8", "surrogateescape")


def other_number(right: bytes, draw: random.Random) -> bytes:
    return _exchange(r"-?\d+(\.\d+)?", NUMBERS, right, draw)


def other_word(right: bytes, draw: random.Random) -> bytes:
    return _exchange(r"[A-Za-z_.]{2,}", WORDS, right, draw)


def other_cell(right: bytes, draw: random.Random) -> bytes:
    return _exchange(r'[^,\n"{}\[\]:]+', NUMBERS + WORDS, right, draw)


def other_line(right: bytes, draw: random.Random) -> bytes:
    lines = right.splitlines(keepends=True) or [b""]
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    return b"".join([*lines[:i], lines[j], *lines[i + draw.choice((0, 1)) :]])


def other_encoding(right: bytes, draw: random.Random) -> bytes:
    text = right.decode("utf-8", "replace")
    encoding = draw.choice(("utf-16", "utf-16-be", "utf-32", "utf-8-sig", "utf-7"))
    return text.encode(encoding, "replace")


def other_separator(right: bytes, draw: random.Random) -> bytes:
    return right.replace(b",", draw.choice((b";", b"\t", b"|", b",,"))).replace(
        b"\n", draw.choice((b"\r\n", b"\r", b"\n"))
    )


OF_BYTES = (cut, flip, insert, drop, repeat, fill, append)
OF_TEXT = (cut, flip, drop, repeat, append, other_encoding, other_separator) + (
    other_number, other_number, other_word, other_word, other_cell, other_cell, other_cell, other_line,
)  # fmt: skip


class Broken(AssertionError):
    """A promise that was."""


class _Watch:
    """Audit hook, which can't be taken away again: it counts while `folder` is set."""

    def __init__(self) -> None:
        self.folder = ""
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple) -> None:
        if not self.folder:
            return
        if event in RUNS:
            self.seen.append(f"{event} {args[:2]}")
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (writes or event in CHANGES) and isinstance(args[0], str | bytes):
            path = os.path.abspath(os.path.join(_folder_of(event, args), os.fsdecode(args[0])))
            if not path.startswith(self.folder):
                self.seen.append(f"{event} {path}")


def _folder_of(event: str, args: tuple) -> str:
    """The folder that the path of an event begins in: that of an open folder, its last argument, or the current one."""
    descriptor = args[-1] if event in ("os.remove", "os.rmdir", "os.mkdir", "os.chmod") else -1
    return os.readlink(f"/proc/self/fd/{descriptor}") if isinstance(descriptor, int) and descriptor >= 0 else ""


_watch: list[_Watch] = []


def _peak_gib() -> float:
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20


@contextlib.contextmanager
def watched(folder: pathlib.Path) -> Iterator[None]:
    """Raises Broken if the block runs a program, connects to somewhere, writes outside of `folder`, or takes longer or
    more memory than allowed."""

    def too_long(*_: object) -> None:
        raise Broken(f"it took longer than {SECONDS} s")

    if not _watch:
        _watch.append(_Watch())
    (watch,) = _watch
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, memory = signal.signal(signal.SIGALRM, too_long), _peak_gib()
    watch.folder, watch.seen = str(folder), []
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        watch.folder = ""
        grown = _peak_gib() - memory
        if watch.seen or grown > GIB:
            raise Broken(f"{watch.seen}, {grown:.1f} GiB")


def attack(door: Door, folder: pathlib.Path, hostile: bytes) -> str:
    """Puts `hostile` in the place of a right file and reads; returns "refused" or "accepted".

    Raises:
      Broken: anything but a UserError of one message, or what was accepted is not what the file says.
    """
    for name, right in door.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(hostile if name == door.attacked else right)
    try:
        with watched(folder):
            found = door.read(folder)
    except UserError as error:
        if not str(error).strip() or "Traceback" in str(error) or len(str(error)) > 20_000:
            raise Broken(f"its message is {str(error)[:200]!r}") from error
        return "refused"
    except Broken:
        raise
    except BaseException as error:
        raise Broken(f"{type(error).__name__}: {str(error)[:300]}") from error
    try:
        door.check(folder, found)
    except Exception as error:
        raise Broken(f"accepted, but {type(error).__name__}: {str(error)[:500]}") from error
    return "accepted"


def count(name: str, door: Door, number: int, seed: int, folder: pathlib.Path) -> tuple[Counter, list[str]]:
    """How many of so many hostile files were refused and accepted; and the broken promises, with what broke them."""
    counts: Counter[str] = Counter()
    broken = []
    for i in range(number):
        draw = random.Random(f"{name} {seed} {i}")
        attacking = content(door.files[door.attacked], draw)
        try:
            counts[attack(door, folder, attacking)] += 1
        except Broken as error:
            broken.append(f"{name}, number {i}: {error}; content {attacking[:300]!r}")
    return counts, broken
