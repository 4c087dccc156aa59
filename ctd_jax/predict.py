"""Landmarks of pictures without labels, by the best checkpoint of a run.

    python -m ctd_jax.predict --workdir=runs/ctd_ed-demo PICTURE_OR_FOLDER ... --out=predictions.csv --overlays=DIR

Writes one row per picture and landmark: x and y in pixels of the picture, (0, 0) the centre of its top-left pixel, and
confidence, the height of the heatmap's peak (0 to 1). Folders are searched through and through. --measurements=FILE.csv
adds a table of what the run's dataset.json measures: lengths in pixels, angles in degrees.

Of a run that learned segmentation, --out is a folder: it gets a class map of each picture, an 8-bit PNG whose pixels
hold the index of the class in the run's classes.json.

    python -m ctd_jax.predict --workdir=runs/mtmd-demo PICTURE_OR_FOLDER ... --domain=NAME --out=masks --overlays=DIR
"""

import json
import logging
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from ctd_jax import command
from ctd_jax.errors import UserError
from ctd_jax.measurements import Measurement, parse

if TYPE_CHECKING:
    from ctd_jax import data

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

MOST_NAMES = 20  # drawn beside the landmarks; more would hide the picture
_log = logging.getLogger("ctd_jax.predict")  # also where __name__ is __main__
_paths: list[str] = []


def main() -> None:
    from ctd_jax import workdir as workdirs

    workdir = pathlib.Path(_WORKDIR.value)
    config = workdirs.read_config(workdir)
    tasks = {"landmarks": _landmarks, "segmentation": _class_maps}
    if config.task not in tasks:
        raise UserError(f"{workdir}: this run learned {config.task}; give one that learned {' or '.join(tasks)}")
    overlays = pathlib.Path(_OVERLAYS.value) if _OVERLAYS.value else None
    tasks[config.task](workdir, config, pathlib.Path(_OUT.value), overlays)


def _landmarks(workdir: pathlib.Path, config: ConfigDict, out: pathlib.Path, overlays: pathlib.Path | None) -> None:
    from ctd_jax import agreement, checkpoint, domains, evaluate, landmarks, metrics, models, report
    from ctd_jax.parallel import Parallel

    variables, meta = domains.alone(workdir, *checkpoint.best(workdir), _DOMAIN.value)
    if meta["boxes"] and not _BOXES.value:
        raise UserError(f"{workdir} was trained on boxes in the pictures; give those of yours, --boxes=FILE.csv")
    files = _pictures(_paths)
    boxes = _boxes(files)
    names = tuple(meta["landmarks"])
    measured = pathlib.Path(_MEASUREMENTS.value) if _MEASUREMENTS.value else None
    measurements = _measurements(workdir, names) if measured else ()
    if measured == out:
        raise UserError(f"--out and --measurements are both {out}; give two files")
    for flag, file in (("out", out), ("measurements", measured)):
        if file:
            _check_writable(flag, file, overlays)
    parallel = Parallel(config.parallel)
    model = landmarks.build(config, meta["encoder"], len(names))
    forward = parallel.compile(landmarks.forward(model, meta["input"]), sharded=True)
    variables = parallel.replicate(models.fold(model, variables, config.data.image_size))

    size, tables = min(config.eval.batch_size, len(files)), []
    for pictures in _read(files, size):
        part = _dataset(config, names, pictures, boxes)
        tables.append(evaluate.predict(forward, variables, part, parallel, size))
        if overlays:
            for (file, array), xy in zip(pictures.items(), tables[-1].xy, strict=True):
                drawn = report.draw(array, xy, names=names if len(names) <= MOST_NAMES else None)
                drawn.save(_path(overlays, file, files))
    if tables:
        table = metrics.concatenate(tables)
        metrics.write_predictions(out, table)
        if measured:
            unknown = np.full((len(table.images), 2), np.nan)
            agreement.write(measured, agreement.Measured.from_predictions(table, measurements, unknown))
        print(f"{len(table.images)} pictures, {len(names)} landmarks each: {out}")
    _check_read(files, sum(len(table.images) for table in tables))


