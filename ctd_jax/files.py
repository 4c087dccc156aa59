"""How every file is written: whole or not at all, in UTF-8, and without formulas for a spreadsheet to run."""

import contextlib
import csv
import io
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from ctd_jax.errors import UserError

PARTIAL = ".partial"  # ends the name of a file that is being written
# What a run leaves (docs/output.md) and the results of other commands might be called, too.
OF_A_RUN = ("config.json", "log.csv", "mean_map.csv", "mean_shape.csv", "measurements.csv", "metrics.json",
            "predictions.csv", "raters.csv", "report.html", "segmentation_metrics.csv", "split.csv", "start.json",
            "twins.csv")  # fmt: skip
OF_A_FOLDER = re.compile(r"(landmarks(_.*)?|segmentation)\.csv|(dataset|classes)\.json")  # labels, or what they are
_STREAM = re.compile(r"/dev/(?:fd/(\d+)|std(in|out|err))|/proc/self/fd/(\d+)")
_END = "\r\n"  # of a line, as `csv` writes it
_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # how a spreadsheet knows a formula, and how `cell` has marked one


@contextlib.contextmanager
def writing(path: str | os.PathLike, *, binary: bool = False) -> Iterator[IO]:
    """An open file that takes the place of `path` when the block ends without an error, also when the machine stops: a
    reader sees the old content or the new one, never a part. A pipe, a device or a stream (/dev/stdout) is written to
    and never replaced.

    Raises:
      OSError: always with the file's name.
    """
    path = pathlib.Path(path)
    with naming(path):
        yield from _writing(path, binary)


def _writing(path: pathlib.Path, binary: bool) -> Iterator[IO]:
    if is_stream(path):
        match = _STREAM.fullmatch(str(path))
        with _open(_copy_of(match) if match else path, binary) as file:
            yield file
        return
    path = path.resolve()  # where a link leads
    partial = path.with_name(path.name + PARTIAL)
    try:
        with _open(partial, binary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # a file system that can't do this for folders has the file all the same
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def is_stream(path: str | os.PathLike) -> bool:
    """Whether `writing` writes to `path` and never replaces it."""
    path = pathlib.Path(path)
    return bool(_STREAM.fullmatch(str(path))) or (path.exists() and not path.is_file() and not path.is_dir())


def _open(path: pathlib.Path | int, binary: bool) -> IO:
    return open(path, "wb") if binary else open(path, "w", encoding="utf-8", newline="")


def _copy_of(stream: re.Match[str]) -> int:
    """A copy of the open file that the path means: to open it by its path would begin a regular file anew."""
    return os.dup({"in": 0, "out": 1, "err": 2}[stream[2]] if stream[2] else int(stream[1] or stream[3]))


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
    """An OSError that leaves the block without a file's name, as that of a full disk does, gets this one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_text(path: str | os.PathLike, text: str) -> None:
    with writing(path) as file:
        file.write(text)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    with writing(path, binary=True) as file:
        file.write(content)


def write_csv(path: str | os.PathLike, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes cells as they are: what comes from a user goes through `cell` first."""
    with writing(path) as file:
        writer = csv.writer(_Lines(file))
        writer.writerow(header)
        writer.writerows(rows)


class _Lines:
    """Ends lines with one character. `csv` puts a carriage return between quotation marks only if its lines end with
    one."""

    def __init__(self, file: IO[str]):
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(f"{line.removesuffix(_END)}\n")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """What `write_csv` writes."""
    file = io.StringIO()
    csv.writer(_Lines(file)).writerows([header, *rows])
    return file.getvalue()


def cell(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula: one that begins with = + - @, a tab or a carriage
    return gets a ' before it. `plain` gives back the text."""
    return f"'{text}" if _FORMULA.match(text) else text


def plain(text: str) -> str:
    """The text that `cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def read_json(path: str | os.PathLike, remedy: str) -> dict[str, Any]:
    """The object in a JSON file of ours.

    Args:
      path: of the file.
      remedy: what a user can do about a damaged one.

    Raises:
      UserError: it is not there, can't be read, or isn't JSON in UTF-8 with an object in it.
    """
    try:
        found = json.loads(pathlib.Path(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {remedy}") from error
    except RecursionError as error:
        raise UserError(f"{path}: its brackets are nested too deep; {remedy}") from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise UserError(f"{path}: not JSON ({error}); {remedy}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(found).__name__}; {remedy}")
    return found


def path_of(flag: str, text: str) -> str:
    """`text`, a path that was given by `flag`, with ~ as the home folder.

    Raises:
      UserError: it is a URL.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        raise UserError(f"{flag}: {text} is a URL; fetch it first, and give the file or folder on this machine")
    return os.path.expanduser(text)


def expect(flag: str, path: str | os.PathLike, suffix: str) -> None:
    """Refuses a name that promises another format than is written, or that of a file of a run or of labels.

    Args:
      flag: that gave the name.
      path: where the result goes.
      suffix: of what is written, ".csv"; "": a folder.

    Raises:
      UserError: its suffix is a well-known one, and another; or it is the name of a file of a run, in its folder, or
        that of a file of a data folder, which is there.
    """
    check_not_of_a_run(flag, path)
    if OF_A_FOLDER.fullmatch(pathlib.Path(path).name) and os.path.isfile(path):
        raise UserError(f"--{flag}: {path} is there already, and labels are kept under such names; give another name")
    known = (".csv", ".json", ".xlsx", ".xls", ".ods", ".tsv", ".parquet", ".npy", ".html", ".pdf", ".txt", ".png",
             ".jpg", ".jpeg", ".tif", ".tiff", ".zip", ".pt", ".pth", ".pkl", ".h5", ".onnx", ".tflite")  # fmt: skip
    found = pathlib.Path(path).suffix.lower()
    if found in known and found != suffix:
        what = f"what is written is {suffix[1:].upper()}; give a name that ends in {suffix}" if suffix else (
            "the results are files in a folder; give the name of one"
        )  # fmt: skip
        raise UserError(f"--{flag}: {path} ends in {found}, but {what}")


def is_run(folder: pathlib.Path) -> bool:
    """Whether a folder is a run, finished or not, or a domain of one."""
    try:
        with (folder / "split.csv").open("rb") as file:
            return (folder / "config.json").exists() and file.readline().startswith(b"image,subject,split,sha256")
    except OSError:
        return False


def is_result(folder: pathlib.Path) -> bool:
    """Whether a folder is a run, or a study of several: what lies in it is none of the user's data."""
    return is_run(folder) or ((folder / "tfds").exists() and (folder / "runs").is_dir())


def check_not_of_a_run(flag: str, path: str | os.PathLike) -> None:
    """Raises UserError if `path`, which `flag` gave, is the place of a file that a run leaves, or a domain of one."""
    place = pathlib.Path(os.path.realpath(path))
    mine = place.name in OF_A_RUN or re.fullmatch(r"metrics_.*\.json", place.name)
    if mine and any(map(is_run, place.parents[:2])):
        raise UserError(f"--{flag}: {path} is where the run keeps its own; give another place")
