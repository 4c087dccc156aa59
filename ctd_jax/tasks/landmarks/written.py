"""What `predict` writes of landmarks: their table, what is measured on them, and pictures with them drawn in."""

import os
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ctd_jax import files, metrics, report
from ctd_jax.data import tables
from ctd_jax.data.given import Given
from ctd_jax.data.norms import Norms
from ctd_jax.errors import UserError
from ctd_jax.metrics import Predictions, agreement, definitions
from ctd_jax.metrics.measurements import Measurement, lines
from ctd_jax.metrics.presence import there_alone
from ctd_jax.tasks import trained

MAX_NAMES = 20  # drawn beside the landmarks; more would hide the picture
FILES_OF_RUNS = ("predictions.csv", "measurements.csv", "split.csv", "log.csv")


class Table(trained.Writer):
    """The csv file of landmarks, that of what is measured on them, and pictures with the landmarks drawn in.

    Args:
      names: of the landmarks.
      out: the csv file of landmarks.
      overlays: folder for the pictures; None: none are drawn.
      measured: the csv file of measurements; None: it is not written.
      measurements: that are made.
      normal: what is normal of them; None: there are none.
    """

    def __init__(
        self,
        names: Sequence[str],
        out: pathlib.Path,
        overlays: pathlib.Path | None,
        *,
        measured: pathlib.Path | None = None,
        measurements: Sequence[Measurement] = (),
        normal: Norms | None = None,
    ):
        self._names, self._out, self._overlays = names, out, overlays
        self._measured, self._measurements, self._normal = measured, measurements, normal
        self._tables: list[Predictions] = []
        self._spacing: list[np.ndarray] = []  # of their pictures, where any is given
        self._at_detector = False

    def _tables_to_write(self) -> dict[str, pathlib.Path]:
        named = {"out": self._out, "measurements": self._measured}
        return {flag: file for flag, file in named.items() if file}

    def outputs(self, given: Given) -> dict[str, Iterable[pathlib.Path]]:
        overlays = trained.copies(given, self._overlays)
        return {f"--{flag}": [file] for flag, file in self._tables_to_write().items()} | overlays

    def prepare(self) -> None:
        for flag, file in self._tables_to_write().items():
            if not files.is_stream(file):
                trained.check_writable(flag, file, self._overlays)

    def add(self, given: Given, pictures: Mapping[pathlib.Path, np.ndarray], found: Predictions) -> None:
        self._tables.append(found)
        if given.spacing:
            self._at_detector = given.spacing.at_detector
            self._spacing.append(given.spacing.mm(tuple(pictures), self._names, found.xy))
        if self._overlays:
            names = self._names if len(self._names) <= MAX_NAMES else None
            spacing = self._spacing[-1] if given.spacing else np.full((len(found.xy), 2), np.nan)
            there = there_alone(found)
            each = zip(pictures.items(), there.xy, there.radius_px, spacing, strict=True)
            for (file, picture), xy, radius, mm in each:
                painted = report.paint_points(picture, xy, names=names, radius=radius)
                report.paint_lines(painted, picture, lines(self._measurements, self._names, xy, mm))
                trained.save(painted, given.beside(self._overlays, file))

    def close(self) -> None:
        if not self._tables:
            return
        table = metrics.concatenate(self._tables)
        spacing = np.concatenate(self._spacing) if self._spacing else None
        metrics.write_predictions(self._out, table, spacing, at_detector=self._at_detector)
        mm = f"mm{agreement.AT_DETECTOR}" if self._at_detector else "mm"
        unit = f"; mm are {mm}" if self._at_detector else ""
        if self._measured:
            unknown = np.full((len(table.images), 2), np.nan)
            measured = agreement.Measured.from_predictions(
                there_alone(table), tuple(self._measurements), unknown if spacing is None else spacing
            )
            measured = measured if spacing is None else measured.in_mm(at_detector=self._at_detector)
            agreement.write(self._measured, self._normal.applied(measured) if self._normal else measured)
            unit = f"; lengths are in {'pixels: no spacing is given' if spacing is None else mm}"
        trained.warn_of_unlike(table.images, table.unlike)
        text = f"{len(table.images)} pictures, {len(self._names)} landmarks each: {self._out}{unit}"
        print(text, file=sys.stderr if files.is_stream(self._out) else sys.stdout)


def measurements_of(
    workdir: pathlib.Path, names: tuple[str, ...], domain: str | None, given: str | None
) -> tuple[Measurement, ...]:
    """The measurements that are given, see `trained.Measuring`, or those that the run was evaluated on.

    Raises:
      UserError: there are none, or the file that has them can't be read.
    """
    if given:
        file = pathlib.Path(given) if pathlib.Path(given).is_file() else definitions.ready(given)
        return definitions.parse_file(tables.load_json(file), names, str(file))
    folder = workdir / (domain or "")
    # of several domains each has a folder; one that alone is evaluated lies in the workdir
    path = (folder if folder.is_dir() else workdir) / "metrics.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; --measurements learns from it what to measure, so let the run finish")
    remedy = "remove report.html from there, and the run's command evaluates anew"
    found = files.read_json(path, remedy).get("measurements")
    if not found:
        raise UserError(f"{path}: this run has no measurements; leave out --measurements, or train with some")
    return definitions.parse({name: one["of"] for name, one in found.items()}, names, str(path))


def check_table(flag: str, out: pathlib.Path, workdir: pathlib.Path) -> None:
    """Refuses a table that would be none, or that would replace one of the run's.

    Raises:
      UserError: `out` is a folder, has another ending than .csv, or is a table of the run in `workdir`.
    """
    if out.is_dir():
        raise UserError(f"--{flag}: {out} is a folder; give the name of a csv file")
    if files.is_stream(out):
        return
    if out.suffix.lower() != ".csv":
        raise UserError(f"--{flag}: {out} does not end in .csv, and no other kind of table is written; name it so")
    if out.name in FILES_OF_RUNS and workdir.resolve() in pathlib.Path(os.path.realpath(out)).parents:
        raise UserError(f"--{flag}: {out} is where the run keeps its own; give another place")
