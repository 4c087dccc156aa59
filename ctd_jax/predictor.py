"""A finished run, or several that are averaged, as an object: pictures in, landmarks or class maps out, the same to the
bit as `predict` writes.

from ctd_jax import Predictor

predictor = Predictor("runs/eyes")
result = predictor(["anna.png", "ben.tif"])
result.xy, result.confidence, result.names
result.to_csv("predictions.csv")
"""

import dataclasses
import itertools
import logging
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ctd_jax import data, files, metrics, tasks
from ctd_jax.config import config_of_run
from ctd_jax.data import given_spacing
from ctd_jax.data.boxes import Box
from ctd_jax.data.given import Given
from ctd_jax.data.prefetch import THREADS, map_in_threads, progress
from ctd_jax.errors import UserError
from ctd_jax.metrics.presence import there_alone
from ctd_jax.tasks import averaged
from ctd_jax.tasks.trained import Seen
from ctd_jax.tasks.writer import Done
from ctd_jax.training import inference
from ctd_jax.training.parallel import Parallel

_log = logging.getLogger(__name__)
MAX_BATCH = 8  # pictures in the network; fewer are filled up, so that the same picture always gets the same bits
View = tuple[np.ndarray, data.Frame]  # [S, S, 3] uint8
Pictures = str | os.PathLike | np.ndarray | Iterable[str | os.PathLike | np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Viewed:
    """Width and height of a picture, and what each network sees of it."""

    size: tuple[int, int]
    views: Sequence[View]


class _Network:
    """A network on the devices, compiled for batches of one size; of the signs of doubt it gives `doubt` alone."""

    def __init__(self, trained: tasks.Trained, batch_size: int, doubt: str | None):
        self._config, self._batch_size = trained.config, batch_size
        self._parallel = Parallel(trained.config.parallel)
        self._look = self._parallel.compile(trained.look_for(doubt), sharded=True)
        self._variables = self._parallel.replicate(trained.folded())

    def view(self, picture: np.ndarray, box: Box | None) -> View:
        """What it sees of a picture `[H, W, 3]` uint8, and the frame."""
        known = self._config.data
        box_xy = box.box if box else None
        frame = data.Frame.fit(picture.shape[1], picture.shape[0], known.image_size, box_xy, known.margin)
        return frame.resample(picture), frame

    def see(self, views: Sequence[View], images: Sequence[str]) -> Seen:
        """What it says of pictures of these names."""
        batch = {"picture": np.stack([seen for seen, _ in views])}
        found = inference.of_batch(self._look, self._variables, batch, self._parallel, self._batch_size, images)
        offset, scale = ([getattr(frame, name) for _, frame in views] for name in ("offset", "scale"))
        return Seen(found, np.array(offset, np.float32), np.array(scale, np.float32), self._config.data.image_size)


class Predictor:
    """The network of a finished run, ready to see pictures; it is compiled once, for batches of one size.

    Args:
      workdir: of the run; or a list of several, whose networks are averaged: points and confidence, or the
        probabilities of classes.
      domain: which of the run's domains the pictures are of, if it has several.
      mirror: whether what the network says of a picture and of its mirror image is averaged; None: as in the run's
        evaluation, its `eval.mirror`.
      further_doubt: the sign of doubt that `look` gives where radii need none: "mirror" or "width".

    Raises:
      UserError: no run, one that has learned something else, no whole checkpoint, no such domain; its pictures are
        not mirrored in training, but `mirror` is True; or several that don't go together, see `averaged.check`.
    """

    def __init__(
        self,
        workdir: str | os.PathLike | Sequence[str | os.PathLike],
        *,
        domain: str | None = None,
        mirror: bool | None = None,
        further_doubt: str | None = None,
    ):
        workdirs = [workdir] if isinstance(workdir, str | os.PathLike) else list(workdir)
        if not workdirs:
            raise UserError("no run: the list is empty; give the workdir of one, or of several")
        if mirror not in (None, True, False):
            raise UserError(f"mirror is {mirror!r}; expected True or False, or None: as the run was evaluated")
        places = [pathlib.Path(files.path_of("workdir", os.fspath(one))) for one in workdirs]
        self.networks = [_trained(place, domain, mirror) for place in places]
        averaged.check(self.networks)
        self.trained = averaged.with_evidence(self.networks)
        if self.trained.lacks:
            _log.warning("no radius and no score of unlike pictures: %s", self.trained.lacks)
        if self.trained.absent and not all(one.evidence and one.evidence.temperature for one in self.networks):
            _log.warning("the probabilities that landmarks are there (`present`) are not calibrated: val told nothing")
        if self.trained.never_annotated:
            _log.warning(
                "not predicted, because no training picture had it annotated: %s; its cells are empty",
                ", ".join(self.trained.never_annotated),
            )
        self.batch_size = min(MAX_BATCH, *(one.config.eval.batch_size for one in self.networks))
        doubt = self.trained.evidence.radius.doubt if self.trained.evidence else None
        self._compiled = [_Network(one, self.batch_size, doubt or further_doubt) for one in self.networks]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the landmarks; or of the classes, the background first."""
        return self.trained.names

    def __call__(
        self,
        pictures: Pictures,
        *,
        boxes: np.ndarray | None = None,
        spacing: Any = None,
        scale: Sequence[Any] | None = None,
        imager_spacing: Literal["detector"] | None = None,
    ) -> tasks.Result:
        """What the network finds in pictures of any mix of sizes; of several, what they find on average.

        Args:
          pictures: a file, a folder, an array `[H, W]` or `[H, W, 3]` of any integer or floating-point type, or several
            of them. Arrays of more than 8 bits, and files, are made grey as `predict` does it.
          boxes: `[N, 4]` x0, y0, x1, y1 in pixels of each picture, NaN: the whole picture; of a run that was trained on
            boxes.
          spacing: mm of a pixel: a number, `[2]` along x and y, or `[N, 2]` with NaN where unknown. Landmarks are then
            in mm too.
          scale: instead of it two landmarks, and the mm between them in every picture. Without both, the Pixel Spacing
            of DICOM files counts.
          imager_spacing: "detector": their Imager Pixel Spacing is taken instead, and mm are those at the detector.

        Raises:
          UserError: no picture, one that can't be read, boxes that are missing, too many or not inside.
        """
        given = Given.of_objects(_several(pictures), boxes=self._boxes(boxes), grey=self.trained.grey)
        if imager_spacing not in (None, "detector"):
            raise UserError(f"imager_spacing is {imager_spacing!r}; expected 'detector', or None")
        if spacing is not None or scale is not None or imager_spacing:
            self.check_points()
        if self.trained.has_points:
            given.spacing = given_spacing.of_objects(
                spacing, scale, given.files, self.names, detector=bool(imager_spacing)
            )
            self.check_scale(given.spacing)
        found = [batch.found for batch in self.found(given, self.batches(given)) if batch.files]
        given.check_done("no result")
        result: Any = self.trained.result(tuple(map(str, given.files)), found)
        if not given.spacing:
            return result
        there = there_alone(metrics.concatenate(found))
        mm = given.spacing.mm(given.files, self.names, there.xy)
        return dataclasses.replace(result, spacing=mm, at_detector=given.spacing.at_detector)

    def check_points(self) -> None:
        """Raises UserError where a spacing means nothing: what is found has no coordinates."""
        if not self.trained.has_points:
            run = self.trained.workdir
            raise UserError(
                f"{run} finds {self.trained.what}, to which no spacing is needed; leave out spacing and scale"
            )

    def check_scale(self, spacing: given_spacing.GivenSpacing) -> None:
        """Raises UserError where the mm are given between two landmarks of which one is never predicted."""
        for name in (spacing.scale or ())[:2]:
            if name in self.trained.never_annotated:
                raise UserError(
                    f"scale names {name!r}, which is not predicted, because no training picture had it annotated; give "
                    "other landmarks"
                )

    def batches(self, given: Given) -> range:
        """The numbers of the batches that the pictures are seen in: always the same ones together."""
        return range(-(-len(given.files) // self.batch_size))

    def found(self, given: Given, batches: range) -> Iterator[Done]:
        """What is found in pictures, batch after batch, with progress. While one batch is in the network, the next is
        read, and what the caller does with the one before goes on.

        Args:
          given: the pictures; gets the `faults` of those that can't be read.
          batches: numbers of batches, one after the other.
        """
        size = self.batch_size
        files = given.files[batches.start * size : batches.stop * size]

        def look(file: pathlib.Path, picture: np.ndarray) -> _Viewed:
            views = [network.view(picture, given.boxes.get(file)) for network in self._compiled]
            return _Viewed((picture.shape[1], picture.shape[0]), views)

        viewed = given.each(look, files, max_ahead=size + THREADS)
        total = min(batches.stop * size, len(given.files))
        shown = progress(viewed, "predicting", total, done=batches.start * size)
        chunks = (list(itertools.islice(shown, size)) for _ in batches)
        return map_in_threads(lambda chunk: self._done(chunk, given), chunks, max_ahead=2, threads=1)

    def _done(self, chunk: Sequence[tuple[pathlib.Path, "_Viewed | None"]], given: Given) -> Done:
        seen = {file: one for file, one in chunk if one}
        faults = {file: given.faults[file] for file, one in chunk if not one}
        sizes = {file: one.size for file, one in seen.items()}
        views = [one.views for one in seen.values()]
        found = self.trained.read_off(self._look(tuple(map(str, seen)), views), sizes) if seen else None
        return Done(sizes, found, faults)

    def _look(self, images: Sequence[str], views: Sequence[Sequence[View]]) -> list[Seen]:
        """What each network says of pictures of these names; `views` are, for each picture, those of the networks."""
        of_each = zip(self._compiled, zip(*views, strict=True), strict=True)
        return [network.see(seen, images) for network, seen in of_each]

    def see(self, pictures: Mapping[pathlib.Path, np.ndarray], boxes: Mapping[pathlib.Path, Box]) -> Any:
        """What the network finds in pictures that are read, as `Trained.read_off` gives it.

        Args:
          pictures: name -> `[H, W, 3]` uint8; at most `batch_size`.
          boxes: of the pictures; empty: they are seen as a whole.
        """
        sizes = {name: (picture.shape[1], picture.shape[0]) for name, picture in pictures.items()}
        return self.trained.read_off(self.look(pictures, boxes), sizes)

    def look(self, pictures: Mapping[pathlib.Path, np.ndarray], boxes: Mapping[pathlib.Path, Box]) -> list[Seen]:
        """What each network says of pictures, which `Trained.read_off` reads; arguments as of `see`."""
        views = [[one.view(picture, boxes.get(name)) for one in self._compiled] for name, picture in pictures.items()]
        return self._look(tuple(map(str, pictures)), views)

    def _boxes(self, boxes: np.ndarray | None) -> np.ndarray | None:
        run = self.trained.workdir
        if self.trained.boxes and boxes is None:
            raise UserError(f"{run} was trained on boxes in the pictures; give those of yours, boxes=[N, 4]")
        if boxes is not None and not self.trained.boxes:
            raise UserError(f"{run} was trained on whole pictures, not on what is in a box; leave out boxes")
        return boxes


def _trained(workdir: pathlib.Path, domain: str | None, mirror: bool | None) -> tasks.Trained:
    config = config_of_run(workdir)
    if mirror is not None:
        config.eval.mirror = bool(mirror)
    network = tasks.trained(workdir, domain, config)
    if mirror and not network.mirrored:
        raise UserError(f"{workdir}: pictures were not mirrored in its training; leave out --mirror")
    return network


def _several(pictures: Any) -> list[str | os.PathLike | np.ndarray]:
    """`Pictures` as a list: an array of NumPy, JAX or PyTorch may be one picture; what is no picture is refused in its
    turn."""
    one = isinstance(pictures, str | os.PathLike) or getattr(pictures, "ndim", None) in (0, 2, 3)
    return [pictures] if one or not isinstance(pictures, Iterable) else list(pictures)
