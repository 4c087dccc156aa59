"""What a label file does not say by itself: its pictures, the names of points known by their order, spacing."""

import collections
import contextlib
import dataclasses
import functools
import io
import logging
import os
import pathlib
import re
from collections.abc import Iterable, Mapping

from PIL import ExifTags, Image, UnidentifiedImageError

from ctd_jax.data import pictures, tables, walk
from ctd_jax.data.faults import Fault
from ctd_jax.data.picture_files import PictureFiles, key
from ctd_jax.errors import UserError

_log = logging.getLogger(__name__)
LONGEST = 4096  # characters of a path, as in Linux


class Pictures:
    """The pictures below a folder, as label files name them: often by a path of another machine."""

    def __init__(self, root: pathlib.Path):
        if not root.is_dir():
            raise UserError(f"--images: {root} is no folder; give the one with the pictures")
        self.root = root
        self._files = PictureFiles(root)
        self._moved: dict[str, str] = {}  # name in the label file -> file, found by the end of its name
        self._turned: list[str] = []  # files that are turned upright, of those whose size was asked for

    def find(self, name: str, at: str, *, cut: bool = False) -> str:
        """The file below the root that `name`, in an entry `at`, means: the one of this path, or whose path is the
        longest end of it, or the only one of this last part. A file in the root itself is such an end where the folder
        before its name is called as the root. `cut`: folders before the name may be cut off, so that a last part alone
        has to be the only one.

        Raises:
          Fault: there is none, or several, or `name` leads out of the folder.
        """
        path = name.replace("\\", "/")
        if ".." in path.split("/"):
            raise Fault(
                "path", f"{at}: picture {name[:200]!r} leads out of its folder (..); name a file in {self.root}"
            )
        if not name or "\0" in name:
            raise Fault("missing picture", f"{at}: the picture has no name; expected that of a file in {self.root}")
        if len(name) > LONGEST:
            raise Fault(
                "missing picture",
                f"{at}: the picture's name, {name[:50]!r}..., has {len(name)} characters; expected that of a file in "
                f"{self.root}",
            )
        elsewhere = os.path.isabs(path) or re.match(r"[A-Za-z]:/", path)
        if not elsewhere and os.path.isfile(self.root / path) and ("/" in path or not cut):
            return os.path.normpath(path)
        fitting, by_name_alone = self._fitting(path, self._by_name)
        if len(fitting) == 1:
            if by_name_alone and key(path) != key(fitting[0]):
                self._moved[name] = fitting[0]
            return fitting[0]
        if len(fitting) > 1:
            raise Fault("missing picture", f"{at}: picture {name} may be {tables.listed(fitting, 3)}; move the others")
        return self._files.find(path.rpartition("/")[2] if elsewhere else path, at)

    def of_stem(self, stem: str, at: str) -> str:
        """The only picture whose file is called `stem`, but for the ending: as in `find`, that of the longest end of
        this path, or of its last part; ./ before it says that it is the path below the root."""
        (fitting, by_name_alone), name = self._fitting(stem, self._by_stem), os.path.normpath(stem)
        beside = f"{os.path.basename(os.path.dirname(at))}/{name}"
        if (
            stem.startswith("./")
            and "/" not in name
            and key(beside) in self._by_stem
            and f"./{key(name)}" in self._by_stem
        ):
            raise Fault("missing picture", f"{at}: picture {name} may be {fitting[0]} or one of {beside}.*; give the "
                        "folder of label files that lies as the pictures do")  # fmt: skip
        if not fitting and os.path.isfile(self.root / name):  # a picture without an ending
            return name
        if len(fitting) != 1:
            found = f"{len(fitting)}: {tables.listed(fitting, 3)}" if fitting else "none"
            raise Fault("missing picture", f"{at}: expected one picture {name}.* in {self.root}, found {found}")
        if by_name_alone and "/" in stem and key(name) != key(os.path.splitext(fitting[0])[0]):
            self._moved[name] = fitting[0]
        return fitting[0]

    def has_stem(self, stem: str) -> bool:
        """Whether a picture's file is called `stem`, but for the ending."""
        return bool(self._fitting(stem, self._by_stem)[0])

    @functools.cache  # noqa: B019  one object for a call of the command
    def size(self, image: str) -> tuple[int, int]:
        """Width and height of a file, turned upright.

        Raises:
          UserError: it can't be read.
        """
        path = self.root / image
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: can't be read ({error.strerror})") from error
        height, width = pictures.read(content, str(path)).values.shape[:2]
        if _exif(content, ExifTags.Base.Orientation) in range(2, 9):
            self._turned.append(image)
        return width, height

    def channels(self, image: str) -> int:
        """How many pages of a stack are one picture, as ImageJ writes it into a TIFF file whose `size` is known."""
        said = _exif((self.root / image).read_bytes(), ExifTags.Base.ImageDescription)
        channels = re.search(r"^channels=([1-9]\d{0,3})$", str(said), re.MULTILINE)
        return int(channels[1]) if channels else 1

    def all(self) -> set[str]:
        """Every picture below the root."""
        return set(self._all)

    def say(self) -> None:
        """Warns, once, of pictures that lie in another folder than the label file says, and of turned ones."""
        if self._moved:
            name, file = next(iter(self._moved.items()))
            _log.warning("%d pictures are found by the last part of their path alone; first, %s is %s",
                         len(self._moved), name, self.root / file)  # fmt: skip
        if self._turned:
            _log.warning("%d pictures are turned upright by what their files say (EXIF), first %s: points are taken as "
                         "of the upright picture; see that the other program shows it so", len(self._turned),
                         self._turned[0])  # fmt: skip

    def _fitting(self, path: str, called: Mapping[str, list[str]]) -> tuple[list[str], bool]:
        """The files that `path` may mean, see `find`, and whether its last part alone says so; `called`: see
        `_by_called`."""
        *folders, name = [part for part in key(path).split("/") if part] or [""]
        ends = ["/".join([*folders[i:], name]) for i in range(len(folders))]
        if (path.startswith("./") and not folders) or folders[-1:] == [key(self.root.resolve().name)]:
            ends.append(f"./{name}")
        end = next((end for end in ends if end in called), None)
        return (called.get(name, []), True) if end is None else (called[end], False)

    @functools.cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _by_called((file, file) for file in self._all)

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _by_called((os.path.splitext(file)[0], file) for file in self._all)

    @functools.cached_property
    def _all(self) -> list[str]:
        below = walk.files_below([self.root])[self.root]
        known = (*pictures.SUFFIXES, ".gif")
        return [path.relative_to(self.root).as_posix() for path in below if path.name.lower().endswith(known)]


