"""What `predict` writes: batches that are done, the contract of what writes them, and what all of those share."""

import abc
import dataclasses
import logging
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ctd_jax import files
from ctd_jax.data.given import Given
from ctd_jax.data.prefetch import map_in_threads
from ctd_jax.errors import UserError

if TYPE_CHECKING:
    from ctd_jax.tasks.trained import Trained

_log = logging.getLogger(__name__)
MAX_NAMES = 5  # of pictures in a warning


@dataclasses.dataclass(frozen=True)
class Done:
    """A batch that is done.

    Attributes:
      files: the pictures that could be read, with width and height.
      found: what `Trained.read_off` says of them; None: there is none.
      faults: why the others are not done.
    """

    files: Mapping[pathlib.Path, tuple[int, int]]
    found: Any
    faults: Mapping[pathlib.Path, str]

    def to_json(self, trained: "Trained") -> dict[str, Any]:
        """What `Writer.close` needs of it, with all digits, as JSON can hold it."""
        return {
            "files": [[str(file), *size] for file, size in self.files.items()],
            "found": trained.to_json(self.found) if self.files else None,
            "faults": {str(file): why for file, why in self.faults.items()},
        }

    @classmethod
    def of_json(cls, content: Mapping[str, Any], trained: "Trained") -> "Done":
        """The batch of `to_json`."""
        sizes = {pathlib.Path(file): (width, height) for file, width, height in content["files"]}
        found = trained.of_json(tuple(map(str, sizes)), content["found"]) if sizes else None
        return cls(sizes, found, {pathlib.Path(file): why for file, why in content["faults"].items()})


class Writer(abc.ABC):
    """What `predict` writes, batch after batch."""

    @abc.abstractmethod
    def outputs(self, given: Given) -> dict[str, Iterable[pathlib.Path]]:
        """Flag -> the files that it will have written."""

    @abc.abstractmethod
    def prepare(self, given: Given) -> None:
        """Makes sure that something can be written, and that no work of somebody is lost by it. Raises UserError."""

    @abc.abstractmethod
    def add(self, given: Given, batch: Done) -> None:
        """Writes what is a file for each picture of a batch, in which some could be read."""

    @abc.abstractmethod
    def close(self, given: Given, batches: Callable[[], Iterable[Done]]) -> None:
        """Writes what is a file of all pictures, and says what was done.

        Args:
          given: the pictures.
          batches: gives all that are done, with what `Trained.of_json` gives; can be called again.
        """


def draw(batch: Done, paint: Callable[[int, pathlib.Path], None]) -> None:
    """`paint(i, file)` of each picture of a batch, in threads."""
    for _ in map_in_threads(lambda one: paint(*one), enumerate(batch.files)):
        pass


def copies(given: Given, overlays: pathlib.Path | None) -> dict[str, Iterable[pathlib.Path]]:
    """What --overlays will have written."""
    return {"--overlays": [given.beside(overlays, file) for file in given.files]} if overlays else {}


def save(picture: Image.Image, path: pathlib.Path, text: PngInfo | None = None) -> None:
    """Writes a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.writing(path, binary=True) as file:
        picture.save(file, "PNG", pnginfo=text)


def check_writable(flag: str, out: pathlib.Path, overlays: pathlib.Path | None) -> None:
    """Raises UserError if nothing can be written where `out` and the folder `overlays` shall be."""
    if overlays and overlays.is_file():
        raise UserError(f"--overlays: {overlays} is a file; give a folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
        if overlays:
            overlays.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the results can't be written ({error}); give another --{flag} or --overlays") from error


def warn_of_unlike(images: Sequence[str], unlike: np.ndarray) -> None:
    """Says which pictures are unlike those of the training; `unlike` is `[N]`, see `trust.unlike`."""
    beyond = [i for i in np.argsort(-unlike) if unlike[i] > 1]
    if beyond:
        names = ", ".join(f"{images[i]} ({unlike[i]:.2g})" for i in beyond[:MAX_NAMES])
        more = f" and {len(beyond) - MAX_NAMES} more" if len(beyond) > MAX_NAMES else ""
        _log.warning(
            "%d of %d pictures are unlike those that the run was trained on, so that what is found there, and how sure "
            "that is, may not hold: %s%s. (The column or attribute `unlike` is above 1; of pictures like those of the "
            "training about 5 %% are.)", len(beyond), len(images), names, more,
        )  # fmt: skip
