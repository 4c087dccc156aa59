"""A network that finds class maps: what it says of pictures, what `predict` writes of that, and what an export has."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jax import Array
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ctd_jax import data, report
from ctd_jax.data.given import Given
from ctd_jax.data.prefetch import progress
from ctd_jax.errors import UserError
from ctd_jax.tasks import trained, writer
from ctd_jax.tasks.segmentation.network import Layout, build, forward, look, mirrors
from ctd_jax.tasks.trained import Run, Seen
from ctd_jax.tasks.writer import Done

TOLERANCE = 0.001  # of a probability
WRITTEN = "ctd_jax"  # text of the PNG: the digest of the classes as they were written


@dataclasses.dataclass(frozen=True)
class Batch:
    """The class maps of a few pictures (none, where they are written already), and their scores; see
    `FoundClassMaps`."""

    class_maps: list[np.ndarray]
    unlike: np.ndarray


@dataclasses.dataclass(frozen=True)
class FoundClassMaps:
    """The class maps of N pictures.

    Attributes:
      images: their names: paths, and `array 0`, `array 1`, ... of arrays.
      names: of the classes, the background first.
      class_maps: of each picture `[H, W]` uint8, the index of each pixel's class in `names`.
      unlike: `[N]` above 1: the picture is unlike those that the run was trained on; NaN where unknown.
    """

    images: tuple[str, ...]
    names: tuple[str, ...]
    class_maps: tuple[np.ndarray, ...]
    unlike: np.ndarray


def class_map(probabilities: np.ndarray, frame: data.Frame, width: int, height: int) -> np.ndarray:
    """`[height, width]` uint8 classes of the original picture: the most probable one, linear between the network's
    pixels.

    Args:
      probabilities: `[S, S, M]`, of the network's pixels.
      frame: the picture's.
    """
    return mean_class_map([(probabilities, frame)], width, height)


def mean_class_map(seen: Sequence[tuple[np.ndarray, data.Frame]], width: int, height: int) -> np.ndarray:
    """`class_map` by the mean probabilities of several networks; `seen` has those of each, and its frame."""
    total: Any = sum(frame.restore(probabilities, width, height) for probabilities, frame in seen)
    return total.argmax(-1).astype(np.uint8)


class TrainedClassMaps(trained.Trained):
    """`forward` gives `[B, S, S, M]` probabilities of the classes of one domain."""

    what = "class_maps"

    @classmethod
    def read(cls, run: Run, domain: str | None, config: Any) -> "TrainedClassMaps":
        """The network of one domain, without a trace of the others; see `Task.trained`."""
        known = {name: tuple(one["classes"]) for name, one in run.domains.items()}
        domain = run.chosen(domain) or ""
        columns = Layout.of(known, heads=False).columns[list(known).index(domain)]
        variables = run.variables_of(domain, columns[columns >= 0])
        config = config.copy_and_resolve_references()
        config.domains.norm = config.domains.heads = False
        classes = {domain: known[domain]}
        model = build(config, run.meta["encoder"], classes)
        layout, mirrored = Layout.of(classes, heads=False), mirrors(config)
        made_of = model, run.meta["input"], layout
        exported = _in_a_tuple(forward(*made_of, mirror=mirrored))
        return cls(
            run.workdir, config, domain, known[domain], model, variables, run.meta["input"], exported,
            look(*made_of, mirror=mirrored), False, run.grey(domain), mirrored,
            **run.evidence(domain, mirrored=mirrored),
        )  # fmt: skip

    def read_off(self, seen: Sequence[Seen], pictures: Mapping[Any, tuple[int, int]]) -> "Batch":
        maps = [
            mean_class_map([_of_picture(one, i) for one in seen], width, height)
            for i, (width, height) in enumerate(pictures.values())
        ]
        return Batch(maps, self.unlike(seen))

    def to_json(self, found: "Batch") -> dict[str, Any]:
        return {"unlike": found.unlike.tolist()}

    def of_json(self, images: Sequence[str], content: Mapping[str, Any]) -> "Batch":
        return Batch([], np.array(content["unlike"], np.float64))

    def mean(self, outputs: Sequence[tuple[Array, ...]]) -> tuple[Array]:
        total: Any = sum(probabilities for (probabilities,) in outputs)
        return (total / len(outputs),)

    def result(self, images: Sequence[str], batches: Sequence["Batch"]) -> FoundClassMaps:
        maps = tuple(one for batch in batches for one in batch.class_maps)
        return FoundClassMaps(tuple(images), self.names, maps, np.concatenate([batch.unlike for batch in batches]))

    def writer(self, out: pathlib.Path, overlays: pathlib.Path | None, measuring: trained.Measuring | None) -> "Folder":
        if measuring:
            raise UserError(f"--measurements is for landmarks, and {self.workdir} learned segmentation; leave it out")
        if out.exists() and not out.is_dir():
            raise UserError(f"--out: {out} is a file; give a folder for the class maps")
        return Folder(self.names, out, overlays)

    @property
    def outputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        S = self.config.data.image_size
        return {"probabilities": ((S, S, len(self.names)), "of each class in each pixel of the input, sum 1")}

    @property
    def about(self) -> dict[str, Any]:
        return {"classes": list(self.names), "boxes": False, "margin": 0.0, "grey": self.grey}

    def differences(
        self,
        expected: tuple[np.ndarray, ...],
        exported: tuple[np.ndarray, ...],
        scale: np.ndarray,
        pictures: data.Dataset,
    ) -> dict[str, float]:
        apart = np.abs(exported[0] - expected[0]).reshape(len(pictures), -1).max(-1)
        if not np.max(apart) <= TOLERANCE:
            i = int(np.argmax(apart))
            where = f"in a probability ({pictures.images[i]})"
            raise trained.differs(f"{apart[i]:.3g} {where}, more than {TOLERANCE}")
        return {
            "allowed_difference_probability": TOLERANCE,
            "largest_difference_probability": float(np.max(apart)),
            "pixels_of_another_class": float(np.mean(exported[0].argmax(-1) != expected[0].argmax(-1))),
        }

    @staticmethod
    def largest_difference(report: Mapping[str, Any]) -> str:
        return f"{report['largest_difference_probability']:.2g} in a probability, allowed {TOLERANCE}"


def _of_picture(seen: Seen, i: int) -> tuple[np.ndarray, data.Frame]:
    """The probabilities of the i-th picture, and its frame."""
    probabilities, (x, y) = seen.outputs["probabilities"][i], seen.offset[i]
    return probabilities, data.Frame(float(seen.scale[i]), (float(x), float(y)), len(probabilities))


def _in_a_tuple(body: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
    def outputs(variables: Any, batch: Any) -> tuple[Any]:
        return (body(variables, batch),)

    return outputs


def _digest(classes: np.ndarray) -> str:
    return hashlib.sha256(str(classes.shape).encode() + classes.tobytes()).hexdigest()


def _as_written(path: pathlib.Path) -> bool:
    """Whether a class map has the classes that `predict` gave it."""
    try:
        with Image.open(path) as picture:
            return picture.mode == "L" and picture.info.get(WRITTEN) == _digest(np.asarray(picture))
    except Exception:  # Pillow's decoders raise nearly anything
        return False


class Folder(writer.Writer):
    """A folder of class maps, 8-bit PNGs, and one of pictures with the classes painted in."""

    def __init__(self, names: Sequence[str], out: pathlib.Path, overlays: pathlib.Path | None):
        self._names, self._out, self._overlays = names, out, overlays

    def outputs(self, given: Given) -> dict[str, Iterable[pathlib.Path]]:
        maps = [given.beside(self._out, file) for file in given.files]
        return {"--out": maps} | writer.copies(given, self._overlays)

    def prepare(self, given: Given) -> None:
        writer.check_writable("out", self._out / "class map", self._overlays)
        there = [path for file in given.files if (path := given.beside(self._out, file)).exists()]
        for path in progress(there, "looking at the class maps that are there", len(there)):
            if not _as_written(path):
                raise UserError(
                    f"{path} is there already, and nothing in it says that it is as `predict` wrote it (older versions "
                    "did not say so), so it may have corrections; move it, or give another --out"
                )

    def add(self, given: Given, batch: Done) -> None:
        def paint(i: int, file: pathlib.Path) -> None:
            classes = batch.found.class_maps[i]
            text = PngInfo()
            text.add_text(WRITTEN, _digest(classes))
            writer.save(Image.fromarray(classes), given.beside(self._out, file), text)
            if self._overlays:
                picture = given.picture(file)
                painted = report.paint_outlines(picture, classes, side=max(picture.shape))
                writer.save(painted, given.beside(self._overlays, file))

        writer.draw(batch, paint)

    def close(self, given: Given, batches: Callable[[], Iterable[Done]]) -> None:
        unlike: dict[str, float] = {}
        for batch in batches():
            unlike |= dict(zip(map(str, batch.files), batch.found.unlike.tolist(), strict=True))
        if unlike:
            writer.warn_of_unlike(tuple(unlike), np.array(list(unlike.values())))
            names = ", ".join(f"{i} {name}" for i, name in enumerate(self._names))
            print(f"{len(unlike)} pictures, a class map each ({names}): {self._out}")
