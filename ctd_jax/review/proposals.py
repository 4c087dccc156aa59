"""Points that the page shows before a rater has placed any: labels of the folder, predictions of a run or a table.

A point that the network says is absent is not proposed: the page asks for it.
"""

import concurrent.futures
import logging
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ctd_jax.data import pictures, tables
from ctd_jax.data.boxes import BOX, Box
from ctd_jax.errors import UserError
from ctd_jax.labels.table import PLACED
from ctd_jax.metrics.predictions import read_predictions
from ctd_jax.metrics.presence import there_alone
from ctd_jax.review.folder import Point, Reviewed

_log = logging.getLogger(__name__)
PREDICTED = "predicted"  # how a proposed point came there
Predict = Callable[[str], Mapping[str, Point]]


class Proposals:
    """The proposed points of pictures; those of a network are found in a thread of their own, when they are asked for.

    Args:
      reviewed: the folder, whose labels come first.
      predict: says the points of a picture without labels.
    """

    def __init__(self, reviewed: Reviewed, predict: Predict):
        self._reviewed, self._predict = reviewed, predict
        self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="predicting")
        self._found: dict[str, concurrent.futures.Future[Mapping[str, Point]]] = {}
        self._predicted: dict[str, concurrent.futures.Future[Mapping[str, Point]]] = {}

    def of(self, image: str) -> concurrent.futures.Future[Mapping[str, Point]]:
        """Name -> point, once they are known; raises UserError or OSError where the picture can't be read."""
        labels = self._reviewed.labels.get(image)
        if not labels:
            return self.predicted(image)
        if image not in self._found:
            self._found[image] = self._worker.submit(lambda: labels)
        return self._found[image]

    def predicted(self, image: str) -> concurrent.futures.Future[Mapping[str, Point]]:
        """As `of`, without regard to labels."""
        if image not in self._predicted:
            self._predicted[image] = self._worker.submit(self._predict, image)
        return self._predicted[image]

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)


def nothing(_: str) -> Mapping[str, Point]:
    """No points of any picture."""
    return {}


def names_of_run(workdir: pathlib.Path, domain: str | None = None) -> tuple[str, ...]:
    """The landmarks of a run, or of one of its domains; none: it finds something else.

    Raises:
      UserError: there is no such run, or no such domain of it.
    """
    from ctd_jax.tasks.trained import Run

    run = Run.read(workdir)
    chosen = run.chosen(domain)
    return tuple((run.domains[chosen] if chosen else run.meta).get("landmarks", ()))


def names_of_table(path: pathlib.Path) -> tuple[str, ...]:
    """The landmarks of a table as `predict` writes it.

    Raises:
      UserError: it is no such table.
    """
    return tuple(map(str, read_predictions(path).landmarks))


def of_run(workdir: pathlib.Path, reviewed: Reviewed, domain: str | None = None) -> Predict:
    """The points that the network of a finished run finds; where it was trained on boxes, in the pictures whose rows of
    landmarks.csv have one. `domain`: of the run, if it has several.

    Raises:
      UserError: there is none, or it can't be asked for these landmarks; no picture has a box, and it needs them.
    """
    from ctd_jax import Predictor

    predictor = Predictor(workdir, domain=domain)
    predictor.check_points()
    boxes = boxes_of(reviewed) if predictor.trained.boxes else None
    if boxes == {}:
        raise UserError(
            f"{workdir} was trained on boxes in the pictures: expected the columns {', '.join(BOX)} in "
            f"{reviewed.root}/landmarks.csv; else predict first, and give --predictions=FILE.csv"
        )
    _check_names(predictor.names, reviewed, f"--workdir={workdir}")
    if boxes is not None and (without := [image for image in reviewed.images if image not in boxes]):
        _log.warning("%d of %d pictures have no box in landmarks.csv, and no points are proposed there: %s",
                     len(without), len(reviewed.images), tables.listed(without, 3))  # fmt: skip

    def predict(image: str) -> Mapping[str, Point]:
        path = reviewed.root / image
        if boxes is not None and image not in boxes:
            return {}
        picture = pictures.decode(path.read_bytes(), image, predictor.trained.grey)
        found = there_alone(predictor.see({path: picture}, {path: boxes[image]} if boxes else {}))
        return _points(predictor.names, found.xy[0].tolist(), reviewed)

    return predict


def boxes_of(reviewed: Reviewed) -> dict[str, Box]:
    """The boxes of landmarks.csv, of the pictures that have one."""
    table = reviewed.table
    rows = zip(table.images, table.boxes, table.where, strict=True) if table else ()
    return {image: Box(box, where) for image, box, where in rows if np.isfinite(box).all()}


def of_table(path: pathlib.Path, reviewed: Reviewed) -> Predict:
    """The points of a table as `predict` writes it; see `_rows_of`.

    Raises:
      UserError: it is no such table, has none of the landmarks or none of the pictures, or a picture twice.
    """
    table = there_alone(read_predictions(path))
    names = tuple(map(str, table.landmarks))
    _check_names(names, reviewed, f"--predictions={path}")
    by_image = {
        image: _points(names, xy, reviewed) for image, xy in zip(map(str, table.images), table.xy.tolist(), strict=True)
    }
    found = {image: by_image[given] for image, given in _rows_of(list(by_image), reviewed, path).items()}
    if not found:
        raise UserError(f"--predictions={path}: expected pictures of {reviewed.root}, such as {reviewed.images[0]}, "
                        f"found {tables.listed(list(by_image))}")  # fmt: skip
    return lambda image: found.get(image, {})


def _rows_of(given: Sequence[str], reviewed: Reviewed, path: pathlib.Path) -> dict[str, str]:
    """Picture of the folder -> the one of the names `given` that means it: its path; else its last part, if the folder
    has one such picture, whose path is not given.

    Raises:
      UserError: two mean the same.
    """
    root, images = os.path.realpath(reviewed.root), set(reviewed.images)
    below = {one: one if one in images else os.path.relpath(os.path.realpath(one), root) for one in given}
    by_path = {one: image for one, image in below.items() if image in images}
    of_last: dict[str, list[str]] = {}
    for image in images:
        of_last.setdefault(pathlib.PurePosixPath(image).name, []).append(image)
    same = {one: of_last.get(pathlib.PurePath(one).name, []) for one in given}
    taken = set(by_path.values())
    by_name = {one: same[one][0] for one in given if len(same[one]) == 1 and same[one][0] not in taken}
    found: dict[str, str] = {}
    for one, image in (by_path | by_name).items():
        if found.setdefault(image, one) != one:
            raise UserError(f"--predictions={path}: {found[image]} and {one} may both be {image} of {reviewed.root}; "
                            "take out the rows of one of them")  # fmt: skip
    return found


def _check_names(names: Iterable[str], reviewed: Reviewed, what: str) -> None:
    if not set(names) & set(reviewed.names):
        raise UserError(f"{what}: expected landmarks of the folder, {tables.listed(reviewed.names)}, found "
                        f"{tables.listed(list(names))}")  # fmt: skip


def _points(names: Iterable[str], xy: Iterable[list[float]], reviewed: Reviewed) -> dict[str, Point]:
    return {
        name: {"x": x, "y": y, "state": PLACED, "how": PREDICTED}
        for name, (x, y) in zip(names, xy, strict=True)
        if name in reviewed.names and math.isfinite(x) and math.isfinite(y)
    }
