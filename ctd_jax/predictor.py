"""A finished run as an object: pictures in, landmarks or class maps out, the same to the bit as `predict` writes.

from ctd_jax import Predictor

predictor = Predictor("runs/eyes")
result = predictor(["anna.png", "ben.tif"])
result.xy, result.confidence, result.names
result.to_csv("predictions.csv")
"""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ctd_jax import data, models, tasks
from ctd_jax.config import config_of_run
from ctd_jax.data.boxes import Box
from ctd_jax.data.given import Given
from ctd_jax.errors import UserError
from ctd_jax.training import inference
from ctd_jax.training.parallel import Parallel

MAX_BATCH = 8  # pictures in the network; fewer are filled up, so that the same picture always gets the same bits
Pictures = str | os.PathLike | np.ndarray | Iterable[str | os.PathLike | np.ndarray]


class Predictor:
    """The network of a finished run, ready to see pictures; it is compiled once, for batches of one size.

    Args:
      workdir: of the run.
      domain: which of the run's domains the pictures are of, if it has several.
      mirror: whether what the network says of a picture and of its mirror image is averaged; None: as in the run's
        evaluation, its `eval.mirror`.

    Raises:
      UserError: no run, one that has learned something else, no whole checkpoint, no such domain; or its pictures are
        not mirrored in training, but `mirror` is True.
    """

    def __init__(self, workdir: str | os.PathLike, *, domain: str | None = None, mirror: bool | None = None):
        config = config_of_run(pathlib.Path(workdir))
        if mirror is not None:
            config.eval.mirror = mirror
        self.trained = tasks.trained(pathlib.Path(workdir), domain, config)
        if mirror and not self.trained.mirrored:
            raise UserError(f"{workdir}: pictures were not mirrored in its training; leave out --mirror")
        config = self.trained.config
        self.batch_size = min(config.eval.batch_size, MAX_BATCH)
        self._parallel = Parallel(config.parallel)
        self._forward = self._parallel.compile(self.trained.forward, sharded=True)
        folded = models.fold(self.trained.model, self.trained.variables, config.data.image_size)
        self._variables = self._parallel.replicate(folded)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the landmarks; or of the classes, the background first."""
        return self.trained.names

    def __call__(self, pictures: Pictures, *, boxes: np.ndarray | None = None) -> tasks.Result:
        """What the network finds in pictures of any mix of sizes.

        Args:
          pictures: a file, a folder, an array `[H, W]` or `[H, W, 3]` of any integer or floating-point type, or several
            of them. Arrays of more than 8 bits, and files, are made grey as `predict` does it.
          boxes: `[N, 4]` x0, y0, x1, y1 in pixels of each picture, of a run that was trained on boxes.

        Raises:
          UserError: no picture, one that can't be read, boxes that are missing, too many or not inside.
        """
        given = Given.of_objects(_several(pictures), boxes=self._boxes(boxes), grey=self.trained.grey)
        found = [self.see(batch, given.boxes) for batch in given.read(self.batch_size)]
        given.check_done("no result")
        return self.trained.result(tuple(map(str, given.files)), found)

    def see(self, pictures: Mapping[pathlib.Path, np.ndarray], boxes: Mapping[pathlib.Path, Box]) -> Any:
        """What the network finds in pictures that are read, as `Trained.read_off` gives it.

        Args:
          pictures: name -> `[H, W, 3]` uint8; at most `batch_size`.
          boxes: of the pictures; empty: they are seen as a whole.
        """
        config = self.trained.config
        part = data.Dataset.unlabelled(
            tuple(map(str, pictures)),
            tuple(pictures.values()).__getitem__,
            boxes=np.array([boxes[name].box if name in boxes else np.full(4, np.nan) for name in pictures]),
            size=config.data.image_size,
            margin=config.data.margin,
        )
        outputs, offset, scale = inference.apply(self._forward, self._variables, part, self._parallel, self.batch_size)
        return self.trained.read_off(outputs, offset, scale, pictures)

    def _boxes(self, boxes: np.ndarray | None) -> np.ndarray | None:
        run = self.trained.workdir
        if self.trained.boxes and boxes is None:
            raise UserError(f"{run} was trained on boxes in the pictures; give those of yours, boxes=[N, 4]")
        if boxes is not None and not self.trained.boxes:
            raise UserError(f"{run} was trained on whole pictures, not on what is in a box; leave out boxes")
        return boxes


def _several(pictures: Pictures) -> list[str | os.PathLike | np.ndarray]:
    if isinstance(pictures, str | os.PathLike):
        return [pictures]
    if isinstance(pictures, np.ndarray) and pictures.ndim < 4:
        return [pictures]
    return list(pictures)
