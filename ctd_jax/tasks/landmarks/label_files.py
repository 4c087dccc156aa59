"""Landmarks of new pictures as the label files of other programs, with all of their digits."""

import itertools
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ctd_jax import files
from ctd_jax.data.given import Given
from ctd_jax.errors import UserError
from ctd_jax.labels import FORMATS, by_name, exporting
from ctd_jax.labels.table import Labelled, Labels
from ctd_jax.metrics import Predictions
from ctd_jax.metrics.presence import there_alone
from ctd_jax.tasks import writer
from ctd_jax.tasks.writer import Done


class LabelFiles(writer.Writer):
    """A file or a folder of each format, beside the csv file of landmarks and called as it.

    Args:
      names: of the landmarks.
      out: the csv file of landmarks.
      formats: of `labels.FORMATS`.
      never_annotated: landmarks that are not predicted.

    Raises:
      UserError: there is no such format, or nothing can lie beside `out`.
    """

    def __init__(
        self, names: Sequence[str], out: pathlib.Path, formats: Sequence[str], *, never_annotated: Sequence[str] = ()
    ):
        for name in formats:
            by_name.check_name("--format", name)
        if files.is_stream(out):
            raise UserError(f"--format writes files beside --out, and {out} is no file; give the name of a csv file")
        self._names, self._predicted = tuple(names), ~np.isin(names, never_annotated)
        self._places = {name: out.with_name(f"{out.stem}_{name}{FORMATS[name].suffix}") for name in formats}

    def outputs(self, given: Given) -> dict[str, Iterable[pathlib.Path]]:
        """See `writer.Writer`. The formats are tried with points of no meaning, so that what one lacks (a spacing, a
        package) is said before anything is predicted."""
        anywhere = np.broadcast_to(np.arange(len(self._names))[:, None], (len(given.files), len(self._names), 2))
        table = Predictions.from_points(
            [*map(str, given.files)], [""] * len(given.files), self._names, anywhere, confidence=anywhere[..., 0]
        ).masked(self._predicted)
        tried = Labels(self._names, self._labelled(given, table, [(1, 1)] * len(given.files)))
        return {
            f"--format={name}": [place, *(place / file for file in by_name.write(tried, name) if file)]
            for name, place in self._places.items()
        }

    def prepare(self, given: Given) -> None:
        for name, place in self._places.items():
            if place.exists() or place.is_symlink():
                raise UserError(
                    f"--format={name}: {place} is there already, and may have corrections; move it, or give another "
                    "--out"
                )

    def add(self, given: Given, batch: Done) -> None:
        """Nothing: a format may have one file for all pictures."""

    def close(self, given: Given, batches: Callable[[], Iterable[Done]]) -> None:
        """What is there already was written by a process that was stopped here, of the same batches. What lacks a point
        or a spacing that the trial had is among `unwritten`."""
        labelled = (self._labelled(given, batch.found, tuple(batch.files.values())) for batch in batches())
        labels = Labels(self._names, tuple(itertools.chain.from_iterable(labelled)))
        for name, place in self._places.items() if labels.pictures else ():
            if not place.exists():
                try:
                    print(exporting.write_files(labels, name, place))
                except UserError as error:
                    given.unwritten.append(f"--format={name}: {place} could not be written, all else is there: {error}")

    def _labelled(self, given: Given, table: Predictions, sizes: Sequence[tuple[int, int]]) -> tuple[Labelled, ...]:
        """The pictures of a table, named by their paths below the folder that all of them lie in; points that are said
        to be absent are left out."""
        table = there_alone(table)
        paths = [pathlib.Path(image) for image in table.images]
        spacing = given.spacing.mm(paths, self._names, table.xy)
        if given.spacing.at_detector:  # for which no format has a word
            spacing = np.full_like(spacing, np.nan)
        return tuple(
            Labelled(
                given.below_all(path).as_posix(),
                exporting.points_of(self._names, table.xy[i], table.confidence[i]),
                sizes[i],
                spacing=None if np.isnan(spacing[i]).any() else (float(spacing[i][0]), float(spacing[i][1])),
                who=exporting.WHO,
                where=str(path),
            )
            for i, path in enumerate(paths)
        )
