"""Landmarks of pictures without labels, by the best checkpoint of a run.

    python -m ctd_jax.predict --workdir=runs/ctd_ed-demo PICTURE_OR_FOLDER ... --out=predictions.csv --overlays=DIR

Writes one row per picture and landmark: x and y in pixels of the picture, (0, 0) the centre of its top-left pixel, and
confidence, the height of the heatmap's peak (0 to 1). Folders are searched through and through, but for what begins
with a dot. --measurements=FILE.csv adds a table of what the run's dataset.json measures: lengths in pixels, angles in
degrees. --out=/dev/stdout writes the table there.

Of a run that learned segmentation, --out is a folder: it gets a class map of each picture, an 8-bit PNG whose pixels
hold the index of the class in the run's classes.json.

    python -m ctd_jax.predict --workdir=runs/mtmd-demo PICTURE_OR_FOLDER ... --domain=NAME --out=masks --overlays=DIR

Pictures of more than 8 bits are read with the grey range of the run's own; where it had none, with one for all that are
given together, and a warning.

Exit code 0: every picture is done. 2: some could not be read, and one message names them; the others are done. Also 2,
with nothing written: a mistake in the command. 1: anything else.
"""

import json
import os
import pathlib
import sys
import tempfile
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from ctd_jax import command, files
from ctd_jax.errors import UserError
from ctd_jax.metrics.measurements import Measurement, parse

if TYPE_CHECKING:
    from PIL import Image

    from ctd_jax.data.given import Given
    from ctd_jax.predictor import Predictor

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of `python -m ctd_jax.main`.")
_OUT = flags.DEFINE_string("out", None, "The csv file to write.")
_OVERLAYS = flags.DEFINE_string("overlays", None, "Folder for copies of the pictures with the landmarks drawn in.")
_MEASUREMENTS = flags.DEFINE_string(
    "measurements", None, "The csv file to write the measurements to; a finished run knows which."
)
_DOMAIN = flags.DEFINE_string("domain", None, "Which of the run's domains the pictures are of, if it has several.")
_BOXES = flags.DEFINE_string(
    "boxes", None, "csv file with columns image, box_x0, box_y0, box_x1, box_y1, for a run trained on such boxes."
)

OF_RUNS = ("predictions.csv", "measurements.csv", "split.csv", "log.csv")
MOST_NAMES = 20  # drawn beside the landmarks; more would hide the picture
_paths: list[str] = []


def main() -> None:
    from ctd_jax.predictor import Predictor

    workdir = pathlib.Path(_WORKDIR.value)
    predictor = Predictor(workdir, domain=_DOMAIN.value)
    write = {"landmarks": _landmarks, "class_maps": _class_maps}[predictor.trained.kind]
    write(predictor, pathlib.Path(_OUT.value), _path(_OVERLAYS.value))


def _path(value: str | None) -> pathlib.Path | None:
    """Of a flag; None: it is not given."""
    return pathlib.Path(value) if value else None


def _landmarks(predictor: "Predictor", out: pathlib.Path, overlays: pathlib.Path | None) -> None:
    from ctd_jax import metrics, report
    from ctd_jax.data.given import Given
    from ctd_jax.metrics import agreement

    trained, names = predictor.trained, predictor.names
    workdir = trained.workdir
    if trained.boxes and not _BOXES.value:
        raise UserError(f"{workdir} was trained on boxes in the pictures; give those of yours, --boxes=FILE.csv")
    if _BOXES.value and not trained.boxes:
        raise UserError(f"{workdir} was trained on whole pictures, not on what is in a box; leave out --boxes")
    given = Given.of(_paths, boxes=_path(_BOXES.value), grey=trained.grey)
    measured = _path(_MEASUREMENTS.value)
    measurements = _measurements(workdir, names) if measured else ()
    if measured == out:
        raise UserError(f"--out and --measurements are both {out}; give two files")
    for flag, file in (("out", out), ("measurements", measured)):
        if file:
            _check_table(flag, file, workdir)
    given.check_kept({"--out": [out], "--measurements": [measured] if measured else []} | _copies(given, overlays))
    for flag, file in (("out", out), ("measurements", measured)):
        if file and not files.is_stream(file):
            _check_writable(flag, file, overlays)

    tables = []
    for pictures in given.read(predictor.batch_size):
        tables.append(predictor.see(pictures, given.boxes))
        if overlays:
            for (file, array), xy in zip(pictures.items(), tables[-1].xy, strict=True):
                _save(
                    report.draw(array, xy, names=names if len(names) <= MOST_NAMES else None),
                    given.beside(overlays, file),
                )
    if tables:
        table = metrics.concatenate(tables)
        metrics.write_predictions(out, table)
        if measured:
            unknown = np.full((len(table.images), 2), np.nan)
            agreement.write(measured, agreement.Measured.from_predictions(table, measurements, unknown))
        streamed = files.is_stream(out)
        text = f"{len(table.images)} pictures, {len(names)} landmarks each: {out}"
        print(text, file=sys.stderr if streamed else sys.stdout)
    given.check_done(out)