def _exif(content: bytes, tag: int) -> object:
    with contextlib.suppress(UnidentifiedImageError), Image.open(io.BytesIO(content), formats=pictures.FORMATS) as file:
        return file.getexif().get(tag)
    return None


def _by_called(files: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The files of each path, with ./ before that of one in the root itself, and of each last part of a path, as `key`
    has them; `files`: what a file is called, and the file."""
    found = collections.defaultdict(list)
    for called, file in files:
        folder, _, name = key(called).rpartition("/")
        found[f"{folder or '.'}/{name}"].append(file)
        found[name].append(file)
    return dict(found)


@dataclasses.dataclass(frozen=True)
class Context:
    """What the user says beside a label file.

    Attributes:
      pictures: that it is about.
      names: of points that the file knows by their order, or in the order to list them; (): as the file has them.
      spacing: mm of a pixel along x and y; None: unknown.
      negative_missing: a negative coordinate in a TPS file means that the point is absent.
    """

    pictures: Pictures
    names: tuple[str, ...] = ()
    spacing: tuple[float, float] | None = None
    negative_missing: bool = False

    def names_of(self, number: int, at: str) -> tuple[str, ...]:
        """The names of points that are known by their order; "1", "2", ... where nobody has said any.

        Raises:
          UserError: as many aren't known.
        """
        if self.names and len(self.names) != number:
            raise UserError(f"{at}: expected {len(self.names)} points, as --names has names, found {number}")
        return self.names or tuple(str(i + 1) for i in range(number))

    def numbered(self, number: str) -> str:
        """The name of a point that is known by its number, from "1"; itself where nobody has said any."""
        return self.names[int(number) - 1] if 0 < int(number) <= len(self.names) else number

    def ordered(self, found: list[str], at: str) -> tuple[str, ...]:
        """The names `found` in a file, in the order of --names if it is given.

        Raises:
          UserError: one is not among these.
        """
        unknown = next((name for name in found if self.names and name not in self.names), None)
        if unknown is not None:
            raise UserError(
                f"{at}: a point is called {unknown!r:.200}; expected one of --names, {tables.listed(self.names)}"
            )
        return self.names or tuple(dict.fromkeys(found))
