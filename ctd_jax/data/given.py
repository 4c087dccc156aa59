"""The pictures that somebody gives to predict on: files, folders with all that is below them, and arrays."""

import dataclasses
import functools
import itertools
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from ctd_jax.data import dicom, pictures, survey, walk
from ctd_jax.data.boxes import Box, read_boxes
from ctd_jax.data.given_spacing import GivenSpacing
from ctd_jax.data.grey_range import Grey
from ctd_jax.data.prefetch import map_in_threads, progress
from ctd_jax.errors import UserError
from ctd_jax.files import is_stream

_log = logging.getLogger(__name__)
MAX_SHOWN = 20  # pictures that a message names
T = TypeVar("T")


@dataclasses.dataclass
class Given:
    """The pictures of a command.

    Attributes:
      files: those that may be read.
      faults: why the others, and those that turn out to be unreadable, are not done.
      boxes: of the files; one that has none is seen as a whole.
      grey: their ranges.
      arrays: what takes the place of a file.
      spacing: of the files.
      unwritten: why label files are not written, a sentence for each format.
    """

    files: list[pathlib.Path]
    faults: dict[pathlib.Path, str]
    boxes: Mapping[pathlib.Path, Box]
    grey: Grey
    arrays: Mapping[pathlib.Path, np.ndarray] = dataclasses.field(default_factory=dict)
    spacing: GivenSpacing = dataclasses.field(default_factory=GivenSpacing)
    unwritten: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, paths: Sequence[str], *, boxes: pathlib.Path | None, grey: Grey) -> "Given":
        """The pictures of a command line.

        Args:
          paths: files and folders.
          boxes: a csv file of them; None: whole pictures.
          grey: the ranges of the run that sees the pictures; where it has none, theirs are found, with a warning.

        Raises:
          UserError: see `find`; or a picture has no box, or several.
        """
        files, faults = find(paths)
        return cls(files, faults, _boxes(boxes, files) if boxes else {}, _grey(files, grey))

    @classmethod
    def of_objects(
        cls, objects: Sequence[str | os.PathLike | np.ndarray], *, boxes: np.ndarray | None, grey: Grey
    ) -> "Given":
        """The pictures of a call from Python.

        Args:
          objects: files, folders and arrays, `[H, W]` or `[H, W, 3]`; the i-th of all objects, if it is an array, is
            called `array i`.
          boxes: `[N, 4]` x0, y0, x1, y1 of the N pictures, NaN: the whole picture; None: all as a whole.
          grey: see `of`.

        Raises:
          UserError: as of `of`; or an array of another shape or type, another number of boxes, one without an inside.
        """
        files: list[pathlib.Path] = []
        faults: dict[pathlib.Path, str] = {}
        arrays: dict[pathlib.Path, np.ndarray] = {}
        for i, one in enumerate(objects):
            if isinstance(one, str | os.PathLike):
                found, bad = find([os.fspath(one)])
                files, faults = files + found, faults | bad
            else:
                files.append(pathlib.Path(f"array {i}"))
                arrays[files[-1]] = pictures.check_array(one, f"array {i}")
        if not (files or faults):
            raise UserError("no pictures: the list is empty; give files, folders or arrays")
        places = [_placed(file) for file in files]
        if len(set(places)) < len(files):
            twice = next(file for file, place in zip(files, places, strict=True) if places.count(place) > 1)
            raise UserError(f"{shown(twice)} is given twice; give each picture once")
        return cls(files, faults, _boxes_of_array(boxes, files), _grey(files, grey, arrays), arrays)

    def each(
        self, look: Callable[[pathlib.Path, np.ndarray], T], files: Iterable[pathlib.Path], *, max_ahead: int
    ) -> Iterator[tuple[pathlib.Path, T | None]]:
        """Each of some files, in their order, with `look(file, picture)`; None: it can't be read, and is among
        `faults`.

        Args:
          look: is called in threads, where the pictures are read.
          files: of those that are given.
          max_ahead: pictures that are begun before their turn.
        """

        def read(file: pathlib.Path) -> tuple[pathlib.Path, T | None, str]:
            try:
                return file, look(file, self.picture(file)), ""
            except (UserError, OSError) as error:
                return file, None, str(error)

        for file, found, fault in map_in_threads(read, files, max_ahead=max_ahead):
            if found is None:
                self.faults[file] = fault
            yield file, found

    def read(self, size: int) -> Iterator[dict[pathlib.Path, np.ndarray]]:
        """The pictures, `size` at a time, with progress; one that can't be read is left out and among `faults`."""
        read = self.each(lambda _, picture: picture, self.files, max_ahead=size)
        shown = progress(read, "predicting", len(self.files))
        for _ in range(0, len(self.files), size):
            pictures = {file: one for file, one in itertools.islice(shown, size) if one is not None}
            if pictures:
                yield pictures

    def picture(self, file: pathlib.Path) -> np.ndarray:
        """`[H, W, 3]` uint8 of a file.

        Raises:
          UserError, OSError: it can't be read, or its box is not inside.
        """
        array = self.arrays.get(file)
        picture = (
            pictures.decode(file.read_bytes(), str(file), self.grey)
            if array is None
            else pictures.to_rgb(array, self.grey)
        )
        if file in self.boxes:
            self.boxes[file].check_inside(picture.shape[1], picture.shape[0])
        return picture

    def beside(self, where: pathlib.Path, file: pathlib.Path) -> pathlib.Path:
        """A PNG for `file` in the folder `where`, named by the path below what all files have in common: no two share
        a name."""
        return where / self.below_all(file).with_name(f"{file.name}.png")

    def below_all(self, file: pathlib.Path) -> pathlib.Path:
        """The path of `file` below the folder that all files lie in."""
        return _placed(file).relative_to(self.common)

    @functools.cached_property
    def common(self) -> pathlib.Path:
        """The folder that all files lie in."""
        return pathlib.Path(os.path.commonpath([_placed(one).parent for one in self.files]))

    def check_kept(self, outputs: Mapping[str, Iterable[pathlib.Path]]) -> None:
        """Raises UserError if one of the files that a flag will have written is one of the pictures, or that of another
        flag."""
        mine = {os.path.realpath(file) for file in (*self.files, *self.faults)}
        flag_of: dict[str, str] = {}
        for flag, written in outputs.items():
            for path in written:
                place = os.path.realpath(path)
                if place in mine:
                    raise UserError(f"{flag} would overwrite the picture {shown(path)}; give another place")
                other = flag_of.setdefault(place, flag)
                if other != flag and not is_stream(path):
                    raise UserError(f"{other} and {flag} would both write {shown(path)}; give each a place of its own")

    def check_done(self, where: pathlib.Path | str) -> None:
        """Raises UserError, one message of all that could not be done; `where`: the result of the other pictures."""
        lines = []
        if self.faults:
            total = len({*self.files, *self.faults})
            named = [f"  {why if why.startswith(str(path)) else f'{shown(path)}: {why}'}"
                     for path, why in self.faults.items()]  # fmt: skip
            more = [f"  and {len(named) - MAX_SHOWN} more"] if len(named) > MAX_SHOWN else []
            rest = f"the other {total - len(named)} are in {where}" if len(named) < total else "nothing was written"
            first = f"{len(named)} of {total} pictures could not be done, {rest}:"
            lines = [first, *named[:MAX_SHOWN], *more]
        if lines or self.unwritten:
            raise UserError("\n".join([*lines, *self.unwritten]))