def _class_maps(predictor: "Predictor", out: pathlib.Path, overlays: pathlib.Path | None) -> None:
    from PIL import Image

    from ctd_jax import report
    from ctd_jax.data.given import Given

    for flag, value in (("measurements", _MEASUREMENTS.value), ("boxes", _BOXES.value)):
        if value:
            workdir = predictor.trained.workdir
            raise UserError(f"--{flag} is for landmarks, and {workdir} learned segmentation; leave it out")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file; give a folder for the class maps")
    given = Given.of(_paths, boxes=None, grey=predictor.trained.grey)
    given.check_kept({"--out": [given.beside(out, file) for file in given.files]} | _copies(given, overlays))
    _check_writable("out", out / "class map", overlays)

    read = 0
    for pictures in given.read(predictor.batch_size):
        for (file, array), class_map in zip(pictures.items(), predictor.see(pictures, {}), strict=True):
            _save(Image.fromarray(class_map), given.beside(out, file))
            if overlays:
                _save(report.segmentation.draw(array, class_map, side=max(array.shape)), given.beside(overlays, file))
        read += len(pictures)
    if read:
        names = ", ".join(f"{i} {name}" for i, name in enumerate(predictor.names))
        print(f"{read} pictures, a class map each ({names}): {out}")
    given.check_done(out)


def _copies(given: "Given", overlays: pathlib.Path | None) -> dict[str, list[pathlib.Path]]:
    """What --overlays will have written."""
    return {"--overlays": [given.beside(overlays, file) for file in given.files]} if overlays else {}


def _save(picture: "Image.Image", path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.writing(path, binary=True) as file:
        picture.save(file, "PNG")


def _measurements(workdir: pathlib.Path, names: tuple[str, ...]) -> tuple[Measurement, ...]:
    """Those that the run was evaluated on."""
    domain = workdir / (_DOMAIN.value or "")
    path = (domain if domain.is_dir() else workdir) / "metrics.json"  # of a domain that alone is judged, in the workdir
    if not path.is_file():
        raise UserError(f"{path}: no such file; --measurements learns from it what to measure, so let the run finish")
    found = json.loads(path.read_text("utf-8")).get("measurements")
    if not found:
        raise UserError(f"{path}: this run has no measurements; leave out --measurements, or train with some")
    return parse({name: one["of"] for name, one in found.items()}, names, str(path))


def _check_table(flag: str, out: pathlib.Path, workdir: pathlib.Path) -> None:
    if out.is_dir():
        raise UserError(f"--{flag}: {out} is a folder; give the name of a csv file")
    if files.is_stream(out):
        return
    if out.suffix.lower() != ".csv":
        raise UserError(f"--{flag}: {out} does not end in .csv, and no other kind of table is written; name it so")
    if out.name in OF_RUNS and workdir.resolve() in pathlib.Path(os.path.realpath(out)).parents:
        raise UserError(f"--{flag}: {out} is where the run keeps its own; give another place")


def _check_writable(flag: str, out: pathlib.Path, overlays: pathlib.Path | None) -> None:
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


if __name__ == "__main__":
    command.run(main, __doc__, required=("workdir", "out"), paths=_paths)