def _class_maps(workdir: pathlib.Path, config: ConfigDict, out: pathlib.Path, overlays: pathlib.Path | None) -> None:
    from PIL import Image

    from ctd_jax import data, evaluate, models, report, segmentation, segmentation_evaluate
    from ctd_jax.parallel import Parallel

    network = segmentation.Alone.of(workdir, config, _DOMAIN.value)
    for flag, value in (("measurements", _MEASUREMENTS.value), ("boxes", _BOXES.value)):
        if value:
            raise UserError(f"--{flag} is for landmarks, and {workdir} learned segmentation; leave it out")
    if out.is_file():
        raise UserError(f"--out: {out} is a file; give a folder for the class maps")
    files = _pictures(_paths)
    _check_writable("out", out / "class map", overlays)
    parallel = Parallel(config.parallel)
    forward = parallel.compile(network.forward, sharded=True)
    variables = parallel.replicate(models.fold(network.model, network.variables, config.data.image_size))

    size, read = min(config.eval.batch_size, len(files)), 0
    boxes = dict.fromkeys(files, np.full(4, np.nan))
    for pictures in _read(files, size):
        part = _dataset(config, (), pictures, boxes)
        ((probabilities, offset, scale),) = evaluate.each(forward, variables, part, parallel, size)
        for (file, array), found, o, s in zip(pictures.items(), probabilities, offset, scale, strict=True):
            frame = data.Frame(float(s), tuple(map(float, o)), part.size)
            class_map = segmentation_evaluate.class_map(found, frame, array.shape[1], array.shape[0])
            Image.fromarray(class_map).save(_path(out, file, files))
            if overlays:
                report.segmentation.draw(array, class_map, side=max(array.shape)).save(_path(overlays, file, files))
        read += len(pictures)
    if read:
        names = ", ".join(f"{i} {name}" for i, name in enumerate(network.classes))
        print(f"{read} pictures, a class map each ({names}): {out}")
    _check_read(files, read)


def _read(files: list[pathlib.Path], size: int) -> Iterator[dict[pathlib.Path, np.ndarray]]:
    """The pictures, `size` at a time, with progress; one that can't be read is left out, with a warning."""
    from rich.console import Console
    from rich.progress import track

    from ctd_jax import data

    chunks = [files[i : i + size] for i in range(0, len(files), size)]
    console = Console(stderr=True)
    for chunk in track(chunks, "predicting", console=console, disable=not console.is_terminal):
        pictures = {}
        for file in chunk:
            try:
                pictures[file] = data.pictures.decode(file.read_bytes(), str(file))
            except (UserError, OSError) as error:
                _log.warning(str(error))
        if pictures:
            yield pictures


def _check_read(files: list[pathlib.Path], read: int) -> None:
    if bad := len(files) - read:
        raise UserError(f"{bad} of {len(files)} pictures could not be read and are left out; see the warnings above")


def _dataset(
    config: ConfigDict, names: tuple[str, ...], pictures: dict[pathlib.Path, np.ndarray], boxes: dict
) -> "data.Dataset":
    from ctd_jax import data

    return data.Dataset.unlabelled(
        names,
        tuple(map(str, pictures)),
        tuple(pictures.values()).__getitem__,
        boxes=np.array([boxes[file] for file in pictures]),
        size=config.data.image_size,
        margin=config.data.margin,
    )


def _path(folder: pathlib.Path, file: pathlib.Path, files: list[pathlib.Path]) -> pathlib.Path:
    """Of a PNG for `file`, by the whole path below what all files have in common: no two share a name."""
    root = pathlib.Path(os.path.commonpath([one.resolve().parent for one in files]))
    path = folder / file.resolve().relative_to(root).with_name(f"{file.name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


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


def _check_writable(flag: str, out: pathlib.Path, overlays: pathlib.Path | None) -> None:
    if out.is_dir():
        raise UserError(f"--{flag}: {out} is a folder; give the name of a csv file")
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


def _pictures(paths: list[str]) -> list[pathlib.Path]:
    if not paths:
        raise UserError("no pictures: name files or folders")
    files: list[pathlib.Path] = []
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in _suffixes())
            if not found:
                raise UserError(f"{path}: no pictures in this folder; their names end in {', '.join(_suffixes())}")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return list(dict.fromkeys(files))


def _suffixes() -> tuple[str, ...]:
    from ctd_jax.data import pictures

    return pictures.SUFFIXES


def _boxes(files: list[pathlib.Path]) -> dict[pathlib.Path, np.ndarray]:
    from ctd_jax.data import folder

    if not _BOXES.value:
        return dict.fromkeys(files, np.full(4, np.nan))
    given = folder.read_boxes(pathlib.Path(_BOXES.value))
    for file in files:
        if str(file) not in given:
            raise UserError(f"{_BOXES.value}: no row whose image is {file}; expected one for each picture")
    return {file: given[str(file)] for file in files}


if __name__ == "__main__":
    command.run(main, __doc__, required=("workdir", "out"), paths=_paths)