def find(paths: Sequence[str]) -> tuple[list[pathlib.Path], dict[pathlib.Path, str]]:
    """The picture files, each once, however often and however spelt it is named; and those that are there but can't be
    read, with the reason.

    Raises:
      UserError: none is named, or there is no such file or folder, or no picture in a folder; DICOM, where pydicom is
        not installed.
    """
    if not paths:
        raise UserError("no pictures: name files or folders")
    found: dict[pathlib.Path, str] = {}
    below = walk.files_below([path for path in map(pathlib.Path, paths) if path.is_dir()])
    for path in map(pathlib.Path, paths):
        if path in below:
            inside = [p for p in below[path] if p.suffix.lower() in pictures.SUFFIXES]
            if not inside:
                raise UserError(
                    f"{shown(path)}: no pictures in this folder; their names end in {', '.join(pictures.SUFFIXES)}"
                )
            found |= {p: unreadable(p) for p in inside}
        elif path.exists() or path.is_symlink():
            found[path] = unreadable(path)
        else:
            raise UserError(f"{shown(path)}: no such file or folder")
    first = {_placed(path): path for path in reversed(found)}
    found = {path: fault for path, fault in found.items() if first[_placed(path)] == path}
    if of_dicom := [path for path in found if path.suffix.lower() == dicom.SUFFIX]:
        dicom.check_installed(shown(of_dicom[0]))
    return [path for path, fault in found.items() if not fault], {path: why for path, why in found.items() if why}


