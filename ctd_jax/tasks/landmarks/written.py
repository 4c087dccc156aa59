"""What `predict` writes of landmarks: their table, what is measured on them, and pictures with them drawn in."""

import itertools
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ctd_jax import files, report
from ctd_jax.data import tables
from ctd_jax.data.given import Given
from ctd_jax.data.norms import Norms
from ctd_jax.errors import UserError
from ctd_jax.metrics import agreement, definitions
from ctd_jax.metrics.measurements import Measurement, lines
from ctd_jax.metrics.predictions import EVERY_COLUMN, columns_of, rows_of
from ctd_jax.metrics.presence import there_alone
from ctd_jax.tasks import writer
from ctd_jax.tasks.writer import Done

MAX_NAMES = 20  # drawn beside the landmarks; more would hide the picture


class Table(writer.Writer):
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

    def _tables_to_write(self) -> dict[str, pathlib.Path]:
        named = {"out": self._out, "measurements": self._measured}
        return {flag: file for flag, file in named.items() if file}

    def outputs(self, given: Given) -> dict[str, Iterable[pathlib.Path]]:
        """See `writer.Writer`. The folder of overlays is among them: none of label files can be the same."""
        written: dict[str, Iterable[pathlib.Path]] = {
            f"--{flag}": [file] for flag, file in self._tables_to_write().items()
        }
        if self._overlays:
            written["--overlays"] = [self._overlays, *(given.beside(self._overlays, file) for file in given.files)]
        return written

    def prepare(self, given: Given) -> None:
        columns = {"out": ("image", "subject", "landmark"), "measurements": ("image", "subject", "measurement")}
        for flag, file in self._tables_to_write().items():
            if not files.is_stream(file):
                writer.check_writable(flag, file, self._overlays)
                _check_replaced(flag, file, columns[flag])

    def add(self, given: Given, batch: Done) -> None:
        if not self._overlays:
            return
        folder, names = self._overlays, self._names if len(self._names) <= MAX_NAMES else None
        mm = self._mm(given, batch)
        mm, there = np.full((len(batch.files), 2), np.nan) if mm is None else mm, there_alone(batch.found)

        def paint(i: int, file: pathlib.Path) -> None:
            picture = given.picture(file)
            painted = report.paint_points(picture, there.xy[i], names=names, radius=there.radius_px[i])
            report.paint_lines(painted, picture, lines(self._measurements, self._names, there.xy[i], mm[i]))
            writer.save(painted, given.beside(folder, file))

        writer.draw(batch, paint)

    def _mm(self, given: Given, batch: Done) -> np.ndarray | None:
        """`[n, 2]` mm of a pixel of the pictures of a batch, NaN where unknown; None: no spacing is given."""
        if not given.spacing:
            return None
        return given.spacing.mm(tuple(batch.files), self._names, there_alone(batch.found).xy)

    def close(self, given: Given, batches: Callable[[], Iterable[Done]]) -> None:
        """The tables are written batch by batch: all of them together are never in memory."""
        at_detector, has_columns, unlike = given.spacing.at_detector, set[str](), dict[str, float]()
        for batch in batches():
            has_columns |= set(columns_of(batch.found, self._mm(given, batch), at_detector=at_detector))
            unlike |= dict(zip(map(str, batch.files), batch.found.unlike.tolist(), strict=True))
        if not unlike:
            return
        columns = [name for name in EVERY_COLUMN if name in has_columns]
        rows = (rows_of(batch.found, columns, self._mm(given, batch), at_detector=at_detector) for batch in batches())
        files.write_csv(self._out, columns, itertools.chain.from_iterable(rows))
        mm = f"mm{agreement.AT_DETECTOR}" if at_detector else "mm"
        unit = f"; mm are {mm}" if at_detector else ""
        if self._measured:
            self._write_measured(self._measured, given, batches)
            unit = f"; lengths are in {mm if given.spacing else 'pixels: no spacing is given'}"
        writer.warn_of_unlike(tuple(unlike), np.array(list(unlike.values())))
        text = f"{len(unlike)} pictures, {len(self._names)} landmarks each: {self._out}{unit}"
        print(text, file=sys.stderr if files.is_stream(self._out) else sys.stdout)

    def _write_measured(self, out: pathlib.Path, given: Given, batches: Callable[[], Iterable[Done]]) -> None:
        def measure(batch: Done) -> agreement.Measured:
            mm = self._mm(given, batch)
            known = np.full((len(batch.files), 2), np.nan) if mm is None else mm
            found = agreement.Measured.from_predictions(there_alone(batch.found), self._measurements, known)
            found = found if mm is None else found.in_mm(at_detector=given.spacing.at_detector)
            return self._normal.applied(found) if self._normal else found

        columns = max((agreement.columns_of(measure(batch)) for batch in batches()), key=len)
        rows = (agreement.rows_of(measure(batch), columns) for batch in batches())
        files.write_csv(out, columns, itertools.chain.from_iterable(rows))


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


def check_table(flag: str, out: pathlib.Path) -> None:
    """Refuses a table that would be none, or that would replace one of a run's.

    Raises:
      UserError: `out` is a folder, has another ending than .csv, or is a table of a run.
    """
    if out.is_dir():
        raise UserError(f"--{flag}: {out} is a folder; give the name of a csv file")
    if files.is_stream(out):
        return
    if out.suffix.lower() != ".csv":
        raise UserError(f"--{flag}: {out} does not end in .csv, and no other kind of table is written; name it so")
    files.check_not_of_a_run(flag, out)


def _check_replaced(flag: str, out: pathlib.Path, columns: Sequence[str]) -> None:
    """Raises UserError if another table than one that begins with `columns` is at `out`, as labels are."""
    if not out.exists():
        return
    with out.open(newline="", encoding="utf-8", errors="replace") as file:
        first = file.readline().strip()
    if first and first.split(",")[: len(columns)] != list(columns):
        raise UserError(
            f"--{flag}: {out} is there already and is another table (its first line: {first[:60]}); give another name"
        )