def _placed(file: pathlib.Path) -> pathlib.Path:
    """The path of a file, without links on the way to it; it may be one itself, under a name of its own."""
    return file.parent.resolve() / file.name


def shown(path: str | pathlib.Path) -> str:
    """The name of a file for a message, whatever its bytes are."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def unreadable(path: pathlib.Path) -> str:
    """Why a file can't be a picture, by its kind or name; "": it can."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8, so no table can hold it; rename the file"
    if path.is_file():
        return ""
    if not path.exists():
        return "a link that leads nowhere, or in a circle"
    return "not a file but a pipe, a socket or a device"


def _boxes(path: pathlib.Path, files: Sequence[pathlib.Path]) -> dict[pathlib.Path, Box]:
    given = read_boxes(path)
    missing = [file for file in files if os.path.normpath(file) not in given]
    if missing:
        raise UserError(
            f"{path}: no row whose image is {missing[0]}; expected one for each picture, and {len(missing)} of "
            f"{len(files)} have none"
        )
    boxes = {file: given[os.path.normpath(file)] for file in files}
    return {file: one for file, one in boxes.items() if not np.isnan(one.box).all()}


def _boxes_of_array(boxes: np.ndarray | None, files: Sequence[pathlib.Path]) -> dict[pathlib.Path, Box]:
    if boxes is None:
        return {}
    boxes = np.asarray(boxes, np.float64)
    if boxes.shape != (len(files), 4):
        raise UserError(
            f"boxes has the shape {boxes.shape}; expected {(len(files), 4)}: x0, y0, x1, y1 of each of the "
            f"{len(files)} pictures"
        )
    whole = np.isnan(boxes).all(axis=1)
    partial = np.flatnonzero(~whole & ~np.isfinite(boxes).all(axis=1))
    if len(partial):
        raise UserError(
            f"boxes[{partial[0]}] is {boxes[partial[0]]}; expected four numbers, or four NaN: the whole picture"
        )
    empty = np.flatnonzero((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1]))
    if len(empty):
        raise UserError(f"boxes[{empty[0]}] is {boxes[empty[0]]}; expected x0 < x1 and y0 < y1: two corners")
    return {files[i]: Box(boxes[i], f"boxes[{i}]") for i in np.flatnonzero(~whole).tolist()}


def _grey(files: Sequence[pathlib.Path], known: Grey, arrays: Mapping[pathlib.Path, np.ndarray] | None = None) -> Grey:
    """`known`, and the ranges of other kinds of pictures from all of the files; warns of what `survey.remarks` says."""
    arrays = arrays or {}
    seen = [one for one in map_in_threads(_look, [file for file in files if file not in arrays]) if one]
    seen += [survey.of_values(array, str(name)) for name, array in arrays.items()]
    guessed = {kind: range_ for kind, range_ in survey.ranges(seen).items() if kind not in known}
    for kind, (low, high) in guessed.items():
        mine = [one.name for one in seen if one.kind == kind]
        _log.warning(
            "the run knows no grey range for pictures of more than 8 bits (%s): %g to %g is taken, a guess from the "
            "%d that are given (first %s)", kind, low, high, len(mine), mine[0],
        )  # fmt: skip
    grey = {**guessed, **known}
    for line in survey.remarks(seen, grey):
        _log.warning(line)
    return grey


def _look(file: pathlib.Path) -> survey.Seen | None:
    try:
        with file.open("rb") as opened:
            return survey.look(opened, str(file))
    except (UserError, OSError):
        return None  # it is named when its turn comes
